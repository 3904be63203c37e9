"""Text that is not UTF-8: files of columns can hold it, since nothing of Parquet forbids it."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headrace.schemas.records.hashing import Bools
from headrace.schemas.records.layouts import plain_layout

_NOT_ASCII = 0x80


def without_broken_text(column: pa.Array) -> tuple[pa.Array, Bools | None]:
    """Return a column with null for values that have text that is not UTF-8, and which these are.

    Parameters
    ----------
    column
        In its plain layout, shape (n,); the text may be inside of lists and structs.

    Returns
    -------
    column, broken
        The column, and bool, shape (n,); None if all text is UTF-8.
    """
    if _is_sound(column):
        return column, None
    broken = _broken_texts(column) if column.type in _BYTES else _broken_values(column)
    return pc.if_else(pa.array(broken), pa.scalar(None, column.type), column), broken


def escaped(column: pa.Array, row: int) -> str:
    """Return a value as text, with escapes for the bytes that are not UTF-8."""
    one = plain_layout(column.slice(row, 1))
    if one.type in _BYTES:
        return one.view(_BYTES[one.type])[0].as_py().decode("utf-8", "backslashreplace")
    return " ".join(one.to_string().split())


_BYTES = {pa.string(): pa.binary(), pa.large_string(): pa.large_binary()}


def _broken_texts(column: pa.Array) -> Bools:
    """Return which texts are not UTF-8, bool, shape (n,)."""
    values = column.view(_BYTES[column.type]).to_pylist()
    return np.array([value is not None and not _is_utf8(value) for value in values])


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _broken_values(column: pa.Array) -> Bools:
    """Return which values hold text that is not UTF-8, by halves, bool, shape (n,)."""
    broken = np.zeros(len(column), np.bool_)
    parts = [np.arange(len(column))]
    while parts:
        rows = parts.pop()
        # A copy: of a slice of lists all the items would be looked at.
        if _is_sound(column.take(pa.array(rows))):
            continue
        if rows.size == 1:
            broken[rows] = True
        else:
            parts += np.array_split(rows, 2)
    return broken


def _is_sound(column: pa.Array) -> bool:
    """Return whether all text of a column is UTF-8."""
    if _is_ascii(column):
        return True
    try:
        column.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _is_ascii(column: pa.Array) -> bool:
    """Return whether a column is of no text, or of ASCII alone; false if that takes longer."""
    if pa.types.is_primitive(column.type):
        return True
    if not pa.types.is_string(column.type) or not len(column):
        return False
    _, offsets, text = column.buffers()
    bounds = np.frombuffer(offsets, np.int32)[column.offset :]
    first, last = bounds[0], bounds[len(column)]
    return text is None or not (np.frombuffer(text, np.uint8)[first:last] >= _NOT_ASCII).any()
