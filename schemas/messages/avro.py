"""Avro messages as columns."""

from __future__ import annotations

import datetime
import io
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import fastavro
import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headrace.schemas.messages import avrokernel as kernel
from headrace.schemas.messages.avroschemas import AvroSchema, Program, Stored, Value
from headrace.schemas.messages.decoding import (
    Found,
    MessageDecoder,
    Reader,
    as_text,
)
from headrace.schemas.records.decoding import misfit
from headrace.schemas.records.hashing import Int64s
from headrace.schemas.records.notation import PLAIN, Notation
from headrace.schemas.records.paths import look_up
from headrace.schemas.records.spans import Spans, gathered, validity
from headrace.schemas.types import JSON

_WIDER = {
    (kernel.INT, kernel.LONG), (kernel.INT, kernel.FLOAT), (kernel.INT, kernel.DOUBLE),
    (kernel.LONG, kernel.FLOAT), (kernel.LONG, kernel.DOUBLE), (kernel.FLOAT, kernel.DOUBLE),
}  # fmt: skip
"""The kinds of numbers that a reader may take for others."""

_UNRESOLVED = (
    fastavro.schema.SchemaParseException, fastavro.read.SchemaResolutionError, EOFError,
    ArithmeticError, IndexError, KeyError, TypeError, ValueError, RecursionError,
)  # fmt: skip
"""What fastavro raises for a message that does not fit the reader's schema, or a time that
Python does not have."""

Bools = npt.NDArray[np.bool_]


class AvroDecoder(MessageDecoder):
    """Decode Avro messages.

    Parameters
    ----------
    reader
        The schema that gives the columns.
    schema, notation
        See `MessageDecoder`.
    writers
        Returns the schema of a number, or why there is none. None if messages have no header,
        and all were written with the reader's schema.
    """

    def __init__(
        self,
        reader: AvroSchema,
        schema: pa.Schema,
        notation: Notation = PLAIN,
        writers: Callable[[int], AvroSchema | str] | None = None,
    ) -> None:
        super().__init__(schema, notation, header=writers is not None)
        types = reader.columns().all
        self.wanted = {name: types[name] for name in schema.names if name in types}
        self.schema, self.writers = reader, writers
        self.readers: dict[int | None, Reader | str] = {}

    def reader(self, number: int | None) -> Reader | str:
        """Return what reads messages with this schema, or why none can be read."""
        if number not in self.readers:
            writer: AvroSchema | str = self.schema
            if self.writers is not None and number is not None:
                writer = self.writers(number)
            self.readers[number] = (
                writer if isinstance(writer, str) else AvroReader(writer, self.schema, self.wanted)
            )
        return self.readers[number]


class AvroReader:
    """Reads messages of one writer.

    Parameters
    ----------
    writer, reader
        The schemas.
    wanted
        The columns to read, by path, with the types that the reader's schema gives them.

    Attributes
    ----------
    program
        What the kernel reads.
    constants
        Defaults of fields that the writer does not have.
    others
        Columns that fastavro reads, message by message.
    """

    def __init__(
        self, writer: AvroSchema, reader: AvroSchema, wanted: Mapping[str, pa.DataType]
    ) -> None:
        self.writer, self.wanted = writer, wanted
        self.resolved = None if writer.parsed == reader.parsed else reader
        program = Program(writer, wanted)
        self.constants = self._defaults()
        self.others = [
            path for path in wanted
            if path not in self.constants
            and not (path in program.stored and self._fits(program.stored[path], path))
        ]  # fmt: skip
        self.program = Program(writer, wanted.keys() - self.constants.keys() - {*self.others})

    def _fits(self, stored: Stored, path: str) -> bool:
        """Return whether a value can be taken as the reader wants it without asking fastavro."""
        if self.resolved is None:
            return True
        field = self.resolved.field(path)
        schema = None if field is None else field["type"]
        optional = self.resolved.optional(schema)
        schema = self.resolved.form(schema if optional is None else optional[1])
        if stored.items is not None:
            return self.resolved.type_of(schema) == pa.list_(stored.value.type) and (
                not stored.value.symbols
            )
        value = self.resolved.value(schema)
        if value is None:
            return False
        if stored.value.type == value.type:
            return set(stored.value.symbols) <= set(value.symbols)
        both = (pa.int32(), pa.int64(), pa.float32(), pa.float64())
        return (
            stored.value.type in both and value.type in both
            and (stored.value.kind, value.kind) in _WIDER
        )  # fmt: skip

    def _defaults(self) -> dict[str, pa.Scalar]:
        """Return the values of columns that the writer's records do not have."""
        found: dict[str, pa.Scalar] = {}
        if self.resolved is None:
            return found
        for path, kind in self.wanted.items():
            field = self.resolved.field(path) if "." not in path else None
            if field is None or self.writer.field(path) is not None or field.get("aliases"):
                continue
            if "default" in field:
                column, wrong = _column([field["default"]], kind)
                if not wrong:
                    found[path] = column[0]
        return found

    def read(self, messages: Spans) -> Found:
        """Return messages as columns with the types of the reader's schema."""
        program, count = self.program, messages.begins.size
        words = np.zeros((program.slots, count), np.int64)
        valid = np.zeros((program.slots, count), np.bool_)
        results = np.empty(count, np.int64)
        kernel.read_messages(
            *messages, program.operations, program.nodes, program.inside, words, valid, results
        )
        broken = {int(row): kernel.ERRORS[-results[row]] for row in np.flatnonzero(results)}
        rows = np.flatnonzero(results == 0)
        if broken:
            messages, words, valid = messages.take(rows), words[:, rows], valid[:, rows]
        columns = _Columns(messages)
        found = {path: columns.of(stored, words, valid) for path, stored in program.stored.items()}
        found |= {path: pa.repeat(value, rows.size) for path, value in self.constants.items()}
        if self.others:
            found |= self._by_library(messages, columns)
        arrays = [_as_type(found[path], kind) for path, kind in self.wanted.items()]
        batch = pa.RecordBatch.from_arrays(arrays, list(self.wanted))
        if columns.broken:
            broken |= {int(rows[row]): why for row, why in columns.broken.items()}
            good = np.ones(rows.size, np.bool_)
            good[list(columns.broken)] = False
            batch, rows = batch.filter(pa.array(good)), rows[good]
        return Found(batch, rows, broken)

    def _by_library(self, messages: Spans, columns: _Columns) -> dict[str, pa.Array]:
        """Return the columns that fastavro reads; of a message that it refuses, nulls."""
        records: list[dict[str, Any]] = []
        resolved = None if self.resolved is None else self.resolved.parsed
        for row in range(messages.begins.size):
            try:
                message = io.BytesIO(messages.value(row))
                record: Any = fastavro.schemaless_reader(message, self.writer.parsed, resolved)
            except _UNRESOLVED as error:
                columns.broken[row] = " ".join(str(error).split()) or type(error).__name__
                record = {}
            records.append(record)
        found = {}
        for path in self.others:
            kind = self.wanted[path]
            found[path], wrong = _column([look_up(record, path) for record in records], kind)
            columns.broken |= dict.fromkeys(wrong, f"{path} is {misfit(kind)}")
        return found


class _Columns:
    """Makes columns of what the kernel has stored.

    Attributes
    ----------
    broken
        Why messages cannot be read, although their form is right, by index.
    """

    def __init__(self, messages: Spans) -> None:
        self.messages = messages
        self.broken: dict[int, str] = {}

    def of(self, stored: Stored, words: npt.NDArray[np.int64], valid: Bools) -> pa.Array:
        """Return a column."""
        rows = np.arange(self.messages.begins.size)
        if stored.items is None:
            return self._values(stored.slot, stored.value, words, valid, rows)
        there = np.flatnonzero(valid[stored.slot])
        sizes = np.where(valid[stored.slot], words[stored.slot + 1], 0)
        begins = words[stored.slot][there]
        total = int(sizes.sum())
        program = stored.items
        items = np.zeros((program.slots, total), np.int64)
        full = np.zeros((program.slots, total), np.bool_)
        kernel.read_items(
            self.messages.data, begins, self.messages.ends[there], program.operations,
            program.nodes, program.inside, items, full,
        )  # fmt: skip
        inner = program.stored[""]
        values = self._values(inner.slot, inner.value, items, full, np.repeat(rows, sizes))
        offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
        return pa.ListArray.from_arrays(
            pa.array(offsets), values, mask=pa.array(~valid[stored.slot])
        )

    def _values(
        self, slot: int, value: Value, words: npt.NDArray[np.int64], valid: Bools, rows: Int64s
    ) -> pa.Array:
        """Return a column of values without inner form; `rows` has the message of each."""
        first, there = words[slot], valid[slot]
        mask = None if there.all() else ~there
        kind = value.type
        if value.kind == kernel.NULL:
            return pa.nulls(there.size)
        if value.kind in (kernel.BYTES, kernel.FIXED):
            column = gathered(self.messages.data, first, words[slot + 1], there)
            if pa.types.is_binary(kind):
                return column
            text, wrong = as_text(column)
            self.broken |= dict.fromkeys(rows[wrong].tolist(), "a text is not UTF-8")
            return text
        if value.kind == kernel.DECIMAL:
            pairs = np.ascontiguousarray(words[slot : slot + 2].T)
            return pa.Array.from_buffers(kind, there.size, [validity(there), pa.py_buffer(pairs)])
        if value.kind == kernel.ENUM:
            names = pa.array(value.symbols, pa.string())
            return names.take(pa.array(first, mask=mask))
        if value.kind == kernel.FLOAT:
            return pa.array(first.astype(np.uint32).view(np.float32), mask=mask)
        if value.kind == kernel.DOUBLE:
            return pa.array(np.ascontiguousarray(first).view(np.float64), mask=mask)
        stored = _STORED.get(value.kind, np.int64)
        return pa.array(first.astype(stored), mask=mask).cast(kind)


_STORED: Mapping[int, type] = {kernel.BOOL: np.bool_, kernel.INT: np.int32}


def _as_type(column: pa.Array, kind: pa.DataType) -> pa.Array:
    """Return numbers as wider ones."""
    return column if kind == JSON or column.type == kind else column.cast(kind, safe=False)


def _column(values: Sequence[Any], kind: pa.DataType) -> tuple[pa.Array, list[int]]:
    """Return values as fastavro has them as a column, and the indices of those that do not fit.

    `JSON` is returned as its text.
    """
    try:
        return pa.array([_plain(value, kind) for value in values], _stored(kind)), []
    except _MISFITS:
        fitting: list[Any] = []
        wrong = []
        for row, value in enumerate(values):
            try:
                fitting.append(pa.scalar(_plain(value, kind), _stored(kind)))
            except _MISFITS:
                fitting.append(pa.scalar(None, _stored(kind)))
                wrong.append(row)
        return pa.array(fitting, _stored(kind)), wrong


_MISFITS = (pa.ArrowException, TypeError, ValueError, ArithmeticError)


def _stored(kind: pa.DataType) -> pa.DataType:
    return pa.string() if kind == JSON else kind


def _plain(value: Any, kind: pa.DataType) -> Any:
    """Return a value without a form that its column does not have.

    Defaults are as the schema has them, where bytes are text of which each character is one.
    """
    if value is None:
        return None
    if kind == JSON:
        return msgspec.json.encode(value).decode()
    if pa.types.is_list(kind):
        return [_plain(item, kind.value_type) for item in value]
    if pa.types.is_string(kind):  # a UUID
        return str(value)
    if pa.types.is_binary(kind):
        return value.encode("latin-1") if isinstance(value, str) else getattr(value, "bytes", value)
    if pa.types.is_decimal(kind) and isinstance(value, str):
        return Decimal(int.from_bytes(value.encode("latin-1"), signed=True)).scaleb(-kind.scale)
    if isinstance(value, datetime.time):
        passed = value.hour * 3600 + value.minute * 60 + value.second
        if pa.types.is_int32(kind):
            return passed * 1_000 + value.microsecond // 1_000
        return passed * 1_000_000 + value.microsecond
    return float(value) if pa.types.is_floating(kind) else value
