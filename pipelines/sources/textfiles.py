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


def first_lines(file: Location, most: int) -> list[bytes]:
    """Return the first lines of a file: at most `most`, and about 4 MB of them.

    Raises
    ------
    UnicodeError
        If the file is UTF-16: no line of it could be decoded.
    """
    first: list[bytes] = []
    for lines in read_lines(file, chunk=1 << 16):
        if lines.lines[0].startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise UnicodeError("is UTF-16")
        if b"\0" in lines.lines[0]:
            raise UnicodeError("has NUL bytes, as UTF-16 has")
        first += lines.lines
        if len(first) >= most or sum(map(len, first)) > _CHUNK:
            break
    return first[:most]


def read_lines(file: Location, chunk: int = _CHUNK) -> Iterator[Lines]:
    """Read a file as lines, a chunk at a time.

    Parameters
    ----------
    file
        A file; ``.gz`` and ``.zst`` are decompressed.
    chunk
        How many (decompressed) bytes to read at a time.

    Yields
    ------
    Lines
        Lines without their line ends, the first without a byte order mark. A last line
        without a line end counts; the empty text after the last line end does not.
    """
    number = 0
    # Parts of a line of which the end is still to come: joined once, however long it is.
    parts: list[bytes] = []
    with _opened(file) as stream:
        while data := stream.read(chunk):
            if number == 0 and not parts:
                data = data.removeprefix(codecs.BOM_UTF8)
            if b"\n" not in data:
                parts.append(data)
                continue
            lines = b"".join([*parts, data]).split(b"\n")
            parts = [lines.pop()]
            yield Lines(number, [line.removesuffix(b"\r") for line in lines])
            number += len(lines)
    if rest := b"".join(parts):
        yield Lines(number, [rest.removesuffix(b"\r")])
