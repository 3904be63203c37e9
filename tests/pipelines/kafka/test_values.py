"""Topics of Avro and Protobuf messages give what topics of JSON give."""

from __future__ import annotations

import io
import json

import fastavro
import pytest

import headrace
from tests.pipelines.kafka.broker import Record
from tests.pipelines.kafka.test_topiclogs import (
    TYPES,
    as_topics,
    config,
    results,
    rows_of,
)

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
