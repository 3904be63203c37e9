"""Lines of text files, plain or compressed."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator

import pyarrow as pa

from headrace.schemas.records.decoding import Lines

_CHUNK = 4 << 20
_COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}


def _open(path: str) -> pa.NativeFile:
    suffix = path[path.rfind(".") :].lower() if "." in path else ""
    return pa.input_stream(path, compression=_COMPRESSIONS.get(suffix))


def first_lines(path: str, most: int) -> list[bytes]:
    """Return the first lines of a file: at most `most`, and about 64 kB of them.

    Raises
    ------
    UnicodeError
        If the file is UTF-16: no line of it could be decoded.
    """
    for lines in read_lines(path, chunk=1 << 16):
        if lines.lines[0].startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise UnicodeError("is UTF-16")
        if b"\0" in lines.lines[0]:
            raise UnicodeError("has NUL bytes, as UTF-16 has")
        return lines.lines[:most]
    return []


def read_lines(
    path: str, chunk: int = _CHUNK, on_bytes: Callable[[int], None] = lambda size: None
) -> Iterator[Lines]:
    """Read a file as lines, a chunk at a time.

    Parameters
    ----------
    path
        A file; ``.gz`` and ``.zst`` are decompressed.
    chunk
        How many (decompressed) bytes to read at a time.
    on_bytes
        Called with the number of decompressed bytes of each chunk.

    Yields
    ------
    Lines
        Lines without their line ends, the first without a byte order mark. A last line
        without a line end counts; the empty text after the last line end does not.
    """
    number = 0
    rest = b""
    with _open(path) as stream:
        while True:
            data = stream.read(chunk)
            on_bytes(len(data))
            if number == 0 and not rest:
                data = data.removeprefix(codecs.BOM_UTF8)
            if not data:
                break
            lines = (rest + data).split(b"\n")
            rest = lines.pop()
            if lines:
                yield Lines(number, [line.removesuffix(b"\r") for line in lines])
                number += len(lines)
    if rest:
        yield Lines(number, [rest.removesuffix(b"\r")])
