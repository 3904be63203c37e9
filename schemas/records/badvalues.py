"""Values that do not fit their column: nulls instead, counted by column and cause."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from headrace.schemas.records.hashing import Int64s
from headrace.schemas.records.notation import BLANKS

EXAMPLES = 3
"""How many examples of a cause are kept."""

_LONGEST = 80


@dataclass(frozen=True)
class BadValues:
    """Values of one column that do not fit for one cause, in consecutive records.

    Parameters
    ----------
    column, cause
        The column, and what its values are not, such as ``not float64``.
    numbers
        Record numbers, ascending, int64, shape (n,).
    examples
        The first few values as text, at most `EXAMPLES`.
    """

    column: str
    cause: str
    numbers: Int64s
    examples: tuple[str, ...]

    @classmethod
    def of(cls, column: str, cause: str, numbers: Int64s, examples: Iterable[str]) -> BadValues:
        """Make one of some values; long examples are cut."""
        shown = tuple(_cut(text) for text, _ in zip(examples, range(EXAMPLES), strict=False))
        return cls(column, cause, numbers, shown)

    def cut(self, at: int) -> tuple[BadValues, BadValues]:
        """Cut before record number `at`."""
        head = int(np.searchsorted(self.numbers, at))
        return (
            BadValues(self.column, self.cause, self.numbers[:head], self.examples[:head]),
            BadValues(self.column, self.cause, self.numbers[head:], self.examples[head:]),
        )


Counts = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""By column and cause: ``count`` and ``examples``, as JSON types."""


def counted(counts: Counts, bad: Iterable[BadValues]) -> Counts:
    """Return `counts` with more bad values added; `counts` itself stays as it is."""
    found = [values for values in bad if values.numbers.size]
    for values in found:
        more = {"count": int(values.numbers.size), "examples": list(values.examples)}
        counts = together([counts, {values.column: {values.cause: more}}])
    return counts


def together(parts: Iterable[Counts]) -> dict[str, dict[str, dict[str, Any]]]:
    """Add counts up; the first examples stay.

    Columns and causes are sorted: which comes first in a log depends on how it is cut.
    """
    total: dict[str, dict[str, dict[str, Any]]] = {}
    for part in parts:
        for column, causes in part.items():
            for cause, found in causes.items():
                known = total.setdefault(column, {}).get(cause, {"count": 0, "examples": []})
                total[column][cause] = {
                    "count": known["count"] + found["count"],
                    "examples": [*known["examples"], *found["examples"]][:EXAMPLES],
                }
    return {column: dict(sorted(causes.items())) for column, causes in sorted(total.items())}


def advice(table: str, examples: Iterable[str]) -> str:
    """Return what to do about values that do not fit, a sentence or several.

    Parameters
    ----------
    table
        The stream's table in the configuration.
    examples
        Some of the values, as text or JSON.

    Examples
    --------
    >>> advice("impressions", ["3,5", "7,25"])
    'Set impressions.decimal = ",".'
    """
    texts = [example.strip('"').strip() for example in examples]
    written = [
        what.format(table=table)
        for pattern, what in _NOTATIONS.items()
        if any(re.fullmatch(pattern, text) for text in texts)
    ]
    otherwise = (
        f"Declare the column's type in {table}.types, or these texts in {table}.null_values."
    )
    return " ".join(written) or otherwise


_NOTATIONS = {
    r"[+-]?[\d.,]+ ?%": (
        "Percent signs are not read: log plain numbers, or declare the column as string."
    ),
    r"[+-]?\d{1,3}(,\d{3})+": 'Set {table}.decimal = "," or {table}.thousands = ",".',
    r"[+-]?\d*,\d+": 'Set {table}.decimal = ",".',
    r"[+-]?\d{1,3}(,\d{3})+\.\d*": 'Set {table}.thousands = ",".',
    r"[+-]?\d{1,3}(\.\d{3})+,\d*": 'Set {table}.decimal = "," and {table}.thousands = ".".',
    rf"[+-]?\d{{1,3}}([{BLANKS}]\d{{3}})+(\.\d*)?": 'Set {table}.thousands = " ".',
    rf"[+-]?\d{{1,3}}([{BLANKS}]\d{{3}})+,\d*": (
        'Set {table}.decimal = "," and {table}.thousands = " ".'
    ),
}
"""How numbers are written elsewhere, and what to set then."""


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
