"""Files that survive a crash, identified by size and checksum; errors that name them."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, overload

from headrace.pipelines.run.remote import Address
from headrace.schemas.errors import OutputError


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an `OSError` in the block into an `OutputError` about `path`."""
    try:
        yield
    except OSError as error:
        raise OutputError.unwritable(path, error) from error


def write_text(path: Path, text: str) -> None:
    """Write a text file as UTF-8; raise `OutputError` if it cannot be written, or is a link."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file; raise `OutputError` if it cannot be written, or is a link."""
    with writing(path), open(path, "wb", opener=unlinked) as file:
        file.write(data)


def unlinked(path: str, flags: int) -> int:
    """Open a file as `open` does, but not through a link: an opener."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)


@contextmanager
def aside(path: Path) -> Iterator[Path]:
    """Yield a hidden name to write a file under; flush it and rename it to `path` after the block.

    If anything fails nothing is left, and an `OSError` becomes an `OutputError` about `path`.
    """
    hidden = path.with_name(f".{path.name}")
    with writing(path):
        try:
            yield hidden
            flush(hidden)
            os.replace(hidden, path)
        except BaseException:
            with contextlib.suppress(OSError):  # report the first failure
                hidden.unlink()
            raise


def describe(path: Path | Address) -> dict[str, Any]:
    """Return what identifies a file's contents: ``bytes``, its size, and their ``sha256``."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        size = path.size() if isinstance(path, Address) else file.tell()
        return {"bytes": size, "sha256": digest}


@overload
def files_under(folder: Path) -> dict[str, Path]: ...
@overload
def files_under(folder: Address) -> dict[str, Address]: ...
def files_under(folder: Path | Address) -> dict[str, Path] | dict[str, Address]:
    """Return all files below a folder by their paths relative to it, sorted by these."""
    if isinstance(folder, Address):
        return folder.files()
    found = {}
    for where, _, names in os.walk(folder):
        for name in names:
            path = Path(where, name)
            found[path.relative_to(folder).as_posix()] = path
    return dict(sorted(found.items()))


def flush(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on disk."""
    with writing(path):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def flush_tree(folder: Path) -> None:
    """Wait until a folder and everything in it is on disk."""
    for where, _, names in os.walk(folder, topdown=False):
        for name in names:
            flush(Path(where, name))
        flush(Path(where))
