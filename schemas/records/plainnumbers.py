"""Numbers as nearly all texts write them: digits, perhaps after a minus, perhaps with a point.

They are read many at a time. What is written otherwise, such as with an exponent or blanks, is left
to whoever knows the notation, and so is what has more digits than are exact.
"""

from __future__ import annotations

import numba
import numpy as np
import pyarrow as pa

from headrace.schemas.records.bytekernel import bytes_at
from headrace.schemas.records.hashing import Bools
from headrace.schemas.records.spans import Spans, validity

_MOST_WHOLE = 18
"""Digits of which any number fits 64 bits."""
_MOST_EXACT = 15
"""Digits of which any number is exact as float64, and rounded once if divided by a power of ten."""
_POWERS = 10.0 ** np.arange(_MOST_EXACT + 1)
_MINUS, _POINT, _ZERO = b"-.0"


def plain_numbers(texts: pa.Array, kind: pa.DataType) -> tuple[pa.Array, Bools]:
    """Read the texts that are plain numbers.

    Parameters
    ----------
    texts
        Text or bytes, shape (n,).
    kind
        int64, or float64.

    Returns
    -------
    numbers, left
        The numbers, null for nulls and for what is left; and which texts are left, bool,
        shape (n,).

    Examples
    --------
    >>> numbers, left = plain_numbers(pa.array(["-12", "1e3", None, "0.50"]), pa.float64())
    >>> numbers.to_pylist(), left.tolist()
    ([-12.0, None, None, 0.5], [False, True, False, False])
    """
    there = np.ones(len(texts), np.bool_)
    if texts.null_count:
        there = texts.is_valid().to_numpy(zero_copy_only=False)
    numbers = np.zeros(len(texts), np.int64 if pa.types.is_integer(kind) else np.float64)
    read = np.zeros(len(texts), np.bool_)
    spans = Spans.of(texts)
    if pa.types.is_integer(kind):
        _read_whole(*spans, there, numbers, read)
    else:
        _read_decimal(*spans, there, numbers, read)
    column = pa.Array.from_buffers(kind, read.size, [validity(read), pa.py_buffer(numbers)])
    return column, there & ~read


@numba.njit(cache=True, nogil=True)
def _read_whole(data, begins, ends, there, numbers, read):
    text = bytes_at(data.ctypes.data)
    for row in range(begins.size):
        if there[row]:
            end = ends[row]
            negative, begin = _after_sign(text, begins[row], end)
            after, value = _after_digits(text, begin, end, 0)
            if after == end and 1 <= end - begin <= _MOST_WHOLE:
                numbers[row], read[row] = -value if negative else value, True


@numba.njit(cache=True, nogil=True)
def _read_decimal(data, begins, ends, there, numbers, read):
    text = bytes_at(data.ctypes.data)
    for row in range(begins.size):
        if there[row]:
            end = ends[row]
            negative, begin = _after_sign(text, begins[row], end)
            after, value = _after_digits(text, begin, end, 0)
            digits, fraction = after - begin, 0
            if after < end and text[after] == _POINT:
                whole = after + 1
                after, value = _after_digits(text, whole, end, value)
                fraction = after - whole
                digits += fraction
            if after == end and 1 <= digits <= _MOST_EXACT:
                number = np.float64(value) / _POWERS[fraction]
                numbers[row], read[row] = -number if negative else number, True


@numba.njit(cache=True, nogil=True)
def _after_sign(text, begin, end):
    negative = begin < end and text[begin] == _MINUS
    return negative, begin + negative


@numba.njit(cache=True, nogil=True)
def _after_digits(text, at, end, value):
    """Return where digits end, and a value with them behind it, which may overflow."""
    while at < end:
        digit = np.int64(text[at]) - _ZERO
        if not 0 <= digit <= 9:
            break
        value = value * 10 + digit
        at += 1
    return at, value
