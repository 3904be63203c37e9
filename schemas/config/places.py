"""Where streams are read from: files or topics, and which keys have a meaning there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from headrace.schemas.config.kafka import KafkaConfig

if TYPE_CHECKING:
    from headrace.schemas.config.models import StreamConfig

Conflict = tuple[str, str, object, str]
"""Key, fact, value, hint."""

OF_VALUES = {
    "value": "value", "schema_file": "schema", "message": "message", "header": "header",
    "subject": "subject",
}  # fmt: skip
"""The attributes that say how values of topics are written, and their keys."""

OF_FILES = ("format", "delimiter", "quote", "order")


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
        for attribute, key in OF_VALUES.items() if stream.topic is None else ():
            if attribute in stream.model_fields_set:
                value = getattr(stream, attribute)
                yield f"{name}.{key}", "has no meaning without topic", value, "leave it out"
    if kafka is None and (topics or outputs):
        yield "kafka", "is missing", None, 'add [kafka] with servers = "HOST:9092"'
    if kafka is not None and not topics and not outputs:
        yield "kafka", "has no meaning without topics", None, "give each stream a topic"
    for name, stream in topics.items():
        yield from _conflicts_of_topic(name, stream)
        if kafka is not None:
            yield from _conflicts_of_value(name, stream, kafka)


def has_header(stream: StreamConfig, kafka: KafkaConfig) -> bool:
    """Return whether values have a header: unless it is set, if there is a registry."""
    if stream.value in ("json", "arrow"):
        return False
    default = "none" if kafka.registry is None else "confluent"
    return (stream.header or default) == "confluent"


def _conflicts_of_value(name: str, stream: StreamConfig, kafka: KafkaConfig) -> Iterator[Conflict]:
    of = stream.value
    needless = {"json": ("schema_file", "message", "header", "subject"), "avro": ("message",),
                "protobuf": ("subject",), "arrow": ("message", "header", "subject")}  # fmt: skip
    for attribute in needless[of]:
        if attribute in stream.model_fields_set:
            fact = f'has no meaning with value = "{of}"'
            value = getattr(stream, attribute)
            yield f"{name}.{OF_VALUES[attribute]}", fact, value, "leave it out, or set value"
    registered = of == "avro" and has_header(stream, kafka)
    if registered and kafka.registry is None:
        hint = "add it: only a registry knows with which schema a message was written"
        yield "kafka.registry", f'is missing, and {name}.header is "confluent"', None, hint
    if of == "protobuf" and stream.schema_file is None:
        hint = "name the file that protoc --include_imports --descriptor_set_out writes"
        yield f"{name}.schema", "is missing", None, hint
    if of == "protobuf" and stream.message is None:
        yield f"{name}.message", "is missing", None, 'such as "ads.Impression"'
    if of == "avro" and stream.schema_file is None and not registered:
        yield f"{name}.schema", "is missing", None, "name a file, or add [kafka.registry]"
    if stream.subject is not None and (stream.schema_file is not None or not registered):
        beside = "beside schema" if registered else "without a registry"
        yield f"{name}.subject", f"has no meaning {beside}", stream.subject, "leave it out"


def _conflicts_of_topic(name: str, stream: StreamConfig) -> Iterator[Conflict]:
    for key in OF_FILES:
        if key in stream.model_fields_set:
            yield f"{name}.{key}", "has no meaning with topic", getattr(stream, key), "leave it out"
    schemaless = stream.value == "arrow" and stream.schema_file is None
    if stream.value != "json" and not schemaless:
        return  # its schema has the columns
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
