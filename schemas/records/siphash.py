"""SipHash-c-d with 128 bits: a hash of which nobody foretells a digest without its key.

References
----------
.. [1] Jean-Philippe Aumasson, Daniel J. Bernstein, SipHash: a fast short-input PRF
   (Indocrypt 2012), section 2; the variant of 128 bits is that of the authors' siphash.c.
"""

from __future__ import annotations

import numba as nb
import numpy as np

_V0, _V1, _V2, _V3 = np.frombuffer(b"uespemosmodnarodarenegylsetybdet", "<u8")
_WIDE = np.uint64(0xEE)
_SECOND = np.uint64(0xDD)


@nb.njit(inline="always")
def _rotate(x, r):
    return (x << np.uint64(r)) | (x >> np.uint64(64 - r))


@nb.njit(inline="always")
def _rounds(v0, v1, v2, v3, count):
    for _ in range(count):
        v0 += v1
        v1 = _rotate(v1, 13) ^ v0
        v0 = _rotate(v0, 32)
        v2 += v3
        v3 = _rotate(v3, 16) ^ v2
        v0 += v3
        v3 = _rotate(v3, 21) ^ v0
        v2 += v1
        v1 = _rotate(v1, 17) ^ v2
        v2 = _rotate(v2, 32)
    return v0, v1, v2, v3


@nb.njit(inline="always")
def _begin(k0, k1):
    return k0 ^ _V0, k1 ^ _V1 ^ _WIDE, k0 ^ _V2, k1 ^ _V3


@nb.njit(inline="always")
def _compress(v0, v1, v2, v3, word, rounds):
    v0, v1, v2, v3 = _rounds(v0, v1, v2, v3 ^ word, rounds)
    return v0 ^ word, v1, v2, v3


@nb.njit(inline="always")
def _finish(v0, v1, v2, v3, rounds):
    v0, v1, v2, v3 = _rounds(v0, v1, v2 ^ _WIDE, v3, rounds)
    first = v0 ^ v1 ^ v2 ^ v3
    v0, v1, v2, v3 = _rounds(v0, v1 ^ _SECOND, v2, v3, rounds)
    return first, v0 ^ v1 ^ v2 ^ v3


@nb.njit(inline="always")
def _word(data, at):
    # Written out, eight loads of a byte are compiled to one of a word.
    return (
        np.uint64(data[at])
        | (np.uint64(data[at + 1]) << np.uint64(8))
        | (np.uint64(data[at + 2]) << np.uint64(16))
        | (np.uint64(data[at + 3]) << np.uint64(24))
        | (np.uint64(data[at + 4]) << np.uint64(32))
        | (np.uint64(data[at + 5]) << np.uint64(40))
        | (np.uint64(data[at + 6]) << np.uint64(48))
        | (np.uint64(data[at + 7]) << np.uint64(56))
    )


@nb.njit(inline="always")
def _last_word(data, at, end, size):
    word = np.uint64(size) << np.uint64(56)
    for i in range(end - at):
        word |= np.uint64(data[at + i]) << np.uint64(8 * i)
    return word


@nb.njit(inline="always")
def _digest(data, begin, end, k0, k1, c, d):
    v0, v1, v2, v3 = _begin(k0, k1)
    at = begin
    while at + 8 <= end:
        v0, v1, v2, v3 = _compress(v0, v1, v2, v3, _word(data, at), c)
        at += 8
    last = _last_word(data, at, end, end - begin)
    v0, v1, v2, v3 = _compress(v0, v1, v2, v3, last, c)
    return _finish(v0, v1, v2, v3, d)


@nb.njit(cache=True, nogil=True)
def sip_bytes(data, offsets, k0, k1, out1, out2):
    """Write the digests, by SipHash-1-3, of the bytes between neighbouring offsets."""
    for i in range(out1.size):
        out1[i], out2[i] = _digest(data, offsets[i], offsets[i + 1], k0, k1, 1, 3)


@nb.njit(cache=True, nogil=True)
def sip_words(words, k0, k1, out1, out2):
    """Write the digests, by SipHash-1-3, of words as 8 little-endian bytes each."""
    for i in range(words.size):
        v0, v1, v2, v3 = _begin(k0, k1)
        v0, v1, v2, v3 = _compress(v0, v1, v2, v3, words[i], 1)
        v0, v1, v2, v3 = _compress(v0, v1, v2, v3, np.uint64(8) << np.uint64(56), 1)
        out1[i], out2[i] = _finish(v0, v1, v2, v3, 3)


@nb.njit(cache=True, nogil=True)
def _sip_one(data, k0, k1, c, d):
    return _digest(data, 0, data.size, k0, k1, c, d)


def siphash(data: bytes, key: bytes, c: int = 1, d: int = 3) -> bytes:
    """Return the digest of 16 bytes of one byte string.

    Parameters
    ----------
    data
        Any bytes.
    key
        16 bytes.
    c, d
        Rounds for each 8 bytes, and at the end.

    Examples
    --------
    >>> siphash(b"", bytes(range(16)), 2, 4).hex()
    'a3817f04ba25a8e66df67214c7550293'
    """
    buffer = np.frombuffer(data, np.uint8) if data else np.empty(0, np.uint8)
    k0, k1 = np.frombuffer(key, "<u8")
    halves = _sip_one(buffer, k0, k1, c, d)
    return np.array(halves, "<u8").tobytes()
