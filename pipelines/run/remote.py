"""Places in object stores and other filesystems of ``pyarrow.fs``, by URI.

A URI is taken apart as it is written: nothing but the part before the path is decoded, so
that its path may have blanks, brackets and percent signs, as the names of objects do.
"""

from __future__ import annotations

import atexit
import functools
import re
from dataclasses import dataclass, field

from pyarrow import fs

SCHEMES = ("s3", "gs", "hdfs", "file")
"""Schemes of the URIs that are understood; ``file`` is the local filesystem."""

NO_BUCKET = "there is no such bucket; check its name, region and endpoint_override"

_URI = re.compile(r"(?P<scheme>[A-Za-z][\w+.-]*)://(?P<rest>.*)", re.DOTALL)
_DENIED = re.compile(
    "ACCESS_DENIED|HTTP status 40[13]|INVALID_ACCESS_KEY_ID|SIGNATURE_DOES_NOT_MATCH|"
    "INVALID_CLIENT_TOKEN_ID|EXPIRED_TOKEN|MISSING_AUTHENTICATION_TOKEN|[Pp]ermission denied"
)
_UNREACHABLE = re.compile("NETWORK_CONNECTION|REQUEST_TIMEOUT|[Cc]ould not connect|resolve host")
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
            If it has no bucket.
        """
        found = _URI.fullmatch(uri)
        assert found is not None, "not a URI"
        scheme = found["scheme"].lower()
        whole, _, query = found["rest"].partition("?")
        authority, _, path = whole.partition("/")
        host = authority.rpartition("@")[2]
        if scheme in ("s3", "gs"):
            if not host:
                raise ValueError(f"has no bucket; write {scheme}://bucket/path")
            inner = f"{host}/{path}".rstrip("/")
            name = f"{scheme}://{inner}"
        else:
            inner = f"/{path}".rstrip("/") or "/"
            name = f"{scheme}://{host}{inner}"
        home = f"{scheme}://{authority}" + (f"?{query}" if query else "")
        return cls(home, inner, name)

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

    def at(self, path: str) -> Address:
        """Return another place in the same filesystem."""
        start = self.name[: len(self.name) - len(self.path)]
        return Address(self.home, path, start + path)


@functools.cache
def filesystem(home: str) -> fs.FileSystem:
    """Return the filesystem of a URI without a path, always the same one."""
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
    if _DENIED.search(text):
        return "access is denied", _CREDENTIALS
    if _UNREACHABLE.search(text):
        return f"cannot be reached ({text})", "check the network, region and endpoint_override"
    if "libjvm" in text or "libhdfs" in text:
        return (
            f"needs Java and Hadoop's libhdfs ({text})",
            "install them, and set JAVA_HOME, HADOOP_HOME and CLASSPATH",
        )
    return f"cannot be used ({text})", "is the URI right?"


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text."""
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__
