"""Bytes by their address, for kernels that look at every byte.

A pointer is one word to pass on to a function, and an array is seven: with arrays a kernel of many
small functions takes several times as long.
"""

from __future__ import annotations

import numba
from numba import types
from numba.extending import intrinsic

WORD = 8
"""Bytes of a word."""

_BYTES, _WORDS = types.CPointer(types.uint8), types.CPointer(types.uint64)


@intrinsic
def bytes_at(typing, address):
    """Return the bytes at an address."""

    def generate(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(_BYTES))

    return _BYTES(types.int64), generate


@intrinsic
def word_at(typing, data, at):
    """Return eight bytes from an index on as a word, the first one lowest; all must be there."""

    def generate(context, builder, signature, arguments):
        begin = builder.gep(arguments[0], [arguments[1]])
        loaded = builder.load(builder.bitcast(begin, context.get_value_type(_WORDS)))
        loaded.align = 1
        return loaded

    return types.uint64(_BYTES, types.int64), generate


@intrinsic
def put_word(typing, data, at, word):
    """Store a word as eight bytes from an index on; there must be room for all."""

    def generate(context, builder, signature, arguments):
        begin = builder.gep(arguments[0], [arguments[1]])
        pointer = builder.bitcast(begin, context.get_value_type(_WORDS))
        builder.store(arguments[2], pointer).align = 1
        return context.get_dummy_value()

    return types.void(_BYTES, types.int64, types.uint64), generate


@intrinsic
def lowest_byte(typing, word):
    """Return which byte of a word is the first that is not zero, the lowest being 0."""

    def generate(context, builder, signature, arguments):
        bit = builder.cttz(arguments[0], context.get_constant(types.boolean, False))
        return builder.lshr(bit, context.get_constant(types.int64, 3))

    return types.int64(types.uint64), generate


@numba.njit(cache=True, nogil=True)
def after_wide(data, at, end):
    """Return where a character of two to four bytes of UTF-8 ends; -1 if it is none."""
    first = data[at]
    if 0xC2 <= first <= 0xDF:
        more, least, most = 1, 0x80, 0xBF
    elif 0xE0 <= first <= 0xEF:
        more = 2
        least = 0xA0 if first == 0xE0 else 0x80  # not shorter
        most = 0x9F if first == 0xED else 0xBF  # no surrogate
    elif 0xF0 <= first <= 0xF4:
        more = 3
        least = 0x90 if first == 0xF0 else 0x80
        most = 0x8F if first == 0xF4 else 0xBF
    else:
        return -1
    if at + more >= end or not least <= data[at + 1] <= most:
        return -1
    for byte in range(2, more + 1):
        if not 0x80 <= data[at + byte] <= 0xBF:
            return -1
    return at + more + 1


@numba.njit(cache=True, nogil=True)
def copy_bytes(data, begin, last, size, to, at):
    """Copy bytes a word at a time; up to seven more are written behind.

    Parameters
    ----------
    data, begin, size
        From where to copy how many.
    last
        Index of the last word in `data`: what lies behind it is copied a byte at a time.
    to, at
        Where to, which has room for a word more.
    """
    if begin + size <= last:
        for byte in range(0, size, WORD):
            put_word(to, at + byte, word_at(data, begin + byte))
    else:
        for byte in range(size):
            to[at + byte] = data[begin + byte]
