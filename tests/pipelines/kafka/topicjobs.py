"""Runs that write a topic, take marks, are killed anywhere, and read it back."""

from __future__ import annotations

import json
import os
import random
import sys
from functools import partial
from pathlib import Path

import pyarrow as pa
from confluent_kafka import Consumer, TopicPartition

from headrace.pipelines.kafka.delivery import Delivery
from headrace.pipelines.kafka.tails import HEADER
from headrace.pipelines.kafka.topics import Brokers
from headrace.pipelines.kafka.topicsink import (
    BatchTopic,
    LetterTopic,
    RowTopic,
    encode_arrow,
    encode_json,
)
from headrace.pipelines.sinks.sink import Mark
from headrace.schemas.config.kafka import KafkaConfig
from headrace.schemas.records.events import EMIT, FOREVER, PLACE

SCHEMA = pa.schema([("key", pa.string()), ("x", pa.int64()), (EMIT, pa.int64())])
LETTERS = pa.schema([("x", pa.int64()), ("row", pa.int64()), (PLACE, pa.int64())])
EPOCH = 10
NEVER_S = 3600.0
"""Transactions that end when a test says so."""


def rows_of(begin, end):
    """Return rows with the numbers ``[begin, end)``, each emitted at its number."""
    numbers = list(range(begin, end))
    columns = [[f"k{n % 7}" for n in numbers], numbers, numbers]
    return pa.table(dict(zip(SCHEMA.names, columns, strict=True)), SCHEMA)


def letters_of(*numbers):
    return pa.table({"x": numbers, "row": [None] * len(numbers), PLACE: numbers}, LETTERS)


def sink_of(kind, delivery):
    if kind == "rows":
        return RowTopic(delivery, SCHEMA, partial(encode_json, ["key"]))
    if kind == "batches":
        return BatchTopic(delivery, SCHEMA, encode_arrow, EPOCH)
    return LetterTopic(delivery, LETTERS, partial(encode_json, []))


SCRIPT = [
    ("append", (0, 4)),
    ("complete", 3),
    ("append", (4, 15)),
    ("flush", None),
    ("mark", None),
    ("append", (15, 17)),
    ("complete", 16),
    ("append", (17, 31)),
    ("flush", None),
    ("mark", None),
    ("mark", None),
    ("append", (31, 33)),
    ("complete", FOREVER),
    ("mark", None),
]
NUMBERS = list(range(33))


class Job:
    """Plays a script into a topic.

    A mark is durable when it is in ``saved``: a pair of how far the script has come, and it.
    """

    def __init__(self, kind, open_delivery, script=SCRIPT, save=None, load=lambda: None):
        self.kind, self.open_delivery, self.script = kind, open_delivery, script
        self.saved = load()
        self.save = save or (lambda saved: None)
        self.random = random.Random(0)

    def play(self, stop=lambda name: None):
        """Play what comes after the last mark that was saved; ``stop`` may end it anywhere."""
        sink = sink_of(self.kind, self.open_delivery())
        begin = 0
        try:
            if self.saved is not None:
                begin, mark = self.saved
                sink.resume(mark)
            for at, (verb, what) in enumerate(self.script[begin:], begin + 1):
                stop(f"before {verb}")
                self.do(sink, at, verb, what, stop)
            sink.close()
        except BaseException:
            sink.delivery.abandon()
            raise

    def letters(self, begin, end):
        """Return letters, in another order each time."""
        numbers = list(range(begin, end))
        self.random.shuffle(numbers)
        return letters_of(*numbers)

    def do(self, sink, at, verb, what, stop):
        if verb == "append":
            sink.append(self.letters(*what) if self.kind == "letters" else rows_of(*what))
        elif verb == "complete":
            sink.complete_until(what)
        elif verb == "flush":
            sink.delivery.flush()
        else:
            mark = sink.commit()
            stop("before the mark is saved")
            self.saved = at, Mark(json.loads(json.dumps(mark.committed)), mark.held)
            self.save(self.saved)
            stop("before the mark is confirmed")
            sink.confirm()


def read_topic(servers, topic, partitions):
    """Return committed messages by partition, as (offset, key, value, header)."""
    consumer = Consumer(
        {
            "bootstrap.servers": servers, "group.id": "reader", "enable.auto.commit": False,
            "auto.offset.reset": "earliest", "enable.partition.eof": True, "fetch.wait.max.ms": 10,
            "isolation.level": "read_committed",
        }
    )  # fmt: skip
    consumer.assign([TopicPartition(topic, number, 0) for number in range(partitions)])
    found = {number: [] for number in range(partitions)}
    left = set(found)
    while left:
        message = consumer.poll(10)
        assert message is not None
        if message.error() is not None:
            assert message.error().name() == "_PARTITION_EOF", message.error()
            left.discard(message.partition())
            continue
        header = dict(message.headers() or ()).get(HEADER)
        parts = (message.offset(), message.key(), message.value(), header)
        found[message.partition()].append(parts)
    consumer.close()
    return found


def numbers_in(kind, found):
    """Return the numbers of rows in messages, by partition."""
    numbers = {}
    for partition, messages in found.items():
        numbers[partition] = []
        for _, _, value, _ in messages:
            if kind == "batches":
                rows = pa.ipc.open_stream(value).read_all().to_pylist()
            else:
                rows = [json.loads(value)]
            numbers[partition] += [row["x"] for row in rows]
    return numbers


def main(folder, servers, topic, kind):
    """Play a long script; to be killed."""
    saved = Path(folder) / "saved.arrow"

    def save(pair):
        at, mark = pair
        text = {"at": str(at), "committed": json.dumps(mark.committed)}
        held = mark.held.replace_schema_metadata(text)
        hidden = saved.with_suffix(".partial")
        with pa.OSFile(str(hidden), "wb") as file, pa.ipc.new_stream(file, held.schema) as writer:
            writer.write_table(held)
        os.replace(hidden, saved)

    def load():
        if not saved.exists():
            return None
        with pa.OSFile(str(saved)) as file:
            held = pa.ipc.open_stream(file).read_all()
        text = held.schema.metadata
        mark = Mark(json.loads(text[b"committed"]), held.replace_schema_metadata())
        return int(text[b"at"]), mark

    brokers = Brokers(KafkaConfig(servers=servers), "c.toml")
    job = Job(
        kind, lambda: Delivery(brokers, topic, "run", every_s=0.01), long_script(), save, load
    )
    print("playing", flush=True)
    job.play()


def long_script(rows=20_000, step=100):
    """Return a script with a mark every ten appends."""
    script = []
    for begin in range(0, rows, step):
        script += [("append", (begin, begin + step)), ("complete", begin + step - 3)]
        script += [("mark", None)] if begin // step % 10 == 9 else []
    return [*script, ("complete", FOREVER), ("mark", None)]


if __name__ == "__main__":
    main(*sys.argv[1:])
