"""Places in object stores and other filesystems of ``pyarrow.fs``, by URI.

A URI is taken apart as it is written: nothing but the part before the path is decoded, so
that its path may have blanks, brackets and percent signs, as the names of objects do.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote

import pyarrow as pa
from pyarrow import fs

from headrace.schemas.errors import FolderError

SCHEMES = ("s3", "gs", "hdfs", "file")
"""Schemes of the URIs that are understood; ``file`` is the local filesystem."""

BUFFER = 4 << 20
"""How many bytes to ask for with one request."""

NO_BUCKET = "there is no such bucket; check its name, region and endpoint_override"

_GCS_PATIENCE = "retry_limit_seconds=60"
"""Google's library would repeat a request for a quarter of an hour; Amazon's, for seconds."""

_URI = re.compile(r"(?P<scheme>[A-Za-z][\w+.-]*)://(?P<rest>.*)", re.DOTALL)
_DENIED = re.compile(
    "ACCESS_DENIED|HTTP status 40[13]|INVALID_ACCESS_KEY_ID|SIGNATURE_DOES_NOT_MATCH|"
    "INVALID_CLIENT_TOKEN_ID|EXPIRED_TOKEN|MISSING_AUTHENTICATION_TOKEN|"
    "PERMISSION_DENIED|UNAUTHENTICATED|[Pp]ermission denied"
)
_UNREACHABLE = re.compile(
    "NETWORK_CONNECTION|REQUEST_TIMEOUT|UNAVAILABLE|[Cc]ould not connect|resolve host"
)
_CREDENTIALS = (
    "credentials are taken from where the storage's own tools find them, such as "
    "AWS_ACCESS_KEY_ID or ~/.aws"
)


def scheme_of(text: str) -> str | None:
    """Return the scheme of a URI in small letters; None for a path."""
    found = _URI.fullmatch(text)
    return None if found is None else found["scheme"].lower()


@dataclass(frozen=True)
class Address:
    """A place in a filesystem of ``pyarrow.fs``.

    Parameters
    ----------
    home
        URI of the filesystem; it may have credentials.
    path
        The path in it.
    name
        How it is shown: the URI without user, password and query.
    """

    home: str = field(repr=False)
    path: str
    name: str

    @classmethod
    def parse(cls, uri: str) -> Address:
        """Take a URI apart.

        Raises
        ------
        ValueError
            If its scheme is not known, or it has no bucket.
        """
        found = _URI.fullmatch(uri)
        assert found is not None, "not a URI"
        scheme = found["scheme"].lower()
        if scheme not in SCHEMES:
            known = ", ".join(f"{scheme}://" for scheme in SCHEMES)
            raise ValueError(f"has an unknown scheme; use a path, or one of {known}")
        whole, _, query = found["rest"].partition("?")
        authority, _, path = whole.partition("/")
        host = authority.rpartition("@")[2]
        tail = f"?{query}" if query else ""
        if scheme == "hdfs":
            inner = f"/{path}".rstrip("/") or "/"
            return cls(f"{scheme}://{authority}/{tail}", inner, f"{scheme}://{host}{inner}")
        if not host:
            raise ValueError(f"has no bucket; write {scheme}://bucket/path")
        inner = f"{host}/{path}".rstrip("/")
        return cls(f"{scheme}://{authority}{tail}", inner, f"{scheme}://{inner}")

    def __str__(self) -> str:
        return self.name

    def __truediv__(self, below: str) -> Address:
        return self.at(f"{self.path.rstrip('/')}/{below}")

    def at(self, path: str) -> Address:
        """Return another place in the same filesystem."""
        start = self.name[: len(self.name) - len(self.path)]
        return Address(self.home, path, start + path)

    @property
    def reference(self) -> str:
        """The URI without user and password, by which others can find the place."""
        _, mark, query = self.home.partition("?")
        return f"{self.name}{mark}{query}"

    @property
    def filesystem(self) -> fs.FileSystem:
        """The filesystem.

        Raises
        ------
        OSError, pyarrow.ArrowInvalid
            If there is none, or it cannot be used; `explain` makes sense of it.
        """
        return filesystem(self.home)

    def check_bucket(self) -> None:
        """Raise `ValueError` if there is no such bucket, which looks empty otherwise."""
        bucket = self.path.partition("/")[0]
        if bucket and self.filesystem.get_file_info(bucket).type == fs.FileType.NotFound:
            raise ValueError(NO_BUCKET)

    # What follows raises `FolderError` for whatever `explain` explains, except for a file
    # that is missing.

    def files(self) -> dict[str, Address]:
        """Return all files below this place by their paths relative to it, sorted by these."""
        with _explained(self):
            below = fs.FileSelector(self.path, allow_not_found=True, recursive=True)
            infos = self.filesystem.get_file_info(below)
            if not infos:
                self.check_bucket()
        start = len(self.path.rstrip("/")) + 1
        paths = sorted(info.path for info in infos if info.type == fs.FileType.File)
        return {path[start:]: self.at(path) for path in paths}

    def exists(self) -> bool:
        """Return whether there is a file at this place, or below it."""
        return self.size() is not None or bool(self.files())

    def size(self) -> int | None:
        """Return the size of the file at this place, bytes; None if there is none."""
        with _explained(self):
            size: int | None = self.filesystem.get_file_info(self.path).size
            return size

    @contextmanager
    def open(self, mode: str = "rb") -> Iterator[pa.NativeFile]:
        """Open the file at this place for reading it from its beginning to its end."""
        assert mode == "rb"
        with (
            _explained(self),
            self.filesystem.open_input_file(self.path) as file,
            pa.BufferedInputStream(file, BUFFER) as stream,
        ):
            yield stream

    def read_text(self, encoding: str = "utf-8") -> str:
        """Return the text of the file at this place."""
        with self.open() as stream:
            content: bytes = stream.read()
        return content.decode(encoding)

    def write(self, source: BinaryIO) -> None:
        """Write a file to this place, replacing one that is there."""
        # Without an argument the suffix of the name would decide about compression.
        with (
            _explained(self),
            self.filesystem.open_output_stream(self.path, compression=None) as stream,
        ):
            shutil.copyfileobj(source, stream, BUFFER)

    def delete(self) -> None:
        """Delete the file at this place, if there is one."""
        with _explained(self), contextlib.suppress(FileNotFoundError):
            self.filesystem.delete_file(self.path)


def place_of(place: str | Path | Address) -> Path | Address:
    """Return the place that a path or a URI names.

    Raises
    ------
    FolderError
        If it is a URI that is not understood.
    """
    if not isinstance(place, str):
        return place
    scheme = scheme_of(place)
    if scheme is None:
        return Path(place)
    try:
        return Path(local_path(place)) if scheme == "file" else Address.parse(place)
    except ValueError as error:
        raise FolderError(place, *explain(error)) from error


def local_path(uri: str) -> str:
    """Return the path that a URI with the scheme ``file`` names.

    Raises
    ------
    ValueError
        If it names another machine.
    """
    host, slash, path = uri.partition("://")[2].partition("/")
    if host not in ("", "localhost") or not slash:
        raise ValueError("names another machine; write file:///path")
    return f"/{unquote(path)}"


@contextmanager
def _explained(place: Address) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        fact, hint = explain(error)
        raise FolderError(place.name, fact, hint) from error


@functools.cache
def filesystem(home: str) -> fs.FileSystem:
    """Return the filesystem of a URI without a path, always the same one."""
    if home.startswith("gs://") and "retry_limit_seconds=" not in home:
        home += ("&" if "?" in home else "?") + _GCS_PATIENCE
    return fs.FileSystem.from_uri(home)[0]


# Before pyarrow shuts S3 down, which with a filesystem still in use has hung and crashed.
# It registered its own function on import, and the last one registered is called first.
atexit.register(filesystem.cache_clear)


def explain(error: BaseException) -> tuple[str, str]:
    """Return what an error of a filesystem means, as fact and hint.

    A plain `ValueError` is one of Headrace and says both. Of text from elsewhere only the first
    line is kept: some have a hundred.
    """
    text = first_line(error)
    if "NO_SUCH_BUCKET" in text:
        text, error = NO_BUCKET, ValueError(NO_BUCKET)
    if type(error) is ValueError:
        fact, _, hint = text.partition("; ")
        return fact, hint
    if isinstance(error, FileNotFoundError):
        return "does not exist", ""
    if isinstance(error, OSError) and error.filename is not None:  # of this machine
        return f"cannot be read ({error.strerror})", ""
    if _DENIED.search(text):
        return "access is denied", _CREDENTIALS
    if _UNREACHABLE.search(text):
        return f"cannot be reached ({text})", "check the network, region and endpoint_override"
    if "libjvm" in text or "libhdfs" in text:
        return (
            f"needs Java and Hadoop's libhdfs ({text})",
            "install them, and set JAVA_HOME, HADOOP_HOME and CLASSPATH",
        )
    return f"cannot be used ({text})", "check the URI and the network"


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text."""
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__
