"""Lines in bytes: where they lie, and what is wrong with one."""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

from headrace.schemas.records.bytekernel import (
    WORD,
    after_wide,
    bytes_at,
    copy_bytes,
    lowest_byte,
    word_at,
)
from headrace.schemas.records.spans import Spans

GOOD, EMPTY, UNBALANCED, RETURN, NOT_UTF8 = range(5)
"""What a line of separated values is: the first that is wrong with it. It is empty, has an odd
number of quotes, a carriage return inside, or bytes that are not UTF-8."""

NEWLINE, _CARRIAGE_RETURN = 10, 13
_ONES, _HIGHS = np.uint64(0x0101010101010101), np.uint64(0x8080808080808080)
_NEWLINES = _ONES * np.uint64(NEWLINE)


def ended_lines(data: npt.NDArray[np.uint8], begin: int = 0) -> tuple[Spans, int]:
    r"""Return the lines that end in bytes, and where the next one begins.

    Parameters
    ----------
    data
        The bytes, uint8.
    begin
        Where the first line begins.

    Returns
    -------
    lines, rest
        The lines without their line ends, which are newlines with or without a carriage return.

    Examples
    --------
    >>> lines, rest = ended_lines(np.frombuffer(b"a\r\n\nbc\nd", np.uint8))
    >>> [lines.value(at) for at in range(3)], rest
    ([b'a', b'', b'bc'], 7)
    """
    data = data.view()
    data.flags.writeable = False
    begins, ends = np.empty((2, _count_newlines(data[begin:])), np.int64)
    return Spans(data, begins, ends), _find_lines(data, begin, begins, ends)


def faults(lines: Spans, quote: str) -> npt.NDArray[np.uint8]:
    """Return what lines of separated values are, `GOOD` or what is wrong, uint8, shape (n,).

    Parameters
    ----------
    quote
        The character of quotes, ASCII; empty if there are none.
    """
    found = np.empty(lines.begins.size, np.uint8)
    _judge_lines(*lines, ord(quote) if quote else -1, found)
    return found


def joined(lines: Spans) -> npt.NDArray[np.uint8]:
    """Return the bytes of lines, a newline after each, uint8."""
    size = int((lines.ends - lines.begins).sum()) + lines.begins.size
    data = np.empty(size + WORD, np.uint8)
    _join_lines(*lines, data)
    return data[:size]


@numba.njit(cache=True, nogil=True)
def _count_newlines(data):
    """Return how many line ends are in bytes, uint8."""
    count = 0
    for byte in data:
        count += byte == NEWLINE
    return count


@numba.njit(cache=True, nogil=True)
def _find_lines(data, begin, begins, ends):
    """Find the lines that end in bytes.

    Parameters
    ----------
    data, begin
        The bytes, uint8, and where the first line begins.
    begins, ends
        Filled with where each begins, and ends without its line end, int64, shape (n,).

    Returns
    -------
    int
        Where the next line begins.
    """
    text, size, row, at = bytes_at(data.ctypes.data), data.size, 0, begin
    while row < begins.size:
        while at + WORD <= size:
            word = word_at(text, at) ^ _NEWLINES
            found = (word - _ONES) & ~word & _HIGHS
            if found:
                at += lowest_byte(found)
                break
            at += WORD
        while text[at] != NEWLINE:
            at += 1
        begins[row] = begin
        ends[row] = at - (at > begin and text[at - 1] == _CARRIAGE_RETURN)
        row += 1
        at += 1
        begin = at
    return begin


@numba.njit(cache=True, nogil=True)
def _judge_lines(data, begins, ends, quote, found):
    """Say of lines of separated values what is wrong with them.

    Parameters
    ----------
    data, begins, ends
        Where they lie, see `headrace.schemas.records.spans.Spans`.
    quote
        The byte of quotes; -1 if there are none.
    found
        Filled with one of `GOOD` and the others, uint8, shape (n,).
    """
    text = bytes_at(data.ctypes.data)
    for row in range(begins.size):
        begin, end = begins[row], ends[row]
        seen = _survey(text, begin, end, quote)
        if begin == end:
            found[row] = EMPTY
        elif seen & 1:
            found[row] = UNBALANCED
        elif seen & 2:
            found[row] = RETURN
        elif seen & 4 and not _is_utf8(text, begin, end):
            found[row] = NOT_UTF8
        else:
            found[row] = GOOD


@numba.njit(cache=True, nogil=True)
def _survey(text, begin, end, quote):
    """Return bits: an odd number of quotes, 1; carriage returns, 2; bytes that are no ASCII, 4."""
    quotes, returns, wide = np.uint8(0), np.uint8(0), np.uint8(0)
    for at in range(begin, end):  # without a branch, so that many bytes are looked at together
        byte = text[at]
        quotes ^= np.uint8(byte == quote)
        returns |= np.uint8(byte == _CARRIAGE_RETURN)
        wide |= byte
    return quotes | returns << 1 | wide >> 7 << 2


@numba.njit(cache=True, nogil=True)
def _is_utf8(text, at, end):
    while 0 <= at < end:
        at = at + 1 if text[at] < 128 else after_wide(text, at, end)
    return at == end


@numba.njit(cache=True, nogil=True)
def _join_lines(data, begins, ends, joined):
    """Copy lines into bytes, a line end after each.

    Parameters
    ----------
    data, begins, ends
        Where they lie, see `headrace.schemas.records.spans.Spans`.
    joined
        The bytes, uint8, with room for a word more.
    """
    text, to, at = bytes_at(data.ctypes.data), bytes_at(joined.ctypes.data), 0
    for row in range(begins.size):
        size = ends[row] - begins[row]
        copy_bytes(text, begins[row], data.size - WORD, size, to, at)
        at += size
        to[at] = np.uint8(NEWLINE)
        at += 1
