"""Avro schemas: their columns, and how the kernel reads a record."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import fastavro
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headrace.schemas.messages import avrokernel as kernel
from headrace.schemas.records.paths import Columns
from headrace.schemas.types import JSON

Schema = Any
"""A schema as JSON has it, a parsed one with full names."""

_PRIMITIVE: Mapping[str, tuple[int, pa.DataType]] = {
    "null": (kernel.NULL, pa.null()),
    "boolean": (kernel.BOOL, pa.bool_()),
    "int": (kernel.INT, pa.int32()),
    "long": (kernel.LONG, pa.int64()),
    "float": (kernel.FLOAT, pa.float32()),
    "double": (kernel.DOUBLE, pa.float64()),
    "bytes": (kernel.BYTES, pa.binary()),
    "string": (kernel.BYTES, pa.string()),
}
_LOGICAL: Mapping[tuple[str, str], pa.DataType] = {
    ("int", "date"): pa.date32(),
    ("long", "timestamp-millis"): pa.timestamp("ms", "UTC"),
    ("long", "timestamp-micros"): pa.timestamp("us", "UTC"),
    ("long", "local-timestamp-millis"): pa.timestamp("ms"),
    ("long", "local-timestamp-micros"): pa.timestamp("us"),
}
"""All others are as they are stored, but for decimals."""

_MOST_DIGITS = 38


class AvroSchemaError(Exception):
    """A schema that is none, or not one of a record."""


@dataclass(frozen=True)
class Value:
    """How the kernel reads a value without inner form.

    Parameters
    ----------
    kind, one, other
        See `avrokernel`.
    type
        As what it is stored.
    symbols
        Those of an enum.
    """

    kind: int
    type: pa.DataType
    one: int = 0
    other: int = 0
    symbols: tuple[str, ...] = ()


@dataclass(frozen=True)
class AvroSchema:
    """A parsed schema of a record.

    Parameters
    ----------
    parsed
        As fastavro has it.
    named
        All named types in it, by their full names.
    version
        Tells it from others.
    """

    parsed: Schema
    named: dict[str, Schema] = field(repr=False)
    version: str

    @classmethod
    def of(cls, text: str, references: Sequence[str] = ()) -> AvroSchema:
        """Parse a schema.

        Parameters
        ----------
        text
            It, as JSON.
        references
            Schemas whose named types it uses, each before those that use it.

        Raises
        ------
        AvroSchemaError
            If it is none, or not one of a record.
        """
        named: dict[str, Schema] = {}
        try:
            for reference in references:
                fastavro.parse_schema(json.loads(reference), named)
            parsed = fastavro.parse_schema(json.loads(text), named)
        except json.JSONDecodeError as error:
            raise AvroSchemaError(f"is not JSON ({error})") from error
        # fastavro raises whatever comes of a schema of the wrong form.
        except (fastavro.schema.SchemaParseException, fastavro.schema.UnknownType) as error:
            raise AvroSchemaError(f"is no Avro schema ({_why(error)})") from error
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise AvroSchemaError(f"is no Avro schema ({_why(error)})") from error
        if not isinstance(parsed, dict) or parsed.get("type") != "record":
            raise AvroSchemaError("is no schema of a record")
        if not parsed.get("fields"):
            raise AvroSchemaError("is a record without fields")
        version = hashlib.sha256("\n".join([*references, text]).encode()).hexdigest()
        return cls(parsed, named, version)

    def columns(self) -> Columns:
        """Return the columns of its records, and those of records inside, by path.

        Records are `JSON`, as are maps, unions, and lists of any of these.
        """
        columns = Columns({}, {})
        self._add(self.parsed, "", (), columns)
        return columns

    def _add(self, record: Schema, path: str, around: tuple[str, ...], columns: Columns) -> None:
        for of in record["fields"]:
            name = f"{path}{of['name']}"
            (columns.nested if path else columns.own)[name] = self.type_of(of["type"])
            inner = self.record(of["type"])
            if inner is not None and inner["name"] not in (*around, record["name"]):
                self._add(inner, f"{name}.", (*around, record["name"]), columns)

    def record(self, schema: Schema) -> Schema | None:
        """Return the record that a value is if it is not null; None if it is none."""
        optional = self.optional(schema)
        schema = self.form(schema if optional is None else optional[1])
        return schema if kind_of(schema) == "record" else None

    def field(self, path: str) -> Schema | None:
        """Return the field at a path, None without one."""
        record, found = self.parsed, None
        for name in path.split("."):
            fields = () if record is None else record["fields"]
            found = next((of for of in fields if of["name"] == name), None)
            if found is None:
                return None
            record = self.record(found["type"])
        return found

    def form(self, schema: Schema) -> Schema:
        """Return what a name stands for, and anything else as it is."""
        if isinstance(schema, str):
            return schema if schema in _PRIMITIVE else self.named[schema]
        if isinstance(schema, dict) and (
            not isinstance(schema["type"], str) or schema["type"] in self.named
        ):
            return self.form(schema["type"])
        return schema

    def type_of(self, schema: Schema) -> pa.DataType:
        """Return the type of a value, `JSON` if it has an inner form but is no list of values."""
        schema = self.form(schema)
        value = self.value(schema)
        if value is not None:
            return value.type
        if isinstance(schema, list):
            kinds = [branch for branch in schema if branch != "null"]
            return self.type_of(kinds[0]) if len(kinds) == 1 else JSON
        if schema["type"] == "array":
            items = self.type_of(schema["items"])
            return JSON if pa.types.is_list(items) or items == JSON else pa.list_(items)
        return pa.float64() if _is_decimal(schema) else JSON

    def value(self, schema: Schema) -> Value | None:
        """Return how the kernel reads a value without inner form; None if it does not."""
        schema = self.form(schema)
        if isinstance(schema, str):
            return Value(*_PRIMITIVE[schema])
        if isinstance(schema, list):
            return None
        name = schema["type"]
        if name == "enum":
            symbols = tuple(schema["symbols"])
            return Value(kernel.ENUM, pa.string(), len(symbols), symbols=symbols)
        if _is_decimal(schema):
            digits, scale = schema["precision"], schema.get("scale", 0)
            if digits > _MOST_DIGITS:
                return None
            kind = pa.decimal128(digits, scale)
            return Value(kernel.DECIMAL, kind, schema.get("size", -1), digits)
        if name == "fixed":
            return Value(kernel.FIXED, pa.binary(), schema["size"])
        if name in _PRIMITIVE:
            code, stored = _PRIMITIVE[name]
            return Value(code, _LOGICAL.get((name, schema.get("logicalType")), stored))
        return None

    def optional(self, schema: Schema) -> tuple[int, Schema] | None:
        """Return the branch of null, and the other form, if it is a union of just these."""
        schema = self.form(schema)
        if isinstance(schema, list) and len(schema) == 2 and schema.count("null") == 1:
            null = schema.index("null")
            return null, schema[1 - null]
        return None


def _is_decimal(schema: Schema) -> bool:
    """Return whether it is a decimal; one that is not valid is what it is stored as."""
    if not isinstance(schema, dict) or schema.get("logicalType") != "decimal":
        return False
    digits, scale = schema.get("precision"), schema.get("scale", 0)
    return (
        schema["type"] in ("bytes", "fixed") and isinstance(digits, int)
        and isinstance(scale, int) and 0 <= scale <= digits and digits > 0
    )  # fmt: skip


def _why(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


@dataclass(frozen=True)
class Stored:
    """Where the kernel puts the values of a column, and what they are.

    Parameters
    ----------
    slot
        The first of its slots.
    value
        Of a list, of its items.
    items
        How to read the items of a list; None if it is none.
    """

    slot: int
    value: Value
    items: Program | None = None


class Program:
    """How the kernel reads records of a schema.

    Parameters
    ----------
    schema
        Of the writer.
    wanted
        Paths of the columns to read.

    Attributes
    ----------
    stored
        What it stores, by path. What is wanted but not among these has a form that the
        kernel only checks and passes, or is not there.
    operations, nodes, inside
        See `avrokernel.read_messages`.
    slots
        How many there are.
    """

    def __init__(self, schema: AvroSchema, wanted: Collection[str]) -> None:
        self.schema, self.wanted = schema, wanted
        self.stored: dict[str, Stored] = {}
        self.slots = 0
        self._operations: list[list[int]] = []
        self._nodes: list[list[int]] = []
        self._inside: list[int] = []
        self._of_name: dict[str, int] = {}
        self._fields(schema.parsed, "", ())
        self._freeze()

    @classmethod
    def _of_items(cls, schema: AvroSchema, item: Schema) -> Program:
        """Return how the items of a list are read, into the column of the empty path."""
        program = cls.__new__(cls)
        program.schema, program.wanted = schema, ("",)
        program.stored, program.slots = {}, 0
        program._operations, program._nodes, program._inside = [], [], []
        program._of_name = {}
        program._one(item, "", ())
        program._freeze()
        return program

    def _freeze(self) -> None:
        self.operations = _table(self._operations, 4)
        self.nodes = _table(self._nodes, 3)
        self.inside = np.array(self._inside, np.int64)

    def _slot(self, path: str, count: int, value: Value, items: Program | None = None) -> int:
        if path not in self.wanted:
            return -1
        slot, self.slots = self.slots, self.slots + count
        self.stored[path] = Stored(slot, value, items)
        return slot

    def _fields(self, record: Schema, path: str, around: tuple[str, ...]) -> None:
        for of in record["fields"]:
            self._one(of["type"], f"{path}{of['name']}", (*around, record["name"]))

    def _one(self, schema: Schema, path: str, around: tuple[str, ...]) -> None:
        """Add the operations that read a value."""
        schema = self.schema.form(schema)
        value = self.schema.value(schema)
        optional = self.schema.optional(schema)
        if value is not None:
            two = value.kind in (kernel.BYTES, kernel.FIXED, kernel.DECIMAL)
            slot = self._slot(path, 1 + two, value)
            self._operations.append([value.kind, slot, value.one, value.other])
        elif optional is not None:
            null, other = optional
            operation = [kernel.OPTIONAL, -1, null, 0]
            self._operations.append(operation)
            self._one(other, path, around)
            operation[3] = len(self._operations)
        elif kind_of(schema) == "record" and schema["name"] not in around:
            self._fields(schema, f"{path}.", around)
        elif kind_of(schema) == "array" and (items := self._items(schema["items"])) is not None:
            slot = self._slot(path, 2, items.stored[""].value, items)
            kind = kernel.LIST if slot >= 0 else kernel.TREE
            node = self._node(schema["items"] if slot >= 0 else schema)
            self._operations.append([kind, slot, node, 0])
        else:
            self._operations.append([kernel.TREE, -1, self._node(schema), 0])

    def _items(self, item: Schema) -> Program | None:
        """Return how items of a list are read, None if one may be a list or a record."""
        optional = self.schema.optional(item)
        plain = item if optional is None else optional[1]
        return None if self.schema.value(plain) is None else self._of_items(self.schema, item)

    def _node(self, schema: Schema) -> int:
        """Return the number of a node; a named one is there once, and so may contain itself."""
        schema = self.schema.form(schema)
        name = schema.get("name") if isinstance(schema, dict) else None
        if name in self._of_name:
            return self._of_name[name]
        number = len(self._nodes)
        node = [0, 0, 0]
        self._nodes.append(node)
        if name is not None:
            self._of_name[name] = number
        value = self.schema.value(schema)
        kind = kind_of(schema)
        if value is not None:
            node[:] = [value.kind, value.one, value.other]
        elif kind == "record":
            node[:] = [kernel.RECORD, *self._nodes_of([of["type"] for of in schema["fields"]])]
        elif kind == "union":
            node[:] = [kernel.UNION, *self._nodes_of(schema)]
        elif kind in ("array", "map"):
            code, inner = _LISTED[kind]
            node[:] = [code, self._node(schema[inner]), 0]
        elif kind == "fixed":
            node[:] = [kernel.FIXED, schema["size"], 0]
        else:
            node[:] = [kernel.BYTES, 0, 0]
        return number

    def _nodes_of(self, schemas: Sequence[Schema]) -> tuple[int, int]:
        numbers = [self._node(schema) for schema in schemas]
        self._inside += numbers
        return len(self._inside) - len(numbers), len(numbers)


_LISTED = {"array": (kernel.ARRAY, "items"), "map": (kernel.MAP, "values")}


def kind_of(schema: Schema) -> str:
    """Return the name of its kind; ``union`` if it is a list."""
    if isinstance(schema, list):
        return "union"
    return str(schema["type"] if isinstance(schema, dict) else schema)


def _table(rows: list[list[int]], width: int) -> npt.NDArray[np.int64]:
    return np.array(rows, np.int64).reshape(-1, width)
