"""Names of columns that are paths into nested records.

``event.request_id`` is the column of this name or, where there is none, the field
``request_id`` of the record ``event``. A path that leads nowhere is null. Fields whose own
names have points cannot be reached.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc


class Columns(NamedTuple):
    """The columns of a file by name: its own, and those that are inside of them."""

    own: dict[str, pa.DataType]
    nested: dict[str, pa.DataType]

    @property
    def all(self) -> dict[str, pa.DataType]:
        """Both."""
        return {**self.nested, **self.own}

    @classmethod
    def of(cls, schema: pa.Schema) -> Columns:
        """Return the columns of a schema, and the fields of its structs."""
        own = {field.name: field.type for field in schema}
        inside = (leaf for name, kind in own.items() for leaf in _leaves(name, kind))
        return cls(own, {name: kind for name, kind in inside if name not in own})


def _leaves(name: str, kind: pa.DataType) -> Iterator[tuple[str, pa.DataType]]:
    if pa.types.is_struct(kind):
        for field in kind:
            if "." not in field.name:
                inner = f"{name}.{field.name}"
                yield inner, field.type
                yield from _leaves(inner, field.type)


def look_up(record: Mapping[str, Any], name: str) -> Any:
    """Return the value at a path in a JSON object, None without one.

    Examples
    --------
    >>> look_up({"event": {"id": 1}}, "event.id"), look_up({"event": 2}, "event.id")
    (1, None)
    """
    value = record.get(name)
    if value is None and "." in name:
        value = record
        for part in name.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
    return value


def column_at(rows: pa.RecordBatch, name: str) -> pa.Array | None:
    """Return the column at a path, None without one; null where a record around it is."""
    if name in rows.schema.names:
        return rows.column(name)
    head, *rest = name.split(".")
    found = rows.column(head) if rest and head in rows.schema.names else None
    for part in rest:
        if found is None or not pa.types.is_struct(found.type):
            return None
        where = found.type.get_field_index(part)
        found = pc.struct_field(found, [where]) if where >= 0 else None
    return found
