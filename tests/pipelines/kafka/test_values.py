"""Topics of Avro and Protobuf messages give what topics of JSON give."""

from __future__ import annotations

import io
import json

import fastavro
import pytest

import headrace
from headrace.pipelines.app.cli import main
from headrace.pipelines.kafka.values import value_format
from headrace.schemas.config.kafka import KafkaConfig
from headrace.schemas.config.models import StreamConfig
from headrace.schemas.messages.protoschemas import ProtoSchema
from tests.pipelines.kafka.broker import Record
from tests.pipelines.kafka.schemaregistry import SchemaRegistry
from tests.pipelines.kafka.test_topiclogs import (
    TYPES,
    as_topics,
    config,
    results,
    rows_of,
    toml,
    write_config,
)
from tests.schemas.messages.test_protobuf import Field, described

AVRO = {"string": "string", "int64": "long", "float64": "double"}


def avro_schema(types):
    """Return the schema of records with these columns, each of which may be null."""
    fields = [{"name": name, "type": ["null", AVRO[of]], "default": None}
              for name, of in types.items()]  # fmt: skip
    return {"type": "record", "name": "Event", "fields": fields}


def as_avro(schema, record):
    file = io.BytesIO()
    fastavro.schemaless_writer(file, fastavro.parse_schema(schema), record)
    return file.getvalue()


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """A generated log with all that goes wrong, as rows by stream."""
    folder = tmp_path_factory.mktemp("log")
    headrace.generate(folder / "log", impressions=3_000)
    return {
        "impressions": rows_of(folder / "log", "impressions", TYPES["impressions"]),
        "click": rows_of(folder / "log", "clicks", TYPES["click"]),
    }


def tables(broker, places):
    """Return the configuration, without types but for JSON."""
    whole = {**config(places), "kafka": {"servers": broker.servers}}
    for stream in (whole["impressions"], whole["actions"]["click"]):
        if stream.get("value", "json") != "json":
            del stream["types"]
    return whole


def replayed(broker, places, out):
    headrace.replay(tables(broker, places), out)
    return results(out)


def in_topics(broker, rows, encode, **keys):
    """Put records into topics of one partition each."""
    places = {}
    for name, records in rows.items():
        topic = broker.create()
        broker.produce(topic, [Record(encode(name, record)) for record in records])
        places[name] = {"topic": topic, **{key: of[name] for key, of in keys.items()}}
    return places


def test_avro_gives_the_bytes_that_json_gives(broker, tmp_path, rows):
    """With the schemas in files."""
    schemas = {name: avro_schema(TYPES[name]) for name in TYPES}
    files = {name: str(tmp_path / f"{name}.avsc") for name in TYPES}
    for name, schema in schemas.items():
        (tmp_path / f"{name}.avsc").write_text(json.dumps(schema))
    places = in_topics(
        broker, rows, lambda name, record: as_avro(schemas[name], record),
        value=dict.fromkeys(TYPES, "avro"), schema=files,
    )  # fmt: skip
    expected = replayed(broker, as_topics(broker, rows, 1), tmp_path / "json")
    assert replayed(broker, places, tmp_path / "avro") == expected


def test_protobuf_gives_the_bytes_that_json_gives(broker, tmp_path, rows):
    """Fields with presence are null where they are not written."""
    kinds = {"string": Field.TYPE_STRING, "int64": Field.TYPE_INT64, "float64": Field.TYPE_DOUBLE}
    fields = {
        name: [(of, at + 1, Field.LABEL_OPTIONAL, kinds[kind], "optional")
               for at, (of, kind) in enumerate(types.items())]
        for name, types in TYPES.items()
    }  # fmt: skip
    descriptors = described("proto3", fields)
    (tmp_path / "events.desc").write_bytes(descriptors)
    parsers = {name: ProtoSchema.of(descriptors, f"ads.{name}").parser() for name in TYPES}

    def encode(name, record):
        there = {of: value for of, value in record.items() if value is not None}
        return parsers[name](**there).SerializeToString()

    places = in_topics(
        broker, rows, encode, value=dict.fromkeys(TYPES, "protobuf"),
        schema=dict.fromkeys(TYPES, str(tmp_path / "events.desc")),
        message={name: f"ads.{name}" for name in TYPES},
    )  # fmt: skip
    expected = replayed(broker, as_topics(broker, rows, 1), tmp_path / "json")
    assert replayed(broker, places, tmp_path / "protobuf") == expected


@pytest.fixture
def registry():
    registry = SchemaRegistry()
    yield registry
    registry.close()


def test_a_registry_gives_the_bytes_that_json_gives(broker, tmp_path, rows, registry):
    """Of records that were written with two schemas in turn, of which the newest is read."""
    old = {name: avro_schema(dict(reversed(types.items()))) for name, types in TYPES.items()}
    for schema in old.values():
        schema["fields"].insert(1, {"name": "gone", "type": "int"})
    new = {name: avro_schema(types) for name, types in TYPES.items()}
    topics = {name: broker.create() for name in TYPES}
    for at, name in enumerate(TYPES):
        registry.register(f"{topics[name]}-value", 10 + at, old[name])
        registry.register(f"{topics[name]}-value", 20 + at, new[name])
        values = [
            header(10 + at) + as_avro(old[name], {**record, "gone": 5})
            if number % 3
            else header(20 + at) + as_avro(new[name], record)
            for number, record in enumerate(rows[name])
        ]
        broker.produce(topics[name], values)
    whole = tables(broker, {name: {"topic": topics[name], "value": "avro"} for name in TYPES})
    whole["kafka"]["registry"] = {"url": registry.url}
    headrace.replay(whole, tmp_path / "avro")
    expected = replayed(broker, as_topics(broker, rows, 1), tmp_path / "json")
    assert results(tmp_path / "avro") == expected


def header(number):
    return b"\0" + number.to_bytes(4, "big")


def test_one_broken_message_among_many_is_one_dead_letter(broker, tmp_path):
    """With its offset; all others are joined, and nothing is counted twice."""
    schema = avro_schema(TYPES["impressions"])
    start = 1_767_225_600_000_000
    values = [
        as_avro(schema, {"request_id": f"r{n}", "time": start + n * 1000, "device": "a",
                         "site": "b", "price": 1.0})
        for n in range(20_000)
    ]  # fmt: skip
    broken = {77: values[77][:-3], 5_000: None, 9_999: b"", 19_999: values[19_999] + b"\0"}
    for at, value in broken.items():
        values[at] = value
    topic, clicks = broker.create(), broker.create()
    broker.produce(topic, values)
    (tmp_path / "e.avsc").write_text(json.dumps(schema))
    (tmp_path / "c.avsc").write_text(json.dumps(avro_schema(TYPES["click"])))
    places = {
        "impressions": {"topic": topic, "value": "avro", "schema": str(tmp_path / "e.avsc")},
        "click": {"topic": clicks, "value": "avro", "schema": str(tmp_path / "c.avsc")},
    }
    result = headrace.replay(tables(broker, places), tmp_path / "out")
    assert result.summary.input == {"impressions": 20_000, "click": 0}
    letters = result.dead_letters.to_table().select(["offset", "reason", "detail"]).to_pylist()
    why = ["it ends too early", "null value", "empty value", "bytes are left after its end"]
    assert letters == [
        {"offset": at, "reason": "undecodable", "detail": detail}
        for at, detail in zip(broken, why, strict=True)
    ]
    samples = result.samples.to_table().column("request_id").to_pylist()
    assert sorted(samples) == sorted(f"r{n}" for n in range(20_000) if n not in broken)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"schema": "none.avsc"}, "impressions.schema: cannot be read (No such file or directory) "
         "(got 'none.avsc'); paths are relative to {folder}"),
        ({"schema": "bad.avsc"}, "impressions.schema: is no Avro schema (nothing) (got "
         "'bad.avsc')"),
        ({"schema": "e.avsc", "key": "requestid"}, "impressions.key: no such column (got "
         "'requestid'); did you mean request_id?"),
        ({"schema": "e.avsc", "types": {"price": "timestamp"}}, "impressions.types.price: column "
         "price is float64 in its schema (got 'timestamp'); that cannot be read as timestamp; "
         '"json" keeps anything'),
        ({"schema": "e.avsc", "value": "protobuf", "message": "ads.E"}, "impressions.schema: is no "
         "descriptor set (got 'e.avsc'); write it by protoc --include_imports "
         "--descriptor_set_out"),
        ({"schema": "e.desc", "value": "protobuf", "message": "ads.Impresion"}, "impressions."
         "message: there is no such message (got 'ads.Impresion'); did you mean ads.Impression?"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_schema_is_said_before_anything_is_read(
    broker, tmp_path, capsys, keys, said
):
    """In one line, with exit code 2."""
    (tmp_path / "e.avsc").write_text(json.dumps(avro_schema(TYPES["impressions"])))
    wrong = {"type": "record", "name": "E", "fields": [{"name": "a", "type": "nothing"}]}
    (tmp_path / "bad.avsc").write_text(json.dumps(wrong))
    (tmp_path / "e.desc").write_bytes(described("proto3", {"Impression": []}))
    topic = broker.create()
    whole = config({"impressions": {"topic": topic, "value": "avro", "types": {}, **keys},
                    "click": {"topic": topic}})  # fmt: skip
    path = tmp_path / "headrace.toml"
    path.write_text(toml({**whole, "kafka": {"servers": broker.servers}}))
    assert main(["validate", str(path)]) == 2
    assert capsys.readouterr().err == f"headrace: {path}: {said.format(folder=tmp_path)}\n"


def test_a_registry_that_cannot_be_reached_is_one_line(broker, tmp_path, capsys, registry):
    """With exit code 1."""
    registry.close()
    topic = broker.create()
    whole = config({"impressions": {"topic": topic, "value": "avro", "types": {}},
                    "click": {"topic": topic}})  # fmt: skip
    path = tmp_path / "headrace.toml"
    kafka = {"servers": broker.servers, "registry": {"url": registry.url}}
    path.write_text(toml({**whole, "kafka": kafka}))
    assert main(["replay", str(path), "--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert f"{registry.url}: the registry does not answer" in said[0]


def test_validate_shows_the_format(broker, tmp_path, capsys):
    """And the types of keys, which come from the schema."""
    schema = avro_schema(TYPES["impressions"])
    topic, clicks = broker.create(), broker.create()
    event = {"request_id": "a", "time": 1_767_225_600_000_000, "device": None, "site": None,
             "price": None}  # fmt: skip
    broker.produce(topic, [as_avro(schema, event)])
    (tmp_path / "e.avsc").write_text(json.dumps(schema))
    places = {
        "impressions": {"topic": topic, "value": "avro", "schema": "e.avsc", "types": {}},
        "click": {"topic": clicks},
    }
    path = write_config(tmp_path, broker, places)
    assert main(["validate", str(path)]) == 0
    said = capsys.readouterr().out
    assert "avro" in said
    assert "request_id (string)" in said


def test_times_that_no_calendar_has_are_no_tracebacks(broker, tmp_path):
    """As event times they are dead letters, in other columns they are carried or null."""
    moment = {"type": "long", "logicalType": "timestamp-millis"}
    names = {"request_id": "string", "time": moment, "seen": moment, "told": moment,
             "day": {"type": "int", "logicalType": "date"}}  # fmt: skip
    schema = {"type": "record", "name": "E",
              "fields": [{"name": name, "type": kind} for name, kind in names.items()]}  # fmt: skip
    plain = json.loads(json.dumps(schema).replace("logicalType", "none"))
    good = 1_767_225_600_000
    events = [
        {"request_id": "a", "time": good, "seen": 2**62, "told": 2**62, "day": 2**31 - 1},
        {"request_id": "b", "time": 2**62, "seen": good, "told": good, "day": 0},
        {"request_id": "c", "time": good, "seen": -(2**63), "told": good, "day": -(2**31)},
        {"request_id": "", "time": good, "seen": 2**62, "told": good, "day": -(2**31)},
    ]
    topic, clicks = broker.create(), broker.create()
    broker.produce(topic, [as_avro(plain, event) for event in events])
    (tmp_path / "e.avsc").write_text(json.dumps(schema))
    (tmp_path / "c.avsc").write_text(json.dumps(avro_schema(TYPES["click"])))
    time = {"column": "time"}
    places = {
        "impressions": {"topic": topic, "value": "avro", "schema": str(tmp_path / "e.avsc"),
                        "time": time},
        "click": {"topic": clicks, "value": "avro", "schema": str(tmp_path / "c.avsc")},
    }  # fmt: skip
    whole = tables(broker, places)
    whole["impressions"]["types"] = {"told": "timestamp"}
    del whole["learner"], whole["monitor"]
    result = headrace.replay(whole, tmp_path / "out")
    samples = result.samples.to_table().sort_by("request_id")
    assert samples.column("request_id").to_pylist() == ["a", "c"]
    assert samples.column("seen").cast("int64").to_pylist() == [2**62, -(2**63)]
    assert samples.column("told").is_null().to_pylist() == [True, False]
    letters = result.dead_letters.to_table().select(["offset", "reason"]).to_pylist()
    assert letters == [{"offset": 1, "reason": "time_out_of_range"},
                       {"offset": 3, "reason": "null_key"}]  # fmt: skip


def test_another_schema_is_another_log(tmp_path):
    """So that a run does not go on with columns of other types."""
    stream = StreamConfig(topic="t", value="avro", schema="e.avsc", key="request_id",
                          time={"column": "time", "unit": "us"})  # fmt: skip
    kafka = KafkaConfig(servers="a:1")
    found = []
    for types in (TYPES["impressions"], TYPES["click"], TYPES["impressions"]):
        (tmp_path / "e.avsc").write_text(json.dumps(avro_schema(types)))
        values = value_format(str(tmp_path / "c.toml"), "impressions", stream, kafka, None)
        found.append(values.identity())
    assert found[0] == found[2] != found[1]
    stream = StreamConfig(topic="t", key="id", types={"id": "string"}, time={"column": "id"})
    assert value_format("c.toml", "impressions", stream, kafka, None).identity() == []
