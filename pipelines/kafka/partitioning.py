"""Which partition a key belongs to: as the Java clients have it, by a 32-bit MurmurHash2."""

from __future__ import annotations

import numba
import numpy as np
import pyarrow as pa

from headrace.schemas.records.hashing import Int64s

_SEED = np.uint32(0x9747B28C)
_FACTOR = np.uint32(0x5BD1E995)


def key_hashes(keys: pa.Array) -> Int64s:
    """Return the hash of each key, not negative; modulo the partitions it is the partition.

    Parameters
    ----------
    keys
        Text or bytes without nulls.

    Examples
    --------
    >>> key_hashes(pa.array([b"", b"a", b"abcd"])) % 10
    array([1, 4, 0])
    """
    offsets = np.frombuffer(keys.buffers()[1], np.int32)[keys.offset :][: len(keys) + 1]
    data = keys.buffers()[2]
    found = np.empty(len(keys), np.int64)
    _hash(offsets, np.frombuffer(b"" if data is None else data, np.uint8), found)
    return found


@numba.njit(cache=True, nogil=True)
def _hash(offsets, data, found):
    for row in range(found.size):
        at, end = offsets[row], offsets[row + 1]
        hashed = _SEED ^ np.uint32(end - at)
        while end - at >= 4:
            word = np.uint32(0)
            for byte in range(4):
                word |= np.uint32(data[at + byte]) << np.uint32(8 * byte)
            word = np.uint32(word * _FACTOR)
            word ^= word >> np.uint32(24)
            hashed = np.uint32(np.uint32(hashed * _FACTOR) ^ np.uint32(word * _FACTOR))
            at += 4
        if at < end:
            for byte in range(end - at):
                hashed ^= np.uint32(data[at + byte]) << np.uint32(8 * byte)
            hashed = np.uint32(hashed * _FACTOR)
        hashed ^= hashed >> np.uint32(13)
        hashed = np.uint32(hashed * _FACTOR)
        hashed ^= hashed >> np.uint32(15)
        found[row] = hashed & np.uint32(0x7FFFFFFF)
