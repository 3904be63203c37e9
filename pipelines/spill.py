"""A journal on local disk, for payloads that memory has no room for."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

CACHE_BYTES = 256 << 20
"""Payload that a join holds in memory, over all shards."""

_LENGTH = struct.Struct("<Q")


class FileJournal:
    """A `joiner.journal.Journal` of files, one a cell; it does not outlive the process.

    Parameters
    ----------
    folder
        A folder of its own, created at the first write.
    durable
        Whether to keep everything here, not payloads alone.
    """

    compressed = False

    def __init__(self, folder: Path, durable: bool = False) -> None:
        self.folder, self.durable = folder, durable
        self.files: dict[tuple[str, int], BinaryIO] = {}

    def append(self, ring: str, cell: int, data: bytes) -> None:
        """Add `data` to a cell."""
        file = self.files.get((ring, cell))
        if file is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            file = self.files[ring, cell] = (self.folder / f"{ring}-{cell}").open("w+b")
        file.seek(0, 2)
        file.write(_LENGTH.pack(len(data)))
        file.write(data)

    def read(self, ring: str, cell: int) -> Iterator[bytes]:
        """Read the contents of a cell, one piece at a time."""
        file = self.files.get((ring, cell))
        if file is None:
            return
        file.seek(0)
        while head := file.read(_LENGTH.size):
            yield file.read(*_LENGTH.unpack(head))

    def clear(self, ring: str, cell: int) -> None:
        """Empty a cell."""
        file = self.files.get((ring, cell))
        if file is not None:
            file.truncate(0)

    def close(self) -> None:
        """Close and delete all files."""
        for (ring, cell), file in self.files.items():
            file.close()
            (self.folder / f"{ring}-{cell}").unlink()
        self.files = {}


class Spill:
    """The file journals of all shards of a run.

    Parameters
    ----------
    folder
        Where they are.
    cache_bytes
        Payload that a shard holds in memory.
    """

    def __init__(self, folder: Path, cache_bytes: int) -> None:
        self.folder, self.cache_bytes = folder, cache_bytes
        self.journals: dict[int, FileJournal] = {}

    def of(self, shard: int) -> FileJournal:
        """Return a shard's journal."""
        if shard not in self.journals:
            self.journals[shard] = FileJournal(self.folder / str(shard))
        return self.journals[shard]

    def close(self) -> None:
        """Delete everything."""
        for journal in self.journals.values():
            journal.close()
