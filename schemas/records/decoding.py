"""Records as columns, and what becomes of lines and values that do not fit.

A record is a line, for CSV too: a line break inside quotes is not supported,
so that one broken line cannot swallow its neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headrace.schemas.records.badvalues import BadValues
from headrace.schemas.records.events import Reason
from headrace.schemas.records.hashing import Int64s
from headrace.schemas.records.notation import Notation
from headrace.schemas.records.spans import Spans
from headrace.schemas.types import type_name


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

    def __len__(self) -> int:
        """Return how many records there are, valid and rejected."""
        return self.batch.num_rows + len(self.rejects)

    def beside(self, others: Records) -> Records:
        """Return these records and others of the same part and columns, in order of numbers."""
        batch, numbers = self.batch, np.concatenate([self.numbers, others.numbers])
        if others.numbers.size:
            columns = zip(self.batch.columns, others.batch.columns, strict=True)
            order = np.argsort(numbers)
            batch = pa.RecordBatch.from_arrays(
                [pa.concat_arrays(pair).take(pa.array(order)) for pair in columns],
                schema=self.batch.schema,
            )
            numbers = numbers[order]
        rejects = sorted([*self.rejects, *others.rejects], key=lambda reject: reject.number)
        return Records(batch, numbers, rejects, [*self.bad, *others.bad])


@dataclass(frozen=True)
class Lines:
    """Lines of a source in its order, without their line ends.

    Parameters
    ----------
    first
        Record number of the first line.
    spans
        Where the lines lie, n of them.
    numbers
        Record numbers of all lines, int64, shape (n,), if they do not rise by one from line
        to line.
    cut
        How many bytes the lines have that are too long to be read, by their index, counted from
        0; of these there is only the begin.
    """

    first: int
    spans: Spans
    numbers: Int64s | None = None
    cut: Mapping[int, int] = field(default_factory=dict)

    @classmethod
    def of(cls, lines: Sequence[bytes], first: int = 0) -> Lines:
        """Return some lines."""
        return cls(first, Spans.of_lines(lines))

    def __len__(self) -> int:
        """Return how many lines there are."""
        return self.spans.begins.size

    def __iter__(self) -> Iterator[bytes]:
        """Return each line, copied."""
        return (self.spans.value(at) for at in range(len(self)))

    def numbers_of(self, index: Int64s) -> Int64s:
        """Return the record numbers of lines by their index, counted from 0."""
        return index + self.first if self.numbers is None else self.numbers[index]

    def reject(self, at: int, reason: Reason, detail: str) -> Reject:
        """Make a reject of the line with index `at`, counted from 0."""
        text = self.spans.value(at).decode("utf-8", "backslashreplace")
        number = self.first + at if self.numbers is None else int(self.numbers[at])
        return Reject(number, reason, detail, text)

    def after(self, headers: int) -> Lines:
        """Return the lines without the first ones, which are no records; they count from 0."""
        cut = {at - headers: size for at, size in self.cut.items() if at >= headers}
        _, spans = self.spans.halves(headers)
        return Lines(0, spans, cut=cut)

    def decoded(self, decode: Callable[[Lines], Records], longest: int) -> Records:
        """Return the records of lines, those longer than `longest` bytes as rejects."""
        if not self.cut:
            return decode(self)
        whole = np.delete(np.arange(len(self)), list(self.cut))
        records = decode(Lines(self.first, self.spans.take(whole), self.numbers_of(whole)))
        rejects = [
            self.reject(at, Reason.UNDECODABLE, f"a line of {size:,} bytes, more than {longest:,}")
            for at, size in self.cut.items()
        ]
        records.rejects = sorted([*records.rejects, *rejects], key=lambda reject: reject.number)
        return records


def misfit(kind: pa.DataType) -> str:
    """Return why a value does not fit a type, which is named as in configurations."""
    return f"not {type_name(kind)}"


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
    notation: Notation,
    numbers: Int64s,
    columns: Sequence[Fitted],
    reject: Callable[[int, str], Reject],
) -> Records:
    """Put columns together, and decide what becomes of values that do not fit.

    Parameters
    ----------
    schema, columns
        The columns, and their types.
    notation
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
        if of.name not in notation.lenient:
            detail = f"column {of.name} is {misfit(of.type)}"
            rejects += [reject(int(row), detail) for row in np.flatnonzero(bad & ~unfit)]
            unfit |= bad
    found = []
    for of, bad, text in misfits:
        rows = np.flatnonzero(bad & ~unfit)
        if of.name in notation.lenient and rows.size:
            examples = (text(int(row)) for row in rows)
            found.append(BadValues.of(of.name, misfit(of.type), numbers[rows], examples))
    batch = pa.RecordBatch.from_arrays([column.values for column in columns], schema=schema)
    if unfit.any():
        batch, numbers = batch.filter(pa.array(~unfit)), numbers[~unfit]
    return Records(batch, numbers, rejects, found)
