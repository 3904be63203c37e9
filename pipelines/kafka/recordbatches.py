"""Record batches as brokers store them, decoded into columns.

A batch has a header of 61 bytes and then, perhaps compressed, its records, of which the numbers
are variable-length integers ([1]_). All that is read here has been checked by its checksum.

References
----------
.. [1] Apache Kafka, "Record Batch", https://kafka.apache.org/documentation/#recordbatch
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headrace.pipelines.kafka.fetching import Int64s

HEADER = 61
(BEGIN, END, BASE, LAST_DELTA, EPOCH, CHECKSUM, ATTRIBUTES, FIRST_TIME, GREATEST_TIME, PRODUCER,
 COUNT) = range(11)  # fmt: skip
"""What `scan` finds of a batch: where it is in the answer, and parts of its header."""

CODEC, LOG_TIME, TRANSACTIONAL, CONTROL = 7, 8, 16, 32
"""Bits of the attributes."""

SOUND, BAD_LENGTH, OLD_FORMAT, UNKNOWN_FORMAT = 0, 1, 2, 3
"""What `scan` has met after the last batch."""

_STREAMS = {1: "gzip", 3: "lz4", 4: "zstd"}
_SNAPPY = 2
_XERIAL = b"\x82SNAPPY\x00"


_LEAST_RECORD = 7
"""Bytes of the smallest record."""


class CorruptBatchError(Exception):
    """A batch that cannot be decoded, or is too large to be; says why."""


@numba.njit(inline="always")
def _number(data, at, size):
    """Return a signed integer of some bytes, the highest first."""
    value = np.int64(np.int8(data[at]))
    for place in range(at + 1, at + size):
        value = (value << 8) | np.int64(data[place])
    return value


@numba.njit(inline="always")
def _varint(data, at, end):
    """Return a variable-length integer and where it ends, -1 if it does not."""
    value, shift = np.uint64(0), np.uint64(0)
    while at < end and shift < np.uint64(70):
        byte = np.uint64(data[at])
        at += 1
        value |= (byte & np.uint64(127)) << shift
        if byte < np.uint64(128):
            return np.int64(value >> np.uint64(1)) ^ -np.int64(value & np.uint64(1)), at
        shift += np.uint64(7)
    return np.int64(0), -1


@numba.njit(cache=True, nogil=True)
def scan(data, batches):
    """Find the batches in an answer of a broker.

    Parameters
    ----------
    data
        The bytes, uint8; the last batch may have been cut off.
    batches
        Filled with a row for each, int64, shape (most, 11).

    Returns
    -------
    tuple
        The number of batches, and what came after them.
    """
    at, found = 0, 0
    while at + 17 <= data.size and found < batches.shape[0]:
        size = _number(data, at + 8, 4)
        kind = data[at + 16]
        if kind < 2:
            return found, OLD_FORMAT
        if kind > 2:
            return found, UNKNOWN_FORMAT
        if size < HEADER - 12:
            return found, BAD_LENGTH
        if at + 12 + size > data.size:
            break
        batch = batches[found]
        batch[BEGIN], batch[END] = at, at + 12 + size
        batch[BASE] = _number(data, at, 8)
        batch[EPOCH] = _number(data, at + 12, 4)
        batch[CHECKSUM] = _number(data, at + 17, 4) & 0xFFFFFFFF
        batch[ATTRIBUTES] = _number(data, at + 21, 2)
        batch[LAST_DELTA] = _number(data, at + 23, 4)
        batch[FIRST_TIME] = _number(data, at + 27, 8)
        batch[GREATEST_TIME] = _number(data, at + 35, 8)
        batch[PRODUCER] = _number(data, at + 43, 8)
        batch[COUNT] = _number(data, at + 57, 4)
        found += 1
        at += 12 + size
    return found, SOUND


@numba.njit(cache=True, nogil=True)
def find_records(data, at, end, batch, least, row, offsets, timestamps, places, sizes):
    """Find the records of a batch.

    Parameters
    ----------
    data, at, end
        The records, uncompressed, uint8, and where in it they begin and end.
    batch
        The batch, from `scan`.
    least
        Records below this offset are left out.
    row
        Where the first record goes in the following.
    offsets, timestamps, places, sizes
        Filled with offsets, timestamps, where values begin in `data` and how many bytes they
        have, -1 for null; int64.

    Returns
    -------
    int
        The row after the last record; if one is malformed, -1 less its index in the batch.
    """
    for index in range(batch[COUNT]):
        size, at = _varint(data, at, end)
        if at < 0 or size < 0 or at + size > end:
            return -1 - index
        stop = at + size
        time, at = _varint(data, at + 1, stop)
        if at < 0:
            return -1 - index
        delta, at = _varint(data, at, stop)
        if at < 0:
            return -1 - index
        key_size, at = _varint(data, at, stop)
        if at < 0 or key_size > stop - at:
            return -1 - index
        value_size, at = _varint(data, at + max(key_size, 0), stop)
        if at < 0 or value_size > stop - at:
            return -1 - index
        offset = batch[BASE] + delta
        if offset >= least:
            offsets[row] = offset
            timestamps[row] = (
                batch[GREATEST_TIME] if batch[ATTRIBUTES] & LOG_TIME else batch[FIRST_TIME] + time
            )
            places[row], sizes[row] = at, value_size if value_size >= 0 else -1
            row += 1
        at = stop
    return row if at == end else -1 - batch[COUNT]


@numba.njit(cache=True, nogil=True)
def copy_values(data, places, sizes, first, last, written, ends, buffer):
    """Copy values one after another.

    Parameters
    ----------
    data, places, sizes
        See `find_records`.
    first, last
        The rows to copy.
    written
        Bytes in `buffer` so far.
    ends
        Filled with where each value begins and the last ends, int32, for rows from 0 on.
    buffer
        Filled with values, uint8.

    Returns
    -------
    int
        Bytes in `buffer` now.
    """
    for row in range(first, last):
        ends[row] = written
        place = places[row]
        for byte in range(max(sizes[row], 0)):
            buffer[written + byte] = data[place + byte]
        written += max(sizes[row], 0)
    ends[last] = written
    return written


@numba.njit(cache=True)
def is_abort(data, at, end):
    """Return whether the batch of a mark, which has one record, says that it was aborted."""
    _, at = _varint(data, at, end)
    _, at = _varint(data, at + 1, end)
    _, at = _varint(data, at, end)
    size, at = _varint(data, at, end)
    return size >= 4 and at >= 0 and at + 4 <= end and _number(data, at + 2, 2) == 0


def uncompressed(codec: int, data: memoryview, most: int) -> npt.NDArray[np.uint8]:
    """Return the records of a compressed batch.

    Parameters
    ----------
    codec
        1 to 4, as in the attributes.
    data
        What is compressed.
    most
        The most bytes that it may have uncompressed.

    Raises
    ------
    CorruptBatchError
        If it has more, or cannot be uncompressed.
    """
    try:
        if codec == _SNAPPY:
            return _unsnapped(data, most)
        if codec not in _STREAMS:
            raise CorruptBatchError(f"unknown compression {codec}")
        with pa.CompressedInputStream(pa.BufferReader(data), _STREAMS[codec]) as stream:
            found = stream.read_buffer(most + 1)
    except (OSError, pa.ArrowInvalid) as error:
        raise CorruptBatchError(str(error)) from error
    if found.size > most:
        raise CorruptBatchError(_too_large(most))
    return np.frombuffer(found, np.uint8)


def _too_large(most: int) -> str:
    return f"more than {most >> 20} MB uncompressed; raise max_batch_mb if it is sound"


def _unsnapped(data: memoryview, most: int) -> npt.NDArray[np.uint8]:
    """Uncompress one block, or several with their sizes as the Java client writes them."""
    blocks = [data]
    if data[: len(_XERIAL)] == _XERIAL:
        blocks, at = [], 16
        while at < len(data):
            size = int.from_bytes(data[at : at + 4], "big")
            blocks.append(data[at + 4 : at + 4 + size])
            at += 4 + size
    sizes = [_unsnapped_size(block) for block in blocks]
    if sum(sizes) > most:
        raise CorruptBatchError(_too_large(most))
    parts = [
        np.frombuffer(pa.decompress(pa.py_buffer(block), size, "snappy"), np.uint8)
        for block, size in zip(blocks, sizes, strict=True)
    ]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _unsnapped_size(block: memoryview) -> int:
    size = 0
    for place, byte in enumerate(block[:5]):
        size |= (byte & 127) << (7 * place)
        if byte < 128:
            return size
    raise CorruptBatchError("a block of snappy without a size")


@dataclass(frozen=True)
class Aborted:
    """An aborted transaction: its producer, and the offset of its first record."""

    producer: int
    first: int


def committed(
    data: npt.NDArray[np.uint8], batches: Int64s, aborted: Iterable[Aborted]
) -> npt.NDArray[np.bool_]:
    """Tell which batches have records of committed transactions, or of none.

    Parameters
    ----------
    data, batches
        See `scan`.
    aborted
        The aborted transactions that overlap them.

    Returns
    -------
    npt.NDArray[np.bool_]
        Whether each has, shape (n,).
    """
    good = (batches[:, ATTRIBUTES] & CONTROL) == 0
    waiting = sorted(aborted, key=lambda each: each.first, reverse=True)
    if not waiting:
        return good
    gone: set[int] = set()
    for index, batch in enumerate(batches.tolist()):
        while waiting and waiting[-1].first <= batch[BASE] + batch[LAST_DELTA]:
            gone.add(waiting.pop().producer)
        if batch[ATTRIBUTES] & CONTROL:
            if is_abort(data, batch[BEGIN] + HEADER, batch[END]):
                gone.discard(batch[PRODUCER])
        elif batch[ATTRIBUTES] & TRANSACTIONAL and batch[PRODUCER] in gone:
            good[index] = False
    return good


@dataclass
class Decoded:
    """Records of consecutive batches, where they lie.

    Parameters
    ----------
    offsets, timestamps, places, sizes
        See `find_records`, shape (n,).
    parts
        The bytes of each batch, and the row after its last record.
    next_offset
        The offset after the last batch.
    """

    offsets: Int64s
    timestamps: Int64s
    places: Int64s
    sizes: Int64s
    parts: list[tuple[npt.NDArray[np.uint8], int]]
    next_offset: int

    def values(self, first: int, last: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.uint8]]:
        """Copy the values of rows ``[first, last)``: where each ends, and their bytes."""
        sizes = self.sizes[first:last]
        ends = np.empty(last - first + 1, np.int32)
        ends[-1:] = 0
        buffer = np.frombuffer(pa.allocate_buffer(int(np.maximum(sizes, 0).sum())), np.uint8)
        begin = written = 0
        for data, end in self.parts:
            low, high = max(begin, first), min(end, last)
            if low < high:
                written = copy_values(
                    data, self.places[first:], sizes, low - first, high - first, written, ends,
                    buffer,
                )  # fmt: skip
            begin = end
        return ends, buffer


class Batches:
    """The batches of one answer of a broker, which are decoded a few at a time.

    Parameters
    ----------
    data
        The bytes of the answer.
    least
        The offset that was asked for: the first batch may begin before it.
    aborted
        The aborted transactions that overlap them.
    checksum
        Computes CRC-32C.
    most_bytes
        The most bytes of one batch, uncompressed.
    """

    def __init__(
        self,
        data: Any,
        least: int,
        aborted: Iterable[Aborted],
        checksum: Callable[[Any], int],
        most_bytes: int,
    ) -> None:
        self.data = np.frombuffer(data, np.uint8)
        self.view = memoryview(data)
        self.least, self.most_bytes, self.checksum = least, most_bytes, checksum
        rows = np.empty((self.data.size // HEADER + 1, 11), np.int64)
        found, self.after = scan(self.data, rows)
        self.batches = rows[:found]
        self.good = committed(self.data, self.batches, aborted)
        self.passed = 0
        self.next_offset = least

    @property
    def end(self) -> tuple[int, int]:
        """The offset after the last batch, and the epoch of the leader that wrote it."""
        if not len(self.batches):
            return self.least, -1
        last = self.batches[-1]
        return max(self.least, int(last[BASE] + last[LAST_DELTA]) + 1), int(last[EPOCH])

    @property
    def left(self) -> bool:
        """Whether there is anything left, were it only what cannot be decoded."""
        return self.passed < len(self.batches) or self.after != SOUND

    def decode(self, most_rows: int, most_bytes: int) -> Decoded:
        """Decode batches until there are so many rows or bytes, but at least one batch.

        Raises
        ------
        CorruptBatchError
            If the next batch is corrupt or too large; those before it have been returned.
        """
        bodies: list[_Body] = []
        begin, rows, size = self.passed, 0, 0
        while self.passed < len(self.batches) and rows < most_rows and size < most_bytes:
            try:
                body = self._body(self.passed)
            except CorruptBatchError:
                if self.passed == begin:
                    raise
                break
            if body is not None:
                bodies.append(body)
                rows += int(self.batches[self.passed, COUNT])
                size += body.end - body.begin
            self.passed += 1
        if self.passed == begin and self.after != SOUND:
            raise CorruptBatchError(_UNREADABLE[self.after])
        decoded = self._decode(bodies, rows)
        last = self.batches[self.passed - 1] if self.passed else None
        if last is not None:
            self.next_offset = max(self.next_offset, int(last[BASE] + last[LAST_DELTA]) + 1)
        decoded.next_offset = self.next_offset
        return decoded

    def _body(self, index: int) -> _Body | None:
        """Check a batch, and return where its records lie; None if it has none to return."""
        batch = self.batches[index]
        begin, end = int(batch[BEGIN]), int(batch[END])
        if self.checksum(self.view[begin + 21 : end]) != batch[CHECKSUM]:
            raise CorruptBatchError("its checksum is wrong")
        if not self.good[index]:
            return None
        data, at = self.data, begin + HEADER
        codec = int(batch[ATTRIBUTES]) & CODEC
        if codec:
            data, at = uncompressed(codec, self.view[at:end], self.most_bytes), 0
            end = data.size
        if not 0 <= batch[COUNT] <= (end - at) // _LEAST_RECORD:
            raise CorruptBatchError("it has fewer records than it says")
        return _Body(index, data, at, end)

    def _decode(self, bodies: list[_Body], rows: int) -> Decoded:
        offsets, timestamps, places, sizes = np.empty((4, rows), np.int64)
        parts: list[tuple[npt.NDArray[np.uint8], int]] = []
        row = 0
        for body in bodies:
            after = find_records(
                body.data, body.begin, body.end, self.batches[body.number], self.least, row,
                offsets, timestamps, places, sizes,
            )  # fmt: skip
            if after < 0:
                if not parts:
                    raise CorruptBatchError(f"its record {-1 - after} is malformed")
                self.passed = body.number
                break
            row = after
            parts.append((body.data, row))
        return Decoded(
            offsets[:row], timestamps[:row], places[:row], sizes[:row], parts, self.next_offset
        )


class _Body(NamedTuple):
    """Where the uncompressed records of the batch with this number lie."""

    number: int
    data: npt.NDArray[np.uint8]
    begin: int
    end: int


_UNREADABLE = {
    BAD_LENGTH: "its length is wrong",
    OLD_FORMAT: "it has the format of before Kafka 0.11; let the topic be written anew",
    UNKNOWN_FORMAT: "its format is unknown",
}
