"""The ways in which files keep one kind of value: in dictionaries, as views, as extensions."""

from __future__ import annotations

import pyarrow as pa


def plain_layout(column: pa.Array) -> pa.Array:
    """Return a column without dictionaries and views, at any depth, and without its extension.

    Values are not looked at: text that is not UTF-8 stays what it is.
    """
    if isinstance(column.type, pa.BaseExtensionType):
        column = column.storage
    kind = _plain_type(column.type)
    return column if column.type == kind else column.cast(kind)


def _plain_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_dictionary(kind):
        return _plain_type(kind.value_type)
    if pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_binary_view(kind):
        return pa.binary()
    if pa.types.is_struct(kind):
        return pa.struct([_plain_field(field) for field in kind])
    if pa.types.is_map(kind):
        return pa.map_(_plain_field(kind.key_field), _plain_field(kind.item_field))
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(_plain_field(kind.value_field), kind.list_size)
    if pa.types.is_large_list(kind):
        return pa.large_list(_plain_field(kind.value_field))
    if pa.types.is_list(kind):
        return pa.list_(_plain_field(kind.value_field))
    return kind


def _plain_field(field: pa.Field) -> pa.Field:
    return field.with_type(_plain_type(field.type))
