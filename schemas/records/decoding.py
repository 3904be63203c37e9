"""Records as columns, and what becomes of lines and values that do not fit.

A record is a line, for CSV too: a line break inside quotes is not supported,
so that one broken line cannot swallow its neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headrace.schemas.records.badvalues import BadValues
from headrace.schemas.records.events import Reason
from headrace.schemas.records.hashing import Int64s

TYPES = {
    "string": pa.string(),
    "bytes": pa.binary(),
    "int64": pa.int64(),
    "float64": pa.float64(),
    "bool": pa.bool_(),
}


NULL_VALUES = (
    "NA", "N/A", "n/a", "#N/A", "nan", "NaN", "NAN", "null", "NULL", "Null", "None", "\\N",
)  # fmt: skip
"""Texts that are null where a value is due that is not text."""


@dataclass(frozen=True)
class Reject:
    """A record that is not an event: its number in the source, why, and its text."""

    number: int
    reason: Reason
    detail: str
    record: str


@dataclass
class Records:
    """The valid records of a part of a source as columns, and the rejected ones.

    Parameters
    ----------
    batch
        The valid records, n rows.
    numbers
        Their numbers in the source, int64, shape (n,).
    rejects
        The other records.
    bad
        Values of the valid records that do not fit; they are null in `batch`.
    """

    batch: pa.RecordBatch
    numbers: Int64s
    rejects: list[Reject] = field(default_factory=list)
    bad: list[BadValues] = field(default_factory=list)


@dataclass(frozen=True)
class Lenience:
    """What becomes of values that do not fit their column.

    Parameters
    ----------
    columns
        Columns in which they are null. In the others they make the record a reject.
    null_values
        Texts that are null, in every column; None stands for `NULL_VALUES`, in columns
        that are not text.
    """

    columns: Collection[str] = ()
    null_values: tuple[str, ...] | None = None

    def nulls_of(self, kind: pa.DataType) -> tuple[str, ...]:
        """Return the texts that are null in a column of a type."""
        if self.null_values is not None:
            return self.null_values
        return () if pa.types.is_string(kind) or pa.types.is_binary(kind) else NULL_VALUES


STRICT = Lenience()


@dataclass(frozen=True)
class Lines:
    """Consecutive lines of a source, without their line ends.

    Parameters
    ----------
    first
        Record number of the first line.
    lines
        The lines in order; record numbers rise by one from line to line.
    """

    first: int
    lines: list[bytes]

    def reject(self, at: int, reason: Reason, detail: str) -> Reject:
        """Make a reject of the line with index `at`, counted from 0."""
        text = self.lines[at].decode("utf-8", "backslashreplace")
        return Reject(self.first + at, reason, detail, text)


def misfit(kind: pa.DataType) -> str:
    """Return why a value does not fit a type, which is named as in configurations."""
    return f"not {next((name for name, known in TYPES.items() if known == kind), kind)}"


@dataclass(frozen=True)
class Fitted:
    """A column with the values that fit its type.

    Parameters
    ----------
    values
        The column, shape (n,), null where a value does not fit.
    bad
        Where none does, bool, shape (n,); None if all do.
    text
        Returns the value of a row as text.
    """

    values: pa.Array
    bad: npt.NDArray[np.bool_] | None
    text: Callable[[int], str]


def as_records(
    schema: pa.Schema,
    lenience: Lenience,
    numbers: Int64s,
    columns: Sequence[Fitted],
    reject: Callable[[int, str], Reject],
) -> Records:
    """Put columns together, and decide what becomes of values that do not fit.

    Parameters
    ----------
    schema, columns
        The columns, and their types.
    lenience
        In which columns such values are null.
    numbers
        Record numbers, ascending, int64, shape (n,).
    reject
        Makes the reject of a row, with this detail.
    """
    misfits = [(of, column.bad, column.text)
               for of, column in zip(schema, columns, strict=True)
               if column.bad is not None and column.bad.any()]  # fmt: skip
    unfit = np.zeros(numbers.size, np.bool_)
    rejects: list[Reject] = []
    for of, bad, _ in misfits:
        if of.name not in lenience.columns:
            detail = f"column {of.name} is {misfit(of.type)}"
            rejects += [reject(int(row), detail) for row in np.flatnonzero(bad & ~unfit)]
            unfit |= bad
    found = []
    for of, bad, text in misfits:
        rows = np.flatnonzero(bad & ~unfit)
        if of.name in lenience.columns and rows.size:
            examples = (text(int(row)) for row in rows)
            found.append(BadValues.of(of.name, misfit(of.type), numbers[rows], examples))
    batch = pa.RecordBatch.from_arrays([column.values for column in columns], schema=schema)
    if unfit.any():
        batch, numbers = batch.filter(pa.array(~unfit)), numbers[~unfit]
    return Records(batch, numbers, rejects, found)
