"""Protobuf messages: their columns, and how the kernel reads them."""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from google.protobuf import descriptor_pb2, message_factory
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError

from headrace.schemas.messages import protokernel as kernel
from headrace.schemas.records.paths import Columns
from headrace.schemas.types import JSON

TIMESTAMP = "google.protobuf.Timestamp"
_WRAPPERS = frozenset(
    f"google.protobuf.{name}Value"
    for name in ("Double", "Float", "Int64", "UInt64", "Int32", "UInt32", "Bool", "String", "Bytes")
)
_OWN_JSON = "google.protobuf."
"""Messages of this package have forms of their own as JSON, and so no columns inside."""

_KINDS = {
    FieldDescriptor.TYPE_DOUBLE: (kernel.FIXED64, pa.float64()),
    FieldDescriptor.TYPE_FLOAT: (kernel.FIXED32, pa.float32()),
    FieldDescriptor.TYPE_INT64: (kernel.INT64, pa.int64()),
    FieldDescriptor.TYPE_UINT64: (kernel.INT64, pa.uint64()),
    FieldDescriptor.TYPE_INT32: (kernel.INT32, pa.int32()),
    FieldDescriptor.TYPE_FIXED64: (kernel.FIXED64, pa.uint64()),
    FieldDescriptor.TYPE_FIXED32: (kernel.FIXED32, pa.uint32()),
    FieldDescriptor.TYPE_BOOL: (kernel.BOOL, pa.bool_()),
    FieldDescriptor.TYPE_STRING: (kernel.TEXT, pa.string()),
    FieldDescriptor.TYPE_BYTES: (kernel.BYTES, pa.binary()),
    FieldDescriptor.TYPE_UINT32: (kernel.UINT32, pa.uint32()),
    FieldDescriptor.TYPE_ENUM: (kernel.ENUM, pa.string()),
    FieldDescriptor.TYPE_SFIXED32: (kernel.SFIXED32, pa.int32()),
    FieldDescriptor.TYPE_SFIXED64: (kernel.FIXED64, pa.int64()),
    FieldDescriptor.TYPE_SINT32: (kernel.SINT32, pa.int32()),
    FieldDescriptor.TYPE_SINT64: (kernel.SINT64, pa.int64()),
    FieldDescriptor.TYPE_MESSAGE: (kernel.MESSAGE, JSON),
    FieldDescriptor.TYPE_GROUP: (kernel.GROUP, JSON),
}


class ProtoSchemaError(Exception):
    """A file that has no descriptors that can be used; the text after ``;`` is a hint."""


class NoMessageError(ProtoSchemaError):
    """A message that is not among the descriptors."""


@dataclass(frozen=True)
class ProtoSchema:
    """A message of a descriptor set.

    Parameters
    ----------
    message
        Its descriptor.
    unchecked
        Names of files whose texts need not be UTF-8.
    version
        Tells it from others.
    descriptors
        The set.
    """

    message: Descriptor
    unchecked: frozenset[str]
    version: str
    descriptors: bytes = dataclasses.field(repr=False)

    def __reduce__(self) -> Any:
        return ProtoSchema.of, (self.descriptors, self.message.full_name)

    @classmethod
    def of(cls, descriptors: bytes, name: str) -> ProtoSchema:
        """Find a message.

        Parameters
        ----------
        descriptors
            A ``FileDescriptorSet``.
        name
            Full name of the message.

        Raises
        ------
        ProtoSchemaError, NoMessageError
            If they cannot be used, or do not have it.
        """
        pool = DescriptorPool()
        hint = "write it by protoc --include_imports --descriptor_set_out"
        try:
            files = descriptor_pb2.FileDescriptorSet.FromString(descriptors).file
            for file in files:
                pool.Add(file)
            # Descriptors are only linked when they are asked for.
            names = sorted(of for file in files
                           for of in _names(pool.FindFileByName(file.name)))  # fmt: skip
        except (DecodeError, UnicodeDecodeError) as error:
            raise ProtoSchemaError(f"is no descriptor set; {hint}") from error
        except (TypeError, KeyError) as error:
            why = " ".join(str(error).split()).strip("'\"")
            raise ProtoSchemaError(f"cannot be used ({why}); {hint}") from error
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1, cutoff=0.7)
            known = f"did you mean {near[0]}?" if near else f"use one of {', '.join(names)}"
            raise NoMessageError(f"there is no such message; {known}")
        unchecked = frozenset(file.name for file in files if file.syntax in ("", "proto2"))
        version = hashlib.sha256(name.encode() + b"\n" + descriptors).hexdigest()
        return cls(pool.FindMessageTypeByName(name), unchecked, version, descriptors)

    def columns(self) -> Columns:
        """Return the columns of its messages, and those of messages inside, by path.

        Messages and maps are `JSON`, as are lists of any of these.
        """
        columns = Columns({}, {})
        self._add(self.message, "", (), columns)
        return columns

    def _add(
        self, message: Descriptor, path: str, around: tuple[str, ...], columns: Columns
    ) -> None:
        around = (*around, message.full_name)
        for field in message.fields:
            name = f"{path}{field.name}"
            (columns.nested if path else columns.own)[name] = type_of(field)
            inner = field.message_type
            if has_columns(field) and inner.full_name not in around:
                self._add(inner, f"{name}.", around, columns)

    def index(self) -> list[int]:
        """Return the place of the message in its file, as headers have it."""
        found: list[int] = []
        message: Descriptor | None = self.message
        while message is not None:
            outer = message.containing_type
            beside = message.file.message_types_by_name if outer is None else outer.nested_types
            names = list(beside) if outer is None else [of.name for of in beside]
            found.append(names.index(message.name))
            message = outer
        return found[::-1]

    def parser(self) -> Any:
        """Return the library's class of the message."""
        return message_factory.GetMessageClass(self.message)


def _names(file: Any) -> Iterator[str]:
    left = list(file.message_types_by_name.values())
    while left:
        message = left.pop()
        yield message.full_name
        left += [inner for inner in message.nested_types if not inner.GetOptions().map_entry]


def has_columns(field: FieldDescriptor) -> bool:
    """Return whether what is inside of a field are columns too."""
    inner = field.message_type
    return (
        inner is not None and not field.is_repeated
        and not inner.full_name.startswith(_OWN_JSON)
    )  # fmt: skip


def is_wrapper(field: FieldDescriptor) -> bool:
    """Return whether a field is a message around one value."""
    return field.message_type is not None and field.message_type.full_name in _WRAPPERS


def is_timestamp(field: FieldDescriptor) -> bool:
    """Return whether a field is a time."""
    return field.message_type is not None and field.message_type.full_name == TIMESTAMP


def type_of(field: FieldDescriptor) -> pa.DataType:
    """Return the type of a field's column."""
    kind = _KINDS[field.type][1]
    if field.is_repeated:
        return JSON if field.message_type is not None else pa.list_(kind)
    if is_timestamp(field):
        return pa.timestamp("us", "UTC")
    if is_wrapper(field):
        return type_of(field.message_type.fields_by_name["value"])
    return kind


@dataclass(frozen=True)
class Stored:
    """Where the kernel puts the values of a column, and what they are.

    Parameters
    ----------
    slot, around
        The first of its slots, and that of the message around it; -1 for the outermost.
    type
        That of the values, of a list of its items.
    repeated
        Whether it is a list.
    implicit
        Whether it is 0, or empty, where it is not written.
    enum
        Of enums, the names of numbers.
    """

    slot: int
    around: int
    type: pa.DataType
    repeated: bool
    implicit: bool
    enum: EnumDescriptor | None


class Program:
    """How the kernel reads messages.

    Parameters
    ----------
    schema
        The message.
    wanted
        Paths of the columns to read.

    Attributes
    ----------
    stored
        What it stores, by path; what is wanted but not among these the library has to read.
    nodes, fields, known
        See `protokernel.read_messages`.
    slots
        How many there are.
    """

    def __init__(self, schema: ProtoSchema, wanted: Collection[str]) -> None:
        self.schema, self.wanted = schema, wanted
        self.stored: dict[str, Stored] = {}
        self.slots = 0
        self._nodes: list[tuple[int, int]] = []
        self._fields: dict[int, list[list[int]]] = {}
        self._known: list[int] = []
        self._of_type: dict[str, int] = {}
        self._node(schema.message, "", -1)
        rows: list[list[int]] = []
        bounds = []
        for number in range(len(self._fields)):
            bounds.append([len(rows), len(rows) + len(self._fields[number])])
            rows += self._fields[number]
        self.nodes = _table(bounds, 2)
        self.fields = _table(rows, kernel.FIELD)
        self.known = np.array(self._known, np.int64)

    def _node(self, message: Descriptor, path: str | None, around: int) -> int:
        """Return the number of a node.

        Parameters
        ----------
        message
            Its type.
        path
            Where it is, with a point at the end; None if nothing of it is wanted.
        around
            Slot of the message itself.
        """
        if path is not None and not any(name.startswith(path) for name in self.wanted):
            path = None
        if path is None and message.full_name in self._of_type:
            return self._of_type[message.full_name]
        number = len(self._fields)
        rows = self._fields[number] = []
        if path is None:
            self._of_type[message.full_name] = number
        oneofs = {of.name: place for place, of in enumerate(message.oneofs)}
        for field in sorted(message.fields, key=lambda field: field.number):
            row = [-1] * kernel.FIELD
            row[kernel.NUMBER], row[kernel.KIND] = field.number, self._kind(field)
            row[kernel.REPEATED] = int(field.is_repeated)
            row[kernel.KNOWN], row[kernel.KNOWN_END] = self._numbers_of(field)
            oneof = field.containing_oneof
            # An optional field of proto3 is alone in one.
            if oneof is not None and len(oneof.fields) > 1:
                row[kernel.ONEOF] = oneofs[oneof.name]
            begin = self.slots
            inside = None if path is None else f"{path}{field.name}"
            slot = self._field(field, inside, around, row)
            row[kernel.SLOT] = slot
            row[kernel.SLOTS_END] = self.slots if slot >= 0 else -1
            assert slot in (-1, begin)
            rows.append(row)
        return number

    def _field(self, field: FieldDescriptor, path: str | None, around: int, row: list[int]) -> int:
        """Give a field its slots; return the first, -1 without one."""
        inner = field.message_type
        if inner is None:
            return self._value(field, path, around, path in self.wanted)
        if field.is_repeated or path is None:
            row[kernel.NODE] = self._node(inner, None, -1)
            return -1
        plain = path in self.wanted and (is_wrapper(field) or is_timestamp(field))
        within = has_columns(field) and any(name.startswith(f"{path}.") for name in self.wanted)
        if not plain and not within:
            row[kernel.NODE] = self._node(inner, None, -1)
            return -1
        slot, self.slots = self.slots, self.slots + 1
        if plain:
            row[kernel.NODE] = self._plain(field, path, slot)
        else:
            row[kernel.NODE] = self._node(inner, f"{path}.", slot)
        return slot

    def _value(self, field: FieldDescriptor, path: str | None, around: int, wanted: bool) -> int:
        if path is None or not wanted:
            return -1
        two = field.type in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES)
        slot = self.slots
        self.slots += 2 if two and not field.is_repeated else 1
        implicit = not field.has_presence and not field.is_repeated
        kind = _KINDS[field.type][1]
        self.stored[path] = Stored(
            slot, around, kind, field.is_repeated, implicit, field.enum_type
        )  # fmt: skip
        return slot

    def _plain(self, field: FieldDescriptor, path: str, slot: int) -> int:
        """Return the node of a wrapper or a time, whose fields are in the slots that follow."""
        number = len(self._fields)
        rows = self._fields[number] = []
        for inner in sorted(field.message_type.fields, key=lambda field: field.number):
            row = [-1] * kernel.FIELD
            row[kernel.NUMBER], row[kernel.KIND] = inner.number, self._kind(inner)
            row[kernel.REPEATED] = 0
            if is_wrapper(field):
                row[kernel.SLOT] = self._value(inner, path, slot, True)
            else:
                row[kernel.SLOT], self.slots = self.slots, self.slots + 1
            row[kernel.SLOTS_END] = self.slots
            rows.append(row)
        if is_timestamp(field):
            self.stored[path] = Stored(slot, slot, type_of(field), False, False, None)
        return number

    def _kind(self, field: FieldDescriptor) -> int:
        kind = _KINDS[field.type][0]
        unchecked = field.file.name in self.schema.unchecked
        return kernel.BYTES if kind == kernel.TEXT and unchecked else kind

    def _numbers_of(self, field: FieldDescriptor) -> tuple[int, int]:
        if field.enum_type is None or not field.enum_type.is_closed:
            return -1, -1
        begin = len(self._known)
        self._known += sorted(field.enum_type.values_by_number)
        return begin, len(self._known)


def _table(rows: list[list[int]], width: int) -> npt.NDArray[np.int64]:
    return np.array(rows, np.int64).reshape(-1, width)
