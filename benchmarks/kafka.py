"""What it costs to read a topic: CPU of this process for each message.

Usage: ``python -m benchmarks.kafka`` (``make bench-kafka``). Starts a broker, which needs Java
and Maven, fills a topic with a million messages of 180 bytes in batches with lz4, and reads it
with each client and with two rivals, each in a process of its own: the least of three readings by
one connection, after a shorter one that is not measured. The broker's CPU is not counted. Each is
measured on one core too: elsewhere a client's threads take values from each other's caches.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.replay import OUT

MESSAGES, BYTES, ROWS = 1_000_000, 180, 20_000
TOPIC = "bench"
SLOW = {"poll": 100_000, "kafka-python poll": 100_000}
"""Fewer messages for those that take long."""

READERS = ("librdkafka", "kafka-python", "poll", "confluent consume", "kafka-python poll")
BROKER = Path(__file__).parents[1] / "docker" / "kafka" / "broker.py"


def fill(servers: str) -> None:
    """Create the topic unless it is there."""
    from confluent_kafka import Producer
    from confluent_kafka.admin import AdminClient, NewTopic

    admin = AdminClient({"bootstrap.servers": servers})
    if TOPIC in admin.list_topics(timeout=10).topics:
        return
    for created in admin.create_topics([NewTopic(TOPIC, 1, 1)]).values():
        created.result(30)
    producer = Producer(
        {"bootstrap.servers": servers, "compression.type": "lz4", "linger.ms": 20,
         "queue.buffering.max.messages": 2 * MESSAGES, "queue.buffering.max.kbytes": 1 << 20}
    )  # fmt: skip
    for at in range(MESSAGES):
        row = {
            "request_id": f"{at * 7919 % 1_000_003:08d}", "event_time": 1_700_000_000_000_000 + at,
            "item": f"item-{at % 977}", "price": at % 1000 / 8, "slot": at % 5,
            "device": "phone" if at % 3 else "tv", "country": "de",
        }  # fmt: skip
        producer.produce(TOPIC, json.dumps(row).ljust(BYTES))
        if at % 1000 == 0:
            producer.poll(0)
    producer.flush(120)


def reader(name: str, servers: str, decode: bool) -> Callable[[int], None]:
    """Connect, and return what reads so many messages, as often as it is called."""
    if name == "confluent consume":
        return _by_consume(servers, decode)
    if name == "kafka-python poll":
        return _by_poll(servers, decode)
    return _by_client(name, servers, decode)


def _by_client(name: str, servers: str, decode: bool) -> Callable[[int], None]:
    import pyarrow as pa

    from headrace.pipelines.kafka.clients import connect
    from headrace.pipelines.kafka.fetching import Place
    from headrace.pipelines.kafka.topics import Brokers
    from headrace.schemas.config.kafka import KafkaConfig
    from headrace.schemas.records.decoding import Lines
    from headrace.schemas.records.jsonlines import JsonDecoder

    decoder = JsonDecoder(
        pa.schema(
            {"request_id": pa.string(), "event_time": pa.int64(), "item": pa.string(),
             "price": pa.float64(), "slot": pa.int64(), "device": pa.string(),
             "country": pa.string()}
        )
    )  # fmt: skip
    brokers = Brokers(KafkaConfig(servers=servers, client=name), "benchmark")
    client = connect(brokers, brokers.describe([TOPIC]), print)

    def read(most: int) -> None:
        fetcher, position = client.open(Place(TOPIC, 0), 0), 0
        while position < most:
            messages = fetcher.fetch(ROWS, 64 << 20, 100)
            if decode and len(messages):
                decoder.decode(Lines.of(messages.values.to_pylist()))
            position = messages.next_offset
        fetcher.close()

    return read


def _by_consume(servers: str, decode: bool) -> Callable[[int], None]:
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer(
        {"bootstrap.servers": servers, "group.id": "bench", "enable.auto.commit": False,
         "check.crcs": True, "fetch.queue.backoff.ms": 5}
    )  # fmt: skip

    def read(most: int) -> None:
        consumer.assign([TopicPartition(TOPIC, 0, 0)])
        count = 0
        while count < most:
            messages = consumer.consume(ROWS, 0.1)
            count += len(messages)
            for message in messages:
                value = message.value()
                if decode:
                    json.loads(value)
        consumer.unassign()

    return read


def _by_poll(servers: str, decode: bool) -> Callable[[int], None]:
    import kafka

    consumer = kafka.KafkaConsumer(
        bootstrap_servers=servers, auto_offset_reset="none", enable_auto_commit=False,
        max_partition_fetch_bytes=4 << 20,
    )  # fmt: skip
    place = kafka.TopicPartition(TOPIC, 0)
    consumer.assign([place])

    def read(most: int) -> None:
        consumer.seek(place, 0)
        count = 0
        while count < most:
            for record in consumer.poll(100, max_records=ROWS).get(place, []):
                count += 1
                if decode:
                    json.loads(record.value)

    return read


def cpu_s() -> float:
    """Return the CPU time of this process, all threads."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def measure(name: str, servers: str, decode: bool) -> float:
    """Return microseconds of CPU a message, the least of three readings after one unmeasured."""
    read, most = reader(name, servers, decode), SLOW.get(name, MESSAGES)
    read(min(most, 100_000))
    spent = []
    for _ in range(3):
        began = cpu_s()
        read(most)
        spent.append(cpu_s() - began)
    return min(spent) / most * 1e6


def main() -> None:
    """Print a table."""
    if len(sys.argv) > 1:
        name, servers, decode, cores = sys.argv[1:]
        if cores == "one":
            os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
        print(measure(name, servers, decode == "decode"))
        return
    folder = OUT / "kafka"
    run = [sys.executable, str(BROKER)]
    started = [*run, "start", str(folder)]
    servers = subprocess.run(started, check=True, capture_output=True, text=True).stdout.strip()
    try:
        fill(servers)
        print(f"{MESSAGES:,} messages of {BYTES} bytes, lz4: microseconds of CPU a message")
        print(f"{'':<20} {'one core':>15} {'any core':>15}")
        print(f"{'client':<20}" + f" {'read':>6} {'decode':>8}" * 2)
        for name in READERS:
            found = []
            for cores in ("one", "any"):
                for what in ("read", "decode"):
                    command = [sys.executable, "-m", "benchmarks.kafka", name, servers, what, cores]
                    done = subprocess.run(command, check=True, capture_output=True, text=True)
                    found.append(float(done.stdout.split()[-1]))
            print(f"{name:<20}" + " {:>6.2f} {:>8.2f} {:>6.2f} {:>8.2f}".format(*found))
    finally:
        subprocess.run([*run, "stop", str(folder)], check=True)


if __name__ == "__main__":
    main()
