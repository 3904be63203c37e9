"""Where the journal of a shard lies: cells of bytes.

Whoever runs a join says what a cell is: on Beam a `BagState`, in a replay a file.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Protocol


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

    def read(self, ring: str, cell: int) -> Iterable[bytes]:
        """Return what was appended to a cell since it was cleared, in any order."""

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

    def read(self, ring: str, cell: int) -> Iterable[bytes]:
        """Return what a cell holds."""
        return list(self.contents[ring, cell])

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

    def read(self, ring: str, cell: int) -> Iterable[bytes]:
        """Return nothing: what was written has been passed on."""
        return ()

    def clear(self, ring: str, cell: int) -> None:
        """Do nothing: there is nothing to clear."""
