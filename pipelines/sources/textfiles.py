"""Lines of text files, plain or compressed."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pyarrow as pa

from headrace.schemas.records.decoding import Lines

_CHUNK = 4 << 20
_COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}


def _open(path: str) -> pa.NativeFile:
    suffix = path[path.rfind(".") :] if "." in path else ""
    return pa.input_stream(path, compression=_COMPRESSIONS.get(suffix))


def first_lines(path: str, most: int) -> list[bytes]:
    """Return up to `most` lines from the head of a file."""
    for lines in read_lines(path, chunk=1 << 16):
        return lines.lines[:most]
    return []


def read_lines(
    path: str, chunk: int = _CHUNK, on_bytes: Callable[[int], None] = lambda size: None
) -> Iterator[Lines]:
    """Read a file as lines, some at a time.

    Parameters
    ----------
    path
        A file; ``.gz`` and ``.zst`` are decompressed.
    chunk
        How many (decompressed) bytes to read at a time.
    on_bytes
        Told how many decompressed bytes were read.

    Yields
    ------
    Lines
        Without line ends; a last line without one counts, an empty last line
        after a line end does not.
    """
    number = 0
    rest = b""
    with _open(path) as stream:
        while True:
            data = stream.read(chunk)
            on_bytes(len(data))
            if not data:
                break
            lines = (rest + data).split(b"\n")
            rest = lines.pop()
            if lines:
                yield Lines(number, [line.removesuffix(b"\r") for line in lines])
                number += len(lines)
    if rest:
        yield Lines(number, [rest.removesuffix(b"\r")])
