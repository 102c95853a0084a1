#!/usr/bin/env python3
"""bulk.py OPENSEARCH INDEX LINES: lines of bulk requests by the Python client's parallel_bulk (pip install opensearch-py)."""
import json, resource, sys, time
from opensearchpy import OpenSearch
from opensearchpy.helpers import parallel_bulk

url, index, lines = sys.argv[1:]
started = time.monotonic()
client = OpenSearch(url, timeout=120)
with open(lines, encoding="utf8") as f:
    pairs = zip(f, f)
    done = 0
    # What is text already is sent as it is.
    for ok, _ in parallel_bulk(client, pairs, index=index, expand_action_callback=lambda p: (p[0].rstrip("\n"), p[1].rstrip("\n"))):
        assert ok
        done += 1
used = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({"seconds": time.monotonic() - started, "cpu": used.ru_utime + used.ru_stime}))
