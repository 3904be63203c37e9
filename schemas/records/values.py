"""Values as the types of their columns, from text and from JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

_INTEGER = r"^[+-]?[0-9]{1,19}$"
_FLOAT = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?$"
_BOOLEAN = {"true": True, "false": False, "1": True, "0": False}


def parse_text(
    column: pa.Array, kind: pa.DataType, nulls: Sequence[str] = ()
) -> tuple[pa.Array, npt.NDArray[np.bool_]]:
    """Convert a column of UTF-8 text, as bytes, to a type; empty text becomes null.

    Parameters
    ----------
    column, kind
        The texts, shape (n,), and the type. Blanks around a value that is not text do
        not count.
    nulls
        More texts that are null.

    Returns
    -------
    values, bad
        The converted column, null where bad; and where a value is not of the
        type, bool, shape (n,).
    """
    none_bad = np.zeros(len(column), np.bool_)
    if pa.types.is_binary(kind):
        null = [b"", *(text.encode() for text in nulls)]
        return _without(column, pa.array(null, pa.binary())), none_bad
    text = column.cast(pa.string())
    if not pa.types.is_string(kind):
        text = pc.utf8_trim_whitespace(text)
    return _convert(_without(text, pa.array(["", *nulls])), kind)


def _without(column: pa.Array, null: pa.Array) -> pa.Array:
    return pc.if_else(pc.is_in(column, value_set=null), None, column)


def without_nulls(column: pa.Array, nulls: Sequence[str]) -> pa.Array:
    """Return a column of text with null for some texts; other columns as they are."""
    if not nulls or not pa.types.is_string(column.type):
        return column
    return _without(column, pa.array(nulls))


def _convert(text: pa.Array, kind: pa.DataType) -> tuple[pa.Array, npt.NDArray[np.bool_]]:
    none_bad = np.zeros(len(text), np.bool_)
    if pa.types.is_string(kind):
        return text, none_bad
    if pa.types.is_boolean(kind):
        index = pc.index_in(pc.utf8_lower(text), pa.array(list(_BOOLEAN)))
        values = pa.array(list(_BOOLEAN.values())).take(index)
        bad = pc.and_(text.is_valid(), index.is_null())
        return values, bad.to_numpy(zero_copy_only=False)
    pattern = _INTEGER if pa.types.is_integer(kind) else _FLOAT
    fits = pc.fill_null(pc.match_substring_regex(text, pattern), True)
    if pa.types.is_integer(kind):
        text = pc.replace_substring_regex(text, r"^\+", "")
    values = pc.if_else(fits, text, None)
    bad = ~fits.to_numpy(zero_copy_only=False)
    try:
        values = values.cast(kind)
        if pa.types.is_floating(kind):  # such as 1e999
            infinite = pc.fill_null(pc.is_inf(values), False)
            values = pc.if_else(infinite, None, values)
            bad = bad | infinite.to_numpy(zero_copy_only=False)
        return values, bad
    except pa.ArrowInvalid:
        # Nineteen digits may exceed 64 bits.
        numbers = [None if value is None else int(value) for value in values.to_pylist()]
        over = np.array([n is not None and not -(2**63) <= n < 2**63 for n in numbers])
        kept = [None if o else n for n, o in zip(numbers, over, strict=True)]
        return pa.array(kept, kind), bad | over


def fit(value: Any, kind: pa.DataType, nulls: Sequence[str] = ()) -> tuple[Any, bool]:
    """Make a JSON value fit a column of a type, if nothing of it is lost.

    Parameters
    ----------
    value, kind
        The value, and the type.
    nulls
        Texts that are null.

    Returns
    -------
    value, fits
        The value as the type has it, None if it does not fit; and whether it does. Numbers
        may be written as text, whole ones with a fraction of zero, and booleans as 0 and 1;
        a text may be a number.

    Examples
    --------
    >>> fit("2.5", pa.float64()), fit(3.0, pa.int64()), fit([1], pa.string())
    ((2.5, True), (3, True), (None, False))
    >>> fit(7, pa.string())
    ('7', True)
    """
    if value is None or (isinstance(value, str) and value in nulls):
        return None, True
    if pa.types.is_list(kind):
        if not isinstance(value, list):
            return None, False
        items = [fit(item, kind.value_type) for item in value]
        return [item for item, _ in items], all(fits for _, fits in items)
    if isinstance(value, list | dict):
        return None, False
    if pa.types.is_string(kind):
        if isinstance(value, int | float):
            value = json.dumps(value)
        return (value, True) if isinstance(value, str) else (None, False)
    if pa.types.is_binary(kind):
        return None, False
    if isinstance(value, bool) or (pa.types.is_boolean(kind) and value in (0, 1)):
        return (bool(value), True) if pa.types.is_boolean(kind) else (None, False)
    text = value if isinstance(value, str) else repr(value)
    if isinstance(value, float) and value.is_integer() and pa.types.is_integer(kind):
        text = str(int(value))
    column, bad = parse_text(pa.array([text.encode()]), kind)
    return column[0].as_py(), not bad[0]
