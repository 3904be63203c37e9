"""The durable side of a shard: rings of cells over event time.

A ring has a few cells; what is appended goes to the cell of its latest event
time, and a cell is cleared once all of it has expired. On Beam a cell is a
`BagState`. Layout version 3:

==============  ========================================================
ring            what its cells hold
==============  ========================================================
``impressions`` event envelopes of impressions that have not settled
``segments``    what `headrace.joiner.state.hashqueue.Segment` says of those envelopes, so
                that restoring need not read them
``keys``        Arrow batches of kept keys (digest, time, known)
``retained``    Arrow batches of settled impressions, all columns; only if they
                are retained for corrections
``actions``     event envelopes of actions; and Arrow batches of (source,
                offset, what, time): what became of them since
``held``        Arrow batches of settled rows that wait for their group
``known``       Arrow batches of impressions as they became known (digest,
                time, known, source, offset), but for duplicates; only if
                something leaves before they settle
``scheduled``   Arrow batches of impressions that wait for their first
                emission, with its time
==============  ========================================================

Envelopes that arrived ahead of their turn lie in the one cell of ``ahead``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Protocol

from headrace.schemas.records.events import NEVER

CELLS = 6
RINGS = (
    "impressions", "segments", "keys", "retained", "actions", "held", "known", "scheduled"
)  # fmt: skip
AHEAD = "ahead"


class Journal(Protocol):
    """Cells of bytes, durable with the step's commit.

    Attributes
    ----------
    durable
        Whether the cells outlive the process. If not, only those impressions
        are written that the cache in memory has no room for.
    compressed
        Whether to compress the columns of events.
    """

    durable: bool
    compressed: bool

    def append(self, ring: str, cell: int, data: bytes) -> None:
        """Add `data` to a cell."""

    def read(self, ring: str, cell: int) -> Iterable[bytes]:
        """Return what was appended to a cell since it was cleared, in any order."""

    def clear(self, ring: str, cell: int) -> None:
        """Empty a cell."""


class MemoryJournal:
    """A journal in memory, for tests and for joins that need not survive."""

    durable = True
    compressed = True

    def __init__(self) -> None:
        self.cells: defaultdict[tuple[str, int], list[bytes]] = defaultdict(list)

    def append(self, ring: str, cell: int, data: bytes) -> None:
        """Add `data` to a cell."""
        self.cells[ring, cell].append(data)

    def read(self, ring: str, cell: int) -> Iterable[bytes]:
        """Return the contents of a cell."""
        return list(self.cells[ring, cell])

    def clear(self, ring: str, cell: int) -> None:
        """Empty a cell."""
        self.cells[ring, cell] = []


class Ring:
    """Which cell holds what event times; the bookkeeping of one ring.

    Parameters
    ----------
    name
        One of `RINGS`.
    span
        How long, in event time, something stays in the ring (microseconds).
    latest
        Latest event time in each cell, `NEVER` for an empty one.
    """

    def __init__(self, name: str, span: int, latest: list[int] | None = None) -> None:
        self.name = name
        # Two cells more than the span needs: one being filled, one being emptied.
        self.width = max(1, -(-span // (CELLS - 2)))
        self.latest = list(latest) if latest is not None else [NEVER] * CELLS

    def cell(self, time: int) -> int:
        """Return the cell for what lives until `time` has expired."""
        return (time // self.width) % CELLS

    def note(self, time: int) -> int:
        """Note that something lives until `time` has expired; return its cell."""
        cell = self.cell(time)
        self.latest[cell] = max(self.latest[cell], time)
        return cell

    def append(self, journal: Journal, time: int, data: bytes) -> None:
        """Append what lives until `time` has expired."""
        journal.append(self.name, self.note(time), data)

    def expire(self, journal: Journal, bound: int) -> None:
        """Clear the cells in which everything is at or before `bound`."""
        for cell, latest in enumerate(self.latest):
            if NEVER < latest <= bound:
                journal.clear(self.name, cell)
                self.latest[cell] = NEVER

    def read(self, journal: Journal) -> Iterable[bytes]:
        """Read everything in the ring."""
        for cell, latest in enumerate(self.latest):
            if latest > NEVER:
                yield from journal.read(self.name, cell)
