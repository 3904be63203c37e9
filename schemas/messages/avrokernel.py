"""The kernel that reads messages in Avro's binary encoding into columns.

A record is a list of *operations*, one a row of int64: kind, slot, and two arguments. Fields of
nested records stand among those of the outer one. What is not wanted, and whatever has an inner
form of its own (unions, maps, arrays), is a *node* of a tree: kind, and two arguments; it is
checked and passed.

Every byte of a message is checked, wanted or not, so that a message that passes can be
decoded by anything without harm: no count is larger than the bytes that are left.
"""

from __future__ import annotations

import numba
import numpy as np
from numba import types

NULL, BOOL, INT, LONG, FLOAT, DOUBLE, BYTES, FIXED, ENUM, DECIMAL = range(10)
"""Kinds of values. A FIXED has its size as the first argument, an ENUM how many symbols it has.
A DECIMAL has its size, -1 if it is a BYTES, and its digits."""

OPTIONAL, LIST, TREE = range(10, 13)
"""Kinds of operations. OPTIONAL has the branch of null, and the operation that is next after a
null; LIST and TREE have a node: of an item, or of the value."""

RECORD, UNION, ARRAY, MAP = range(13, 17)
"""Kinds of nodes with others inside. The first two have the index of the first, and their number,
in a list of nodes; the others have the node of an item."""

ERRORS = (
    "", "it ends too early", "bytes are left after its end", "a number has more than 64 bits",
    "an int has more than 32 bits", "a length is below zero", "a union has no such branch",
    "an enum has no such symbol", "a boolean is neither 0 nor 1", "it is nested too deeply",
    "a decimal has too many digits", "an array has more items than there are bytes",
    "a block of an array has another size than it says",
)  # fmt: skip
"""What a negative result means, by its absolute value."""

(
    _SHORT, _LONG_MESSAGE, _LONG_NUMBER, _LONG_INT, _NEGATIVE, _NO_BRANCH, _NO_SYMBOL, _NO_BOOL,
    _DEEP, _DIGITS, _ITEMS, _BLOCK,
) = (-code for code in range(1, len(ERRORS)))  # fmt: skip

_DEEPEST = 100

_POWERS = np.array(
    [[10**digits >> 64, 10**digits & (1 << 64) - 1] for digits in range(39)], np.uint64
)
"""10 to the number of digits, as two words."""


@numba.njit(cache=True, nogil=True)
def _number(data, at, end):
    """Return a number of variable length, and where it ends, or an error."""
    value = np.int64(0)
    for shift in range(0, 64, 7):
        if at >= end:
            return value, np.int64(_SHORT)
        byte = np.int64(data[at])
        at += 1
        if shift == 63 and byte > 1:
            return value, np.int64(_LONG_NUMBER)
        value |= (byte & 127) << shift
        if byte < 128:
            return ((value >> 1) & np.int64(0x7FFFFFFFFFFFFFFF)) ^ -(value & 1), at
    return value, np.int64(_LONG_NUMBER)


@numba.njit(cache=True, nogil=True)
def _word(data, at, size):
    """Return bytes as a word, the least first."""
    value = np.int64(0)
    for byte in range(size):
        value |= np.int64(data[at + byte]) << (8 * byte)
    return value


@numba.njit(cache=True, nogil=True)
def _decimal(data, at, size, digits, words, slot, row):
    """Store a number of two words, the least first; return 0 or an error."""
    negative = size > 0 and data[at] > 127
    fill = np.uint64(0xFFFFFFFFFFFFFFFF) if negative else np.uint64(0)
    high = low = fill
    for byte in range(size):
        if (high >> np.uint64(56)) != (fill >> np.uint64(56)):
            return _DIGITS
        high = (high << np.uint64(8)) | (low >> np.uint64(56))
        low = (low << np.uint64(8)) | np.uint64(data[at + byte])
    if (high >> np.uint64(63)) != (fill >> np.uint64(63)):
        return _DIGITS
    most, least = high, low
    if negative:
        least = ~low + np.uint64(1)
        most = ~high + (np.uint64(1) if least == 0 else np.uint64(0))
    bound = _POWERS[digits]
    if most > bound[0] or (most == bound[0] and least >= bound[1]):
        return _DIGITS
    if slot >= 0:
        words[slot, row] = np.int64(low)
        words[slot + 1, row] = np.int64(high)
    return 0


@numba.njit(cache=True, nogil=True)
def _value(data, at, end, kind, slot, one, other, words, row):
    """Read one value, which is stored if it has a slot; return where it ends, or an error."""
    first = np.int64(0)
    if kind == BYTES or (kind == DECIMAL and one < 0):
        size, at = _number(data, at, end)
        if at < 0:
            return at
        if size < 0:
            return np.int64(_NEGATIVE)
    elif kind in (FIXED, DECIMAL):
        size = one
    else:
        size = np.int64(0)
    if size > end - at:
        return np.int64(_SHORT)
    if kind == DECIMAL:
        error = _decimal(data, at, size, other, words, slot, row)
        return np.int64(error) if error < 0 else at + size
    if kind in (BYTES, FIXED):
        if slot >= 0:
            words[slot, row] = at
            words[slot + 1, row] = size
        return at + size
    if kind == NULL:
        return at
    if kind in (FLOAT, DOUBLE):
        size = 4 if kind == FLOAT else 8
        if size > end - at:
            return np.int64(_SHORT)
        first = _word(data, at, size)
        at += size
    elif kind == BOOL:
        if at >= end:
            return np.int64(_SHORT)
        first = np.int64(data[at])
        if first > 1:
            return np.int64(_NO_BOOL)
        at += 1
    else:
        first, at = _number(data, at, end)
        if at < 0:
            return at
        if kind == INT and not -0x80000000 <= first <= 0x7FFFFFFF:
            return np.int64(_LONG_INT)
        if kind == ENUM and not 0 <= first < one:
            return np.int64(_NO_SYMBOL)
    if slot >= 0:
        words[slot, row] = first
    return at


@numba.njit(cache=True, nogil=True)
def _block(data, at, end):
    """Return how many items a block has, where they begin, and where they must end or -1."""
    count, at = _number(data, at, end)
    stop = np.int64(-1)
    if at >= 0 and count < 0:
        count = -count
        size, at = _number(data, at, end)
        if at >= 0 and not 0 <= size <= end - at:
            at = np.int64(_SHORT)
        stop = at + size
    # An item of no bytes, such as null, could be there any number of times.
    if at >= 0 and not 0 <= count <= end - at:
        at = np.int64(_ITEMS)
    return count, at, stop


_BYTES = types.Array(types.uint8, 1, "C", readonly=True)
_TABLE, _ROW = types.int64[:, ::1], types.int64[::1]
_PASSED = types.int64(
    _BYTES, types.int64, types.int64, _TABLE, _ROW, types.int64, _TABLE, types.int64
)


@numba.njit(_PASSED, cache=True, nogil=True)
def _passed(data, at, end, nodes, inside, node, words, depth):
    """Pass a value of any form; return where it ends, or an error."""
    kind, one, other = nodes[node, 0], nodes[node, 1], nodes[node, 2]
    if kind < OPTIONAL:
        return _value(data, at, end, kind, -1, one, other, words, 0)
    if depth > _DEEPEST:
        return _DEEP
    if kind == RECORD:
        for index in range(one, one + other):
            at = _passed(data, at, end, nodes, inside, inside[index], words, depth + 1)
            if at < 0:
                return at
        return at
    if kind == UNION:
        branch, at = _number(data, at, end)
        if at < 0:
            return at
        if not 0 <= branch < other:
            return _NO_BRANCH
        return _passed(data, at, end, nodes, inside, inside[one + branch], words, depth + 1)
    while True:
        count, at, stop = _block(data, at, end)
        if at < 0 or count == 0:
            return at
        for _ in range(count):
            if kind == MAP:
                at = _value(data, at, end, BYTES, -1, 0, 0, words, 0)
                if at < 0:
                    return at
            at = _passed(data, at, end, nodes, inside, one, words, depth + 1)
            if at < 0:
                return at
        if stop >= 0 and at != stop:
            return _BLOCK


@numba.njit(cache=True, nogil=True)
def _list(data, at, end, nodes, inside, item, words, slot, row):
    """Pass an array; where it begins and how many items it has is stored."""
    begin, total = at, np.int64(0)
    while True:
        count, at, stop = _block(data, at, end)
        if at < 0:
            return at
        if count == 0:
            words[slot, row] = begin
            words[slot + 1, row] = total
            return at
        total += count
        for _ in range(count):
            at = _passed(data, at, end, nodes, inside, item, words, 0)
            if at < 0:
                return at
        if stop >= 0 and at != stop:
            return np.int64(_BLOCK)


@numba.njit(cache=True, nogil=True)
def _record(data, at, end, operations, nodes, inside, words, valid, row):
    """Read a record; return where it ends, or an error."""
    index = 0
    while index < operations.shape[0]:
        kind, slot = operations[index, 0], operations[index, 1]
        one, other = operations[index, 2], operations[index, 3]
        index += 1
        if kind == OPTIONAL:
            branch, at = _number(data, at, end)
            if at >= 0 and branch != 0 and branch != 1:
                at = np.int64(_NO_BRANCH)
            if branch == one:
                index = other
        elif kind == LIST:
            at = _list(data, at, end, nodes, inside, one, words, slot, row)
            valid[slot, row] = True
        elif kind == TREE:
            at = _passed(data, at, end, nodes, inside, one, words, 0)
        else:
            at = _value(data, at, end, kind, slot, one, other, words, row)
            if slot >= 0:
                valid[slot, row] = True
        if at < 0:
            return at
    return at


@numba.njit(cache=True, nogil=True)
def read_messages(data, begins, ends, operations, nodes, inside, words, valid, results):
    """Read messages, each from its beginning to its end.

    Parameters
    ----------
    data
        The bytes, uint8.
    begins, ends
        Where the messages lie in it, int64, shape (n,).
    operations, nodes, inside
        What they consist of: int64, shapes (o, 4), (m, 3), (k,).
    words, valid
        Filled by slot and row: int64 and bool, shape (s, n); `valid` must be false before. A
        value has one word; bytes and lists have two, where they begin and how long they are;
        decimals have two, the lower one first.
    results
        Filled with 0 for each message, or an error, int64, shape (n,).
    """
    for row in range(begins.size):
        end = ends[row]
        at = _record(data, begins[row], end, operations, nodes, inside, words, valid, row)
        results[row] = at if at < 0 else _LONG_MESSAGE if at != end else 0


@numba.njit(cache=True, nogil=True)
def read_items(data, begins, ends, operations, nodes, inside, words, valid):
    """Read the items of arrays, which `read_messages` has passed, one after another.

    Parameters
    ----------
    begins, ends
        Where arrays begin, and where the messages that have them end, int64, shape (n,).
    data, operations, nodes, inside, words, valid
        See `read_messages`; a row is an item.
    """
    row = 0
    for array in range(begins.size):
        at, end = begins[array], ends[array]
        while True:
            count, at, _ = _block(data, at, end)
            if count == 0:
                break
            for _ in range(count):
                at = _record(data, at, end, operations, nodes, inside, words, valid, row)
                row += 1
