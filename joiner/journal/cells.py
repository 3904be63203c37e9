"""Where the journal of a shard lies: cells of bytes.

Whoever runs a join says what a cell is: on Beam a `BagState`, in a replay a file.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Protocol

HEAD = 1024
"""Bytes of the beginning of a piece, by which it is told from others."""

Wanted = Callable[[bytes], bool]
"""Says by its first `HEAD` bytes whether a piece is to be read."""


class Cells(Protocol):
    """Cells of bytes by ring and number, see `headrace.joiner.journal.rings`.

    Attributes
    ----------
    durable
        Whether the cells outlive the process, with the step's commit. If not, only
        those impressions are written that the cache in memory has no room for.
    compressed
        Whether to compress the columns of events.
    """

    durable: bool
    compressed: bool

    def append(self, ring: str, cell: int, data: bytes) -> None:
        """Add `data` to a cell."""

    def read(self, ring: str, cell: int, wanted: Wanted | None = None) -> Iterable[bytes]:
        """Return what was appended to a cell since it was cleared, in any order.

        Pieces that are not wanted are left out; None for all. It is asked about each in turn.
        """

    def clear(self, ring: str, cell: int) -> None:
        """Empty a cell."""


class MemoryCells:
    """Cells in memory, for tests and for joins that need not survive."""

    durable = True
    compressed = True

    def __init__(self) -> None:
        self.contents: defaultdict[tuple[str, int], list[bytes]] = defaultdict(list)

    def append(self, ring: str, cell: int, data: bytes) -> None:
        """Add `data` to a cell."""
        self.contents[ring, cell].append(data)

    def read(self, ring: str, cell: int, wanted: Wanted | None = None) -> Iterable[bytes]:
        """Return what a cell holds."""
        return chosen(list(self.contents[ring, cell]), wanted)

    def clear(self, ring: str, cell: int) -> None:
        """Empty a cell."""
        self.contents[ring, cell] = []


class Outlet:
    """Cells that are only written to, and each write is passed on.

    Parameters
    ----------
    put
        Called with ring, cell and bytes, as `Cells.append` is.
    """

    durable = True
    compressed = False

    def __init__(self, put: Callable[[str, int, bytes], None]) -> None:
        self.append = put

    def read(self, ring: str, cell: int, wanted: Wanted | None = None) -> Iterable[bytes]:
        """Return nothing: what was written has been passed on."""
        return ()

    def clear(self, ring: str, cell: int) -> None:
        """Do nothing: there is nothing to clear."""


def chosen(pieces: Iterable[bytes], wanted: Wanted | None) -> Iterable[bytes]:
    """Return those of some pieces that are wanted."""
    return (piece for piece in pieces if wanted is None or wanted(piece[:HEAD]))
