"""How the values of a topic's records are written: their columns, and what decodes them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from headrace.pipelines.kafka.registry import Registry
from headrace.pipelines.sources.numbering import BY_RECORD, Numbering
from headrace.schemas.config.kafka import KafkaConfig
from headrace.schemas.config.models import StreamConfig
from headrace.schemas.config.places import has_header
from headrace.schemas.errors import ConfigError
from headrace.schemas.messages.arrow import ArrowDecoder, Part
from headrace.schemas.messages.arrowlayouts import UnreadLayoutError, plain_type
from headrace.schemas.messages.avro import AvroDecoder
from headrace.schemas.messages.avroschemas import AvroSchema, AvroSchemaError
from headrace.schemas.messages.ipcstreams import MOST_ROWS
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

    def parts(
        self, values: pa.BinaryArray, numbers: Int64s, begin: int, end: int, rows: int
    ) -> Iterator[Part]:
        """Decode consecutive values; null ones are rejects.

        Parameters
        ----------
        values, numbers
            The values, and the positions of their first records, ascending.
        begin, end
            Records before the first may be left out; the second is the end of the last part.
        rows
            About how many records a part has at most.
        """


class RecordDecoder(Protocol):
    """Decodes values that are one record each."""

    def decode(self, values: pa.BinaryArray, numbers: Int64s) -> Records:
        """Decode values whose records have these numbers; null ones are rejects."""


class _OneEach:
    """Decodes values that are one record each, all of them together."""

    def __init__(self, decoder: RecordDecoder) -> None:
        self.decoder = decoder

    def parts(
        self, values: pa.BinaryArray, numbers: Int64s, begin: int, end: int, rows: int
    ) -> Iterator[Part]:
        """Decode values: as many as were fetched together."""
        yield Part(end, self.decoder.decode(values, numbers))


@dataclass(frozen=True)
class ValueFormat:
    """How the values of a topic are written.

    Parameters
    ----------
    name
        ``json``, ``avro``, ``protobuf``, or ``arrow``.
    columns
        The columns that they have; of JSON those that are declared, of Arrow too without a
        schema.
    decoder
        Makes a decoder of some of the columns.
    version
        Tells schemas apart; empty without one.
    numbering
        How positions number records.
    """

    name: str
    columns: Columns
    decoder: Callable[[pa.Schema, Notation], ValueDecoder]
    version: str = ""
    numbering: Numbering = BY_RECORD

    def identity(self) -> list[Any]:
        """Return what a run that resumes must find equal."""
        return [self.version] if self.version else []


_BY_ROW = Numbering(row_bits=MOST_ROWS.bit_length() - 1)


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
    declared = Columns({name: parse_type(kind) for name, kind in stream.types.items()}, {})
    if stream.value == "json":
        return ValueFormat("json", declared, _json)
    if stream.value == "arrow":
        columns, version = declared, ""
        if stream.schema_file is not None:
            columns, version = _arrow_schema(file, key, stream.schema_file)
        return ValueFormat("arrow", columns, ArrowDecoder, version, _BY_ROW)
    headed = has_header(stream, kafka)
    if stream.value == "protobuf":
        return _protobuf(file, key, stream, headed)
    return _avro(file, key, stream, registry if headed else None)


def _json(columns: pa.Schema, notation: Notation) -> ValueDecoder:
    return _OneEach(_JsonValues(columns, notation))


def _avro(file: str, key: str, stream: StreamConfig, registry: Registry | None) -> ValueFormat:
    schema = _avro_schema(file, key, stream, registry)
    writers = None if registry is None else registry.writer

    def decoder(columns: pa.Schema, notation: Notation) -> ValueDecoder:
        return _OneEach(AvroDecoder(schema, columns, notation, writers))

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
        return _OneEach(ProtoDecoder(message, columns, notation, headed))

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


def _arrow_schema(file: str, key: str, path: str) -> tuple[Columns, str]:
    """Return the columns of a file that is an IPC stream, and what tells them from others."""
    try:
        with pa.ipc.open_stream(read_schema(file, key, path)) as reader:
            schema = reader.schema.remove_metadata()
        names = schema.names
    except (pa.ArrowException, OSError, ValueError) as error:
        hint = "write pyarrow's schema.serialize() to it, or name a file of the stream format"
        raise ConfigError(file, f"{key}.schema", "has no Arrow schema", path, hint) from error
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(file, f"{key}.schema", f"has two columns {name}", path)
        try:
            plain_type(schema.field(name).type)
        except UnreadLayoutError as error:
            fact, hint = f"has a column {name}, and {error}", "leave it out of the schema"
            raise ConfigError(file, f"{key}.schema", fact, path, hint) from error
    text = schema.to_string(show_field_metadata=False, truncate_metadata=False)
    return Columns.of(schema), hashlib.sha256(text.encode()).hexdigest()


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
