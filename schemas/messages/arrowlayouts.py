"""Columns of Arrow in which values lie once each, from those whose values are shared.

A dictionary or a view may name a value any number of times. Written out, as everything after
here needs it, a small column may be huge, so that is measured first.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headrace.schemas.records.hashing import Int64s

_OFFSETS = (
    pa.types.is_binary, pa.types.is_string, pa.types.is_large_binary, pa.types.is_large_string,
)  # fmt: skip
_VIEW_WORDS = 4
"""A view has four 32-bit words, of which the first is the size of its value."""


class UnreadLayoutError(ValueError):
    """A column is of a type that is not read; says why."""


def plain_type(kind: pa.DataType) -> pa.DataType:
    """Return the type of a column when its values are written out.

    Raises
    ------
    UnreadLayoutError
        If it is not read: unions, views of lists, runs, dictionaries of views or of what is
        nested, and structs that have two fields of one name.
    """
    if isinstance(kind, pa.BaseExtensionType):
        stored = plain_type(kind.storage_type)
        return kind if stored.equals(kind.storage_type) else stored
    if pa.types.is_dictionary(kind):
        if not _is_flat(kind.value_type) or _is_view(kind.value_type):
            raise UnreadLayoutError(f"{kind} is not read")
        return kind.value_type
    if pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_binary_view(kind):
        return pa.binary()
    if pa.types.is_struct(kind):
        names = [field.name for field in kind]
        if len(set(names)) < len(names):
            raise UnreadLayoutError(f"{kind} has two fields of one name")
        return pa.struct([_plain_field(field) for field in kind])
    if pa.types.is_map(kind):
        return pa.map_(_plain_field(kind.key_field), _plain_field(kind.item_field))
    if pa.types.is_list(kind):
        return pa.list_(_plain_field(kind.value_field))
    if pa.types.is_large_list(kind):
        return pa.large_list(_plain_field(kind.value_field))
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(_plain_field(kind.value_field), kind.list_size)
    if not _is_flat(kind):
        raise UnreadLayoutError(f"{kind} is not read")
    return kind


def _plain_field(field: pa.Field) -> pa.Field:
    return field.with_type(plain_type(field.type))


def _is_view(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string_view(kind) or pa.types.is_binary_view(kind))


def _is_flat(kind: pa.DataType) -> bool:
    unread = (pa.types.is_nested, pa.types.is_run_end_encoded, pa.types.is_dictionary)
    return not isinstance(kind, pa.BaseExtensionType) and not any(of(kind) for of in unread)


def shared_bytes(column: pa.Array) -> int:
    """Return how many bytes the values of dictionaries and views in a column are, written out.

    Parameters
    ----------
    column
        The column, valid, of a type that `plain_type` takes.
    """
    kind = column.type
    if isinstance(kind, pa.BaseExtensionType):
        return shared_bytes(column.storage)
    if pa.types.is_dictionary(kind):
        sizes = pa.array(_sizes(column.dictionary))
        return int(pc.sum(sizes.take(column.indices)).as_py() or 0)
    if _is_view(kind):
        return int(_sizes(column).sum())
    if pa.types.is_struct(kind):
        return sum(shared_bytes(column.field(at)) for at in range(kind.num_fields))
    if pa.types.is_map(kind):
        return shared_bytes(column.keys) + shared_bytes(column.items)
    return shared_bytes(column.values) if pa.types.is_nested(kind) else 0


def _sizes(column: pa.Array) -> Int64s:
    """Return the size of each value of a flat column, bytes, 0 for nulls."""
    kind = column.type
    if pa.types.is_null(kind) or not len(column):
        return np.zeros(len(column), np.int64)
    if _is_view(kind):
        until = column.offset + len(column)
        words = np.frombuffer(column.buffers()[1], np.int32, until * _VIEW_WORDS)
        sizes = words[::_VIEW_WORDS][column.offset :].astype(np.int64)
        return np.where(column.is_valid().to_numpy(zero_copy_only=False), sizes, 0)
    if any(of(kind) for of in _OFFSETS):
        return pc.binary_length(column).cast(pa.int64()).fill_null(0).to_numpy()
    return np.full(len(column), -(-kind.bit_width // 8), np.int64)
