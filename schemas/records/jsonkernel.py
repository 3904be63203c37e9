"""The kernel that reads JSON objects into columns.

It takes what nearly all objects of a log are: each key once, values of the type of their column,
numbers of ordinary length. What it takes is JSON and has the values that any parser finds; it
says of every other object that it is left, good or bad, for a parser that knows all of JSON.
"""

from __future__ import annotations

import numba
import numpy as np

from headrace.schemas.records.bytekernel import WORD, after_wide, bytes_at, lowest_byte, word_at

TEXT, INT, UINT, FLOAT, BOOL, LIST = range(6)
"""Kinds of columns."""

NULL, VALUE, WRITTEN = range(3)
"""What is stored of a value: nothing; itself, of text where it lies; where it lies as JSON, for
what needs more than a look: text with escapes, numbers with many digits, lists."""

_DEEPEST = 60
_EXACT = 15
"""Digits of which any number is exact, and stays so when it is divided by a power of ten."""
_MOST_DIGITS = 40
"""With an exponent of two digits far from what is infinite."""
_POWERS = 10.0 ** np.arange(_EXACT + 1)
_INT64 = np.uint64(2**63 - 1)

_PLAIN, _QUOTE, _ESCAPE, _CONTROL, _WIDE = range(5)
_CLASSES = np.zeros(256, np.uint8)
_CLASSES[:32], _CLASSES[128:] = _CONTROL, _WIDE
_CLASSES[ord('"')], _CLASSES[ord("\\")] = _QUOTE, _ESCAPE

_ONES, _HIGHS = np.uint64(0x0101010101010101), np.uint64(0x8080808080808080)
_QUOTES, _ESCAPES, _SPACES = (_ONES * np.uint64(byte) for byte in b'"\\ ')

_SIMPLE = np.zeros(256, np.bool_)
_SIMPLE[list(b'"\\/bfnrt')] = True

_TRUE, _FALSE, _NULL = (np.frombuffer(word, np.uint8) for word in (b"true", b"false", b"null"))

_HEX = np.zeros(256, np.bool_)
_HEX[list(b"0123456789abcdefABCDEF")] = True


@numba.njit(cache=True, nogil=True)
def _after_blanks(data, at, end):
    while at < end and data[at] <= 32:
        if not (data[at] == 32 or data[at] == 10 or data[at] == 13 or data[at] == 9):
            break
        at += 1
    return at


@numba.njit(cache=True, nogil=True)
def _after_text(data, at, end):
    """Return where text ends, at its quote, or -1; and whether it has escapes."""
    escaped = False
    while at < end:
        while at + WORD <= end:  # eight plain bytes at a time
            word = word_at(data, at)
            quote, escape = word ^ _QUOTES, word ^ _ESCAPES
            odd = (quote - _ONES) & ~quote | (escape - _ONES) & ~escape | (word - _SPACES) | word
            odd &= _HIGHS
            if odd:
                at += lowest_byte(odd)
                break
            at += WORD
        if at >= end:
            break
        kind = _CLASSES[data[at]]
        if kind == _PLAIN:
            at += 1
        elif kind == _QUOTE:
            return at, escaped
        elif kind == _WIDE:
            at = after_wide(data, at, end)
            if at < 0:
                return -1, escaped
        elif kind == _ESCAPE and at + 1 < end and _SIMPLE[data[at + 1]]:
            at, escaped = at + 2, True
        elif kind == _ESCAPE and at + 5 < end and data[at + 1] == 117:
            for digit in range(2, 6):
                if not _HEX[data[at + digit]]:
                    return -1, escaped
            high = data[at + 2] | 32
            if high == 100 and data[at + 3] >= 56:  # d8 to df: half of a pair
                return -1, escaped
            at, escaped = at + 6, True
        else:
            break
    return -1, escaped


@numba.njit(cache=True, nogil=True)
def _after_key(data, at, end):
    """Return where the value after a key begins, or -1."""
    if at >= end or data[at] != 34:
        return -1
    at, _ = _after_text(data, at + 1, end)
    if at < 0:
        return -1
    at = _after_blanks(data, at + 1, end)
    if at >= end or data[at] != 58:
        return -1
    return _after_blanks(data, at + 1, end)


@numba.njit(cache=True, nogil=True)
def _after_word(data, at, end):
    """Return where ``true``, ``false`` or ``null`` ends, or -1."""
    first = data[at]
    word = _TRUE if first == 116 else _FALSE if first == 102 else _NULL
    if at + word.size > end:
        return -1
    for byte in range(word.size):
        if data[at + byte] != word[byte]:
            return -1
    return at + word.size


@numba.njit(cache=True, nogil=True)
def _is_digit(data, at, end):
    return at < end and 48 <= data[at] <= 57


@numba.njit(cache=True, nogil=True)
def _number(data, at, end):
    """Return where a number ends, or -1; its first 19 digits; how many it has; and its form.

    The digits of the fraction, and whether it is below zero and has an exponent.
    """
    value, digits, fraction, exponent = np.uint64(0), 0, 0, False
    negative = data[at] == 45
    if negative:
        at += 1
    begin = at
    while _is_digit(data, at, end):
        if at - begin < 19:
            value = value * np.uint64(10) + np.uint64(data[at] - 48)
        at += 1
    digits = at - begin
    if digits == 0 or (digits > 1 and data[begin] == 48):
        at = -1
    elif at < end and data[at] == 46:
        begin = at + 1
        at = begin
        while _is_digit(data, at, end):
            if digits + at - begin < 19:
                value = value * np.uint64(10) + np.uint64(data[at] - 48)
            at += 1
        fraction = at - begin
        digits += fraction
        if fraction == 0:
            at = -1
    if 0 <= at < end and (data[at] | 32) == 101:
        exponent = True
        at += 1
        if at < end and (data[at] == 43 or data[at] == 45):
            at += 1
        begin = at
        while _is_digit(data, at, end):
            at += 1
        if not 1 <= at - begin <= 2:
            at = -1
    if digits > _MOST_DIGITS:
        at = -1
    return at, value, digits, fraction, negative, exponent


@numba.njit(cache=True, nogil=True)
def _after_value(data, at, end):
    """Return where any value ends, or -1."""
    depth, objects = 0, np.int64(0)  # a bit for each level: whether it is an object
    while at < end:
        first = data[at]
        closed = False
        if first == 123 or first == 91:
            depth += 1
            if depth > _DEEPEST:
                return -1
            objects = (objects << 1) | np.int64(first == 123)
            at = _after_blanks(data, at + 1, end)
            closed = at < end and data[at] == first + 2
            if not closed:
                if first == 123:
                    at = _after_key(data, at, end)
                    if at < 0:
                        return -1
                continue
        elif first == 34:
            at, _ = _after_text(data, at + 1, end)
            if at < 0:
                return -1
            at += 1
        elif first == 45 or 48 <= first <= 57:
            at = _number(data, at, end)[0]
        else:
            at = _after_word(data, at, end)
        if at < 0:
            return -1
        while depth > 0:
            at = _after_blanks(data, at, end)
            if at >= end:
                return -1
            if data[at] == (125 if objects & 1 else 93):
                at, depth, objects = at + 1, depth - 1, objects >> 1
                continue
            if data[at] != 44:
                return -1
            at = _after_blanks(data, at + 1, end)
            if objects & 1:
                at = _after_key(data, at, end)
                if at < 0:
                    return -1
            break
        else:
            return at
    return -1


@numba.njit(cache=True, nogil=True)
def _is_name(data, begin, names, first, last):
    """Return whether bytes from `begin` on, of which there are enough, are a name."""
    while first + WORD <= last:
        if word_at(data, begin) != word_at(names, first):
            return False
        begin, first = begin + WORD, first + WORD
    while first < last:
        if data[begin] != names[first]:
            return False
        begin, first = begin + 1, first + 1
    return True


@numba.njit(cache=True, nogil=True)
def _column(data, begin, end, names, bounds):
    """Return the column that a key names, -1 for none."""
    for column in range(bounds.size - 1):
        first, last = bounds[column], bounds[column + 1]
        if last - first == end - begin and _is_name(data, begin, names, first, last):
            return column
    return -1


@numba.njit(cache=True, nogil=True)
def _read_value(data, at, end, kind):
    """Return where a value ends, or -1; and what is stored of it, see `read_objects`."""
    first = data[at]
    if first == 110:
        return _after_word(data, at, end), 0, 0, NULL
    if kind == TEXT and first == 34:
        after, escaped = _after_text(data, at + 1, end)
        if after < 0:
            return -1, 0, 0, NULL
        if escaped:
            return after + 1, at, after + 1, WRITTEN
        return after + 1, at + 1, after, VALUE
    if kind == BOOL and (first == 116 or first == 102):
        return _after_word(data, at, end), np.int64(first == 116), 0, VALUE
    if kind == LIST and first == 91:
        after = _after_value(data, at, end)
        return after, at, after, WRITTEN
    if not (INT <= kind <= FLOAT and (first == 45 or 48 <= first <= 57)):
        return -1, 0, 0, NULL
    after, value, digits, fraction, negative, exponent = _number(data, at, end)
    if after < 0:
        return -1, 0, 0, NULL
    if kind == FLOAT:
        if exponent or digits > _EXACT:
            return after, at, after, WRITTEN
        sign = -1.0 if negative and (value or fraction) else 1.0  # -0 is 0, -0.0 is not
        number = sign * np.float64(value) / _POWERS[fraction]
        return after, np.float64(number).view(np.int64), 0, VALUE
    if exponent or fraction or digits > 19:
        return -1, 0, 0, NULL
    if kind == UINT:
        if negative:
            return -1, 0, 0, NULL
        return after, np.int64(value), 0, VALUE
    if value > _INT64:
        return -1, 0, 0, NULL
    return after, -np.int64(value) if negative else np.int64(value), 0, VALUE


@numba.njit(cache=True, nogil=True)
def read_objects(data, begins, ends, names, bounds, kinds, words, stops, states, good):
    """Read objects into columns.

    Parameters
    ----------
    data
        The bytes, uint8.
    begins, ends
        Where each object begins and ends, int64, shape (n,).
    names, bounds
        The names of the columns, one after another, uint8; and where each begins and the last
        ends, int64, shape (columns + 1,).
    kinds
        The kind of each column, shape (columns,).
    words, stops
        Filled with values, and with where those that lie in `data` end, int64 and int64, shape
        (columns, n): a number, 0 or 1, the bits of a float64; or where the value begins.
    states
        Filled with what is stored of each value, uint8, shape (columns, n). NULL before.
    good
        Filled with which objects were read, bool, shape (n,). Of others anything is stored.
    """
    met = np.full(kinds.size, -1, np.int64)
    text, names = bytes_at(data.ctypes.data), bytes_at(names.ctypes.data)
    for row in range(begins.size):
        end = ends[row]
        at = _after_blanks(text, begins[row], end)
        good[row] = False
        if at >= end or text[at] != 123:
            continue
        at = _after_blanks(text, at + 1, end)
        due = 0
        if at < end and text[at] == 125:
            good[row] = _after_blanks(text, at + 1, end) == end
            continue
        while at < end and text[at] == 34:
            begin, column = at + 1, due
            at = begin + bounds[due + 1] - bounds[due]
            # Objects of a log have their keys in the same order.
            if not (at < end and text[at] == 34
                    and _is_name(text, begin, names, bounds[due], bounds[due + 1])):  # fmt: skip
                at, escaped = _after_text(text, begin, end)
                if at < 0 or escaped:
                    break
                column = _column(text, begin, at, names, bounds)
            at = _after_blanks(text, at + 1, end)
            if at >= end or text[at] != 58:
                break
            at = _after_blanks(text, at + 1, end)
            if at >= end:
                break
            if column < 0:
                at = _after_value(text, at, end)
            elif met[column] == row:
                break  # which of both counts is for others to say
            else:
                met[column] = row
                due = (column + 1) % kinds.size
                at, word, stop, state = _read_value(text, at, end, kinds[column])
                words[column, row], stops[column, row] = word, stop
                states[column, row] = state
            if at < 0:
                break
            at = _after_blanks(text, at, end)
            if at >= end:
                break
            if text[at] == 125:
                good[row] = _after_blanks(text, at + 1, end) == end
                break
            if text[at] != 44:
                break
            at = _after_blanks(text, at + 1, end)
