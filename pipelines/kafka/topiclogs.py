"""Topics as the logs of a job: each partition a log that ends where it ended when asked."""

from __future__ import annotations

import functools
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from headrace.learners.registry import ALGORITHMS, Algorithms
from headrace.pipelines.kafka.clients import connect
from headrace.pipelines.kafka.fetching import Client, Place
from headrace.pipelines.kafka.registry import Registry
from headrace.pipelines.kafka.topics import Brokers, Cluster
from headrace.pipelines.kafka.values import ValueFormat, value_format
from headrace.pipelines.sources.heads import Head, columns_hint
from headrace.pipelines.sources.inputs import Inputs, assemble
from headrace.pipelines.sources.source import Chunk
from headrace.schemas.config.models import Config, StreamConfig
from headrace.schemas.errors import ConfigError, KafkaError
from headrace.schemas.records.notation import Notation
from headrace.schemas.types import carried_type, parse_type, readable, type_name

_BYTES = 16 << 20
_ROWS = 8192
"""Records to decode at a time: of JSON they are objects meanwhile, which should fit into caches."""
_WAIT_MS = 200
_PATIENCE = 1_500
"""So many waits in a row without a record, although there must be some, end a run: 5 min."""

_ASKED = 10
"""So often brokers are asked whether topics are what they were; each time they have 15 s."""


class Connection:
    """The topics of a job, and a client for all of them, which connects when it is needed.

    It reads each partition for one stream only.

    Parameters
    ----------
    brokers, cluster
        The brokers, and the topics as they were found.
    warn
        Called with a sentence if the client is not the fastest.
    """

    def __init__(self, brokers: Brokers, cluster: Cluster, warn: Callable[[str], None]) -> None:
        self.brokers, self.cluster, self.warn = brokers, cluster, warn

    def __reduce__(self) -> Any:
        return Connection, (self.brokers, self.cluster, self.warn)

    @functools.cached_property
    def client(self) -> Client:
        """The client; it is closed when nothing refers to this object any more."""
        client = connect(self.brokers, self.cluster, self.warn)
        weakref.finalize(self, client.close)
        return client

    def verify(self, topic: str) -> None:
        """Make sure that all records read so far are of the topics that were found.

        Raises
        ------
        KafkaError
            If one was deleted or created again, or brokers do not say.
        """
        if not any(self.client.verify() for _ in range(_ASKED)):
            raise KafkaError.unverified(topic)


@dataclass(frozen=True)
class TopicLog:
    """One partition of a topic, from its first record to where it ended when it was found.

    Parameters
    ----------
    number, stream
        Number among all partitions, in order of stream and partition, and of its stream.
    place
        The partition.
    start, end
        Positions of the first record and after the last.
    schema, notation
        The columns to read, and how their values are written.
    connection
        Where it is read from.
    values
        How the values of its records are written.
    """

    number: int
    stream: int
    place: Place
    start: int
    end: int
    schema: pa.Schema
    notation: Notation
    connection: Connection
    values: ValueFormat
    size: int = 0

    @property
    def format(self) -> str:
        """How the values of its records are written."""
        return self.values.name

    @property
    def name(self) -> str:
        """Its name in dead letters."""
        return str(self.place)

    def position(self, offset: int) -> int:
        """Return the position of the first record of the message at an offset."""
        return self.values.numbering.first(offset)

    def identity(self) -> tuple[str, list[Any]]:
        """Return its name in its cluster; the topic's id, where it is read from, its schema.

        Not where it ends: a run that resumes reads what has been added.
        """
        cluster = self.connection.cluster
        return f"{cluster.id}/{self.place}", [
            cluster.ids[self.place.topic], self.start, *self.values.identity(),
        ]  # fmt: skip

    def chunks(self, rows: int, skip: int = 0) -> Iterator[Chunk]:
        """Read the records; where chunks are cut depends on what brokers have at hand.

        Raises
        ------
        KafkaError
            If they cannot be read, or do not come.
        """
        position = max(skip, self.start)
        if position >= self.end:
            return
        waited = 0
        for chunk in self.read(rows, position, self.end, _WAIT_MS):
            waited = waited + 1 if chunk is None else 0
            if chunk is not None:
                position = chunk.end
                yield chunk
            elif waited > _PATIENCE:
                numbering = self.values.numbering
                where, end = numbering.text(position), numbering.text(self.end)
                raise KafkaError.stalled(self.name, where, end)
        # A topic may have been created again under its name, and go on where it was.
        self.connection.verify(self.place.topic)

    def read(
        self, rows: int, position: int, end: int | None, wait_ms: int
    ) -> Iterator[Chunk | None]:
        """Read records from a position on, to `end` or for ever; None where none come in time."""
        decoder = self.values.decoder(self.schema, self.notation)
        numbering, rows = self.values.numbering, min(rows, _ROWS)
        fetcher = self.connection.client.open(self.place, numbering.message(position))
        try:
            while end is None or position < end:
                messages = fetcher.fetch(rows, _BYTES, wait_ms)
                until = numbering.first(messages.next_offset)
                if end is not None:
                    until = min(until, end)
                if until <= position:
                    yield None
                    continue
                firsts = numbering.first(messages.offsets)
                count = int(firsts.searchsorted(until))
                values = messages.values.slice(0, count)
                for part in decoder.parts(values, firsts[:count], position, until, rows):
                    yield Chunk(position, part.end, part.records)
                    position = part.end
        finally:
            fetcher.close()


class TopicHead(Head):
    """The columns of a topic: those that are declared, or those of a schema.

    Parameters
    ----------
    file, key, stream
        See `Head`.
    connection
        The topics.
    registry
        The registry of schemas, if there is one.
    """

    def __init__(
        self,
        file: str,
        key: str,
        stream: StreamConfig,
        connection: Connection,
        registry: Registry | None = None,
    ) -> None:
        self.connection = connection
        kafka = connection.brokers.kafka
        self.values = value_format(file, key, stream, kafka, registry)
        self.format, self.numbering = self.values.name, self.values.numbering
        super().__init__(file, key, stream)

    def _inspect(self) -> tuple[dict[str, pa.DataType], set[str]]:
        columns = self.values.columns
        found = {name: carried_type(kind) for name, kind in columns.all.items()}
        declared = {name: parse_type(kind) for name, kind in self.stream.types.items()}
        for name, kind in declared.items():
            written = self.stream.types[name]
            if name not in found:
                raise self.error(f"types.{name}", "no such column", name, columns_hint(found, name))
            if not readable(found[name], kind):
                fact = f"column {name} is {type_name(found[name])} in its schema"
                hint = f'that cannot be read as {type_name(kind)}; "json" keeps anything'
                raise self.error(f"types.{name}", fact, written, hint)
        return {**found, **declared}, set(columns.nested)

    def logs(
        self, first: int, stream: int, schema: pa.Schema, notation: Notation
    ) -> list[TopicLog]:
        """Return the partitions, in order of their numbers."""
        assert self.stream.topic is not None
        partitions = sorted(self.connection.cluster.topics[self.stream.topic].items())
        position = self.numbering.first
        return [
            TopicLog(
                first + at, stream, Place(self.stream.topic, number), position(begin),
                position(end), schema, notation, self.connection, self.values,
            )
            for at, (number, (begin, end)) in enumerate(partitions)
        ]  # fmt: skip


def resolve_topics(
    config: Config, warn: Callable[[str], None], algorithms: Algorithms = ALGORITHMS
) -> Inputs:
    """Find and inspect the topics of a configuration, as they are now.

    Parameters
    ----------
    config
        From `load_config`; its streams have topics.
    warn
        Called with a sentence about the client, if it is not the fastest.
    algorithms
        The learners that it may name.

    Raises
    ------
    ConfigError, KafkaError
        For the first thing wrong.
    """
    if config.kafka is None:
        raise ConfigError(config.file, "kafka", "is missing", hint="add [kafka] with servers")
    brokers = Brokers(config.kafka, config.file)
    cluster = brokers.describe(config.topics.values())
    registry = None if config.kafka.registry is None else Registry(config.kafka, config.file)
    connections: list[Connection] = []
    readers: Counter[str] = Counter()
    heads = []
    for name, topic in config.topics.items():
        # Of streams with one topic each has a client of its own.
        if readers[topic] == len(connections):
            connections.append(Connection(brokers, cluster, warn))
        connection = connections[readers[topic]]
        heads.append(TopicHead(config.file, name, config.streams[name], connection, registry))
        readers[topic] += 1
    return assemble(config, heads, algorithms)
