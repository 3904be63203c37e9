"""What decoders of messages share: empty values, headers, and broken messages."""

from __future__ import annotations

import base64
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import NamedTuple, Protocol

import numpy as np
import pyarrow as pa

from headrace.schemas.records.columns import ColumnDecoder
from headrace.schemas.records.decoding import Records, Reject
from headrace.schemas.records.events import Reason
from headrace.schemas.records.hashing import Int64s
from headrace.schemas.records.notation import Notation
from headrace.schemas.records.spans import Spans

HEADER = 5
"""Bytes before a message that was written with a registry: a zero, and the schema's number."""


class Found(NamedTuple):
    """Messages as columns.

    Parameters
    ----------
    batch
        The columns of those that can be read.
    rows
        Which these are, by index, ascending, int64.
    broken
        Why the others cannot be read, by index.
    """

    batch: pa.RecordBatch
    rows: Int64s
    broken: Mapping[int, str]


class Reader(Protocol):
    """Reads messages of one writer."""

    def read(self, messages: Spans) -> Found:
        """Return messages as columns with the types that their schema gives them."""


class MessageDecoder(ABC):
    """Decode messages, one a record.

    Parameters
    ----------
    schema
        The columns to decode, see `headrace.schemas.records.columns.ColumnDecoder`.
    notation
        How values are written, and what becomes of those that do not fit.
    header
        Whether each message has a header with the number of its schema.
    """

    def __init__(self, schema: pa.Schema, notation: Notation, header: bool) -> None:
        self.header = header
        self.columns = ColumnDecoder(schema, notation)

    @abstractmethod
    def reader(self, number: int | None) -> Reader | str:
        """Return what reads messages with this schema, or why none can be read.

        Parameters
        ----------
        number
            The schema's number, None without headers.
        """

    def decode(self, values: pa.BinaryArray, numbers: Int64s) -> Records:
        """Decode messages.

        Parameters
        ----------
        values
            The messages; one that is null or empty is a reject, as is one that is broken.
        numbers
            Their record numbers, ascending, int64, shape (n,).
        """
        spans = Spans.of(values)
        broken: dict[int, str] = {}
        there = values.is_valid().to_numpy(zero_copy_only=False)
        full = there & (spans.ends > spans.begins)
        for row in np.flatnonzero(~full).tolist():
            broken[row] = "empty value" if there[row] else "null value"
        groups = self._groups(spans, np.flatnonzero(full), broken)
        parts: list[tuple[pa.RecordBatch, Int64s]] = []
        for number, rows in groups.items():
            reader = self.reader(number)
            if isinstance(reader, str):
                broken |= dict.fromkeys(rows.tolist(), reader)
                continue
            after = 0 if number is None else HEADER
            part = spans.take(rows)
            found = reader.read(part._replace(begins=part.begins + after))
            parts.append((found.batch, rows[found.rows]))
            broken |= {int(rows[row]): why for row, why in found.broken.items()}
        records = self._records(parts, numbers)
        rejects = [
            Reject(int(numbers[row]), Reason.UNDECODABLE, broken[row],
                   base64.b64encode(spans.value(row)).decode())
            for row in sorted(broken)
        ]  # fmt: skip
        records.rejects = sorted([*rejects, *records.rejects], key=lambda reject: reject.number)
        return records

    def _groups(
        self, spans: Spans, rows: Int64s, broken: dict[int, str]
    ) -> dict[int | None, Int64s]:
        """Return the rows of each schema, by its number."""
        if not self.header:
            return {None: rows} if rows.size else {}
        begins = spans.begins[rows]
        whole = spans.ends[rows] - begins >= HEADER
        whole[whole] &= spans.data[begins[whole]] == 0
        for row in rows[~whole].tolist():
            broken[row] = "no header of a registry: it must begin with a zero and four more bytes"
        rows, begins = rows[whole], begins[whole]
        bytes_ = spans.data[begins[:, None] + np.arange(1, HEADER)].astype(np.int64)
        of = bytes_ @ np.array([1 << 24, 1 << 16, 1 << 8, 1])
        return {int(number): rows[of == number] for number in np.unique(of)}

    def _records(self, parts: list[tuple[pa.RecordBatch, Int64s]], numbers: Int64s) -> Records:
        if not parts:
            empty = pa.RecordBatch.from_arrays([pa.nulls(0)], ["none"])
            return self.columns.decode_numbered(empty, numbers[:0])
        if len(parts) == 1:
            ((batch, rows),) = parts
        else:
            rows = np.concatenate([rows for _, rows in parts])
            order = np.argsort(rows)
            pieces = zip(*(batch.columns for batch, _ in parts), strict=True)
            columns = [pa.concat_arrays(column).take(pa.array(order)) for column in pieces]
            batch = pa.RecordBatch.from_arrays(columns, parts[0][0].schema.names)
            rows = rows[order]
        return self.columns.decode_numbered(batch, numbers[rows])


def as_text(column: pa.Array) -> tuple[pa.Array, Int64s]:
    """Return bytes as text, null where they are not UTF-8; and where that is."""
    try:
        return column.cast(pa.string()), np.empty(0, np.int64)
    except pa.ArrowInvalid:
        texts = [_text(value) for value in column.to_pylist()]
        wrong = [row for row, text in enumerate(texts) if text is None and column[row].is_valid]
        return pa.array(texts, pa.string()), np.array(wrong, np.int64)


def _text(value: bytes | None) -> str | None:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return None
