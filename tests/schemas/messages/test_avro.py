"""Avro messages are read as fastavro reads them."""

from __future__ import annotations

import datetime
import io
import json
import math
import uuid
from decimal import Decimal

import fastavro
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from headrace.schemas.messages.avro import AvroDecoder
from headrace.schemas.messages.avroschemas import AvroSchema, AvroSchemaError
from headrace.schemas.records.events import Reason
from headrace.schemas.records.notation import Notation
from headrace.schemas.types import JSON, type_name


def record(fields, name="Event", **more):
    return {
        "type": "record", "name": name,
        "fields": [{"name": of, "type": kind} for of, kind in fields.items()], **more,
    }  # fmt: skip


def written(schema, values):
    parsed = fastavro.parse_schema(schema)
    found = []
    for value in values:
        file = io.BytesIO()
        fastavro.schemaless_writer(file, parsed, value)
        found.append(file.getvalue())
    return found


def decoded(schema, values, wanted=None, writers=None):
    """Read values, with record numbers 7, 10, 13, ..."""
    reader = AvroSchema.of(json.dumps(schema))
    types = reader.columns().all
    names = list(wanted or types)
    columns = pa.schema([(of, pa.string() if types[of] == JSON else types[of]) for of in names])
    notation = Notation(json=[of for of in names if types[of] == JSON])
    decoder = AvroDecoder(reader, columns, notation, writers)
    return decoder.decode(pa.array(values, pa.binary()), np.arange(len(values)) * 3 + 7)


EVENT = record(
    {
        "id": "string",
        "time": {"type": "long", "logicalType": "timestamp-millis"},
        "micros": {"type": "long", "logicalType": "timestamp-micros"},
        "local": {"type": "long", "logicalType": "local-timestamp-millis"},
        "day": {"type": "int", "logicalType": "date"},
        "clock": {"type": "int", "logicalType": "time-millis"},
        "price": ["null", {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}],
        "cost": {"type": "fixed", "name": "C", "size": 16, "logicalType": "decimal",
                 "precision": 38, "scale": 9},
        "huge": {"type": "bytes", "logicalType": "decimal", "precision": 50, "scale": 0},
        "uuid": {"type": "string", "logicalType": "uuid"},
        "device": {"type": "enum", "name": "Device", "symbols": ["PHONE", "TV"]},
        "raw": "bytes",
        "hash": {"type": "fixed", "name": "H", "size": 3},
        "count": ["int", "null"],
        "share": "float",
        "score": ["null", "double"],
        "seen": "boolean",
        "nothing": "null",
        "ad": ["null", record({"id": "string", "bids": {"type": "array", "items": "double"}},
                              "Ad")],
        "words": {"type": "array", "items": ["null", "string"]},
        "either": ["null", "string", "long"],
        "labels": {"type": "map", "values": "int"},
        "ads": {"type": "array", "items": "Ad"},
        "other": "Device",
    }
)  # fmt: skip
UTC = datetime.UTC
MOMENT = datetime.datetime(2026, 1, 2, 3, 4, 5, 678_000, UTC)


def an_event(number=0):
    odd = number % 2 == 1
    return {
        "id": f"é{number}", "time": MOMENT, "micros": MOMENT, "local": MOMENT.replace(tzinfo=None),
        "day": MOMENT.date(), "clock": datetime.time(1, 2, 3, 4_000),
        "price": Decimal(-number) / 100 if odd else None, "cost": Decimal(number - 2) / 1000,
        "huge": Decimal(10**45), "uuid": uuid.UUID(int=number), "device": "TV" if odd else "PHONE",
        "raw": b"\xff", "hash": b"abc", "count": None if odd else -number, "share": 0.5,
        "score": math.inf if odd else None, "seen": odd, "nothing": None,
        "ad": {"id": "a", "bids": [1.0] * number} if odd else None,
        "words": ["x", None, "é"][: number % 4], "either": ["s", 5, None][number % 3],
        "labels": {"b": 1, "a": number}, "ads": [{"id": "b", "bids": []}], "other": "TV",
    }  # fmt: skip


def test_columns_are_those_of_the_schema():
    """Of records inside too."""
    columns = AvroSchema.of(json.dumps(EVENT)).columns()
    kinds = {name: JSON if kind == JSON else str(kind) for name, kind in columns.all.items()}
    assert {name for name, kind in kinds.items() if kind == JSON} == {
        "ad", "either", "labels", "ads",
    }  # fmt: skip
    assert {name: kind for name, kind in kinds.items() if kind != JSON} == {
        "ad.id": "string", "ad.bids": "list<item: double>", "id": "string",
        "time": "timestamp[ms, tz=UTC]", "micros": "timestamp[us, tz=UTC]",
        "local": "timestamp[ms]", "day": "date32[day]", "clock": "int32",
        "price": "decimal128(9, 2)", "cost": "decimal128(38, 9)", "huge": "double",
        "uuid": "string", "device": "string", "raw": "binary", "hash": "binary",
        "count": "int32", "share": "float", "score": "double", "seen": "bool",
        "nothing": "null", "words": "list<item: string>", "other": "string",
    }  # fmt: skip


def test_values_are_those_that_were_written():
    """Of every type."""
    events = [an_event(number) for number in range(8)]
    rows = decoded(EVENT, written(EVENT, events)).batch.to_pylist()
    for row, event in zip(rows, events, strict=True):
        texts = {name: json.loads(row.pop(name) or "null") for name in ("either", "labels", "ads")}
        assert texts == {name: event[name] for name in texts}
        assert json.loads(row.pop("ad") or "null") == event["ad"]
        ad = event["ad"] or {"id": None, "bids": None}
        assert row == {
            "ad.id": ad["id"], "ad.bids": ad["bids"], "clock": 3_723_004, "huge": 1e45,
            "uuid": str(event["uuid"]),
            **{name: event[name] for name in row.keys() & event.keys() - {"clock", "huge", "uuid"}},
        }  # fmt: skip


def test_a_message_that_is_cut_or_changed_harms_no_neighbour():
    """Its neighbours are right, and it is a reject if it does not end where it should."""
    whole, good = written(EVENT, [an_event(3), an_event(1)])
    values = [good]
    for end in range(1, len(whole)):
        values += [whole[:end], good]
    prefixes = len(values)
    for at in range(len(whole)):
        for flip in (1, 2, 4, 8, 16, 32, 64, 128, 255):
            values += [whole[:at] + bytes([whole[at] ^ flip]) + whole[at + 1 :], good]
    values += [whole + b"\0", good]
    records = decoded(EVENT, values)
    right = decoded(EVENT, [good]).batch
    rows = {int(number): row for row, number in enumerate(records.numbers)}
    for at in range(0, len(values), 2):
        assert records.batch.slice(rows[at * 3 + 7], 1).equals(right)
    rejected = {reject.number for reject in records.rejects}
    assert rejected.isdisjoint(rows)
    assert len(rejected) + len(rows) == len(values)
    assert {at * 3 + 7 for at in range(1, prefixes, 2)} <= rejected
    assert {reject.reason for reject in records.rejects} == {Reason.UNDECODABLE}
    assert records.rejects[-1].detail == "bytes are left after its end"


PLAIN = {
    "int": st.integers(-(2**31), 2**31 - 1),
    "long": st.integers(-(2**63), 2**63 - 1),
    "float": st.floats(allow_nan=False, width=32),
    "double": st.floats(allow_nan=False),
    "boolean": st.booleans(),
    "string": st.text(max_size=4),
    "bytes": st.binary(max_size=4),
    "null": st.none(),
}


@st.composite
def kinds(draw, deep=2, names=None):
    """A type, and a strategy for its values."""
    names = [] if names is None else names
    more = ["optional", "array", "map", "record", "union", "enum", "fixed", "decimal"]
    kind = draw(st.sampled_from([*PLAIN, *(more if deep else more[5:])]))
    if kind in PLAIN:
        return kind, PLAIN[kind]
    name = f"N{len(names)}"
    names.append(name)
    if kind == "enum":
        return {"type": "enum", "name": name, "symbols": ["a", "b"]}, st.sampled_from(["a", "b"])
    if kind == "fixed":
        return {"type": "fixed", "name": name, "size": 2}, st.binary(min_size=2, max_size=2)
    if kind == "decimal":
        digits = draw(st.integers(1, 38))
        numbers = st.integers(-(10**digits) + 1, 10**digits - 1).map(Decimal)
        return {"type": "bytes", "logicalType": "decimal", "precision": digits}, numbers
    if kind == "record":
        inner = [draw(kinds(deep - 1, names)) for _ in range(draw(st.integers(1, 3)))]
        fields = {f"g{at}": of for at, (of, _) in enumerate(inner)}
        values = {f"g{at}": of for at, (_, of) in enumerate(inner)}
        return record(fields, name), st.fixed_dictionaries(values)
    if kind == "union":
        return ["null", "string", "long"], PLAIN["string"] | PLAIN["long"] | st.none()
    of, values = draw(kinds(deep - 1, names))
    if kind == "optional":
        assume(not isinstance(of, list) and of != "null")
        union = draw(st.sampled_from([["null", of], [of, "null"]]))
        return union, values | st.none()
    if kind == "array":
        return {"type": "array", "items": of}, st.lists(values, max_size=3)
    return {"type": "map", "values": of}, st.dictionaries(st.text(max_size=2), values, max_size=2)


def plainly(value):
    """Return a value as its JSON has it."""
    import msgspec

    return msgspec.json.decode(msgspec.json.encode(value))


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_any_record_is_read_as_by_the_library(data):
    """Of any types, inside of each other."""
    made = [data.draw(kinds()) for _ in range(data.draw(st.integers(1, 5)))]
    renamed = json.dumps([of for of, _ in made])
    count = renamed.count('"name": "N')
    for number in range(count):
        renamed = renamed.replace('"name": "N', f'"name": "M{number}_', 1)
    fields = {f"f{at}": of for at, of in enumerate(json.loads(renamed))}
    schema = record(fields)
    values = st.fixed_dictionaries({f"f{at}": of for at, (_, of) in enumerate(made)})
    records = data.draw(st.lists(values, min_size=1, max_size=4))
    try:
        messages = written(schema, records)
    except ValueError:
        assume(False)
    assume(all(messages))
    found = decoded(schema, messages)
    # Items of no bytes, of which there are more than bytes, are refused.
    assume(not any("more items" in reject.detail for reject in found.rejects))
    assert not found.rejects
    types = AvroSchema.of(json.dumps(schema)).columns().all
    for path, kind in types.items():
        column = found.batch.column(path).to_pylist()
        for row, message in enumerate(messages):
            value = fastavro.schemaless_reader(io.BytesIO(message), fastavro.parse_schema(schema))
            for name in path.split("."):
                value = None if value is None else value[name]
            got = column[row]
            if kind == JSON:
                got, value = json.loads("null" if got is None else got), plainly(value)
            assert got == value, (path, type_name(kind))


def test_null_and_empty_values_are_rejects():
    """An empty one has no event."""
    records = decoded(record({"id": "string"}), [None, b"\x02a", b"", b"\x04a"])
    assert [(r.number, r.reason, r.detail, r.record) for r in records.rejects] == [
        (7, Reason.UNDECODABLE, "null value", ""),
        (13, Reason.UNDECODABLE, "empty value", ""),
        (16, Reason.UNDECODABLE, "it ends too early", "BGE="),
    ]
    assert records.numbers.tolist() == [10]


@pytest.mark.parametrize(
    ("kind", "value", "why"),
    [
        ("string", b"\x02\xff", "a text is not UTF-8"),
        ("string", b"\x01a", "a length is below zero"),
        ("boolean", b"\x02", "a boolean is neither 0 nor 1"),
        ("int", b"\x80\x80\x80\x80\x20", "an int has more than 32 bits"),
        ("long", b"\xff" * 9 + b"\x02", "a number has more than 64 bits"),
        ("long", b"\xff" * 11, "a number has more than 64 bits"),
        (["null", "int"], b"\x04", "a union has no such branch"),
        ({"type": "enum", "name": "E", "symbols": ["a"]}, b"\x02", "an enum has no such symbol"),
        ({"type": "bytes", "logicalType": "decimal", "precision": 2}, b"\x02\x64",
         "a decimal has too many digits"),
        ({"type": "array", "items": "null"}, b"\x80\x80\x80\x80\x80\x20\x00",
         "an array has more items than there are bytes"),
        ({"type": "array", "items": "int"}, b"\x01\x04\x02\x00",
         "a block of an array has another size than it says"),
        ({"type": "map", "values": "long"}, b"\x02\x7fa", "a length is below zero"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_message_is_said(kind, value, why):
    """With its neighbours unharmed."""
    schema = record({"f": kind, "id": "string"})
    records = decoded(schema, [value + b"\x02a", value + b"\x02b"], ["id", "f"])
    assert [reject.detail for reject in records.rejects] == [why] * 2


def test_a_record_inside_of_itself_cannot_exhaust_the_stack():
    """Nor one that is nested very deeply for another reason."""
    schema = record({"id": "string", "next": ["null", "Event"]})
    deep = b"\x02a\x02" * 50 + b"\x02a\x00"
    records = decoded(schema, [deep, b"\x02a\x02" * 100_000 + b"\x02a\x00", b"\x02b\x00"])
    assert records.batch.column("id").to_pylist() == ["a", "b"]
    assert [reject.detail for reject in records.rejects] == ["it is nested too deeply"]


def test_blocks_of_arrays_may_tell_their_sizes():
    """As some writers do, so that they can be skipped."""
    schema = record({"f": {"type": "array", "items": "int"}, "id": "string"})
    records = decoded(schema, [b"\x03\x04\x02\x04\x01\x02\x06\x00\x02a"])
    assert records.batch.to_pylist() == [{"f": [1, 2, 3], "id": "a"}]


def headed(number, value):
    return b"\0" + number.to_bytes(4, "big") + value


NEW = record(
    {"id": "string", "price": "double", "count": ["null", "long"], "device":
     {"type": "enum", "name": "D", "symbols": ["a", "b", "c"], "default": "a"}}
)  # fmt: skip
NEW["fields"][2]["default"] = None
NEW["fields"] += [
    {"name": "place", "type": "string", "default": "nowhere"},
    {"name": "raw", "type": "bytes", "default": "\u00ff"},
    {"name": "title", "type": ["null", "string"], "aliases": ["name"], "default": None},
    {"name": "ad", "type": record({"id": "string"}, "A"), "default": {"id": "none"}},
]
WRITERS = {
    1: NEW,
    2: record({"gone": "string", "price": "int", "id": "string",
               "device": {"type": "enum", "name": "D", "symbols": ["b", "z"]}}),
    3: record({"id": "string", "price": "float", "count": "int", "name": "string",
               "device": {"type": "enum", "name": "D", "symbols": ["c", "b"]}}),
    4: record({"id": "string", "price": "string"}),
}  # fmt: skip
WRITTEN = {
    1: {"id": "a", "price": 1.5, "count": 5, "device": "c", "place": "here", "raw": b"r",
        "title": "t", "ad": {"id": "x"}},
    2: {"gone": "g", "price": 7, "id": "b", "device": "z"},
    3: {"id": "c", "price": 0.25, "count": 9, "name": "n", "device": "c"},
    4: {"id": "d", "price": "much"},
}  # fmt: skip


def writer_of(number):
    if number not in WRITERS:
        return f"the registry has no schema {number}"
    return AvroSchema.of(json.dumps(WRITERS[number]))


def test_messages_of_several_writers_are_read_by_one_schema():
    """Fields may be missing, more, in another order, of narrower types, and renamed."""
    numbers = [3, 1, 9, 2, 1, 4, 3]
    values = [
        headed(number, written(WRITERS.get(number, NEW), [WRITTEN.get(number, WRITTEN[1])])[0])
        for number in numbers
    ]
    records = decoded(NEW, values, writers=writer_of)
    assert records.rejects[0].detail == "the registry has no schema 9"
    assert [reject.number for reject in records.rejects] == [13, 22]
    rows = records.batch.to_pylist()
    for row in rows:
        row["ad"] = json.loads(row["ad"])
    new = {**WRITTEN[1], "ad.id": "x"}
    default = {"place": "nowhere", "raw": b"\xff", "ad": {"id": "none"}, "ad.id": "none"}
    two = {"id": "b", "price": 7.0, "count": None, "device": "a", "title": None, **default}
    three = {"id": "c", "price": 0.25, "count": 9, "device": "c", "title": "n", **default}
    assert rows == [three, new, two, new, three]
    assert records.numbers.tolist() == [7, 10, 16, 19, 25]


def test_a_message_without_a_header_is_a_reject():
    """If all should have one."""
    value = written(NEW, [WRITTEN[1]])[0]
    records = decoded(NEW, [value, b"\0\0\0", headed(1, value)], writers=writer_of)
    assert records.numbers.tolist() == [13]
    assert {reject.detail for reject in records.rejects} == {
        "no header of a registry: it must begin with a zero and four more bytes"
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is not JSON (Expecting property name"),
        ('"string"', "is no schema of a record"),
        ('{"type": "record", "name": "E"}', "is a record without fields"),
        ('{"type": "record", "name": "E", "fields": []}', "is a record without fields"),
        ('{"type": "record", "name": "E", "fields": [{"name": "a", "type": "nothing"}]}',
         "is no Avro schema (nothing)"),
        ('{"type": "record", "fields": []}', "is no Avro schema ("),
        ("[]", "is no schema of a record"),
        ("5", "is no Avro schema ("),
    ],
)  # fmt: skip
def test_what_is_no_schema_is_said_in_one_line(text, said):
    """Whatever fastavro raises."""
    with pytest.raises(AvroSchemaError) as error:
        AvroSchema.of(text)
    assert str(error.value).startswith(said)
    assert "\n" not in str(error.value)


def test_a_schema_may_refer_to_others():
    """Each is given before those that use it."""
    device = json.dumps({"type": "enum", "name": "ads.Device", "symbols": ["a", "b"]})
    labels = {"type": "map", "values": "ads.Device"}
    event = json.dumps(record({"id": "string", "device": "ads.Device", "labels": labels}))
    schema = AvroSchema.of(event, [device])
    columns = pa.schema([(name, pa.string()) for name in ("id", "device", "labels")])
    decoder = AvroDecoder(schema, columns, Notation(json=["labels"]))
    found = decoder.decode(pa.array([b"\x02a\x02\x02\x02x\x02\x00"], pa.binary()), np.arange(1))
    assert found.batch.to_pylist() == [{"id": "a", "device": "b", "labels": '{"x":"b"}'}]


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_no_result_depends_on_how_messages_are_cut(data):
    """Of several writers, with broken messages among them."""
    numbers = data.draw(st.lists(st.sampled_from([1, 2, 3, 4, 9]), min_size=1, max_size=8))
    values = []
    for number in numbers:
        value = headed(
            number, written(WRITERS.get(number, NEW), [WRITTEN.get(number, WRITTEN[1])])[0]
        )
        end = data.draw(st.sampled_from([len(value), len(value) - 1, 3, 0]))
        values.append(data.draw(st.sampled_from([value[:end], value, None])))
    whole = decoded(NEW, values, writers=writer_of)
    alone = [decoded(NEW, [value], writers=writer_of) for value in values]
    rows = [row for part in alone for row in part.batch.to_pylist()]
    assert whole.batch.to_pylist() == rows
    told = [(reject.detail, reject.record) for part in alone for reject in part.rejects]
    assert [(reject.detail, reject.record) for reject in whole.rejects] == told


def test_logical_types_are_the_same_by_either_way():
    """A field with another name lets fastavro resolve whole messages."""
    renamed = json.loads(json.dumps(EVENT))
    renamed["fields"] = [{**of, "name": f"new_{of['name']}", "aliases": [of["name"]]}
                         for of in renamed["fields"] if of["name"] != "ads"]  # fmt: skip
    events = [an_event(number) for number in range(6)]
    values = [headed(1, value) for value in written(EVENT, events)]
    fast = decoded(EVENT, [value[5:] for value in values]).batch
    slow = decoded(renamed, values, writers=lambda _: AvroSchema.of(json.dumps(EVENT)))
    assert not slow.rejects
    for name in slow.batch.schema.names:
        assert slow.batch.column(name).equals(fast.column(name.removeprefix("new_"))), name
