"""The kernel that reads messages in Protobuf's encoding into columns.

A message is a *node*: its fields, one a row of int64, ascending by number. A message inside of
another is a node for each path to it if something of it is wanted, so that it has slots of its
own there; else it is the one node of its type.

Every byte of a message is checked, wanted or not, as Google's library does: what it refuses is
refused, and what passes can be parsed by it.
"""

from __future__ import annotations

import numba
import numpy as np
from numba import types

BOOL, INT32, UINT32, SINT32, INT64, SINT64, ENUM = range(7)
"""Kinds of numbers of variable length; an INT64 may be unsigned."""

FIXED32, SFIXED32, FIXED64, TEXT, BYTES, MESSAGE, GROUP = range(7, 14)
"""Other kinds. A FIXED32 is unsigned or a fraction, a FIXED64 any number of 64 bits."""

NUMBER, KIND, REPEATED, SLOT, SLOTS_END, NODE, ONEOF, KNOWN, KNOWN_END, FIELD = range(10)
"""What is told of a field. ``[SLOT, SLOTS_END)`` are the slots of the field and of all that is
in it, -1 if it is not wanted. `NODE` is that of a message. Fields of one ``oneof`` have its
number, others -1. ``[KNOWN, KNOWN_END)`` are the numbers that a closed enum has, ascending, in a
list of them; -1 for any."""

ERRORS = (
    "", "it ends too early", "a number has more than 64 bits", "a field has no valid number",
    "a group has no end, or no beginning", "it is nested too deeply", "a text is not UTF-8",
)  # fmt: skip
"""What a negative result means, by its absolute value."""

_SHORT, _LONG, _NO_FIELD, _NO_GROUP, _DEEP, _NO_TEXT = range(-1, -len(ERRORS), -1)
_DEEPEST = 100

_VARIABLE, _WORD, _SIZED, _BEGIN, _END, _HALF = range(6)
"""How a value is written."""

_WRITTEN = np.array(
    [_VARIABLE] * 7 + [_HALF, _HALF, _WORD, _SIZED, _SIZED, _SIZED, _BEGIN], np.int64
)
"""By kind."""


@numba.njit(cache=True, nogil=True)
def _number(data, at, end, most):
    """Return a number of at most so many bytes, of which 64 bits count, and where it ends."""
    if at < end and data[at] < 128:
        return np.int64(data[at]), at + 1
    value = np.int64(0)
    for byte in range(most):
        if at >= end:
            return value, np.int64(_SHORT)
        part = np.int64(data[at])
        at += 1
        value |= (part & 127) << (7 * byte)
        if part < 128:
            return value, at
    return value, np.int64(_LONG)


@numba.njit(cache=True, nogil=True)
def _size(data, at, end):
    """Return a size, and where it ends; what has it does not end after `end`."""
    size, at = _number(data, at, end, 10)
    if at >= 0 and not 0 <= size <= end - at:
        at = np.int64(_SHORT)
    return size, at


@numba.njit(cache=True, nogil=True)
def _is_text(data, at, end):
    """Return whether bytes are UTF-8."""
    while at < end:
        byte = data[at]
        if byte < 0x80:
            at += 1
            continue
        least, most = 0x80, 0xBF
        if 0xC2 <= byte <= 0xDF:
            more = 1
        elif 0xE0 <= byte <= 0xEF:
            more = 2
            if byte == 0xE0:
                least = 0xA0
            elif byte == 0xED:
                most = 0x9F
        elif 0xF0 <= byte <= 0xF4:
            more = 3
            if byte == 0xF0:
                least = 0x90
            elif byte == 0xF4:
                most = 0x8F
        else:
            return False
        if at + more >= end or not least <= data[at + 1] <= most:
            return False
        for other in range(2, more + 1):
            if not 0x80 <= data[at + other] <= 0xBF:
                return False
        at += more + 1
    return True


@numba.njit(cache=True, nogil=True)
def _read_number(data, at, end, kind):
    """Return a value that is a number, as 64 bits, and where it ends or an error."""
    if kind <= ENUM:
        value, at = _number(data, at, end, 10)
        if kind == BOOL:
            value = np.int64(value != 0)
        elif kind in (UINT32, SINT32):
            value &= np.int64(0xFFFFFFFF)
        elif kind in (INT32, ENUM):
            value = np.int64(np.int32(value & np.int64(0xFFFFFFFF)))
        if kind in (SINT32, SINT64):
            value = ((value >> 1) & np.int64(0x7FFFFFFFFFFFFFFF)) ^ -(value & 1)
        return value, at
    size = 8 if kind == FIXED64 else 4
    value = np.int64(0)
    if size > end - at:
        return value, np.int64(_SHORT)
    for byte in range(size):
        value |= np.int64(data[at + byte]) << (8 * byte)
    if kind == SFIXED32:
        value = np.int64(np.int32(value))
    return value, at + size


@numba.njit(cache=True, nogil=True, inline="always")
def _is_known(known, fields, index, value):
    """Return whether a number is not one that a closed enum does not have."""
    begin, end = fields[index, KNOWN], fields[index, KNOWN_END]
    if begin < 0:
        return True
    at = begin + np.searchsorted(known[begin:end], value)
    return at < end and known[at] == value


# A call with several arrays costs as much as all the rest of a field.
@numba.njit(cache=True, nogil=True, inline="always")
def _find(fields, first, last, number, near):
    """Return the row of a field, -1 without one; `near` is the one that came before."""
    if near < last and fields[near, NUMBER] == number:
        return near
    if near + 1 < last and fields[near + 1, NUMBER] == number:
        return near + 1
    end = last
    while first < last:
        middle = (first + last) // 2
        if fields[middle, NUMBER] < number:
            first = middle + 1
        else:
            last = middle
    return first if first < end and fields[first, NUMBER] == number else -1


@numba.njit(cache=True, nogil=True)
def _clear(fields, first, last, chosen, words, valid, row):
    """Forget the other fields of a ``oneof``."""
    for other in range(first, last):
        if fields[other, ONEOF] == fields[chosen, ONEOF] and other != chosen:
            for slot in range(fields[other, SLOT], fields[other, SLOTS_END]):
                valid[slot, row] = False
                words[slot, row] = 0


@numba.njit(cache=True, nogil=True, inline="always")
def _store(fields, index, first, second, words, valid, items, bases, row):
    """Keep a value of two words; of a list it is the next item, if there is room for items."""
    slot = fields[index, SLOT]
    if slot < 0:
        return
    if fields[index, REPEATED]:
        if items.shape[1]:
            place = bases[slot, row] + words[slot, row]
            items[0, place] = first
            items[1, place] = second
        words[slot, row] += 1
    else:
        words[slot, row] = first
        if fields[index, SLOTS_END] > slot + 1:
            words[slot + 1, row] = second
        valid[slot, row] = True


_BYTES = types.Array(types.uint8, 1, "C", readonly=True)
_TABLE, _ROW, _FLAGS, _INT = types.int64[:, ::1], types.int64[::1], types.bool_[:, ::1], types.int64


@numba.njit(_INT(_BYTES, _INT, _INT, _INT, _INT, _INT), cache=True, nogil=True)
def _passed(data, at, end, wire, number, depth):
    """Pass a value that is of no field; return where it ends, or an error."""
    if wire == _VARIABLE:
        _, at = _number(data, at, end, 10)
        return at
    if wire == _SIZED:
        size, at = _size(data, at, end)
        return at + size if at >= 0 else at
    if wire in (_WORD, _HALF):
        size = 8 if wire == _WORD else 4
        return at + size if size <= end - at else _SHORT
    if wire != _BEGIN:
        return _NO_GROUP if wire == _END else _NO_FIELD
    if depth <= 0:
        return _DEEP
    while True:
        tag, at = _number(data, at, end, 5)
        if at < 0:
            return at
        inner, wire = tag >> 3, tag & 7
        if inner == 0 or inner >= 1 << 29:
            return _NO_FIELD
        if wire == _END:
            return at if inner == number else _NO_GROUP
        at = _passed(data, at, end, wire, inner, depth - 1)
        if at < 0:
            return at


@numba.njit(
    _INT(_BYTES, _INT, _INT, _INT, _INT, _INT, _TABLE, _TABLE, _ROW, _TABLE, _FLAGS, _TABLE,
         _TABLE, _INT),
    cache=True, nogil=True,
)  # fmt: skip
def _message(
    data, at, end, node, group, depth, nodes, fields, known, words, valid, items, bases, row
):
    """Read a message, or a group to its own end; return where it ends, or an error."""
    first, last = nodes[node, 0], nodes[node, 1]
    near = first
    while True:
        if at >= end:
            return at if group == 0 else _SHORT
        tag, at = _number(data, at, end, 5)
        if at < 0:
            return at
        number, wire = tag >> 3, tag & 7
        if number == 0 or number >= 1 << 29:
            return _NO_FIELD
        if wire == _END:
            return at if number == group else _NO_GROUP
        index = _find(fields, first, last, number, near)
        if index < 0:
            at = _passed(data, at, end, wire, number, depth)
            if at < 0:
                return at
            continue
        near = index
        kind = fields[index, KIND]
        if wire == _SIZED and fields[index, REPEATED] and kind <= FIXED64:
            size, at = _size(data, at, end)
            stop = at + size
            while 0 <= at < stop:
                value, at = _read_number(data, at, stop, kind)
                if at >= 0 and _is_known(known, fields, index, value):
                    _store(fields, index, value, 0, words, valid, items, bases, row)
        elif wire != _WRITTEN[kind]:
            at = _passed(data, at, end, wire, number, depth)
        elif kind in (MESSAGE, GROUP):
            if depth <= 0:
                return _DEEP
            stop, inner = end, number
            if kind == MESSAGE:
                inner = 0
                size, at = _size(data, at, end)
                if at < 0:
                    return at
                stop = at + size
            if fields[index, ONEOF] >= 0:
                _clear(fields, first, last, index, words, valid, row)
            if fields[index, SLOT] >= 0:
                valid[fields[index, SLOT], row] = True
            at = _message(
                data, at, stop, fields[index, NODE], inner, depth - 1, nodes, fields, known, words,
                valid, items, bases, row,
            )  # fmt: skip
        elif wire == _SIZED:
            size, at = _size(data, at, end)
            if at < 0:
                return at
            if kind == TEXT and not _is_text(data, at, at + size):
                return _NO_TEXT
            if fields[index, ONEOF] >= 0:
                _clear(fields, first, last, index, words, valid, row)
            _store(fields, index, at, size, words, valid, items, bases, row)
            at += size
        else:
            value, at = _read_number(data, at, end, kind)
            if at >= 0 and _is_known(known, fields, index, value):
                if fields[index, ONEOF] >= 0:
                    _clear(fields, first, last, index, words, valid, row)
                _store(fields, index, value, 0, words, valid, items, bases, row)
        if at < 0:
            return at


@numba.njit(cache=True, nogil=True)
def read_messages(
    data, begins, ends, nodes, fields, known, words, valid, items, bases, results
):  # fmt: skip
    """Read messages.

    Parameters
    ----------
    data
        The bytes, uint8.
    begins, ends
        Where the messages lie in it, int64, shape (n,).
    nodes, fields, known
        What they consist of: the rows ``[first, last)`` of each node in `fields`, int64, shapes
        (m, 2), (f, `FIELD`) and (k,). Node 0 is the message itself.
    words, valid
        Filled by slot and row: int64 and bool, shape (s, n); both must be 0 before. A value has one
        word, bytes and text have two, where they begin and how long they are. Of a list it is how
        many items it has.
    items, bases
        If there is room, `items` is filled with the two words of each item of all lists,
        int64, shape (2, i); the list of a slot and row begins at `bases`, int64, shape (s, n).
    results
        Filled with 0 for each message, or an error, int64, shape (n,).
    """
    for row in range(begins.size):
        at = _message(
            data, begins[row], ends[row], 0, 0, _DEEPEST, nodes, fields, known, words, valid,
            items, bases, row,
        )  # fmt: skip
        results[row] = min(at, 0)
