"""What a run that does not end costs, and how late its outputs come.

Usage: ``python -m benchmarks.live [--messages N]`` (``make bench-live``). Needs Java and Maven.

Throughput: a backlog of four million JSON messages of generated traffic, lz4, four partitions a
topic. Each reader is a process of its own: messages a second, CPU of the process a message
(not the broker's), peak memory. Latency: traffic at 50,000 events a second with an epoch of a
second; joined actions are awaited in their topic, samples in their folder.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

import headrace
from benchmarks.livejobs import (
    Broker,
    Process,
    configure,
    end_in_order,
    produce,
    running_broker,
)
from benchmarks.replay import OUT
from headrace.pipelines.app.live import stream_on
from headrace.pipelines.app.resolving import resolve_live
from headrace.pipelines.jobs.status import Status

MESSAGES, RATE = 4_000_000, 50_000
SLOW = 200_000
"""Messages for readers that take long."""
IMPRESSIONS = "impressions"
ROWS, BYTES = 20_000, 16 << 20
LATENCY_S = 40.0
SETTLED_S = 15.0
"""What comes before is not counted: the run starts, and the first windows close."""
EPOCH_S, WINDOW_S = 1, 2


def cpu_s() -> float:
    """Return the CPU time of this process, all threads, and of those that it has started."""
    own, ended = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + ended.ru_utime + ended.ru_stime


def report(messages: int, wall: float, cpu: float) -> None:
    """Print what was measured, for the process that compares."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print(json.dumps({"messages": messages, "wall": wall, "cpu": cpu, "peak": peak}))


@contextlib.contextmanager
def measured(count: Callable[[], int]) -> Iterator[None]:
    """Measure what a block costs."""
    wall, cpu = time.monotonic(), cpu_s()
    yield
    report(count(), time.monotonic() - wall, cpu_s() - cpu)


def by_headrace(config: str, decode: bool) -> None:
    """Read all partitions with our client, one after another; decode values if asked."""
    _, growing = resolve_live(headrace.load_config(config), until_end=True)
    read = 0
    with measured(lambda: read):
        for partition in growing.partitions:
            log = partition.log
            if decode:
                for chunk in partition.chunks(ROWS, log.start):
                    read += 0 if chunk is None else chunk.end - chunk.begin
                continue
            fetcher, position = log.connection.client.open(log.place, log.start), log.start
            while position < log.end:
                messages = fetcher.fetch(ROWS, BYTES, 100)
                read, position = read + len(messages), messages.next_offset
            fetcher.close()


def whole(config: str) -> None:
    """Run the whole pipeline to the end of the topics, and measure it once it runs."""
    from headrace.pipelines.app.commands import quiet_beam

    quiet_beam()
    shutil.rmtree(out := Path(config).parent / "whole", ignore_errors=True)
    first: list[tuple[int, float, float]] = []

    def watch(status: Status) -> None:
        if not first and status.events:
            first.append((status.events, time.monotonic(), cpu_s()))

    stood = headrace.stream(config, out, until_end=True, watch=watch)
    ((events, wall, cpu),) = first
    report(stood.events - events, time.monotonic() - wall, cpu_s() - cpu)


def on_prism(config: str) -> None:
    """Run the whole pipeline to the end of the topics on Prism, from its start to its end."""
    from headrace.pipelines.app.commands import quiet_beam

    quiet_beam()
    shutil.rmtree(out := Path(config).parent / "prism", ignore_errors=True)
    _, growing = resolve_live(headrace.load_config(config), until_end=True)
    messages = sum(partition.log.end - partition.log.start for partition in growing.partitions)
    with measured(lambda: messages):
        stream_on("prism", config, out, until_end=True)


def by_consume(servers: str, decode: bool) -> None:
    """Read the impressions with confluent-kafka."""
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer(
        {"bootstrap.servers": servers, "group.id": "bench", "enable.auto.commit": False,
         "check.crcs": True, "fetch.queue.backoff.ms": 5, "enable.partition.eof": True}
    )  # fmt: skip
    partitions = consumer.list_topics(IMPRESSIONS, 30).topics[IMPRESSIONS].partitions
    read = ended = 0
    consumer.assign([TopicPartition(IMPRESSIONS, number, 0) for number in partitions])
    with measured(lambda: read):
        while ended < len(partitions):
            for message in consumer.consume(ROWS, 0.1):
                if message.error() is not None:
                    ended += 1
                    continue
                read += 1
                value = message.value()
                if decode:
                    json.loads(value)


def by_poll(servers: str) -> None:
    """Read some impressions with kafka-python."""
    import kafka

    consumer = kafka.KafkaConsumer(
        bootstrap_servers=servers, auto_offset_reset="none", enable_auto_commit=False,
        max_partition_fetch_bytes=4 << 20,
    )  # fmt: skip
    place = kafka.TopicPartition(IMPRESSIONS, 0)
    consumer.assign([place])
    consumer.seek(place, 0)
    read = 0
    with measured(lambda: read):
        while read < SLOW:
            for records in consumer.poll(100, max_records=ROWS).values():
                for record in records:
                    json.loads(record.value)
                read += len(records)


READERS: dict[str, Callable[[str, str], None]] = {
    "read": lambda servers, config: by_headrace(config, decode=False),
    "read and decode": lambda servers, config: by_headrace(config, decode=True),
    "the whole pipeline": lambda servers, config: whole(config),
    "  on Prism": lambda servers, config: on_prism(config),
    "confluent-kafka consume": lambda servers, config: by_consume(servers, decode=False),
    "  with json.loads": lambda servers, config: by_consume(servers, decode=True),
    "kafka-python poll, json.loads": lambda servers, config: by_poll(servers),
}


def throughput(broker: Broker, folder: Path, messages: int) -> None:
    """Fill topics, and print what each reader does with them."""
    impressions = messages * 19 // 20  # and a click for about each nineteenth
    traffic = produce(
        folder / "traffic.txt", broker, folder / "backlog", "--speed", "max", "--rate", "1000",
        "--impressions", str(impressions), "--start", "2026-01-01",
    )  # fmt: skip
    if traffic.process.wait() != 0:
        raise SystemExit(traffic.said)
    print(traffic.said.splitlines()[0])
    config = configure(folder / "backlog", folder / "backlog.toml", ('out_of_orderness = "5s"', ""))
    print(f"{'':<30} {'messages/s':>12} {'CPU us':>8} {'peak MB':>8}")
    for name in READERS:
        command = [sys.executable, "-m", "benchmarks.live", "--reader", name, broker.servers]
        done = subprocess.run([*command, str(config)], capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(done.stderr)
        found = json.loads(done.stdout.splitlines()[-1])
        rate, cpu = found["messages"] / found["wall"], found["cpu"] / found["messages"] * 1e6
        print(f"{name:<30} {rate:>12,.0f} {cpu:>8.2f} {found['peak']:>8,}", flush=True)


LATENCY = """
[live]
checkpoint = "10s"

[outputs]
joined.click = "joined"
"""


def latency(broker: Broker, folder: Path) -> None:
    """Print how late joined actions and files of samples come."""
    from benchmarks.chaos import create_topics

    create_topics(broker, ["joined"])
    traffic = produce(
        folder / "live.txt", broker, folder / "live", "--prefix", "live-",
        "--rate", str(RATE * 19 // 20), "--window", f"{WINDOW_S}s",
    )  # fmt: skip
    config = configure(
        folder / "live", folder / "live.toml", ('out_of_orderness = "5s"', "joined = true"),
        ("bits = 20", f'bits = 20\nepoch = "{EPOCH_S}s"'), more=LATENCY,
    )  # fmt: skip
    out = folder / "live-out"
    run = Process(folder / "run.txt", "stream", str(config), "--out", str(out))
    try:
        joined, files = _watch(broker.servers, out)
    finally:
        codes = run.end(), traffic.end()
    if any(codes):
        raise SystemExit(f"{run.said}\n{traffic.said}")
    print(f"{'at ' + format(RATE, ',') + ' events/s, ms':<44} {'p50':>7} {'p99':>7} {'most':>7}")
    for name, found in (("an action to its joined row in a topic", joined),
                        ("the end of an epoch to its file of samples", files)):  # fmt: skip
        figures = np.percentile(np.array(found) * 1000, [50, 99, 100])
        print(f"{name:<44} " + " ".join(f"{figure:>7,.0f}" for figure in figures)
              + f"   ({len(found):,})")  # fmt: skip


def _watch(servers: str, out: Path) -> tuple[list[float], list[float]]:
    """Return seconds from actions to their rows, and from ends of epochs to files."""
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer(
        {"bootstrap.servers": servers, "group.id": "bench", "enable.auto.commit": False,
         "isolation.level": "read_committed", "fetch.wait.max.ms": 5}
    )  # fmt: skip
    consumer.assign([TopicPartition("joined", number, 0) for number in range(2)])
    began, joined = time.time(), []
    files: dict[Path, float] = {}
    while (now := time.time()) < began + LATENCY_S:
        for message in consumer.consume(1000, 0.02):
            if message.error() is None and now > began + SETTLED_S:
                row = json.loads(message.value())
                joined.append(now - _seconds(row["click_time"]))
        for path in out.glob("samples/*/*/[0-9]*.parquet"):
            if path not in files:
                files[path] = path.stat().st_mtime
    consumer.close()
    late = []
    for path, written in files.items():
        ended = datetime.strptime(path.stem, "%Y%m%dT%H%M%S.%fZ").replace(tzinfo=UTC).timestamp()
        if written > began + SETTLED_S:
            late.append(written - ended - EPOCH_S)
    return joined, late


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def main() -> None:
    """Print two tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--messages", type=int, default=MESSAGES)
    parser.add_argument("--only", choices=["throughput", "latency"])
    parser.add_argument("--reader", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.reader:
        name, servers, config = options.reader
        READERS[name](servers, config)
        return
    end_in_order()
    folder = (OUT / "live").absolute()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    print(f"{os.cpu_count()} cores")
    with running_broker(folder / "broker") as broker:
        if options.only != "latency":
            throughput(broker, folder, options.messages)
        if options.only != "throughput":
            latency(broker, folder)


if __name__ == "__main__":
    main()
