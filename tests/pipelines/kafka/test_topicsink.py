"""Topics as outputs: each row once, wherever the run or a broker is killed."""

from __future__ import annotations

import itertools
import json
import random
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest
from confluent_kafka import Message

from headrace.pipelines.kafka.delivery import Delivery, Messages
from headrace.pipelines.kafka.topicsink import RowTopic, encode_arrow, encode_json
from headrace.schemas.errors import KafkaError
from headrace.schemas.records.events import PLACE
from tests.pipelines.kafka import topicjobs
from tests.pipelines.kafka.broker import Record
from tests.pipelines.kafka.topicjobs import (
    NEVER_S,
    NUMBERS,
    Job,
    letters_of,
    numbers_in,
    read_topic,
    rows_of,
    sink_of,
)

ROOT = Path(__file__).parents[3]
KINDS = ("rows", "batches", "letters")
PARTITIONS = 2


class Killed(BaseException):
    """Stands for the end of the process."""


class Stops:
    """Ends the run at one of its steps."""

    def __init__(self, at=None):
        self.at, self.count = at, 0

    def __call__(self, name):
        if self.count == self.at:
            raise Killed(name)
        self.count += 1


class Stopping(Delivery):
    """A delivery that may end before and after each thing it asks of brokers."""

    def __init__(self, stop, *args, **keys):
        super().__init__(*args, every_s=NEVER_S, **keys)
        self.stop = stop

    def _connect(self):
        self.stop("connect")
        super()._connect()
        self.stop("connected")

    def _produce(self, messages):
        self.stop("produce")
        half = len(messages.values) // 2
        if half:
            keys = messages.keys and messages.keys[:half]
            super()._produce(Messages(messages.values[:half], keys, messages.rows[:half]))
            self.producer.flush()
            self.stop("half produced")
        super()._produce(messages.after(messages.rows[half - 1] if half else 0))
        self.stop("produced")

    def _end(self):
        self.stop("end")
        self.producer.flush()
        self.stop("flushed")
        super()._end()
        self.stop("ended")

    def mark(self):
        position = super().mark()
        self.stop("marked")
        return position


def delivery(broker, topic, kind="rows", run="run", **keys):
    partition = 0 if kind == "batches" else None
    keys = {"every_s": NEVER_S, **keys}
    return Delivery(broker.brokers(), topic, run, partition, **keys)


def shown(broker, topic, kind="rows"):
    """Return the numbers of the rows that a reader finds, after a look at headers and orders."""
    found = read_topic(broker.servers, topic, PARTITIONS)
    by_partition = numbers_in(kind, found)
    for partition, messages in found.items():
        noted = [int(header.rpartition(b"/")[2]) for *_, header in messages]
        assert noted == sorted(set(noted))
        if kind == "rows":
            assert by_partition[partition] == sorted(by_partition[partition])
            assert all(
                key == b"k%d" % (json.loads(value)["x"] % 7) for _, key, value, _ in messages
            )
    numbers = sorted(itertools.chain(*by_partition.values()))
    assert len(set(numbers)) == len(numbers)
    return numbers


def kill_everywhere(broker, kind, every):
    """Kill a run at its steps, look at what a reader finds, and resume; return how many."""
    count = Stops()
    topic = broker.create(PARTITIONS)

    def opened(topic, stop):
        partition = 0 if kind == "batches" else None
        return Stopping(stop, broker.brokers(), topic, "run", partition)

    job = Job(kind, lambda: opened(topic, count))
    job.play(count)
    assert shown(broker, topic, kind) == NUMBERS
    whole = {
        partition: [message[1:] for message in messages]
        for partition, messages in read_topic(broker.servers, topic, PARTITIONS).items()
    }
    # A life for each step, and each continues where the one before was killed.
    for first in range(0, count.count, every):
        topic = broker.create(PARTITIONS)
        job = Job(kind, lambda topic=topic, first=first: opened(topic, stop))
        stop = Stops(first)
        with pytest.raises(Killed):
            job.play(stop)
        seen = shown(broker, topic, kind)
        if kind != "letters":
            assert seen == NUMBERS[: len(seen)]
        stop = Stops(first % 5)
        try:
            job.play(stop)
        except Killed:
            after = shown(broker, topic, kind)
            assert set(seen) <= set(after)
            stop = Stops()
            job.play(stop)
        assert shown(broker, topic, kind) == NUMBERS
        if kind != "letters":
            found = read_topic(broker.servers, topic, PARTITIONS)
            assert {
                partition: [message[1:] for message in messages]
                for partition, messages in found.items()
            } == whole
    return count.count


@pytest.mark.parametrize("kind", KINDS)
def test_each_row_is_there_once_wherever_a_run_is_killed(broker, kind):
    """Twice in a row. Messages are those of an undisturbed run."""
    assert kill_everywhere(broker, kind, every=15) > 25


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_each_row_is_there_once_wherever_a_run_is_killed_at_every_step(broker, kind):
    assert kill_everywhere(broker, kind, every=1) > 25
