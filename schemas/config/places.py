"""Where streams are read from: files or topics, and which keys have a meaning there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from headrace.schemas.config.kafka import KafkaConfig

if TYPE_CHECKING:
    from headrace.schemas.config.models import StreamConfig

Conflict = tuple[str, str, object, str]
"""Key, fact, value, hint."""

_OF_FILES = ("format", "delimiter", "quote", "order")


def conflicts_of_places(
    streams: Mapping[str, StreamConfig], kafka: KafkaConfig | None, outputs: bool = False
) -> Iterator[Conflict]:
    """Find contradictions between the places of all streams, by the names of their tables.

    Parameters
    ----------
    streams, kafka
        The streams, and the brokers.
    outputs
        Whether outputs go to topics.
    """
    topics = {name: stream for name, stream in streams.items() if stream.topic is not None}
    for name, stream in streams.items():
        if stream.topic is None and not stream.path:
            yield f"{name}.path", "is missing", None, "add this key, or topic"
        if stream.topic is not None and stream.path:
            yield f"{name}.topic", "is given beside path", stream.topic, "leave one of them out"
        if stream.topic is None and topics:
            first = next(iter(topics))
            hint = f"{first} has a topic: read all streams from topics, or all from files"
            yield f"{name}.path", "cannot stand beside topics", None, hint
        if stream.topic is None and "value" in stream.model_fields_set:
            yield f"{name}.value", "has no meaning without topic", stream.value, "leave it out"
    if kafka is None and (topics or outputs):
        yield "kafka", "is missing", None, 'add [kafka] with servers = "HOST:9092"'
    if kafka is not None and not topics and not outputs:
        yield "kafka", "has no meaning without topics", None, "give each stream a topic"
    for name, stream in topics.items():
        yield from _conflicts_of_topic(name, stream)


def _conflicts_of_topic(name: str, stream: StreamConfig) -> Iterator[Conflict]:
    for key in _OF_FILES:
        if key in stream.model_fields_set:
            yield f"{name}.{key}", "has no meaning with topic", getattr(stream, key), "leave it out"
    # A topic may be empty, or have had other records before: it has no head to infer types from.
    action_id = getattr(stream, "id", None)
    wanted: dict[str, tuple[str, ...]] = {
        "key": stream.key,
        "time.column": (stream.time.column,),
        "id": () if action_id is None else (action_id,),
        "columns": getattr(stream, "columns", None) or (),
    }
    for key, columns in wanted.items():
        for column in columns:
            if column not in stream.types:
                hint = f'add it to {name}.types, such as "{column}" = "string"'
                yield f"{name}.{key}", "is a column without a type", column, hint
