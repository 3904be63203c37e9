"""Lines of text files, plain or compressed."""

from __future__ import annotations

import codecs
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import PurePath

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from isal.igzip import IGzipFile
from isal.isal_zlib import IsalError

from headrace.pipelines.run.threads import Prefetcher
from headrace.pipelines.sources.locations import Location
from headrace.schemas.records.decoding import Lines
from headrace.schemas.records.linespans import NEWLINE, ended_lines
from headrace.schemas.records.spans import Spans

_CHUNK = 4 << 20
_MARK = codecs.BOM_UTF8
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
def _opened(file: Location) -> Iterator[pa.NativeFile | IGzipFile]:
    compression = _compression(file)
    with file.open() as source:
        # Decompressing asks for 64 kB at a time: too little for a request each.
        buffered = source if file.local else pa.BufferedInputStream(source, _CHUNK)
        if compression == "gzip":
            with _gunzipped(buffered) as stream:
                yield stream
        else:
            with pa.input_stream(buffered, compression=compression) as stream:
                yield stream


@contextmanager
def _gunzipped(source: pa.NativeFile) -> Iterator[IGzipFile]:
    """Decompress with ISA-L, which takes a third of the time that zlib does."""
    try:
        with IGzipFile(fileobj=source) as stream:
            yield stream
    except EOFError as error:
        raise OSError("Truncated compressed stream") from error
    except IsalError as error:  # type: ignore[misc]
        raise OSError(f"Damaged compressed stream: {error}") from error


def _compression(file: Location) -> str | None:
    return COMPRESSIONS.get(PurePath(file.path).suffix.lower())


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
        head = lines.spans.value(0)
        if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise UnicodeError("is UTF-16")
        if b"\0" in head:
            raise UnicodeError("has NUL bytes, as UTF-16 has")
        first += [line for at, line in enumerate(lines) if at not in lines.cut]
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
    number, read, begun = 0, 0, _Begun(longest)
    with _opened(file) as stream:
        while most is None or read < most:
            data, begin = begun.extended(chunk)
            size = stream.readinto(data[begin:])
            if not size:
                break
            data = data[: begin + size]
            marked = read == 0 and data[: len(_MARK)].tobytes() == _MARK
            read += size
            lines = begun.ended(data, len(_MARK) if marked else 0, number)
            if len(lines):
                yield lines
                number += len(lines)
    if begun.part.size:
        yield begun.ended(np.append(begun.part, np.uint8(NEWLINE)), 0, number)


def read_lines_ahead(file: Location, chunk: int, longest: int) -> Generator[Lines, None, None]:
    """Read as `read_lines` does; a compressed file is read on a thread of its own.

    At most two chunks are ahead. The thread ends with the iterator, also if that is closed.
    """
    lines = read_lines(file, chunk, longest)
    if _compression(file) is None:
        yield from lines
        return
    ahead = Prefetcher(lines, depth=1)
    try:
        yield from ahead
    finally:
        ahead.close()


class _Begun:
    """The line of which the end is still to come.

    Attributes
    ----------
    part
        What there is of it, uint8. If it is too long, its begin and its last byte, which may
        belong to the line end.
    missing
        How many bytes it has besides.
    """

    def __init__(self, longest: int) -> None:
        self.longest = longest
        self.part, self.missing = np.empty(0, np.uint8), 0

    def extended(self, more: int) -> tuple[npt.NDArray[np.uint8], int]:
        """Return bytes that begin with this part and have room for more, and where that begins."""
        data = np.empty(self.part.size + more, np.uint8)
        data[: self.part.size] = self.part
        return data, self.part.size

    def ended(self, data: npt.NDArray[np.uint8], begin: int, number: int) -> Lines:
        """Return the lines that end in bytes, of which this is the first; keep what is left.

        Parameters
        ----------
        data, begin
            The bytes from `extended`, and where in them the line begins.
        number
            Record number of the line.
        """
        (data, begins, ends), rest = ended_lines(data, begin)
        sizes = ends - begins
        if sizes.size:
            sizes[0] += self.missing
            self.missing = 0
        long = np.flatnonzero(sizes > self.longest)
        ends[long] = np.minimum(ends[long], begins[long] + _KEPT)
        cut = dict(zip(long.tolist(), sizes[long].tolist(), strict=True))
        self._keep(data[rest:])
        return Lines(number, Spans(data, begins, ends), cut=cut)

    def _keep(self, part: npt.NDArray[np.uint8]) -> None:
        # A carriage return at its end does not count if the line ends there.
        if part.size + self.missing > self.longest + 1 and part.size > _KEPT + 1:
            self.missing += part.size - _KEPT - 1
            part = np.append(part[:_KEPT], part[-1:])
        self.part = part.copy()
