"""A broker for tests, and quick ways to fill its topics."""

from __future__ import annotations

import importlib.util
import itertools
import os
import signal
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

from headrace.pipelines.kafka.topics import Brokers
from headrace.schemas.config.kafka import KafkaConfig

COMMAND = Path(__file__).parents[3] / "docker" / "kafka" / "broker.py"


def command() -> ModuleType:
    """Load the command that starts brokers, as a module."""
    spec = importlib.util.spec_from_file_location("broker_command", COMMAND)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@dataclass(frozen=True)
class Record:
    """What is produced: a value, and what may stand beside it."""

    value: bytes | None
    key: bytes | None = None
    headers: tuple[tuple[str, bytes], ...] = ()
    timestamp: int = 1_700_000_000_000


class Broker:
    """A broker in a folder, and topics of which each has a name of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.command = command()
        self.numbers = itertools.count()
        self.start()
        self.admin = AdminClient({"bootstrap.servers": self.servers, "log_level": 0})

    def start(self) -> None:
        self.servers = self.command.start(self.folder, secure=True, parent=os.getpid())

    def stop(self) -> None:
        self.command.end(self.folder, signal.SIGTERM)

    def kill(self) -> None:
        self.command.end(self.folder, signal.SIGKILL)

    def address(self, listener: str) -> str:
        """Return the address of the listener with passwords (``sasl``) or with ``tls``."""
        return (self.folder / f"bootstrap.{listener}").read_text()

    @property
    def certificate(self) -> str:
        return str(self.folder / "broker.pem")

    def config(self, **keys: object) -> KafkaConfig:
        return KafkaConfig(**{"servers": self.servers, **keys})

    def brokers(self, **keys: object) -> Brokers:
        return Brokers(self.config(**keys), "c.toml", patience_s=3)

    def create(self, partitions: int = 1, name: str = "", **config: object) -> str:
        """Create a topic; the words of its settings are joined by underscores here."""
        name = name or f"topic-{next(self.numbers)}"
        settings = {key.replace("_", "."): str(value) for key, value in config.items()}
        # Records of tests have times long ago: a broker would delete them within seconds.
        settings = {"retention.ms": "-1", **settings}
        new = NewTopic(name, partitions, 1, config=settings)
        for created in self.admin.create_topics([new]).values():
            created.result(30)
        return name

    def partitions(self, topic: str, count: int) -> None:
        """Add partitions, until there are so many."""
        for created in self.admin.create_partitions([NewPartitions(topic, count)]).values():
            created.result(30)

    def delete(self, topic: str) -> None:
        for deleted in self.admin.delete_topics([topic]).values():
            deleted.result(30)

    def delete_records(self, topic: str, before: int) -> None:
        """Let the log of partition 0 begin at an offset."""
        place = TopicPartition(topic, 0, before)
        for deleted in self.admin.delete_records([place]).values():
            deleted.result(30)

    def produce(
        self, topic: str, records: Iterable[Record | bytes | None], partition: int = 0,
        codec: str = "none", batch: int = 1_000_000, **properties: object,
    ) -> None:  # fmt: skip
        """Produce records; ``batch`` is how many a batch has at most."""
        producer = self.producer(codec, batch, **properties)
        self.put(producer, topic, records, partition)
        assert producer.flush(60) == 0

    def producer(
        self, codec: str = "none", batch: int = 1_000_000, **properties: object
    ) -> Producer:
        settings = {name.replace("_", "."): value for name, value in properties.items()}
        return Producer(
            {
                "bootstrap.servers": self.servers, "compression.type": codec, "linger.ms": 5,
                "batch.num.messages": batch, "batch.size": 10_000_000,
                "message.max.bytes": 10_000_000, "log_level": 0, **settings,
            }
        )  # fmt: skip

    def put(
        self, producer: Producer, topic: str, records: Iterable[Record | bytes | None],
        partition: int = 0,
    ) -> None:  # fmt: skip
        for item in records:
            record = item if isinstance(item, Record) else Record(item)
            producer.produce(
                topic, record.value, record.key, partition, headers=list(record.headers),
                timestamp=record.timestamp,
            )  # fmt: skip
            producer.poll(0)

    def segments(self, topic: str, partition: int = 0) -> list[Path]:
        """Return the files of a partition's log."""
        return sorted((self.folder / "data" / f"{topic}-{partition}").glob("*.log"))

    def close(self) -> None:
        self.kill()
