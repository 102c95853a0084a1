"""Submits URLs to a Tidemill that runs on Kafka, and prints the documents that come of them, a JSON line each.

    python3 -m venv venv && venv/bin/pip install -r examples/python/requirements.txt
    venv/bin/python examples/python/produce_and_read.py --brokers localhost:9092 https://example.org/ https://example.org/a
    venv/bin/python examples/python/produce_and_read.py --attr shelf=news https://example.org/

Ends with 0 when every URL has its document, with 3 when some have none within --wait seconds.
"""

import argparse
import glob
import io
import json
import os
import sys
import time
import uuid
from urllib.parse import urlsplit

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from fastavro import schema, schemaless_reader

SCHEMAS = os.path.join(os.path.dirname(__file__), "..", "..", "schemas")
# Avro's single-object encoding: this, the schema's fingerprint (8 bytes), the datum.
MAGIC = b"\xc3\x01"


def load(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def fingerprint(avsc):
    return schema.fingerprint(schema.to_parsing_canonical_form(avsc), "CRC-64-AVRO")


# Every schema ever released, so that records of an older Tidemill can be read too.
RELEASED = {fingerprint(s): s for s in map(load, glob.glob(os.path.join(SCHEMAS, "history", "*.avsc")))}
ENRICHED = load(os.path.join(SCHEMAS, "enriched.avsc"))


def decode(value):
    """A record of the topic `enriched`, as a dict."""
    if value[:2] != MAGIC:
        raise ValueError("not Avro in single-object encoding")
    written_with = RELEASED.get(value[2:10].hex())
    if written_with is None:
        raise ValueError(f"written with schema {value[2:10].hex()}, which is not in {SCHEMAS}")
    return schemaless_reader(io.BytesIO(value[10:]), written_with, ENRICHED)


def host_key(url):
    """Host, and port if one is given: URLs of one host go to one partition, so that one member paces them."""
    parts = urlsplit(url)
    default = {"http": 80, "https": 443}.get(parts.scheme)
    host = (parts.hostname or "").rstrip(".")
    return host if parts.port in (None, default) else f"{host}:{parts.port}"


def at_its_end(brokers, topic):
    """A consumer of all partitions, without a group, that will see what is written from now on."""
    consumer = Consumer({
        "bootstrap.servers": brokers,
        # Consumers need a name, but one that neither joins nor commits needs no group.
        "group.id": "unused",
        "enable.auto.commit": False,
        # Never show what a crash has undone. It is the default, and what the promise of "once" rests on.
        "isolation.level": "read_committed",
    })
    found = consumer.list_topics(topic, timeout=30).topics[topic]
    if found.error:
        raise KafkaException(found.error)
    ends = []
    for partition in found.partitions:
        _, end = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=30)
        ends.append(TopicPartition(topic, partition, end))
    consumer.assign(ends)
    return consumer


def submit(brokers, topic, urls, attrs):
    """Writes the URLs; answers which task id is which URL's."""
    producer = Producer({
        "bootstrap.servers": brokers,
        "enable.idempotence": True,
        # As the Java clients do it; librdkafka's own default puts the same host on another partition.
        "partitioner": "murmur2_random",
    })
    tasks, failed = {}, []
    for url in urls:
        # A bare URL is enough. JSON carries more: the fields of schemas/url_task.avsc.
        value = json.dumps({"url": url, "attrs": attrs}) if attrs else url
        # Optional: Tidemill gives each record an id and a trace of its own unless they come along.
        task, trace = str(uuid.uuid4()), f"00-{uuid.uuid4().hex}-{uuid.uuid4().hex[:16]}-01"
        producer.produce(
            topic,
            key=host_key(url),
            value=value,
            headers={"tidemill.task": task, "traceparent": trace},
            on_delivery=lambda error, _: error and failed.append(error),
        )
        # Delivery reports are handed out here, and the queue stays short.
        producer.poll(0)
        tasks[task] = url
    left = producer.flush(60)
    if left or failed:
        raise KafkaException(failed[0] if failed else f"{left} records were not delivered within 60 s")
    return tasks


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--brokers", default="localhost:9092", help="bootstrap servers (default: %(default)s)")
    args.add_argument("--prefix", default="tidemill.", help="prefix of the topics (default: %(default)s)")
    args.add_argument("--attr", action="append", default=[], metavar="KEY=VALUE", help="carried to the documents")
    args.add_argument("--wait", type=float, default=60, help="seconds to wait for documents (default: %(default)s)")
    args.add_argument("urls", nargs="+", metavar="URL")
    args = args.parse_args()
    attrs = dict(attr.split("=", 1) for attr in args.attr)

    consumer = at_its_end(args.brokers, args.prefix + "enriched")
    waiting = submit(args.brokers, args.prefix + "urls", args.urls, attrs)
    until = time.monotonic() + args.wait
    while waiting and time.monotonic() < until:
        message = consumer.poll(0.5)
        if message is None:
            continue
        if message.error():
            raise KafkaException(message.error())
        headers = {name: value.decode() for name, value in message.headers() or []}
        # The task id comes along on everything the URL leads to.
        url = waiting.pop(headers.get("tidemill.task"), None)
        if url is None:
            continue
        document = decode(message.value())
        print(json.dumps({
            "asked": url,
            "url": document["final_url"],
            "title": document["title"],
            "language": document["language"],
            "words": document["words"],
            "attrs": document["attrs"],
            "trace": headers["traceparent"].split("-")[1],
        }, ensure_ascii=False), flush=True)
    consumer.close()
    for url in waiting.values():
        print(f"no document of {url} within {args.wait:g} s; `tidemill explain` says why", file=sys.stderr)
    return 3 if waiting else 0


if __name__ == "__main__":
    sys.exit(main())
