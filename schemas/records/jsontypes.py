"""The types that values of columns have in JSON."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import pyarrow as pa


def is_parsed(kind: pa.DataType) -> bool:
    """Return whether no type of JSON says that a value fits."""
    if pa.types.is_list(kind):
        return is_parsed(kind.value_type)
    return bool(pa.types.is_decimal(kind) or pa.types.is_timestamp(kind))


def json_type(kind: pa.DataType) -> Any:
    """Return the type that values of a column have in JSON; any if they are parsed."""
    if is_parsed(kind):
        return Any
    if pa.types.is_list(kind):
        return list[json_type(kind.value_type)] | None  # type: ignore[misc]
    if pa.types.is_boolean(kind):
        return bool | None
    if pa.types.is_uint64(kind):
        return Annotated[int, msgspec.Meta(ge=0)] | None
    if pa.types.is_integer(kind):
        return Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)] | None
    if pa.types.is_floating(kind):
        return float | None
    if pa.types.is_binary(kind):
        return bytes | None
    return str | None
