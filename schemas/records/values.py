"""Values as the types of their columns, from text and from JSON."""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from headrace.schemas.records.eventing import parse_iso
from headrace.schemas.records.notation import BLANKS, PLAIN, Notation
from headrace.schemas.records.plainnumbers import plain_numbers

_LONGEST_DECIMAL = 64
_PLAIN_KINDS = (pa.int64(), pa.float64())
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
    digits = any(char.isdigit() for text in nulls for char in text)
    if kind not in _PLAIN_KINDS or notation.decimal != "." or digits:
        return _parse_any(column, kind, notation)
    values, left = plain_numbers(column, kind)
    if left.any():
        mask = pa.array(left)
        others, unfit = _parse_any(column.filter(mask), kind, notation)
        values = pc.replace_with_mask(values, mask, others)
        left[left] = unfit
    return values, left


def _parse_any(
    column: pa.Array, kind: pa.DataType, notation: Notation
) -> tuple[pa.Array, npt.NDArray[np.bool_]]:
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
    """Return a column of text or bytes with null for some texts; others as they are."""
    if not nulls or not (pa.types.is_string(column.type) or pa.types.is_binary(column.type)):
        return column
    return _without(column, pa.array(nulls).cast(column.type))


def _without(column: pa.Array, null: pa.Array) -> pa.Array:
    return pc.if_else(pc.is_in(column, value_set=null), None, column)


def _convert(text: pa.Array, kind: pa.DataType, notation: Notation) -> pa.Array:
    """Convert text that is not empty; null where it does not fit."""
    if pa.types.is_boolean(kind):
        index = pc.index_in(pc.utf8_lower(text), pa.array(list(_BOOLEAN)))
        return pa.array(list(_BOOLEAN.values())).take(index)
    if pa.types.is_timestamp(kind):
        return parse_iso(text, "UTC")[0].cast(kind)
    if pa.types.is_list(kind):
        return pa.array([_items(value, kind, notation) for value in text.to_pylist()], kind)
    digits = _digits(text, pa.types.is_integer(kind), notation)
    values = _cast(digits, kind)
    if values is None:
        texts = digits.to_pylist()
        return pa.array([None if text is None else _number(text, kind) for text in texts], kind)
    if pa.types.is_floating(kind):  # such as 1e999
        values = pc.if_else(pc.is_inf(values), None, values)
    return values


def _cast(digits: pa.Array, kind: pa.DataType) -> pa.Array | None:
    """Cast numbers to a type; None if one at least does not fit."""
    # Of several hundred digits Arrow makes the decimal 0.
    longest = pc.max(pc.binary_length(digits)).as_py() or 0
    if pa.types.is_decimal(kind) and longest > _LONGEST_DECIMAL:
        return None
    try:
        return digits.cast(kind)
    except pa.ArrowInvalid:
        return None


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


def _number(value: Any, kind: pa.DataType) -> int | float | Decimal | None:
    """Return a number, or the text of one, as a type has it; None if it has no room for it."""
    try:
        number: Any = Decimal(str(value))
        if pa.types.is_floating(kind):
            return float(number) if math.isfinite(float(number)) else None
        if pa.types.is_integer(kind):
            number = int(number) if number == int(number) else None
        else:
            number = number.normalize()
        return pa.scalar(number, kind).as_py()
    except (pa.ArrowInvalid, OverflowError, InvalidOperation, ValueError):
        return None


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
        a text may be a number; bytes are base64.

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
        # Texts that are null are so as values of a column, not as items of a list.
        notation = replace(notation, null_values=())
        items = [fit(item, kind.value_type, notation) for item in value]
        return [item for item, _ in items], all(fits for _, fits in items)
    if isinstance(value, list | dict):
        return None, False
    if pa.types.is_string(kind):
        if isinstance(value, int | float):
            value = json.dumps(value)
        return (value, True) if isinstance(value, str) else (None, False)
    if pa.types.is_binary(kind):
        return _from_base64(value)
    if isinstance(value, str):
        column, bad = parse_text(pa.array([value.encode()]), kind, notation)
        return column[0].as_py(), not bad[0]
    if pa.types.is_boolean(kind):
        return (bool(value), True) if value in (0, 1) else (None, False)
    # A number says nothing of the unit of a time.
    if pa.types.is_timestamp(kind) or isinstance(value, bool):
        return None, False
    number = _number(value, kind)
    return number, number is not None


def _from_base64(value: Any) -> tuple[bytes | None, bool]:
    try:
        return base64.b64decode(value, validate=True), isinstance(value, str)
    except (ValueError, TypeError):
        return None, False


def fit_all(
    values: list[Any], kind: pa.DataType, notation: Notation = PLAIN
) -> tuple[pa.Array, npt.NDArray[np.bool_]]:
    """Make JSON values a column of a type, each as `fit` does.

    Returns
    -------
    values, bad
        The column, null where bad; and where a value does not fit, bool, shape (n,).
    """
    texts: list[str | None] = [None] * len(values)
    if not pa.types.is_string(kind) and not pa.types.is_binary(kind):
        texts = [value if isinstance(value, str) else None for value in values]
    column, bad = parse_text(pa.array(texts, pa.string()).cast(pa.binary()), kind, notation)
    others = [row for row, value in enumerate(values) if value is not None and texts[row] is None]
    if not others:
        return column, bad
    fitted: list[Any] = [None] * len(values)
    for row in others:
        fitted[row], fits = fit(values[row], kind, notation)
        bad[row] = not fits
    return pc.coalesce(column, pa.array(fitted, kind)), bad
