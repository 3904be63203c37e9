"""Rows that are columns already, such as those of Parquet, as records."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from headrace.schemas.records.badvalues import BadValues
from headrace.schemas.records.decoding import STRICT, Lenience, Records, Reject, misfit
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
        columns, unfit = [], np.zeros(rows.num_rows, np.bool_)
        rejects: list[Reject] = []
        misfits: list[tuple[pa.Field, npt.NDArray[np.bool_]]] = []
        for field in self.schema:
            nulls = self.lenience.nulls_of(field.type)
            column, bad = _converted(_plain(rows, field), field.type, nulls)
            columns.append(without_nulls(column, nulls))
            if bad is None:
                continue
            if field.name in self.lenience.columns:
                misfits.append((field, bad))
                continue
            for row in np.flatnonzero(bad & ~unfit):
                detail = f"column {field.name} is {misfit(field.type)}"
                text = record_text(rows, int(row))
                rejects.append(Reject(int(numbers[row]), Reason.WRONG_TYPE, detail, text))
            unfit |= bad
        found = []
        for field, bad in misfits:
            where = np.flatnonzero(bad & ~unfit)
            if where.size:
                examples = (str(rows.column(field.name)[int(row)].as_py()) for row in where)
                cause = misfit(field.type)
                found.append(BadValues.of(field.name, cause, numbers[where], examples))
        batch = pa.RecordBatch.from_arrays(columns, schema=self.schema)
        if unfit.any():
            batch, numbers = batch.filter(pa.array(~unfit)), numbers[~unfit]
            rejects.sort(key=lambda reject: reject.number)
        return Records(batch, numbers, rejects, found)


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
