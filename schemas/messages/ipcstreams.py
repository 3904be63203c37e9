"""What an Arrow IPC stream declares, before anything of it is uncompressed.

A stream [1]_ is a sequence of messages, each with metadata in the form of FlatBuffers and a body.
Arrow checks that the metadata is well formed, but takes the sizes of what is compressed as they
are written: a few bytes can ask for any amount of memory. So they are added up first.

.. [1] https://arrow.apache.org/docs/format/Columnar.html#ipc-streaming-format
"""

from __future__ import annotations

import struct
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from headrace.schemas.records.hashing import Int64s

MOST_ROWS = 1 << 20
"""Most rows of a stream."""
MOST_BYTES = 256 << 20
"""Most bytes of a stream when it is uncompressed."""
MOST_VALUES = 1 << 26
"""Most values of a stream, nested ones too: nulls take no bytes, but memory when they are read."""

TOO_LARGE = f"more than {MOST_BYTES >> 20} MB uncompressed"
_PREFIX = 8
"""Bytes before a compressed buffer: its uncompressed size, -1 if it is as it stands."""

# Numbers of fields in the tables of format/Message.fbs.
_HEADER = 2
_LENGTH, _NODES, _BUFFERS, _COMPRESSION = range(4)
_DICTIONARY = 1


class BrokenStreamError(ValueError):
    """A stream that is not read; says why."""


class Declared(NamedTuple):
    """What one batch of a stream declares.

    Parameters
    ----------
    rows
        How many rows it has.
    values
        How many values its arrays have together, nested ones too.
    size
        How large its buffers are when they are uncompressed, bytes.
    """

    rows: int
    values: int
    size: int


def check_stream(stream: pa.Buffer) -> int:
    """Check that a stream is whole, and no larger than it may be.

    Parameters
    ----------
    stream
        The bytes, from the schema to the mark of the end.

    Returns
    -------
    int
        How large it is when it is uncompressed, bytes.

    Raises
    ------
    BrokenStreamError
        If it ends without the mark of the end or goes on after it, has more than `MOST_ROWS`
        rows or `MOST_VALUES` values, or is larger than `MOST_BYTES`.
    pa.ArrowException, OSError
        If a message is not well formed.
    """
    source = pa.BufferReader(stream)
    messages = pa.ipc.MessageReader.open_stream(source)
    rows = values = size = dictionaries = 0
    renewed = False
    while True:
        begin = source.tell()
        try:
            message = messages.read_next_message()
        except StopIteration:
            break
        if message.type not in ("record batch", "dictionary"):
            continue
        batch = _declared(message)
        values += batch.values
        if message.type == "dictionary":
            dictionaries += batch.size
            renewed = True
        else:
            rows += batch.rows
            # A dictionary that grows between batches is there once for each of them.
            size += batch.size + (dictionaries if renewed else 0)
            renewed = False
        if rows > MOST_ROWS:
            raise BrokenStreamError(f"more than {MOST_ROWS:,} rows")
        if values > MOST_VALUES:
            raise BrokenStreamError(f"more than {MOST_VALUES:,} values")
        if size + dictionaries > MOST_BYTES:
            raise BrokenStreamError(TOO_LARGE)
    if begin == stream.size:
        raise BrokenStreamError("it ends too early")
    if source.tell() < stream.size:
        raise BrokenStreamError("bytes are left after its end")
    return size


def _declared(message: pa.Message) -> Declared:
    """Return what a batch of rows, or of the values of a dictionary, declares."""
    try:
        metadata = _Table.root(message.metadata.to_pybytes())
        batch = metadata.table(_HEADER)
        if message.type == "dictionary":
            batch = batch.table(_DICTIONARY)
        lengths = batch.pairs(_NODES)[:, 0]
        buffers = batch.pairs(_BUFFERS)
        buffers = buffers[buffers[:, 1] != 0]  # those of no bytes may be anywhere
        compressed = batch.has(_COMPRESSION)
        rows = batch.int64(_LENGTH)
    except (struct.error, IndexError, ValueError) as error:
        raise BrokenStreamError("a batch is not well formed") from error
    sizes = buffers[:, 1]
    body = np.frombuffer(message.body, np.uint8)
    outside = (buffers < 0).any(axis=1) | (buffers[:, 0] > body.size - sizes)
    if outside.any() or (lengths < 0).any() or rows < 0:
        raise BrokenStreamError("a batch lies outside of its bytes")
    if compressed:
        sizes = _uncompressed(body, buffers)
    return Declared(rows, _sum(lengths), _sum(sizes))


def _uncompressed(body: np.ndarray[tuple[int], np.dtype[np.uint8]], buffers: Int64s) -> Int64s:
    begins, sizes = buffers[:, 0], buffers[:, 1]
    if (sizes < _PREFIX).any():
        raise BrokenStreamError("a batch is not well formed")
    declared = body[begins[:, None] + np.arange(_PREFIX)].view("<i8").reshape(-1).astype(np.int64)
    if (declared < -1).any():
        raise BrokenStreamError("a batch is not well formed")
    return np.where(declared < 0, sizes - _PREFIX, declared)


def _sum(sizes: Int64s) -> int:
    """Add up sizes, of which one may be any number: too large is as good as a little too large."""
    return int(np.minimum(sizes, MOST_BYTES + 1).sum())


class _Table:
    """A table of FlatBuffers: fields by number, which may be missing [1]_.

    .. [1] https://flatbuffers.dev/internals/
    """

    def __init__(self, data: bytes, at: int) -> None:
        self.data, self.at = data, at
        self.fields = at - self._read("<i", at)
        self.size = self._read("<H", self.fields)

    @classmethod
    def root(cls, data: bytes) -> _Table:
        return cls(data, struct.unpack_from("<I", data)[0])

    def _read(self, form: str, at: int) -> int:
        if at < 0:  # which would count from the end
            raise IndexError(at)
        return int(struct.unpack_from(form, self.data, at)[0])

    def _find(self, number: int) -> int:
        """Return where a field is, 0 if it is missing."""
        entry = 4 + 2 * number
        offset = self._read("<H", self.fields + entry) if entry < self.size else 0
        return self.at + offset if offset else 0

    def _follow(self, number: int) -> int:
        at = self._find(number)
        return at + self._read("<I", at) if at else 0

    def has(self, number: int) -> bool:
        return self._find(number) > 0

    def int64(self, number: int) -> int:
        at = self._find(number)
        return self._read("<q", at) if at else 0

    def table(self, number: int) -> _Table:
        return _Table(self.data, self._follow(number))

    def pairs(self, number: int) -> Int64s:
        """Return a list of structs of two 64-bit numbers, shape (n, 2)."""
        at = self._follow(number)
        if not at:
            return np.zeros((0, 2), np.int64)
        count = self._read("<I", at)
        return np.frombuffer(self.data, "<i8", 2 * count, at + 4).astype(np.int64).reshape(-1, 2)
