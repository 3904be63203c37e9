"""A topic is replayed like a file."""

from __future__ import annotations

import json

import pyarrow.parquet as pq
import pytest

import headrace
from tests.pipelines.kafka.broker import Record
from tests.pipelines.outputs import contents

TYPES = {
    "impressions": {"request_id": "string", "time": "int64", "device": "string",
                    "site": "string", "price": "float64"},
    "click": {"request_id": "string", "time": "int64", "click_id": "string"},
}  # fmt: skip


def rows_of(log, name, columns):
    table = pq.read_table(log / f"{name}.parquet", columns=list(columns))
    return table.to_pylist()


def config(places, **join):
    time = {"column": "time", "unit": "us"}
    impressions = {"key": "request_id", "time": time, "types": TYPES["impressions"]}
    click = {"key": "request_id", "time": time, "types": TYPES["click"], "id": "click_id",
             "window": "10m"}  # fmt: skip
    features = {"categorical": ["device", "site"], "numeric": {"price": "log"}}
    return {
        "impressions": {**impressions, **places["impressions"]},
        "actions": {"click": {**click, **places["click"]}},
        "join": {"end_of_log": "close", "shards": 3, **join},
        "learner": {"label": "click", "bits": 12, "features": features},
        "monitor": {"slices": ["device"]},
    }


@pytest.fixture(scope="module", params=[True, False], ids=["clean", "dirty"])
def logs(request, tmp_path_factory):
    """A generated log as rows by stream, and whether it is in order."""
    folder = tmp_path_factory.mktemp("generated")
    headrace.generate(folder / "log", impressions=3_000, clean=request.param)
    return {
        "impressions": rows_of(folder / "log", "impressions", TYPES["impressions"]),
        "click": rows_of(folder / "log", "clicks", TYPES["click"]),
    }, request.param


def as_files(folder, rows):
    places = {}
    for name, records in rows.items():
        path = folder / f"{name}.jsonl"
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
        places[name] = {"path": str(path)}
    return places


def as_topics(broker, rows, partitions):
    places = {}
    for name, records in rows.items():
        topic = broker.create(partitions)
        for partition in range(partitions):
            own = [record for record in records
                   if hash_of(record["request_id"]) % partitions == partition]  # fmt: skip
            broker.produce(topic, [Record(json.dumps(r).encode()) for r in own], partition)
        places[name] = {"topic": topic}
    return places


def hash_of(text):
    return sum((text or "").encode())


def results(out):
    """Return what does not name the places of records."""
    found = contents(out)
    samples = {name: data for name, data in found.items() if name.startswith("samples/")}
    summary = json.loads((out / "summary.json").read_text())
    learner = summary["learners"]["click"]
    model = [data for name, data in found.items() if name.endswith("arrays.arrow")]
    return samples, summary["outcomes"], learner.get("auc", learner), model


@pytest.mark.parametrize("partitions", [1, 3])
def test_a_topic_gives_the_bytes_that_a_file_gives(broker, tmp_path, logs, partitions):
    """For one partition always, for several if each of them is in order."""
    rows, clean = logs
    if partitions > 1 and not clean:
        pytest.skip("what is late depends on the records before it in its partition")
    headrace.replay(config(as_files(tmp_path, rows)), tmp_path / "files")
    tables = {**config(as_topics(broker, rows, partitions)), "kafka": {"servers": broker.servers}}
    headrace.replay(tables, tmp_path / "topics")
    assert results(tmp_path / "topics") == results(tmp_path / "files")
    assert not headrace.verify(tmp_path / "topics").problems
