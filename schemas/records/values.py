"""Values as the types of their columns, from text and from JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from headrace.schemas.records.eventing import parse_iso
from headrace.schemas.records.notation import BLANKS, PLAIN, Notation

_BOOLEAN = {"true": True, "false": False, "1": True, "0": False}


def parse_text(
    column: pa.Array, kind: pa.DataType, notation: Notation = PLAIN
) -> tuple[pa.Array, npt.NDArray[np.bool_]]:
    """Convert a column of UTF-8 text, as bytes, to a type; empty text becomes null.

    Parameters
    ----------
    column, kind
        The texts, shape (n,), and the type. Blanks around a value that is not text do
        not count; a time without an offset is UTC; a list is a JSON array.
    notation
        How numbers are written, and which other texts are null.

    Returns
    -------
    values, bad
        The converted column, null where bad; and where a value is not of the
        type, bool, shape (n,).
    """
    nulls = notation.nulls_of(kind)
    if pa.types.is_binary(kind):
        null = [b"", *(text.encode() for text in nulls)]
        return _without(column, pa.array(null, pa.binary())), np.zeros(len(column), np.bool_)
    text = column.cast(pa.string())
    if not pa.types.is_string(kind):
        text = pc.utf8_trim_whitespace(text)
    text = _without(text, pa.array(["", *nulls]))
    if pa.types.is_string(kind):
        return text, np.zeros(len(text), np.bool_)
    values = _convert(text, kind, notation)
    return values, pc.and_(text.is_valid(), values.is_null()).to_numpy(zero_copy_only=False)


def without_nulls(column: pa.Array, nulls: Sequence[str]) -> pa.Array:
    """Return a column of text with null for some texts; other columns as they are."""
    if not nulls or not pa.types.is_string(column.type):
        return column
    return _without(column, pa.array(nulls))


def _without(column: pa.Array, null: pa.Array) -> pa.Array:
    return pc.if_else(pc.is_in(column, value_set=null), None, column)


def _convert(text: pa.Array, kind: pa.DataType, notation: Notation) -> pa.Array:
    """Convert text that is not empty; null where it does not fit."""
    if pa.types.is_boolean(kind):
        index = pc.index_in(pc.utf8_lower(text), pa.array(list(_BOOLEAN)))
        return pa.array(list(_BOOLEAN.values())).take(index)
    if pa.types.is_timestamp(kind):
        return parse_iso(text, "UTC").cast(kind)
    if pa.types.is_list(kind):
        return pa.array([_items(value, kind, notation) for value in text.to_pylist()], kind)
    digits = _digits(text, pa.types.is_integer(kind), notation)
    try:
        values = digits.cast(kind)
    except pa.ArrowInvalid:  # one at least has too many digits
        return pa.array([_number(value, kind) for value in digits.to_pylist()], kind)
    if pa.types.is_floating(kind):  # such as 1e999
        values = pc.if_else(pc.is_inf(values), None, values)
    return values


def _digits(text: pa.Array, whole: bool, notation: Notation) -> pa.Array:
    """Return numbers as a cast reads them; null where the text is none."""
    thousands = f"[{BLANKS}]" if notation.thousands == " " else re.escape(notation.thousands)
    digits = rf"(?:[0-9]+|[0-9]{{1,3}}(?:{thousands}[0-9]{{3}})+)" if thousands else "[0-9]+"
    point = re.escape(notation.decimal)
    fraction = rf"(?:{digits}(?:{point}[0-9]*)?|{point}[0-9]+)(?:[eE][+-]?[0-9]{{1,3}})?"
    fits = pc.match_substring_regex(text, f"^[+-]?{digits if whole else fraction}$")
    text = pc.if_else(fits, text, None)
    if thousands:
        text = pc.replace_substring_regex(text, thousands, "")
    if notation.decimal != ".":
        text = pc.replace_substring(text, notation.decimal, ".")
    return pc.replace_substring_regex(text, r"^\+", "") if whole else text


def _number(text: str | None, kind: pa.DataType) -> int | Decimal | None:
    """Return a number if a type has room for it."""
    if text is None:
        return None
    try:
        value = int(text) if pa.types.is_integer(kind) else Decimal(text).normalize()
        pa.scalar(value, kind)
    except (pa.ArrowInvalid, OverflowError, InvalidOperation, ValueError):
        return None
    return value


def _items(text: str | None, kind: pa.DataType, notation: Notation) -> list[Any] | None:
    if text is None:
        return None
    try:
        value, fits = fit(msgspec.json.decode(text), kind, notation)
    except (msgspec.DecodeError, RecursionError):
        return None
    return value if fits else None


def fit(value: Any, kind: pa.DataType, notation: Notation = PLAIN) -> tuple[Any, bool]:
    """Make a JSON value fit a column of a type, if nothing of it is lost.

    Parameters
    ----------
    value, kind
        The value, and the type.
    notation
        How numbers are written that are text, and which other texts are null.

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
    if value is None or (isinstance(value, str) and value in notation.nulls_of(kind)):
        return None, True
    if pa.types.is_list(kind):
        if not isinstance(value, list):
            return None, False
        items = [fit(item, kind.value_type, notation) for item in value]
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
    if isinstance(value, str):
        text = value
    elif pa.types.is_timestamp(kind):
        return None, False  # a number says nothing of its unit
    else:
        whole = isinstance(value, float) and value.is_integer() and pa.types.is_integer(kind)
        text, notation = str(int(value)) if whole else str(value), PLAIN
    column, bad = parse_text(pa.array([text.encode()]), kind, notation)
    return column[0].as_py(), not bad[0]


def fit_all(
    values: list[Any], kind: pa.DataType, notation: Notation = PLAIN
) -> tuple[pa.Array, npt.NDArray[np.bool_] | None]:
    """Make JSON values a column of a type; None if all fit, else where one does not."""
    parsed = pa.types.is_decimal(kind) or pa.types.is_timestamp(kind)
    if parsed and all(value is None or isinstance(value, str) for value in values):
        return parse_text(pa.array(values, pa.string()).cast(pa.binary()), kind, notation)
    try:
        if not parsed:
            return pa.array(values, kind), None
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        pass
    fitted = [fit(value, kind, notation) for value in values]
    bad = np.array([not fits for _, fits in fitted], np.bool_)
    return pa.array([value for value, _ in fitted], kind), bad
