#!/usr/bin/env python3
"""python.py CORPUS: ms a page of Python's trafilatura (pip install trafilatura==2.3.1), in the table that `bench` prints."""
import collections, gzip, json, sys, time
from pathlib import Path
import trafilatura

costs = collections.defaultdict(list)
for gold in sorted(Path(sys.argv[1]).glob("*/gold.jsonl")):
    for page in map(json.loads, open(gold, encoding="utf8")):
        html = gzip.open(gold.parent / "pages" / f"{page['id']}.html.gz").read().decode("utf8", "replace")
        start = time.process_time()
        trafilatura.extract(html)
        took = time.process_time() - start
        costs[gold.parent.name].append(took)
        if "type" in page:
            costs[f"{gold.parent.name} {page['type']}"].append(took)
for name, took in sorted(costs.items()):
    print(f"| trafilatura {trafilatura.__version__} (Python) | {name} {len(took)} | {1e3 * sum(took) / len(took):.2f} | | |")
