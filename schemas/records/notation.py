"""How the values of a stream are written, and what becomes of those that do not fit."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import pyarrow as pa

NULL_VALUES = (
    "NA", "N/A", "n/a", "#N/A", "nan", "NaN", "NAN", "null", "NULL", "Null", "None", "\\N",
)  # fmt: skip
"""Texts that are null where a value is due that is not text."""

BLANKS = " \u00a0\u2009\u202f"
"""What may stand between groups of digits where that is a blank."""


@dataclass(frozen=True)
class Notation:
    """How values are written, and what becomes of those that do not fit their column.

    Parameters
    ----------
    lenient
        Columns in which such values are null. In the others they make the record a reject.
    null_values
        Texts that are null, in every column; None stands for `NULL_VALUES`, in columns
        that are not text.
    decimal, thousands
        Of numbers that are text: the character before the fraction, and the one between
        groups of three digits, which may be missing. A blank stands for any of `BLANKS`.
    json
        Columns that keep any JSON value, as its text.
    """

    lenient: Collection[str] = ()
    null_values: tuple[str, ...] | None = None
    decimal: str = "."
    thousands: str = ""
    json: Collection[str] = ()

    def nulls_of(self, kind: pa.DataType) -> tuple[str, ...]:
        """Return the texts that are null in a column of a type."""
        if self.null_values is not None:
            return self.null_values
        return () if pa.types.is_string(kind) or pa.types.is_binary(kind) else NULL_VALUES


PLAIN = Notation()
