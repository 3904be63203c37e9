"""Cells of a journal on local disk, for payloads that do not fit into memory."""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from headrace.joiner.journal.cells import HEAD, Wanted
from headrace.joiner.journal.rings import is_cell
from headrace.pipelines.run.disk import unlinked, writing

CACHE_BYTES = 256 << 20
"""Bytes of payload that a join holds in memory, over all shards."""

_LENGTH = struct.Struct("<Q")


class FileCells:
    """The cells of a journal (`headrace.joiner.journal.cells`), one file each, deleted on closing.

    Parameters
    ----------
    folder
        A folder for this journal alone, created at the first write.
    durable
        Whether to keep the whole state here, not payloads alone.
    """

    compressed = False

    def __init__(self, folder: Path, durable: bool = False) -> None:
        self.folder, self.durable = folder, durable
        self.files: dict[tuple[str, int], BinaryIO] = {}
        self.closed = False

    def append(self, ring: str, cell: int, data: bytes) -> None:
        """Add one piece of data at the end of a cell."""
        path = self.folder / f"{ring}-{cell}"
        with writing(path):
            file = self.files.get((ring, cell)) or self._open(path, ring, cell)
            file.seek(0, 2)
            file.write(_LENGTH.pack(len(data)))
            file.write(data)

    def _open(self, path: Path, ring: str, cell: int) -> BinaryIO:
        # A name makes a path; that of a piece may come from a checkpoint of somebody else.
        if not is_cell(ring, cell):
            raise ValueError(f"there is no cell {cell} of {ring!r}")
        # A thread that outlives an interrupted run must not create its folder again.
        if self.closed:
            raise ValueError(f"{path}: the cells are closed")
        self.folder.mkdir(parents=True, exist_ok=True)
        handle = unlinked(str(path), os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        file = self.files[ring, cell] = os.fdopen(handle, "w+b")
        return file

    def read(self, ring: str, cell: int, wanted: Wanted | None = None) -> Iterator[bytes]:
        """Return the pieces of a cell that are wanted, in the order in which they were appended."""
        file = self.files.get((ring, cell))
        if file is None:
            return
        file.seek(0)
        while length := file.read(_LENGTH.size):
            (size,) = _LENGTH.unpack(length)
            head = file.read(min(size, HEAD))
            if wanted is None or wanted(head):
                yield head + file.read(size - len(head))
            else:
                file.seek(size - len(head), os.SEEK_CUR)

    def clear(self, ring: str, cell: int) -> None:
        """Remove all pieces of a cell."""
        file = self.files.get((ring, cell))
        if file is not None:
            file.truncate(0)

    def close(self) -> None:
        """Close and delete all files."""
        self.closed = True
        for (ring, cell), file in self.files.items():
            # Closing writes buffered data, which fails on a full disk.
            with contextlib.suppress(OSError):
                file.close()
            (self.folder / f"{ring}-{cell}").unlink(missing_ok=True)
        self.files = {}


class Spill:
    """The cells of all shards of a run.

    Parameters
    ----------
    folder
        Folder of the files, one folder for each shard in it.
    cache_bytes
        Bytes of payload that a shard holds in memory.
    """

    def __init__(self, folder: Path, cache_bytes: int) -> None:
        self.folder, self.cache_bytes = folder, cache_bytes
        self.cells: dict[int, FileCells] = {}

    def of(self, shard: int) -> FileCells:
        """Return the cells of a shard, the same ones at every call."""
        if shard not in self.cells:
            self.cells[shard] = FileCells(self.folder / str(shard))
        return self.cells[shard]

    def close(self) -> None:
        """Close all cells and delete their files."""
        for cells in self.cells.values():
            cells.close()
