"""Where the files of a log lie: from the patterns of a ``path`` to files, on any filesystem.

A file is identified when it is found: by size and time of change, in an object store by
its ETag too. It is compared whenever it is opened and when it has been read, because reading
a part of an object that was overwritten gives a part of the new one, without an error.
"""

from __future__ import annotations

import fnmatch
import functools
import glob
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
from pyarrow import fs

from headrace.pipelines.run.remote import Address, filesystem, local_path, scheme_of
from headrace.schemas.errors import UnreadableInputError

_TAGS = ("etag", "generation")
"""What object stores call the version of an object, in small letters."""

_REQUESTS = 16
_NULL = "__HIVE_DEFAULT_PARTITION__"


@dataclass(frozen=True)
class Location:
    """A file of a log.

    Parameters
    ----------
    name
        Its path relative to the folder of the configuration, or absolute if the
        configuration gives an absolute path; for a URI the URI, as it may be shown.
    path
        How errors name it: the path to open it by, or the URI as it may be shown.
    inner
        Its path in its filesystem.
    home
        URI of the filesystem, empty for the local one. It may have credentials.
    version
        What identifies its contents: size, time of change, and tags if there are any.
    partitions
        Columns that its folders give, ``date=2026-01-01``, and their values; None is null.
    """

    name: str
    path: str
    inner: str
    home: str = field(default="", repr=False)
    version: tuple[Any, ...] = ()
    partitions: tuple[tuple[str, str | None], ...] = ()

    @property
    def local(self) -> bool:
        """Whether the file is in the local filesystem."""
        return not self.home

    @property
    def size(self) -> int:
        """Size of the file when it was found, bytes."""
        return int(self.version[0])

    @property
    def key(self) -> str:
        """What is equal for two names of one file."""
        return os.path.realpath(self.inner) if self.local else self.path

    @property
    def filesystem(self) -> fs.FileSystem:
        """The filesystem that has the file."""
        return filesystem(self.home) if self.home else _local()

    @contextmanager
    def open(self) -> Iterator[pa.NativeFile]:
        """Open the file for reading any part of it.

        Raises
        ------
        UnreadableInputError
            If it has changed since it was found.
        OSError
            If it cannot be opened.
        """
        with self.filesystem.open_input_file(self.inner) as file:
            if self._version(file) != self.version:
                raise UnreadableInputError.changed(self.path)
            yield file

    def check(self) -> None:
        """Raise what `open` raises."""
        with self.open():
            pass

    def found(self) -> Location:
        """Return the location with the version that the file has now."""
        if self.local:
            return replace(self, version=self._version())
        with self.filesystem.open_input_file(self.inner) as file:
            return replace(self, version=self._version(file))

    def _version(self, file: pa.NativeFile | None = None) -> tuple[Any, ...]:
        metadata = {} if file is None else file.metadata() or {}
        about = {name.lower(): value.decode() for name, value in metadata.items()}
        if file is not None and any(tag in about for tag in _TAGS):
            return file.size(), *(about.get(name) for name in ("last-modified", *_TAGS))
        info = self.filesystem.get_file_info(self.inner)
        return info.size, info.mtime_ns


@functools.cache
def _local() -> fs.FileSystem:
    return fs.LocalFileSystem()


def find(pattern: str, folder: Path) -> list[Location]:
    """Return the files that a pattern names, sorted by path.

    Parameters
    ----------
    pattern
        A path or a URI, with the wildcards ``*``, ``?``, ``[...]`` and ``**``; in a URI a
        question mark begins the query. A file that has exactly this name is taken as it is.
    folder
        The folder to which paths are relative.

    Raises
    ------
    ValueError
        If it is a URI that is not understood.
    OSError, pyarrow.ArrowInvalid
        If its filesystem cannot be used, see `headrace.pipelines.run.remote.explain`.
    """
    scheme = scheme_of(pattern)
    if scheme is None:
        found = _find_local(pattern, folder)
    elif scheme == "file":
        found = _find_local(local_path(pattern), folder)
    else:
        found = _find_remote(Address.parse(pattern))
    with ThreadPoolExecutor(_REQUESTS) as pool:
        return list(pool.map(Location.found, sorted(found, key=lambda location: location.path)))


def _find_local(pattern: str, folder: Path) -> list[Location]:
    absolute = Path(pattern).is_absolute()
    if (folder / pattern).is_file():
        found = [pattern]
    else:
        found = glob.glob(pattern, root_dir=folder, recursive=True)
    locations = []
    for one in found:
        path = str(folder / one)
        if Path(path).is_file():
            name = path if absolute else os.path.relpath(path, folder)
            folders = os.path.normpath(one).split(os.sep)[:-1]
            locations.append(Location(name, path, path, partitions=partitions_of(folders)))
    return locations


def _find_remote(pattern: Address) -> list[Location]:
    if pattern.filesystem.get_file_info(pattern.path).type == fs.FileType.File:
        found = [pattern.path]
    elif not glob.has_magic(pattern.path):
        found = []
    else:
        parts = pattern.path.split("/")
        literal = next(at for at, part in enumerate(parts) if glob.has_magic(part))
        top = "/".join(parts[:literal])
        # In an object store a folder that has no objects does not exist.
        deep = fs.FileSelector(top or "/", allow_not_found=True, recursive=literal < len(parts) - 1)
        found = [
            info.path
            for info in pattern.filesystem.get_file_info(deep)
            if info.type == fs.FileType.File and matches(info.path.split("/"), parts)
        ]
    if not found:
        pattern.check_bucket()
    locations = []
    for path in found:
        place = pattern.at(path)
        folders = partitions_of(path.split("/")[1:-1])
        locations.append(Location(place.name, place.name, path, pattern.home, (), folders))
    return locations


def matches(parts: Sequence[str], patterns: Sequence[str]) -> bool:
    """Return whether the parts of a path match those of a pattern, as in the module `glob`.

    ``**`` stands for any number of folders. Wildcards match no name that begins with a dot,
    unless the pattern begins with one.
    """
    if not patterns:
        return not parts
    first, rest = patterns[0], patterns[1:]
    if first == "**" and rest:
        shown = bool(parts) and not parts[0].startswith(".")
        return matches(parts, rest) or (shown and matches(parts[1:], patterns))
    if first == "**":
        return bool(parts) and not any(part.startswith(".") for part in parts)
    if not parts:
        return False
    hidden = parts[0].startswith(".") and glob.has_magic(first) and not first.startswith(".")
    matched = parts[0] == first or (not hidden and fnmatch.fnmatchcase(parts[0], first))
    return matched and matches(parts[1:], rest)


def partitions_of(folders: Sequence[str]) -> tuple[tuple[str, str | None], ...]:
    """Return the columns that folders give, as Hive writes them.

    Of two folders of one name the inner one counts.

    Examples
    --------
    >>> partitions_of(["logs", "date=2026-01-01", "city=S%C3%A3o%20Paulo"])
    (('date', '2026-01-01'), ('city', 'São Paulo'))
    """
    found: dict[str, str | None] = {}
    for folder in folders:
        name, equals, value = folder.partition("=")
        if name and equals:
            found[unquote(name)] = None if value == _NULL else unquote(value)
    return tuple(found.items())
