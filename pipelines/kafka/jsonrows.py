"""Rows as JSON objects, column by column: no loop over rows but for rare values."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_ESCAPED = np.zeros(256, np.bool_)
_ESCAPED[[*range(0x20), ord('"'), ord("\\")]] = True
"""Bytes that cannot stand in a JSON text as they are."""

_CONTROL = "[\\x00-\\x1f]"


def json_rows(rows: pa.Table) -> list[bytes]:
    r"""Return each row as a JSON object, with all columns in their order.

    Times are ISO 8601 text in UTC, in the column's unit; one without a zone counts as UTC.
    Decimals are text, all digits of which count; bytes are base64. Numbers that are not finite
    are null; others of a floating-point column have a point or an exponent. Text that holds JSON
    stays text.

    Examples
    --------
    >>> json_rows(pa.table({"key": ["a", 'b"'], "x": [1.5, None], "tags": [[1, 2], []]}))
    [b'{"key":"a","x":1.5,"tags":[1,2]}', b'{"key":"b\\"","x":null,"tags":[]}']
    """
    pieces: list[pa.Scalar | pa.Array] = []
    for name, column in zip(rows.schema.names, rows.columns, strict=True):
        before = "," if pieces else "{"
        pieces.append(pa.scalar(f"{before}{msgspec.json.encode(name).decode()}:"))
        pieces.append(_texts(_plain(column)))
    if not pieces:
        return [b"{}"] * rows.num_rows
    return values_of(pc.binary_join_element_wise(*pieces, pa.scalar("}"), ""))


def key_texts(rows: pa.Table, columns: Sequence[str]) -> pa.Array:
    """Return the key of each row: that of one column as it is, of several a JSON array.

    Numbers are decimal text. A null is empty; no key of a sample is null.

    Examples
    --------
    >>> key_texts(pa.table({"user": ["a", "b"], "n": [1, 2]}), ["user"]).to_pylist()
    ['a', 'b']
    >>> key_texts(pa.table({"user": ["a", "b"], "n": [1, 2]}), ["user", "n"]).to_pylist()
    ['["a",1]', '["b",2]']
    """
    arrays = [_plain(rows.column(name)) for name in columns]
    if len(arrays) > 1:
        texts = pc.binary_join_element_wise(*map(_texts, arrays), ",")
        return pc.binary_join_element_wise(pa.scalar("["), texts, pa.scalar("]"), "")
    array = arrays[0]
    if not pa.types.is_binary(array.type):
        array = pc.cast(array, pa.string())
    return pc.fill_null(array, pa.scalar(b"" if array.type == pa.binary() else ""))


def values_of(array: pa.Array) -> list[bytes]:
    """Return text or bytes without nulls as a list of bytes."""
    found: list[bytes] = pc.cast(array, pa.binary()).to_numpy(zero_copy_only=False).tolist()
    return found


def _plain(column: pa.ChunkedArray) -> pa.Array:
    """Return a column as one array of a plain type."""
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):  # of no chunks, or of more than two gigabytes
        array = pa.concat_arrays(array.chunks) if array.chunks else pa.array([], array.type)
    if isinstance(array.type, pa.BaseExtensionType):
        array = array.storage
    if pa.types.is_dictionary(array.type):
        array = pc.cast(array, array.type.value_type)
    return array


def _texts(array: pa.Array) -> pa.Array:
    """Return each value as JSON text."""
    return pc.fill_null(_texts_or_null(array), "null")


def _texts_or_null(array: pa.Array) -> pa.Array:
    kind, types = array.type, pa.types
    if types.is_boolean(kind) or types.is_integer(kind):
        return pc.cast(array, pa.string())
    if types.is_floating(kind):
        finite = pc.if_else(pc.is_finite(array), array, pa.scalar(None, kind))
        return _with_points(pc.cast(finite, pa.string()))
    if types.is_string(kind) or types.is_large_string(kind):
        return _quoted(_escaped(pc.cast(array, pa.string())))
    if types.is_timestamp(kind):
        # As text without a zone, which takes a twentieth of the time.
        moments = pc.cast(pc.cast(array, pa.timestamp(kind.unit)), pa.string())
        moments = pc.binary_replace_slice(moments, 10, 11, "T")
        return pc.binary_join_element_wise(pa.scalar('"'), moments, pa.scalar('Z"'), "")
    if types.is_date(kind) or types.is_time(kind):
        return _quoted(pc.cast(array, pa.string()))
    if types.is_decimal(kind):
        return _quoted(_decimals(array))
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        lists = pc.cast(array, pa.list_(kind.value_type))
        items = pa.ListArray.from_arrays(lists.offsets, _texts(lists.values), mask=lists.is_null())
        joined = pc.binary_join(items, ",")
        return pc.binary_join_element_wise(pa.scalar("["), joined, pa.scalar("]"), "")
    if types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind):
        return _quoted(_each(array, lambda value: base64.b64encode(value).decode()))
    if types.is_null(kind):
        return pc.cast(array, pa.string())
    # Nothing that a log is read into; a sink of another caller may have it.
    return _each(array, lambda value: msgspec.json.encode(value).decode())


def _quoted(texts: pa.Array) -> pa.Array:
    return pc.binary_join_element_wise(pa.scalar('"'), texts, pa.scalar('"'), "")


def _escaped(texts: pa.Array) -> pa.Array:
    """Return texts as they stand between the quotes of JSON."""
    offsets = np.frombuffer(texts.buffers()[1], np.int32)[texts.offset :][: len(texts) + 1]
    data = texts.buffers()[2]
    if data is None or not _ESCAPED[np.frombuffer(data, np.uint8)[offsets[0] : offsets[-1]]].any():
        return texts
    escaped = pc.replace_substring(texts, "\\", "\\\\")
    escaped = pc.replace_substring(escaped, '"', '\\"')
    control = pc.fill_null(pc.match_substring_regex(texts, _CONTROL), False)
    if pc.any(control).as_py():
        rare = _each(texts.filter(control), lambda value: msgspec.json.encode(value).decode()[1:-1])
        escaped = pc.replace_with_mask(escaped, control, rare)
    return escaped


def _with_points(numbers: pa.Array) -> pa.Array:
    """Return floating-point numbers so that a reader takes none for an integer."""
    pointed = pc.fill_null(pc.match_substring_regex(numbers, "[.e]"), True)
    if pc.all(pointed).as_py():
        return numbers
    return pc.if_else(pointed, numbers, pc.binary_join_element_wise(numbers, pa.scalar(".0"), ""))


def _decimals(array: pa.Array) -> pa.Array:
    texts = pc.cast(array, pa.string())
    exponents = pc.fill_null(pc.match_substring(texts, "E"), False)
    if not pc.any(exponents).as_py():
        return texts
    rare = _each(array.filter(exponents), lambda value: format(value, "f"))
    return pc.replace_with_mask(texts, exponents, rare)


def _each(array: pa.Array, text: Callable[..., str]) -> pa.Array:
    values = (value if value is None else text(value) for value in array.to_pylist())
    return pa.array(values, pa.string(), size=len(array))
