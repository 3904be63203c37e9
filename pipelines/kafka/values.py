"""How the values of a topic's records are written: their columns, and what decodes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from headrace.pipelines.kafka.registry import Registry
from headrace.schemas.config.kafka import KafkaConfig
from headrace.schemas.config.models import StreamConfig
from headrace.schemas.config.places import has_header
from headrace.schemas.errors import ConfigError
from headrace.schemas.messages.avro import AvroDecoder
from headrace.schemas.messages.avroschemas import AvroSchema, AvroSchemaError
from headrace.schemas.messages.protobuf import ProtoDecoder
from headrace.schemas.messages.protoschemas import NoMessageError, ProtoSchema, ProtoSchemaError
from headrace.schemas.records.decoding import Records
from headrace.schemas.records.hashing import Int64s
from headrace.schemas.records.jsonlines import JsonDecoder
from headrace.schemas.records.notation import Notation
from headrace.schemas.records.paths import Columns
from headrace.schemas.records.spans import Spans
from headrace.schemas.types import parse_type


class ValueDecoder(Protocol):
    """Decodes values."""

    def decode(self, values: pa.BinaryArray, numbers: Int64s) -> Records:
        """Decode values whose records have these numbers; null ones are rejects."""


@dataclass(frozen=True)
class ValueFormat:
    """How the values of a topic are written.

    Parameters
    ----------
    name
        ``json``, ``avro``, or ``protobuf``.
    columns
        The columns that they have; of JSON those that are declared.
    decoder
        Makes a decoder of some of the columns.
    version
        Tells schemas apart; empty without one.
    """

    name: str
    columns: Columns
    decoder: Callable[[pa.Schema, Notation], ValueDecoder]
    version: str = ""

    def identity(self) -> list[Any]:
        """Return what a run that resumes must find equal."""
        return [self.version] if self.version else []


class _JsonValues:
    """Decodes JSON objects."""

    def __init__(self, schema: pa.Schema, notation: Notation) -> None:
        self.decoder = JsonDecoder(schema, notation)

    def decode(self, values: pa.BinaryArray, numbers: Int64s) -> Records:
        """Decode values; a null one is an empty line."""
        spans = Spans.of(values)
        if values.null_count:
            there = values.is_valid().to_numpy(zero_copy_only=False)
            spans = spans._replace(ends=np.where(there, spans.ends, spans.begins))
        return self.decoder.decode_values(spans, numbers)


def value_format(
    file: str, key: str, stream: StreamConfig, kafka: KafkaConfig, registry: Registry | None
) -> ValueFormat:
    """Return how the values of a stream's topic are written.

    Parameters
    ----------
    file
        The configuration file: paths are relative to its folder, errors name it.
    key, stream
        The stream's table in it, such as ``actions.click``, and its contents.
    kafka
        The table ``[kafka]``.
    registry
        The registry, if there is one.

    Raises
    ------
    ConfigError
        If its schema cannot be read.
    KafkaError
        If the registry does not answer.
    """
    if stream.value == "json":
        declared = {name: parse_type(kind) for name, kind in stream.types.items()}
        return ValueFormat("json", Columns(declared, {}), _JsonValues)
    headed = has_header(stream, kafka)
    if stream.value == "protobuf":
        return _protobuf(file, key, stream, headed)
    return _avro(file, key, stream, registry if headed else None)


def _avro(file: str, key: str, stream: StreamConfig, registry: Registry | None) -> ValueFormat:
    schema = _avro_schema(file, key, stream, registry)
    writers = None if registry is None else registry.writer

    def decoder(columns: pa.Schema, notation: Notation) -> ValueDecoder:
        return AvroDecoder(schema, columns, notation, writers)

    return ValueFormat("avro", schema.columns(), decoder, schema.version)


def _protobuf(file: str, key: str, stream: StreamConfig, headed: bool) -> ValueFormat:
    assert stream.schema_file is not None
    assert stream.message is not None
    descriptors = read_schema(file, key, stream.schema_file)
    try:
        message = ProtoSchema.of(descriptors, stream.message)
    except ProtoSchemaError as error:
        fact, _, hint = str(error).partition("; ")
        which, value = "schema", stream.schema_file
        if isinstance(error, NoMessageError):
            which, value = "message", stream.message
        raise ConfigError(file, f"{key}.{which}", fact, value, hint) from error

    def decoder(columns: pa.Schema, notation: Notation) -> ValueDecoder:
        return ProtoDecoder(message, columns, notation, headed)

    return ValueFormat("protobuf", message.columns(), decoder, message.version)


def _avro_schema(
    file: str, key: str, stream: StreamConfig, registry: Registry | None
) -> AvroSchema:
    """Return the reader's schema."""
    if stream.schema_file is None:
        assert registry is not None
        return registry.latest(stream.subject or f"{stream.topic}-value", f"{key}.subject")
    try:
        return AvroSchema.of(read_schema(file, key, stream.schema_file).decode())
    except UnicodeDecodeError as error:
        raise ConfigError(file, f"{key}.schema", "is not UTF-8", stream.schema_file) from error
    except AvroSchemaError as error:
        raise ConfigError(file, f"{key}.schema", str(error), stream.schema_file) from error


def read_schema(file: str, key: str, path: str) -> bytes:
    """Return the contents of a schema's file.

    Raises
    ------
    ConfigError
        If it cannot be read.
    """
    folder = Path(file).parent
    try:
        return (folder / path).read_bytes()
    except OSError as error:
        fact, hint = (
            f"cannot be read ({error.strerror})",
            f"paths are relative to {folder.resolve()}",
        )
        raise ConfigError(file, f"{key}.schema", fact, path, hint) from error
