"""Protobuf messages are read as Google's library reads them."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pyarrow as pa
import pytest
from google.protobuf import descriptor_pb2, timestamp_pb2, wrappers_pb2
from google.protobuf.descriptor_pb2 import FieldDescriptorProto as Field
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.schemas.messages.protobuf import ProtoDecoder
from headrace.schemas.messages.protoschemas import ProtoSchema, ProtoSchemaError
from headrace.schemas.records.events import Reason
from headrace.schemas.records.notation import Notation
from headrace.schemas.types import JSON

NUMBERS = {
    Field.TYPE_DOUBLE: st.floats(allow_nan=False),
    Field.TYPE_FLOAT: st.floats(allow_nan=False, width=32),
    Field.TYPE_INT64: st.integers(-(2**63), 2**63 - 1),
    Field.TYPE_UINT64: st.integers(0, 2**64 - 1),
    Field.TYPE_INT32: st.integers(-(2**31), 2**31 - 1),
    Field.TYPE_FIXED64: st.integers(0, 2**64 - 1),
    Field.TYPE_FIXED32: st.integers(0, 2**32 - 1),
    Field.TYPE_BOOL: st.booleans(),
    Field.TYPE_STRING: st.text(max_size=5),
    Field.TYPE_BYTES: st.binary(max_size=5),
    Field.TYPE_UINT32: st.integers(0, 2**32 - 1),
    Field.TYPE_ENUM: st.integers(0, 4),
    Field.TYPE_SFIXED32: st.integers(-(2**31), 2**31 - 1),
    Field.TYPE_SFIXED64: st.integers(-(2**63), 2**63 - 1),
    Field.TYPE_SINT32: st.integers(-(2**31), 2**31 - 1),
    Field.TYPE_SINT64: st.integers(-(2**63), 2**63 - 1),
}
NAMES = ("UNKNOWN", "PHONE", "TV")


def described(syntax, messages):
    """Return a descriptor set of messages, each a list of (name, number, label, type, more)."""
    file = descriptor_pb2.FileDescriptorProto(
        name="ads.proto", package="ads", syntax=syntax,
        dependency=[timestamp_pb2.DESCRIPTOR.name, wrappers_pb2.DESCRIPTOR.name],
    )  # fmt: skip
    device = file.enum_type.add(name="Device")
    for number, name in enumerate(NAMES):
        device.value.add(name=name, number=number)
    for message, fields in messages.items():
        made = file.message_type.add(name=message)
        for name, number, label, kind, more in fields:
            field = made.field.add(name=name, number=number, label=label, type=kind)
            if kind == Field.TYPE_ENUM:
                field.type_name = ".ads.Device"
            elif more and more.startswith("."):
                field.type_name = more
            if more == "optional":
                field.proto3_optional = True
                field.oneof_index = len(made.oneof_decl)
                made.oneof_decl.add(name=f"_{name}")
            if more == "one":
                if not made.oneof_decl:
                    made.oneof_decl.add(name="one")
                field.oneof_index = 0
    found = descriptor_pb2.FileDescriptorSet()
    for module in (timestamp_pb2, wrappers_pb2):
        module.DESCRIPTOR.CopyToProto(found.file.add())
    found.file.append(file)
    return found.SerializeToString()


ONE, MANY = Field.LABEL_OPTIONAL, Field.LABEL_REPEATED


EVENT = described(
    "proto3",
    {
        "Ad": [
            ("id", 1, ONE, Field.TYPE_STRING, None),
            ("price", 2, ONE, Field.TYPE_DOUBLE, "optional"),
            ("tags", 3, MANY, Field.TYPE_STRING, None),
            ("inner", 4, ONE, Field.TYPE_MESSAGE, ".ads.Ad"),
        ],
        "Event": [
            ("text_one", 16, ONE, Field.TYPE_STRING, "one"),
            ("number_one", 17, ONE, Field.TYPE_INT32, "one"),
            ("id", 1, ONE, Field.TYPE_STRING, None),
            ("time", 2, ONE, Field.TYPE_INT64, None),
            ("device", 3, ONE, Field.TYPE_ENUM, None),
            ("big", 4, ONE, Field.TYPE_UINT64, "optional"),
            ("ad", 5, ONE, Field.TYPE_MESSAGE, ".ads.Ad"),
            ("numbers", 6, MANY, Field.TYPE_SINT32, None),
            ("at", 7, ONE, Field.TYPE_MESSAGE, ".google.protobuf.Timestamp"),
            ("wrapped", 8, ONE, Field.TYPE_MESSAGE, ".google.protobuf.StringValue"),
            ("ads", 9, MANY, Field.TYPE_MESSAGE, ".ads.Ad"),
            ("raw", 10, ONE, Field.TYPE_BYTES, None),
            ("share", 11, ONE, Field.TYPE_FLOAT, None),
            ("devices", 12, MANY, Field.TYPE_ENUM, None),
            ("fixed", 2000, ONE, Field.TYPE_SFIXED32, None),
        ],
    },
)


def decoded(schema, values, wanted=None, **keys):
    types = schema.columns().all
    columns = pa.schema([(name, types[name]) for name in wanted or types])
    columns = pa.schema([(of.name, pa.string() if of.type == JSON else of.type) for of in columns])
    notation = Notation(json=[name for name in columns.names if types[name] == JSON])
    decoder = ProtoDecoder(schema, columns, notation, **keys)
    return decoder.decode(pa.array(values, pa.binary()), np.arange(len(values)) * 3 + 7)


def expected(message, path):
    """Return what the library has at a path."""
    *outer, name = path.split(".")
    for part in outer:
        if not message.HasField(part):
            return None
        message = getattr(message, part)
    field = message.DESCRIPTOR.fields_by_name[name]
    value = getattr(message, name)

    def named(number):
        found = field.enum_type.values_by_number.get(number)
        return str(number) if found is None else found.name

    if field.is_repeated and field.message_type is None:
        return [named(item) for item in value] if field.enum_type else list(value)
    if not field.is_repeated and field.has_presence and not message.HasField(name):
        return None
    if field.enum_type:
        return named(value)
    if field.message_type is None:
        return value
    if field.message_type.full_name == "google.protobuf.StringValue":
        return value.value
    if field.message_type.full_name == "google.protobuf.Timestamp":
        return value.seconds * 1_000_000 + value.nanos // 1_000
    return MessageToDict(message, preserving_proto_field_name=True).get(name)


def found_at(column, row, kind):
    if kind == JSON:
        text = column[row].as_py()
        return None if text is None else json.loads(text)
    if pa.types.is_timestamp(kind):
        return column[row].value
    return column[row].as_py()


def assert_as_library(schema, values, wanted=None):
    """Compare all columns of values, and which cannot be read."""
    parse = schema.parser().FromString
    records = decoded(schema, values, wanted)
    messages = []
    for value in values:
        try:
            messages.append(parse(value) if value else None)
        except DecodeError:
            messages.append(None)
    good = [row for row, message in enumerate(messages) if message is not None]
    assert records.numbers.tolist() == [row * 3 + 7 for row in good]
    bad = [row * 3 + 7 for row, message in enumerate(messages) if message is None]
    assert [reject.number for reject in records.rejects] == bad
    for path, kind in schema.columns().all.items():
        if wanted and path not in wanted:
            continue
        column = records.batch.column(path)
        there = [found_at(column, at, kind) for at in range(len(good))]
        assert there == [expected(messages[row], path) for row in good], path


def an_event(schema, number=0):
    event = schema.parser()()
    event.id, event.time, event.device, event.raw = f"r{number}é", 1 << 40, number % 4, b"\xff"
    event.ad.id, event.ad.inner.id, event.wrapped.value = "a", "inner", "w"
    event.ad.tags.extend(["x", "", "z"][: number % 4])
    event.numbers.extend([-1, 5, 1 << 30])
    event.devices.extend([1, 7])
    event.at.seconds, event.at.nanos, event.fixed, event.share = 1_700_000_000, 1_999, -5, 0.25
    event.ads.add(id="one").tags.append("t")
    if number % 2:
        event.big, event.text_one, event.ad.price = 2**64 - 1, "one", 0.0
    else:
        event.number_one = 0
    return event.SerializeToString()


@pytest.fixture(scope="module")
def event():
    return ProtoSchema.of(EVENT, "ads.Event")


def test_columns_are_those_of_the_message(event):
    """Of messages inside too, but not of one that is inside of itself."""
    columns = event.columns()
    assert {name: str(kind) for name, kind in columns.own.items()} == {
        "text_one": "string", "number_one": "int32", "id": "string", "time": "int64",
        "device": "string", "big": "uint64", "ad": "extension<arrow.json>",
        "numbers": "list<item: int32>", "at": "timestamp[us, tz=UTC]", "wrapped": "string",
        "ads": "extension<arrow.json>", "raw": "binary", "share": "float",
        "devices": "list<item: string>", "fixed": "int32",
    }  # fmt: skip
    assert list(columns.nested) == ["ad.id", "ad.price", "ad.tags", "ad.inner"]


def test_a_schema_can_be_sent_to_another_process(event):
    sent = pickle.loads(pickle.dumps(event))
    assert (sent.columns(), sent.version) == (event.columns(), event.version)


def test_values_are_those_of_the_library(event):
    """Presence, wrappers, times, lists, enums with unknown numbers, 64 bits without a sign."""
    assert_as_library(event, [an_event(event, number) for number in range(9)])


def test_a_message_that_is_cut_or_changed_harms_no_neighbour(event):
    """Of any prefix and any byte it is decided as by the library."""
    whole = an_event(event, 3)
    changed = [whole[:end] for end in range(1, len(whole))]
    for at in range(len(whole)):
        for flip in (1, 2, 4, 8, 16, 32, 64, 128, 255):
            changed.append(whole[:at] + bytes([whole[at] ^ flip]) + whole[at + 1 :])
    values = [an_event(event, 1)]
    for value in changed:
        values += [value, an_event(event, 1)]
    assert_library_or_no_json(event, values)


def assert_library_or_no_json(schema, values):
    """Compare what does not have to be JSON, of which not every message has a form."""
    kinds = schema.columns().all
    plain = [path for path, kind in kinds.items() if kind != JSON and path != "at"]
    assert_as_library(schema, values, plain)


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_bytes_of_any_kind_are_decided_as_by_the_library(event, data):
    """Parts of messages in any order, and more than once."""
    parts = st.sampled_from(PARTS)
    value = b"".join(data.draw(st.lists(parts, min_size=1, max_size=12)))
    at = data.draw(st.integers(0, len(value) - 1))
    changed = value[:at] + data.draw(st.binary(min_size=1, max_size=2)) + value[at + 1 :]
    assert_library_or_no_json(event, [value, changed, value])


PARTS = [
    b"\x0a\x01r", b"\x0a\x00", b"\x10\x05", b"\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    b"\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f", b"\x12\x01\x05", b"\x18\x02", b"\x18\x09",
    b"\x18\xff\xff\xff\xff\x1f", b"\x2a\x03\x0a\x01a", b"\x2a\x00", b"\x2a\x05\x22\x03\x0a\x01b",
    b"\x2a\x09\x11\x00\x00\x00\x00\x00\x00\xf0?", b"\x32\x02\x03\x04", b"\x30\x05",
    b"\x32\x00", b"\x32\x01\x80", b"\x42\x00", b"\x42\x03\x0a\x01w", b"\x4a\x03\x0a\x01c",
    b"\x82\x01\x01t", b"\x88\x01\x07", b"\x8a\x01\x01\x07", b"\x5d\x00\x00\x80?",
    b"\x82\x7d\x00", b"\x85\x7d\x01\x00\x00\x00", b"\x9b\x06\x08\x01\x9c\x06", b"\x9b\x06",
    b"\x9c\x06", b"\x62\x02\x01\x09", b"\x60\x01", b"\x00\x01", b"\x0e", b"\x8a\x80\x00\x01r",
    b"\x8a\x80\x80\x80\x80\x00\x01r", b"\x8a\x80\x80\x80\x80\x80\x00\x01r", b"\x0a\x81\x00r",
    b"\x0a\x81\x80\x80\x80\x80\x00r", b"\x0a\x81\x80\x80\x80\x10r",
    b"\x0a\x81\x80\x80\x80\x80\x80\x80\x80\x80\x02r",
    b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", b"\x0a\x02\xc0\x80", b"\x0a\x03\xed\xa0\x80",
    b"\x0a\x04\xf4\x8f\xbf\xbf", b"\x0a\x04\xf4\x90\x80\x80", b"\xa0\x06\x01",
]  # fmt: skip


@st.composite
def schemas(draw):
    """A message of some fields, and one that has it inside."""
    kinds = draw(st.lists(st.sampled_from(list(NUMBERS)), min_size=1, max_size=6))
    places = draw(st.lists(st.integers(1, 3000), min_size=len(kinds) + 3,
                           max_size=len(kinds) + 3, unique=True))  # fmt: skip
    fields = [
        (f"f{at}", places[at], *draw(st.sampled_from(
            [(ONE, kind, None), (MANY, kind, None), (ONE, kind, "optional")])))
        for at, kind in enumerate(kinds)
    ]  # fmt: skip
    outer = [
        ("one", places[-1], ONE, Field.TYPE_MESSAGE, ".ads.Inner"),
        ("many", places[-2], MANY, Field.TYPE_MESSAGE, ".ads.Inner"),
        ("same", places[-3], ONE, Field.TYPE_MESSAGE, ".ads.Outer"),
    ]
    messages = {"Inner": fields, "Outer": fields + outer}
    return ProtoSchema.of(described("proto3", messages), "ads.Outer")


def fill(draw, message, deep=1):
    for field in message.DESCRIPTOR.fields:
        if field.message_type is not None:
            if deep and draw(st.booleans()):
                inside = getattr(message, field.name)
                fill(draw, inside.add() if field.is_repeated else inside, deep - 1)
        elif draw(st.booleans()):
            values = NUMBERS[field.type]
            if field.is_repeated:
                getattr(message, field.name).extend(draw(st.lists(values, max_size=3)))
            else:
                setattr(message, field.name, draw(values))


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_any_message_is_read_as_by_the_library(data):
    """Of any fields, in any order of numbers."""
    schema = data.draw(schemas())
    values = []
    for _ in range(data.draw(st.integers(1, 4))):
        message = schema.parser()()
        fill(data.draw, message)
        values.append(message.SerializeToString())
    assert_as_library(schema, values)


def test_null_and_empty_values_are_rejects(event):
    """An empty one would be an event of which nothing is known."""
    records = decoded(event, [None, an_event(event), b"", b"\x0a\x05"], ["id"])
    assert [(r.number, r.reason, r.detail, r.record) for r in records.rejects] == [
        (7, Reason.UNDECODABLE, "null value", ""),
        (13, Reason.UNDECODABLE, "empty value", ""),
        (16, Reason.UNDECODABLE, "it ends too early", "CgU="),
    ]
    assert records.numbers.tolist() == [10]


def test_a_header_names_the_message(event):
    """The first of a file in two ways; another message is a reject."""
    inner, outer = ProtoSchema.of(EVENT, "ads.Ad"), event
    first, second = b"\0\0\0\0\x07\0", b"\0\0\0\0\x08\x02\x02"
    ad = b"\x0a\x01a"
    values = [first + ad, b"\0\0\0\0\x07\x02\x00" + ad, second + ad, b"\0\0\0", b"\x01" + first]
    records = decoded(inner, values, ["id"], header=True)
    assert records.batch.column("id").to_pylist() == ["a", "a"]
    assert [reject.detail for reject in records.rejects] == [
        "it is not the message [0] of its file, as its header says",
        *["no header of a registry: it must begin with a zero and four more bytes"] * 2,
    ]
    records = decoded(outer, [second + ad, first + ad], ["id"], header=True)
    assert records.batch.column("id").to_pylist() == ["a"]
    assert [reject.number for reject in records.rejects] == [10]


@pytest.mark.parametrize(
    ("descriptors", "name", "said"),
    [
        (b"no descriptors", "ads.Event",
         "is no descriptor set; write it by protoc --include_imports --descriptor_set_out"),
        (EVENT, "ads.Evnt", "there is no such message; did you mean ads.Event?"),
        (EVENT, "Impression", "there is no such message; use one of ads.Ad, ads.Event, "),
    ],
)  # fmt: skip
def test_what_is_no_message_is_said_in_one_line(descriptors, name, said):
    """With those that there are."""
    with pytest.raises(ProtoSchemaError) as error:
        ProtoSchema.of(descriptors, name)
    assert str(error.value).startswith(said)


def test_descriptors_without_imports_are_refused():
    """They name the file that is missing."""
    files = descriptor_pb2.FileDescriptorSet.FromString(EVENT)
    del files.file[:2]
    with pytest.raises(ProtoSchemaError, match="--include_imports"):
        ProtoSchema.of(files.SerializeToString(), "ads.Event")
