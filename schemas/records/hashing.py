"""Stable hashes of columns, the same on every machine.

A hash has 128 bits. Features have the first 64 of `PUBLISHED`, which is MurmurHash3_x64_128:
servers in other languages can compute it, and anybody can find values of equal digests. Join keys
are identified by all bits of a `headrace.schemas.records.keyed.KeyedHash` (a collision among 20
million waiting keys has a probability of 1e-24). The digest of

- text and bytes is that of their bytes,
- integers, booleans and timestamps that of 8 little-endian bytes,
  but integers from 2^63 on are another kind, because their bytes are those of negative ones,
- floats that of their 8 IEEE 754 bytes,
- decimals of scale 0 that of the integer, or of their digits if 64 bits have no room for it;
  other decimals that of the nearest float,
- several columns that of the concatenated 16-byte digests of each.

Each `Kind` has a hash of its own, so the integer 5 and the text "5" differ, as keys and as
features; text and bytes that hold the same bytes do not.

References
----------
.. [1] Austin Appleby, MurmurHash3.cpp (2011, public domain).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import IntEnum
from typing import Protocol

import numba as nb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

UInt64s = npt.NDArray[np.uint64]
Int64s = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
UInt8s = npt.NDArray[np.uint8]
Offsets = npt.NDArray[np.int32] | npt.NDArray[np.int64]


class Kind(IntEnum):
    """What is hashed; equal bytes of two kinds have digests that differ."""

    TEXT = 0
    INTEGER = 1
    FLOAT = 2
    UNSIGNED = 3
    SEVERAL = 4


class Hash(Protocol):
    """A hash of 128 bits for each kind of value."""

    @property
    def mark(self) -> str:
        """Says of two hashes with a key whether it is the same; empty without a key."""

    def of_bytes(
        self, kind: Kind, data: UInt8s, offsets: Offsets, out1: UInt64s, out2: UInt64s
    ) -> None:
        """Hash the bytes between neighbouring offsets, shape (n + 1,)."""

    def of_words(self, kind: Kind, words: UInt64s, out1: UInt64s, out2: UInt64s) -> None:
        """Hash words of 8 bytes, shape (n,)."""


_C1 = np.uint64(0x87C37B91114253D5)
_C2 = np.uint64(0x4CF5AD432745937F)
_F1 = np.uint64(0xFF51AFD7ED558CCD)
_F2 = np.uint64(0xC4CEB9FE1A85EC53)
_N1 = np.uint64(0x52DCE729)
_N2 = np.uint64(0x38495AB5)
_FIVE = np.uint64(5)


@nb.njit(inline="always")
def _rotate(x, r):
    return (x << np.uint64(r)) | (x >> np.uint64(64 - r))


@nb.njit(inline="always")
def fmix64(x):
    """Finalise 64 bits as MurmurHash3 does: a bijection with full avalanche."""
    x ^= x >> np.uint64(33)
    x *= _F1
    x ^= x >> np.uint64(33)
    x *= _F2
    return x ^ (x >> np.uint64(33))


@nb.njit(inline="always")
def _word(data, start, size):
    word = np.uint64(0)
    for i in range(size):
        word |= np.uint64(data[start + i]) << np.uint64(8 * i)
    return word


@nb.njit(inline="always")
def _finish(h1, h2, length):
    h1 ^= np.uint64(length)
    h2 ^= np.uint64(length)
    h1 += h2
    h2 += h1
    h1 = fmix64(h1)
    h2 = fmix64(h2)
    h1 += h2
    h2 += h1
    return h1, h2


@nb.njit(inline="always")
def _digest(data, start, end, seed):
    h1 = np.uint64(seed)
    h2 = np.uint64(seed)
    at = start
    while at + 16 <= end:
        k1 = _word(data, at, 8)
        k2 = _word(data, at + 8, 8)
        h1 ^= _rotate(k1 * _C1, 31) * _C2
        h1 = (_rotate(h1, 27) + h2) * _FIVE + _N1
        h2 ^= _rotate(k2 * _C2, 33) * _C1
        h2 = (_rotate(h2, 31) + h1) * _FIVE + _N2
        at += 16
    rest = end - at
    if rest > 8:
        h2 ^= _rotate(_word(data, at + 8, rest - 8) * _C2, 33) * _C1
    if rest > 0:
        h1 ^= _rotate(_word(data, at, min(rest, 8)) * _C1, 31) * _C2
    return _finish(h1, h2, end - start)


@nb.njit(cache=True, nogil=True)
def _hash_bytes(data, offsets, seed, out1, out2):
    for i in range(out1.size):
        out1[i], out2[i] = _digest(data, offsets[i], offsets[i + 1], seed)


@nb.njit(cache=True, nogil=True)
def _hash_words(words, seed, out1, out2):
    for i in range(words.size):
        h1 = np.uint64(seed) ^ (_rotate(words[i] * _C1, 31) * _C2)
        out1[i], out2[i] = _finish(h1, np.uint64(seed), 8)


@dataclass(frozen=True)
class Murmur:
    """MurmurHash3_x64_128; the seed is the kind, that of several columns is that of text."""

    mark: str = ""

    def of_bytes(
        self, kind: Kind, data: UInt8s, offsets: Offsets, out1: UInt64s, out2: UInt64s
    ) -> None:
        """Hash the bytes between neighbouring offsets."""
        seed = Kind.TEXT if kind is Kind.SEVERAL else kind
        _hash_bytes(data, offsets, int(seed), out1, out2)

    def of_words(self, kind: Kind, words: UInt64s, out1: UInt64s, out2: UInt64s) -> None:
        """Hash words of 8 bytes."""
        _hash_words(words, int(kind), out1, out2)


PUBLISHED = Murmur()
"""The hash of features, described in ``docs/features.md``."""


def hash_bytes(data: bytes, seed: int = Kind.TEXT) -> tuple[int, int]:
    """Return both halves of the published digest of one byte string.

    Examples
    --------
    >>> hash_bytes(b"")
    (0, 0)
    """
    out = np.empty((2, 1), np.uint64)
    buffer = np.frombuffer(data, np.uint8) if data else np.empty(0, np.uint8)
    _hash_bytes(buffer, np.array([0, len(data)], np.int32), int(seed), out[0], out[1])
    return int(out[0, 0]), int(out[1, 0])


def hash_column(column: pa.Array, by: Hash = PUBLISHED) -> tuple[UInt64s, UInt64s]:
    """Hash each value of a column.

    Parameters
    ----------
    column
        Text, bytes, numbers, booleans or times, shape (n,). Whole numbers of any type have the
        digests of integers, those beyond 64 bits that of their digits; decimals with a
        fraction are rounded to binary64.
        The hash of a null is undefined.
    by
        The hash.

    Returns
    -------
    tuple of arrays
        The two halves of the digest, each uint64, shape (n,).

    Raises
    ------
    TypeError
        For a column of another type.
    """
    out1 = np.empty(len(column), np.uint64)
    out2 = np.empty(len(column), np.uint64)
    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_binary(kind):
        _, offsets_buffer, data_buffer = column.buffers()
        first = column.offset
        # An empty array may come without an offsets buffer.
        if len(column):
            offsets = np.frombuffer(offsets_buffer, np.int32)[first : first + len(column) + 1]
            data = np.frombuffer(data_buffer, np.uint8) if data_buffer else np.empty(0, np.uint8)
            by.of_bytes(Kind.TEXT, data, offsets, out1, out2)
    elif pa.types.is_decimal(kind) and kind.scale <= 0:
        return _hash_whole(column, by)
    elif pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        values = _values(column.cast(pa.float64()), 0.0).view(np.uint64)
        by.of_words(Kind.FLOAT, values, out1, out2)
    elif pa.types.is_integer(kind) or pa.types.is_temporal(kind) or pa.types.is_boolean(kind):
        if pa.types.is_temporal(kind):
            column = column.cast(pa.int32() if kind.bit_width == 32 else pa.int64())
        wide = column.cast(pa.uint64() if column.type == pa.uint64() else pa.int64())
        words = _values(wide, 0).view(np.uint64)
        by.of_words(Kind.INTEGER, words, out1, out2)
        if wide.type == pa.uint64():
            large = np.flatnonzero(words >> np.uint64(63))
            out1[large], out2[large] = _hash_large(words[large], by)
    else:
        raise TypeError(f"no stable hash is defined for columns of type {kind}")
    return out1, out2


def _hash_whole(column: pa.Array, by: Hash) -> tuple[UInt64s, UInt64s]:
    """Hash decimals without a fraction by their values."""
    try:
        return hash_column(column.cast(pa.int64()), by)
    except pa.ArrowInvalid:  # one at least has no room
        pass
    column = column.cast(pa.decimal128(38, 0))
    out1, out2 = hash_column(column.cast(pa.string()), by)
    for kind, least, most in ((pa.uint64(), 0, 2**64 - 1), (pa.int64(), -(2**63), 2**63 - 1)):
        fits = pc.and_(
            pc.greater_equal(column, pa.scalar(Decimal(least), column.type)),
            pc.less_equal(column, pa.scalar(Decimal(most), column.type)),
        )
        half1, half2 = hash_column(pc.if_else(fits, column, None).cast(kind), by)
        where = pc.fill_null(fits, False).to_numpy(zero_copy_only=False)
        out1, out2 = np.where(where, half1, out1), np.where(where, half2, out2)
    return out1, out2


def _hash_large(words: UInt64s, by: Hash) -> tuple[UInt64s, UInt64s]:
    out1, out2 = np.empty(words.size, np.uint64), np.empty(words.size, np.uint64)
    by.of_words(Kind.UNSIGNED, words, out1, out2)
    return out1, out2


def hash_columns(columns: Sequence[pa.Array], by: Hash = PUBLISHED) -> tuple[UInt64s, UInt64s]:
    """Hash each row of one or more columns; of a single column as `hash_column` does."""
    digests = [hash_column(column, by) for column in columns]
    if len(digests) == 1:
        return digests[0]
    rows = len(columns[0])
    halves = np.ascontiguousarray(np.stack([half for pair in digests for half in pair], axis=1))
    width = halves.shape[1] * 8
    offsets = np.arange(rows + 1, dtype=np.int64) * width
    out1, out2 = np.empty(rows, np.uint64), np.empty(rows, np.uint64)
    by.of_bytes(Kind.SEVERAL, halves.reshape(-1).view(np.uint8), offsets, out1, out2)
    return out1, out2


def _values(column: pa.Array, null: float) -> npt.NDArray[np.generic]:
    if column.null_count:
        column = pc.fill_null(column, null)
    return np.ascontiguousarray(column.to_numpy(zero_copy_only=False))


@nb.njit(cache=True, nogil=True)
def _assign_shards(hashes, shards, out):
    for i in range(hashes.size):
        out[i] = np.int32(((hashes[i] >> np.uint64(32)) * np.uint64(shards)) >> np.uint64(32))


def assign_shards(hashes: UInt64s, shards: int) -> npt.NDArray[np.int32]:
    """Map hashes to shards ``[0, shards)`` by their high bits (multiply and shift)."""
    out = np.empty(hashes.size, np.int32)
    _assign_shards(hashes, shards, out)
    return out


@nb.njit(cache=True, nogil=True)
def _uniform(hashes, salt, out):
    for i in range(hashes.size):
        # A float64 holds integers of up to 53 bits exactly.
        out[i] = np.float64(fmix64(hashes[i] ^ salt) >> np.uint64(11)) * (1.0 / 9007199254740992.0)


def uniform(hashes: UInt64s, seed: int) -> npt.NDArray[np.float64]:
    """Return a uniform number in [0, 1) for each hash; other seeds give independent numbers."""
    salt = np.uint64(hash_bytes(seed.to_bytes(8, "little"), Kind.INTEGER)[0])
    out = np.empty(hashes.size, np.float64)
    _uniform(hashes, salt, out)
    return out
