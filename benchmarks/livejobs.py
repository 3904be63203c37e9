"""What a benchmark of a run that does not end is made of: a broker, traffic, and the run.

All are processes of their own, started as a user starts them. Also here: reading outputs while
they are written, and comparing them with those of other runs of the same topics.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

import headrace

ROOT = Path(__file__).parents[1]
BROKER = ROOT / "docker" / "kafka" / "broker.py"
HEADRACE = (sys.executable, "-m", "headrace")
PATIENCE_S = 120.0
"""What takes longer than this has failed."""


def end_in_order() -> None:
    """Let SIGTERM end this process as Ctrl-C does: with all that it has started."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(f"ended by signal {number}"))


class Broker:
    """A broker in a folder.

    Attributes
    ----------
    servers
        Its address.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self.servers = ""

    def _run(self, command: str) -> str:
        arguments = [sys.executable, str(BROKER), command, str(self.folder)]
        done = subprocess.run(arguments, check=True, stdout=subprocess.PIPE, text=True)
        return done.stdout.strip()

    def start(self) -> None:
        """Start it, and return when it answers."""
        self.servers = self._run("start")

    def stop(self) -> None:
        """Let it end in order."""
        self._run("stop")

    def kill(self) -> None:
        """Kill it."""
        self._run("kill")

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        os.kill(int((self.folder / "pid").read_text()), number)


@contextlib.contextmanager
def running_broker(folder: Path) -> Iterator[Broker]:
    """Run a broker while the block runs."""
    broker = Broker(folder)
    broker.start()
    try:
        yield broker
    finally:
        broker.kill()


class Process:
    """A command of headrace, in a process of its own.

    Parameters
    ----------
    log
        The file for what it says.
    arguments
        The command.
    """

    def __init__(self, log: Path, *arguments: str) -> None:
        self.log = log
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                [*HEADRACE, *arguments], cwd=ROOT, stdin=subprocess.DEVNULL, stdout=file,
                stderr=file, start_new_session=True,
            )  # fmt: skip

    @property
    def pid(self) -> int:
        """Its number."""
        return self.process.pid

    @property
    def code(self) -> int | None:
        """Its exit code, None while it runs."""
        return self.process.poll()

    @property
    def said(self) -> str:
        """What it has said."""
        return self.log.read_text(errors="replace").strip()

    def end(self, how: signal.Signals = signal.SIGINT, within_s: float = PATIENCE_S) -> int:
        """Send a signal, and wait for the end; return the exit code.

        Raises
        ------
        subprocess.TimeoutExpired
            If it does not end in time; it is killed then.
        """
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(how)
        try:
            return self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise


def produce(log: Path, broker: Broker, out: Path, *options: str) -> Process:
    """Start ``headrace generate --to-kafka``, and return when its topics are there."""
    traffic = Process(
        log, "generate", "--to-kafka", broker.servers, "--out", str(out), *options
    )  # fmt: skip
    until = time.monotonic() + PATIENCE_S
    while not (out / "headrace.toml").exists():
        if traffic.code is not None or time.monotonic() > until:
            raise SystemExit(f"no traffic: {traffic.said}")
        time.sleep(0.05)
    return traffic


def configure(traffic: Path, target: Path, *changes: tuple[str, str], more: str = "") -> Path:
    """Write a configuration: that of the traffic with changes of its text, and more tables."""
    text = (traffic / "headrace.toml").read_text()
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    target.write_text(f"{text}\n{more}")
    return target


class GrowingReader(threading.Thread):
    """Reads the outputs of a run again and again: what was complete once must never change.

    Attributes
    ----------
    readings, rows
        How often it has read, and how many samples there were the last time.
    problems
        What was wrong.
    """

    def __init__(self, out: Path, every_s: float = 0.3) -> None:
        super().__init__(daemon=True)
        self.out, self.every_s = out, every_s
        self.readings = self.rows = 0
        self.problems: list[str] = []
        self.ending = threading.Event()
        self.samples: pa.Table | None = None
        self.letters: set[tuple[str, int, str]] = set()

    def run(self) -> None:
        """Read until `close` is called."""
        took_s = 0.0
        while not self.ending.wait(max(self.every_s, 20 * took_s)):
            began = time.monotonic()
            if not (self.out / "complete.json").exists():
                if self.readings:
                    self.problems.append("complete.json has gone")
                continue
            try:
                self._read()
            except Exception as error:  # it is what this reader looks for
                self.problems.append(f"cannot be read: {error!r}")
            self.readings += 1
            took_s = time.monotonic() - began

    def _read(self) -> None:
        live = headrace.load_live(self.out)
        samples = live.samples.to_table(use_threads=False)
        if self.samples is not None and not samples.slice(0, self.rows).equals(self.samples):
            self.problems.append(f"the first {self.rows} samples have changed")
        self.samples, self.rows = samples, samples.num_rows
        letters = letters_of(live.dead_letters)
        if len(letters) != len(set(letters)):
            self.problems.append("a dead letter is there twice")
        if gone := self.letters - set(letters):
            self.problems.append(f"{len(gone)} dead letters have gone")
        self.letters = set(letters)

    def close(self) -> None:
        """End the thread."""
        self.ending.set()
        self.join()


def letters_of(dataset: pa.dataset.Dataset) -> list[tuple[str, int, str]]:
    """Return source, position and reason of each dead letter."""
    table = dataset.to_table(["source", "offset", "reason"], use_threads=False)
    return list(zip(*(column.to_pylist() for column in table.columns), strict=True))


class Outputs:
    """All that a run has written.

    Parameters
    ----------
    result
        From `headrace.load_live`, or of a replay.

    Attributes
    ----------
    tables
        The rows of samples, corrections and joined actions, in their order.
    letters
        The dead letters.
    models
        The checksum of the newest model of each learner.
    """

    def __init__(self, result: headrace.LiveResult | headrace.ReplayResult) -> None:
        datasets = {"samples": result.samples, "corrections": result.corrections}
        datasets |= {f"joined/{name}": dataset for name, dataset in result.joined.items()}
        self.tables = {
            name: dataset.to_table(use_threads=False).combine_chunks()
            for name, dataset in datasets.items() if dataset is not None
        }  # fmt: skip
        self.letters = Counter(letters_of(result.dead_letters))
        self.models = {
            folder.name: headrace.load_model(max(folder.glob("snapshot-*"))).manifest["sha256"]
            for folder in sorted(path for path in (result.out / "model").iterdir() if path.is_dir())
        }

    @property
    def rows(self) -> dict[str, int]:
        """How many rows each output has."""
        found = {name: table.num_rows for name, table in self.tables.items()}
        return {**found, "dead letters": self.letters.total()}

    def differences(self, expected: Outputs) -> list[str]:
        """Return how these outputs differ from those of a run that nothing disturbed."""
        found = []
        for name, table in expected.tables.items():
            if not self.tables[name].equals(table):
                found.append(f"{name}: " + compared(_rows(self.tables[name]), _rows(table)))
        if self.letters != expected.letters:
            found.append("dead letters: " + compared(self.letters, expected.letters))
        found += [
            f"model {name} differs" for name, checksum in expected.models.items()
            if self.models.get(name) != checksum
        ]  # fmt: skip
        return found


def _rows(table: pa.Table) -> Counter[str]:
    """Count rows by their text, some at a time."""
    found: Counter[str] = Counter()
    for batch in table.to_batches(100_000):
        found.update(map(repr, batch.to_pylist()))
    return found


def compared(found: Counter, expected: Counter) -> str:
    """Say how many are there too often, and how many are missing."""
    more, less = (found - expected).total(), (expected - found).total()
    return f"{more} repeats, {less} losses" if more or less else "other order"


def messages_of(servers: str, topic: str) -> dict[int, list[bytes]]:
    """Return the values of all committed messages, by partition."""
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer(
        {"bootstrap.servers": servers, "group.id": "benchmark", "enable.auto.commit": False,
         "auto.offset.reset": "error", "enable.partition.eof": True,
         "isolation.level": "read_committed"}
    )  # fmt: skip
    partitions = consumer.list_topics(topic, 30).topics[topic].partitions
    found: dict[int, list[bytes]] = {number: [] for number in partitions}
    consumer.assign([TopicPartition(topic, number, 0) for number in partitions])
    ended: set[int] = set()
    while len(ended) < len(partitions):
        message = consumer.poll(PATIENCE_S)
        assert message is not None, f"{topic}: no messages"
        if message.error() is None:
            found[message.partition()].append(message.value())
        else:
            assert message.error().name() == "_PARTITION_EOF", message.error()
            ended.add(message.partition())
    consumer.close()
    return found
