#!/usr/bin/env python3
"""bulk.py OPENSEARCH INDEX LINES documents|ready: lines of bulk requests by the Python client's parallel_bulk (pip install
opensearch-py). `documents` reads each line first, as whoever has a record does, and the client writes it; `ready` hands
on the text, which nobody has."""
import json, resource, sys, time
from opensearchpy import OpenSearch
from opensearchpy.helpers import parallel_bulk

url, index, lines, form = sys.argv[1:]
expand = {
    "documents": lambda pair: tuple(map(json.loads, pair)),
    # What is text already is sent as it is.
    "ready": lambda pair: tuple(line.rstrip("\n") for line in pair),
}[form]
started = time.monotonic()
client = OpenSearch(url, timeout=120)
with open(lines, encoding="utf8") as f:
    pairs = zip(f, f)
    done = 0
    for ok, _ in parallel_bulk(client, pairs, index=index, expand_action_callback=expand):
        assert ok
        done += 1
used = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({"seconds": time.monotonic() - started, "cpu": used.ru_utime + used.ru_stime}))
