"""Lines of text files, plain or compressed."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePath

import pyarrow as pa

from headrace.pipelines.sources.locations import Location
from headrace.schemas.records.decoding import Lines

_CHUNK = 4 << 20
MOST_HEAD = 64 << 20
"""Bytes that are read for the first lines, whatever their lengths: a small compressed file may have
a line of many gigabytes."""
_KEPT = 1000
"""Bytes that are kept of a line that is too long."""

LONGEST = 1_000_000
"""Bytes of a line that is read, unless it is said otherwise."""
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
"""How text files are compressed, by the ending of their names."""


@contextmanager
def _opened(file: Location) -> Iterator[pa.NativeFile]:
    suffix = PurePath(file.path).suffix.lower()
    with file.open() as source:
        # Decompressing asks for 64 kB at a time: too little for a request each.
        buffered = source if file.local else pa.BufferedInputStream(source, _CHUNK)
        with pa.input_stream(buffered, compression=COMPRESSIONS.get(suffix)) as stream:
            yield stream


def first_lines(file: Location, most: int, longest: int = LONGEST) -> list[bytes]:
    """Return the first lines of a file: at most `most`, and about 4 MB of them.

    Lines of more than `longest` bytes are left out.

    Raises
    ------
    UnicodeError
        If the file is UTF-16: no line of it could be decoded.
    """
    first: list[bytes] = []
    for lines in read_lines(file, 1 << 16, longest, MOST_HEAD):
        if lines.lines[0].startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise UnicodeError("is UTF-16")
        if b"\0" in lines.lines[0]:
            raise UnicodeError("has NUL bytes, as UTF-16 has")
        first += [line for at, line in enumerate(lines.lines) if at not in lines.cut]
        if len(first) >= most or sum(map(len, first)) > _CHUNK:
            break
    return first[:most]


def read_lines(
    file: Location, chunk: int = _CHUNK, longest: int = LONGEST, most: int | None = None
) -> Iterator[Lines]:
    """Read a file as lines, a chunk at a time.

    Parameters
    ----------
    file
        A file; ``.gz`` and ``.zst`` are decompressed.
    chunk
        How many (decompressed) bytes to read at a time.
    longest
        Lines of more bytes are cut; no more of them than this and a chunk is ever in memory.
    most
        How many (decompressed) bytes to read; what follows is left out. None for all.

    Yields
    ------
    Lines
        Lines without their line ends, the first without a byte order mark. A last line
        without a line end counts; the empty text after the last line end does not.
    """
    number = 0
    begun = _Begun(longest)
    read = 0
    with _opened(file) as stream:
        while (most is None or read < most) and (data := stream.read(chunk)):
            first, read = read == 0, read + len(data)
            if first:
                data = data.removeprefix(codecs.BOM_UTF8)
            *ended, rest = data.split(b"\n")
            if ended:
                ended[0], size = begun.end(ended[0])
                yield _as_lines(number, ended, size, longest)
                number += len(ended)
            begun.add(rest)
    if begun.size:
        rest, size = begun.end(b"")
        yield _as_lines(number, [rest], size, longest)


class _Begun:
    """The line of which the end is still to come."""

    def __init__(self, longest: int) -> None:
        self.longest = longest
        self.size = 0
        self._parts: list[bytes] = []  # joined once, however many there are
        self._last = b""

    def add(self, part: bytes) -> None:
        """Add more of the line."""
        if self.size <= self.longest and part:
            self._parts.append(part)
        self.size += len(part)
        self._last = part[-1:] or self._last

    def end(self, part: bytes) -> tuple[bytes, int]:
        """Return the line with its last part, and its size.

        If it is too long, only its begin is returned; it is longer than `longest` too.
        """
        self.add(part)
        line, size = b"".join(self._parts), self.size - (self._last == b"\r")
        self._parts, self.size, self._last = [], 0, b""
        return line, size


def _as_lines(first: int, lines: list[bytes], size: int, longest: int) -> Lines:
    """Return lines without line ends, the long ones cut.

    Parameters
    ----------
    size
        How many bytes the first line has, of which there may be only the begin.
    """
    lines = [line.removesuffix(b"\r") for line in lines]
    cut = {at: len(line) for at, line in enumerate(lines) if len(line) > longest}
    if size > longest:
        cut[0] = size
    for at in cut:
        lines[at] = lines[at][:_KEPT]
    return Lines(first, lines, cut=cut)
