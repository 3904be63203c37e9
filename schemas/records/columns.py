"""Rows that are columns already, such as those of Parquet, as records."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from headrace.schemas.records.decoding import Fitted, Records, Reject, as_records
from headrace.schemas.records.eventing import as_text, record_text, value_at
from headrace.schemas.records.events import Reason
from headrace.schemas.records.hashing import Int64s
from headrace.schemas.records.layouts import plain_layout
from headrace.schemas.records.notation import PLAIN, Notation
from headrace.schemas.records.paths import column_at
from headrace.schemas.records.utf8 import without_broken_text
from headrace.schemas.records.values import fit, parse_text, without_nulls


class ColumnDecoder:
    """Give columns the types that they have in their stream.

    Parameters
    ----------
    schema
        The columns, and their types. One that is missing is null; a name with points may be
        a path into structs (`headrace.schemas.records.paths`).
    notation
        How values are written, and what becomes of those that do not fit.
    """

    def __init__(self, schema: pa.Schema, notation: Notation = PLAIN) -> None:
        self.schema = schema
        self.notation = notation

    def decode(self, rows: pa.RecordBatch, first: int) -> Records:
        """Decode rows, of which the first has the record number `first`."""
        return self.decode_numbered(rows, np.arange(first, first + rows.num_rows, dtype=np.int64))

    def decode_numbered(self, rows: pa.RecordBatch, numbers: Int64s) -> Records:
        """Decode rows with these record numbers, ascending, int64, shape (n,)."""
        columns = [self._fitted(rows, field) for field in self.schema]

        def reject(row: int, detail: str) -> Reject:
            return Reject(int(numbers[row]), Reason.WRONG_TYPE, detail, record_text(rows, row))

        records = as_records(self.schema, self.notation, numbers, columns, reject)
        records.rejects.sort(key=lambda reject: reject.number)
        return records

    def _fitted(self, rows: pa.RecordBatch, field: pa.Field) -> Fitted:
        found = column_at(rows, field.name)
        if found is None:
            return Fitted(pa.nulls(rows.num_rows, field.type), None, lambda row: "")
        plain, broken = plain_layout(found), None
        if not pa.types.is_binary(field.type):
            plain, broken = without_broken_text(plain)
        if field.name in self.notation.json:
            return Fitted(_as_json(plain), broken, lambda row: as_text(value_at(found, row)))
        values, bad = _converted(plain, field.type, self.notation)
        if broken is not None:
            bad = broken if bad is None else bad | broken
        values = without_nulls(values, self.notation.nulls_of(field.type))
        return Fitted(values, bad, lambda row: as_text(value_at(found, row)))


def _as_json(column: pa.Array) -> pa.Array:
    """Return each value as JSON; text is JSON already."""
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return column.cast(pa.string())
    texts = (
        None if value is None else json.dumps(value, default=str, ensure_ascii=False)
        for value in _listed(column)
    )
    return pa.array(texts, pa.string())


def _listed(column: pa.Array) -> list[Any]:
    """Return the values as Python has them, as text where it does not, as a year beyond 9999."""
    try:
        return list(column.to_pylist())
    except (OverflowError, ValueError):
        return [_python_value(column, row) for row in range(len(column))]


def _python_value(column: pa.Array, row: int) -> Any:
    try:
        return column[row].as_py()
    except (OverflowError, ValueError):
        return value_at(column, row)


def _converted(
    column: pa.Array, kind: pa.DataType, notation: Notation
) -> tuple[pa.Array, npt.NDArray[np.bool_] | None]:
    """Return a column as another type, and which values do not fit, None if all do."""
    if column.type == kind:
        return column, None
    stored = pa.types.is_timestamp(column.type) or pa.types.is_date(column.type)
    if stored and pa.types.is_timestamp(kind):
        return _as_times(column, kind)
    text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
    if text and not (pa.types.is_string(kind) or pa.types.is_binary(kind)):
        return parse_text(column.cast(pa.string()).cast(pa.binary()), kind, notation)
    # A whole number too large for a fraction to hold is rounded, as in any conversion.
    rounded = pa.types.is_integer(column.type) and pa.types.is_floating(kind)
    try:
        return column.cast(kind, safe=not rounded), None
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        fitted = [fit(_decoded(value), kind, notation) for value in _listed(column)]
    return pa.array([value for value, _ in fitted], kind), np.array(
        [not fits for _, fits in fitted]
    )


def _as_times(column: pa.Array, kind: pa.DataType) -> tuple[pa.Array, npt.NDArray[np.bool_] | None]:
    """Return times and dates as microseconds, which those of some ten thousand years fit."""
    # As event times are: else one that does not fit would decide about all of the part.
    if pa.types.is_timestamp(column.type):
        column = pc.floor_temporal(column, unit="microsecond")
    most = _LARGEST // _microseconds(column.type)
    stored = pa.int32() if pa.types.is_date32(column.type) else pa.int64()
    numbers = column.cast(stored).cast(pa.int64())
    fits = pc.and_(pc.less_equal(numbers, most), pc.greater_equal(numbers, -most))
    bad = pc.and_(column.is_valid(), pc.invert(fits).fill_null(False))
    values = pc.if_else(fits, column, pa.scalar(None, column.type)).cast(kind)
    return values, bad.to_numpy(zero_copy_only=False)


_LARGEST = 2**63 - 1


def _microseconds(kind: pa.DataType) -> int:
    """Return how many microseconds the unit of a time or a date is, 1 if it is smaller."""
    if pa.types.is_date(kind):
        return 86_400_000_000 if pa.types.is_date32(kind) else 1_000
    return {"s": 1_000_000, "ms": 1_000}.get(kind.unit, 1)


def _decoded(value: Any) -> Any:
    """Return bytes as text if they are UTF-8."""
    try:
        return value.decode() if isinstance(value, bytes) else value
    except UnicodeDecodeError:
        return value
