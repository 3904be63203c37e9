"""What the journal says of the envelopes of impressions that wait to settle.

So restoring need not read their columns only to learn which times they span.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from headrace.joiner.journal.rings import CELLS
from headrace.joiner.plan.rules import known_times
from headrace.schemas.records.events import TIME
from headrace.schemas.records.restored import expect, expect_times

_SEGMENT = struct.Struct("<8q")
_MOST_ROWS, _MOST_BYTES = 1 << 31, 1 << 40

Name = tuple[int, int]
"""Name of a segment: its source, and the position of its envelope in that."""


@dataclass(eq=False, slots=True)
class Segment:
    """The impressions of one envelope, ordered by (event time, offset).

    Parameters
    ----------
    source, begin
        The segment's name, see `Name`.
    first_time, last_time
        Rows from `first_time` on still wait; event time of the last row.
    last_known
        When the last of its rows is known.
    cell
        The journal cell that holds the rows.
    rows, nbytes
        Size of the whole segment.
    """

    source: int
    begin: int
    first_time: int
    last_time: int
    last_known: int
    cell: int
    rows: int
    nbytes: int

    @classmethod
    def of(cls, source: int, begin: int, batch: pa.RecordBatch, cell: int) -> Segment:
        """Describe an envelope's rows, which are ordered by (event time, offset)."""
        time = batch.column(TIME).to_numpy()
        first, last, known = int(time[0]), int(time[-1]), int(known_times(batch).max())
        return cls(source, begin, first, last, known, cell, batch.num_rows, batch.nbytes)

    def encode(self) -> bytes:
        """Write the description as bytes."""
        return _SEGMENT.pack(*(getattr(self, name) for name in self.__slots__))

    @classmethod
    def decode(cls, data: bytes) -> Segment:
        """Read what `encode` wrote.

        Raises
        ------
        DamagedError
            If it is no segment.
        """
        expect(len(data) == _SEGMENT.size, "segment", f"has {len(data)} bytes")
        found = cls(*_SEGMENT.unpack(data))
        expect_times(np.array([found.first_time, found.last_time]), "segment")
        expect(found.source >= 0 <= found.begin, "segment", f"has no name (got {found.name})")
        expect(0 <= found.cell < CELLS, "segment", f"has no cell {found.cell}")
        expect(0 < found.rows < _MOST_ROWS, "segment", f"has {found.rows} rows")
        expect(0 < found.nbytes < _MOST_BYTES, "segment", f"has {found.nbytes} bytes")
        return found

    @property
    def name(self) -> Name:
        """The source and the envelope's position in it."""
        return self.source, self.begin
