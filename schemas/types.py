"""The types of columns: as configurations name them, as files have them, as they are carried."""

from __future__ import annotations

import re

import pyarrow as pa

JSON = pa.json_(pa.string())
"""Any JSON value, kept as its text; carried as text."""

_NAMED = {
    "string": pa.string(),
    "bytes": pa.binary(),
    "int64": pa.int64(),
    "uint64": pa.uint64(),
    "float64": pa.float64(),
    "bool": pa.bool_(),
    "timestamp": pa.timestamp("us", "UTC"),
    "decimal": pa.decimal128(38, 9),
    "json": JSON,
}
_LIST = re.compile(r"list<\s*(.+?)\s*>")
_DECIMAL = re.compile(r"decimal\(\s*(\d{1,2})\s*,\s*(\d{1,2})\s*\)")
_INT64_DIGITS = 18
_MOST_DIGITS = 38


def parse_type(name: str) -> pa.DataType:
    """Return the type that a configuration names.

    Raises
    ------
    ValueError
        If there is no such type; the text after ``;`` is a hint.

    Examples
    --------
    >>> parse_type("list<int64>"), parse_type("decimal(12, 2)")
    (ListType(list<item: int64>), Decimal128Type(decimal128(12, 2)))
    """
    if name in _NAMED:
        return _NAMED[name]
    if (items := _LIST.fullmatch(name)) and items[1] in _NAMED.keys() - {"json"}:
        return pa.list_(_NAMED[items[1]])
    if match := _DECIMAL.fullmatch(name):
        digits, scale = int(match[1]), int(match[2])
        if 0 < digits <= _MOST_DIGITS and scale <= digits:
            return pa.decimal128(digits, scale)
    known = ", ".join([*_NAMED, "list<TYPE>", "decimal(DIGITS, SCALE)"])
    raise ValueError(f"is not the name of a type; use one of {known}")


def type_name(kind: pa.DataType) -> str:
    """Return the name of a type as configurations have it, Arrow's if they have none."""
    for name, known in _NAMED.items():
        if known == kind:
            return name
    if pa.types.is_list(kind):
        return f"list<{type_name(kind.value_type)}>"
    if pa.types.is_decimal128(kind):
        return f"decimal({kind.precision}, {kind.scale})"
    return str(kind)


def carried_type(kind: pa.DataType) -> pa.DataType:
    """Return the type in which a column of a file is carried, or `JSON`.

    Dictionaries become their values, extension types what they are stored as, large, view
    and fixed-size types plain ones; decimals become int64 if they are whole numbers that
    fit, and half floats float64.
    """
    if isinstance(kind, pa.JsonType):
        return JSON
    if isinstance(kind, pa.BaseExtensionType):
        return carried_type(kind.storage_type)
    if pa.types.is_dictionary(kind):
        return carried_type(kind.value_type)
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    if (pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind)
            or pa.types.is_fixed_size_binary(kind)):  # fmt: skip
        return pa.binary()
    if pa.types.is_decimal(kind):
        if kind.scale == 0 and kind.precision <= _INT64_DIGITS:
            return pa.int64()
        if kind.precision <= _MOST_DIGITS:
            return pa.decimal128(kind.precision, kind.scale)
        return pa.float64()
    if pa.types.is_float16(kind):
        return pa.float64()
    if (pa.types.is_large_list(kind) or pa.types.is_list(kind)
            or pa.types.is_fixed_size_list(kind)):  # fmt: skip
        return pa.list_(carried_type(kind.value_type))
    return kind


def widened(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    """Return the type that holds the values of two, None if there is none."""
    if one == other:
        return one
    signed = {pa.types.is_signed_integer(kind) for kind in (one, other)}
    if pa.uint64() in (one, other) and True in signed:
        return None  # int64 does not hold all of both
    schemas = [pa.schema([("", kind)]) for kind in (one, other)]
    try:
        return carried_type(pa.unify_schemas(schemas, promote_options="permissive").field(0).type)
    except pa.ArrowTypeError:
        return None


def readable(kind: pa.DataType, as_type: pa.DataType) -> bool:
    """Return whether some values of one type can be read as another: others do not fit."""
    if kind == as_type or as_type == JSON or pa.types.is_null(kind):
        return True
    if kind == JSON:
        return False
    if pa.types.is_list(as_type) and not pa.types.is_string(kind):
        return pa.types.is_list(kind) and readable(kind.value_type, as_type.value_type)
    if pa.types.is_nested(kind):
        return False
    if pa.types.is_binary(kind) or pa.types.is_binary(as_type):
        return pa.types.is_string(kind) or pa.types.is_string(as_type)
    if pa.types.is_string(kind) or pa.types.is_string(as_type):
        return True
    if pa.types.is_timestamp(as_type):
        return pa.types.is_timestamp(kind) or pa.types.is_date(kind)
    return is_number(kind) and is_number(as_type)


def is_number(kind: pa.DataType) -> bool:
    """Return whether values of a type are numbers, or true and false."""
    return bool(
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
        or pa.types.is_boolean(kind)
    )  # fmt: skip


def is_identifier(kind: pa.DataType) -> bool:
    """Return whether values of a type can be keys: text, bytes or whole numbers."""
    return bool(
        pa.types.is_string(kind) or pa.types.is_binary(kind) or pa.types.is_integer(kind)
        or (pa.types.is_decimal(kind) and kind.scale == 0)
    )  # fmt: skip


def matched_as(kind: pa.DataType) -> str:
    """Return what keys of a type match: ``text`` by their bytes, or ``numbers`` by value."""
    return "text" if pa.types.is_string(kind) or pa.types.is_binary(kind) else "numbers"
