"""How the positions of a partition number its records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np

from headrace.schemas.records.hashing import Int64s

Number = TypeVar("Number", int, np.int64, Int64s)


@dataclass(frozen=True)
class Numbering:
    """How positions number records: by one number, or by a message and a row in it.

    Parameters
    ----------
    row_bits
        How many of the low bits of a position number the rows of a message; what is above them
        numbers the messages. 0 if a message is one record, as is a line of a file.

    Examples
    --------
    >>> rows = Numbering(row_bits=20)
    >>> rows.first(7) + 5, rows.message(rows.first(7) + 5), rows.row(rows.first(7) + 5)
    (7340037, 7, 5)
    """

    row_bits: int = 0

    @property
    def most_rows(self) -> int:
        """How many rows a message may have."""
        return 1 << self.row_bits

    def first(self, message: Number) -> Number:
        """Return the position of the first row of a message."""
        return message << self.row_bits

    def message(self, position: Number) -> Number:
        """Return the number of the message in which a position lies."""
        return position >> self.row_bits

    def row(self, position: Number) -> Number:
        """Return the row of a position in its message, counted from 0."""
        return position & (self.most_rows - 1)

    def text(self, position: int) -> str:
        """Return a position as users know it: the number of its message, and the row inside."""
        row = self.row(position)
        return f"{self.message(position)}, row {row}" if row else f"{self.message(position)}"


BY_RECORD = Numbering()
"""That of files, and of topics of which each message is one record."""


class Origin(NamedTuple):
    """A source of records, as dead letters name it: its name, and how it numbers them."""

    name: str
    numbering: Numbering = BY_RECORD
