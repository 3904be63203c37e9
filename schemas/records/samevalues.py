"""Whether values are equal in themselves, where so far only their digests are known to be."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headrace.schemas.records.hashing import Bools


def same_values(one: pa.Array, other: pa.Array) -> Bools:
    """Tell which values are equal in the sense of `hash_column`.

    Parameters
    ----------
    one, other
        Columns of types that it hashes, without nulls, shape (n,). Values are equal if they are of
        one kind, whatever the types: text and bytes, whole numbers of any width, numbers.

    Returns
    -------
    array
        bool, shape (n,).
    """
    if one.type != other.type or pa.types.is_floating(one.type) or pa.types.is_decimal(one.type):
        one, other = _canonical(one), _canonical(other)
    same: Bools = pc.equal(one, other).to_numpy(zero_copy_only=False)
    return same


def _canonical(column: pa.Array) -> pa.Array:
    """Return the bytes of text, the digits of whole numbers, and those of the bits of others."""
    kind = column.type
    if pa.types.is_temporal(kind):
        column = column.cast(pa.int32() if kind.bit_width == 32 else pa.int64())
    elif pa.types.is_boolean(kind):
        column = column.cast(pa.int8())
    elif pa.types.is_floating(kind) or (pa.types.is_decimal(kind) and kind.scale > 0):
        numbers = column.cast(pa.float64()).to_numpy(zero_copy_only=False)
        column = pa.array(np.ascontiguousarray(numbers).view(np.int64))
    elif pa.types.is_decimal(kind):
        column = column.cast(pa.decimal128(38, 0))
    if pa.types.is_integer(column.type) or pa.types.is_decimal(column.type):
        column = column.cast(pa.string())
    return column.cast(pa.binary())
