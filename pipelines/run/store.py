"""Files that are written whole, here or in an object store, by any number of processes."""

from __future__ import annotations

import io
import os
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headrace.pipelines.run.disk import (
    files_under,
    flush,
    flush_tree,
    unlinked,
    write_bytes,
    writing,
)
from headrace.pipelines.run.remote import Address
from headrace.pipelines.run.signing import read_signed


@dataclass(frozen=True)
class Store:
    """A folder here or in an object store; pickled, it is its name.

    A file has its name when it is whole. Of two processes that write one file the last prevails,
    so they must write the same.

    Parameters
    ----------
    root
        The folder.
    """

    root: Path | Address

    def write(self, name: str, data: bytes) -> None:
        """Write a file.

        Raises
        ------
        OutputError, FolderError
            If it cannot be written.
        """
        place = self.root / name
        if isinstance(place, Address):
            place.write(io.BytesIO(data))
        else:
            _write(place, data)

    def read_signed(self, name: str) -> dict[str, Any] | None:
        """Return the contents of a file of `headrace.pipelines.run.signing`; None without one.

        Raises
        ------
        ValueError
            If it is damaged.
        """
        try:
            return read_signed(self.root / name)
        except FileNotFoundError:
            return None

    def delete(self, name: str) -> None:
        """Delete a file, if it is there."""
        place = self.root / name
        if isinstance(place, Address):
            place.delete()
        else:
            place.unlink(missing_ok=True)

    def put(self, folder: Path, name: str) -> None:
        """Copy a folder to a name that stands for its contents: one that is there is left.

        In an object store its files come one after the other, in order of their names.
        """
        target = self.root / name
        if isinstance(target, Address):
            for path, file in files_under(folder).items():
                with file.open("rb") as stream:
                    (target / path).write(stream)
        elif not target.exists():
            _copy(folder, target)

    def fetch(self, name: str, folder: Path) -> None:
        """Copy what `put` has written to a folder here.

        Raises
        ------
        FileNotFoundError
            If there is nothing.
        """
        found = files_under(self.root / name)
        if not found:
            raise FileNotFoundError(f"{self.root / name}")
        for path, file in found.items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            with file.open("rb") as source, open(target, "wb", opener=unlinked) as copy:
                shutil.copyfileobj(source, copy)


def _hidden(path: Path) -> Path:
    """Return a name beside a path that no other process uses, in a folder that is there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}")


def _write(path: Path, data: bytes) -> None:
    with writing(path):
        hidden = _hidden(path)
        try:
            write_bytes(hidden, data)
            flush(hidden)
            os.replace(hidden, path)
        finally:
            hidden.unlink(missing_ok=True)


def _copy(folder: Path, target: Path) -> None:
    with writing(target):
        hidden = _hidden(target)
        try:
            shutil.copytree(folder, hidden)
            flush_tree(hidden)
            os.rename(hidden, target)
        except OSError:
            if not target.exists():  # else another process was faster
                raise
        finally:
            shutil.rmtree(hidden, ignore_errors=True)
