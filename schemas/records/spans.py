"""Values that lie in bytes, and columns of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headrace.schemas.records.bytekernel import WORD, bytes_at, copy_bytes
from headrace.schemas.records.hashing import Int64s


class Spans(NamedTuple):
    """Where values lie in bytes.

    Parameters
    ----------
    data
        The bytes, uint8, not writable.
    begins, ends
        Where each begins and ends, int64, shape (n,).
    """

    data: npt.NDArray[np.uint8]
    begins: Int64s
    ends: Int64s

    @classmethod
    def of(cls, values: pa.BinaryArray) -> Spans:
        """Return where the values of a column lie; of a null it is anywhere."""
        _, offsets, data = values.buffers()
        bounds = np.frombuffer(offsets, np.int32)[values.offset :][: len(values) + 1]
        return cls.between(b"" if data is None else data, bounds.astype(np.int64))

    @classmethod
    def of_lines(cls, lines: Sequence[bytes]) -> Spans:
        """Put lines one after another."""
        bounds = np.zeros(len(lines) + 1, np.int64)
        np.cumsum(np.fromiter(map(len, lines), np.int64, len(lines)), out=bounds[1:])
        return cls.between(b"".join(lines), bounds)

    @classmethod
    def between(cls, data: pa.Buffer | bytes, bounds: Int64s) -> Spans:
        """Return values that lie one after another, between bounds, shape (n + 1,)."""
        bytes_ = np.frombuffer(data, np.uint8)
        bytes_.flags.writeable = False
        return cls(bytes_, bounds[:-1], bounds[1:])

    def take(self, rows: Int64s) -> Spans:
        """Return some of the values."""
        return Spans(self.data, self.begins[rows], self.ends[rows])

    def halves(self, middle: int) -> tuple[Spans, Spans]:
        """Return the values before one, and those from there on."""
        begins, ends = self.begins, self.ends
        return (
            Spans(self.data, begins[:middle], ends[:middle]),
            Spans(self.data, begins[middle:], ends[middle:]),
        )

    def value(self, row: int) -> bytes:
        """Return one value."""
        return self.data[self.begins[row] : self.ends[row]].tobytes()


def gathered(
    data: npt.NDArray[np.uint8], begins: Int64s, sizes: Int64s, valid: npt.NDArray[np.bool_]
) -> pa.Array:
    """Return bytes as a column, null where they are not valid.

    Parameters
    ----------
    data
        Where the bytes lie, uint8.
    begins, sizes
        Where each value begins, and its size, int64, shape (n,).
    valid
        Which values are there, bool, shape (n,).
    """
    bits = validity(valid)
    sizes = sizes if bits is None else np.where(valid, sizes, 0)
    offsets = np.empty(begins.size + 1, np.int32)
    buffer = np.empty(int(sizes.sum()) + WORD, np.uint8)
    _gather(data, begins, sizes, offsets, buffer)
    buffers = [bits, pa.py_buffer(offsets), pa.py_buffer(buffer)]
    return pa.Array.from_buffers(pa.binary(), begins.size, buffers)


def validity(valid: npt.NDArray[np.bool_]) -> pa.Buffer | None:
    """Return which values are there as Arrow has it."""
    return None if valid.all() else pa.py_buffer(np.packbits(valid, bitorder="little"))


@numba.njit(cache=True, nogil=True)
def _gather(data, begins, sizes, offsets, buffer):
    text, to, last = bytes_at(data.ctypes.data), bytes_at(buffer.ctypes.data), data.size - WORD
    at = 0
    for row in range(begins.size):
        offsets[row] = at
        copy_bytes(text, begins[row], last, sizes[row], to, at)
        at += sizes[row]
    offsets[begins.size] = at
