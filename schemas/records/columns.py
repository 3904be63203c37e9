"""Rows that are columns already, such as those of Parquet, as records."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from headrace.schemas.records.decoding import (
    STRICT,
    Fitted,
    Lenience,
    Records,
    Reject,
    as_records,
)
from headrace.schemas.records.eventing import record_text
from headrace.schemas.records.events import Reason
from headrace.schemas.records.values import fit, parse_text, without_nulls


class ColumnDecoder:
    """Give columns the types that they have in their stream.

    Parameters
    ----------
    schema
        The columns, and their types. One that is missing is null.
    lenience
        What becomes of values that do not fit.
    """

    def __init__(self, schema: pa.Schema, lenience: Lenience = STRICT) -> None:
        self.schema = schema
        self.lenience = lenience

    def decode(self, rows: pa.RecordBatch, first: int) -> Records:
        """Decode rows, of which the first has the record number `first`."""
        numbers = np.arange(first, first + rows.num_rows, dtype=np.int64)
        columns = [self._fitted(rows, field) for field in self.schema]

        def reject(row: int, detail: str) -> Reject:
            return Reject(int(numbers[row]), Reason.WRONG_TYPE, detail, record_text(rows, row))

        records = as_records(self.schema, self.lenience, numbers, columns, reject)
        records.rejects.sort(key=lambda reject: reject.number)
        return records

    def _fitted(self, rows: pa.RecordBatch, field: pa.Field) -> Fitted:
        nulls = self.lenience.nulls_of(field.type)
        values, bad = _converted(_plain(rows, field), field.type, nulls)
        return Fitted(
            without_nulls(values, nulls), bad, lambda row: str(rows.column(field.name)[row].as_py())
        )


def _plain(rows: pa.RecordBatch, field: pa.Field) -> pa.Array:
    """Return a column without dictionary or extension type; nulls if it is missing."""
    where = rows.schema.get_field_index(field.name)
    if where < 0:
        return pa.nulls(rows.num_rows, field.type)
    column = rows.column(where)
    if isinstance(column.type, pa.BaseExtensionType):
        column = column.storage
    return pc.dictionary_decode(column) if pa.types.is_dictionary(column.type) else column


def _converted(
    column: pa.Array, kind: pa.DataType, nulls: tuple[str, ...]
) -> tuple[pa.Array, npt.NDArray[np.bool_] | None]:
    """Return a column as another type, and which values do not fit, None if all do."""
    if column.type == kind:
        return column, None
    # A whole number too large for a fraction to hold is rounded, as in any conversion.
    rounded = pa.types.is_integer(column.type) and pa.types.is_floating(kind)
    try:
        return column.cast(kind, safe=not rounded), None
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        pass
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        text = column.cast(pa.string())
        return parse_text(text.cast(pa.binary()), kind, nulls)
    fitted = [fit(value, kind, nulls) for value in column.to_pylist()]
    return pa.array([value for value, _ in fitted], kind), np.array(
        [not fits for _, fits in fitted]
    )
