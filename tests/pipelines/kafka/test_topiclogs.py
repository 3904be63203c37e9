"""A topic is replayed like a file."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import headrace
from headrace.pipelines.app.cli import main
from tests.pipelines import forked
from tests.pipelines.kafka.broker import Record
from tests.pipelines.outputs import contents

ROOT = Path(__file__).parents[3]
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


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    """Generated logs, one in order and one with all that goes wrong, as rows by stream."""
    found = {}
    for name, clean in (("clean", True), ("dirty", False)):
        folder = tmp_path_factory.mktemp(name)
        headrace.generate(folder / "log", impressions=3_000, clean=clean)
        found[name] = {
            "impressions": rows_of(folder / "log", "impressions", TYPES["impressions"]),
            "click": rows_of(folder / "log", "clicks", TYPES["click"]),
        }
    return found


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


@pytest.mark.parametrize(("log", "partitions"), [("clean", 1), ("clean", 3), ("dirty", 1)])
def test_a_topic_gives_the_bytes_that_a_file_gives(broker, tmp_path, logs, log, partitions):
    """For one partition always, for several if each of them is in order.

    What is late depends on the records before it in its partition.
    """
    rows = logs[log]
    headrace.replay(config(as_files(tmp_path, rows)), tmp_path / "files")
    tables = {**config(as_topics(broker, rows, partitions)), "kafka": {"servers": broker.servers}}
    headrace.replay(tables, tmp_path / "topics")
    assert results(tmp_path / "topics") == results(tmp_path / "files")
    assert not headrace.verify(tmp_path / "topics").problems


def write_config(folder, broker, places, **replay):
    """Write the configuration as a file; return its path."""
    tables = {**config(places), "kafka": {"servers": broker.servers}, "replay": replay}
    path = folder / "headrace.toml"
    path.write_text(toml(tables))
    return path


def toml(tables):
    """Write tables in TOML, each nested one in line."""

    def value(of):
        if isinstance(of, dict):
            return "{ " + ", ".join(f'"{k}" = {value(v)}' for k, v in of.items()) + " }"
        return json.dumps(of)

    return "\n".join(f"{name} = {value(of)}" for name, of in tables.items()) + "\n"


@pytest.mark.parametrize("count", [1, 4])
def test_a_replay_of_topics_that_was_killed_goes_on(broker, tmp_path, logs, count):
    """To the bytes of one that was not."""
    rows = logs["dirty"]
    path = write_config(
        tmp_path, broker, as_topics(broker, rows, 1), batch_rows=20, checkpoint="0s"
    )

    def drive(how, out, *options):
        options = [str(path), "--out", str(out), "--quiet", "--allow-invalid", *options]
        done = forked.run("tests.pipelines.driver", how, str(count), "replay", *options)
        return done.returncode

    whole, out = tmp_path / "whole", tmp_path / "out"
    assert drive("never", whole) == 0
    assert drive("kill", out) == -signal.SIGKILL
    assert drive("never", out, "--resume") == 0
    assert results(out) == results(whole)
    counts = json.loads((out / "summary.json").read_text())["input"]
    assert counts == {name: len(of) for name, of in rows.items()}


def test_a_topic_with_a_history_is_read_from_where_it_begins(broker, tmp_path):
    """Its first offset is not 0, and offsets are no counts."""
    shown = [{"request_id": f"r{n}", "time": (1_767_225_600 + n) * 1_000_000, "device": "a",
              "site": "b", "price": 1.5} for n in range(20)]  # fmt: skip
    clicks = [{"request_id": "r7", "time": 1_767_225_610_000_000, "click_id": "c"}]
    places = as_topics(broker, {"impressions": shown, "click": clicks}, 1)
    broker.delete_records(places["impressions"]["topic"], 5)
    tables = {**config(places), "kafka": {"servers": broker.servers}}
    result = headrace.replay(tables, tmp_path / "out")
    assert result.summary.input == {"impressions": 15, "click": 1}
    found = {row["request_id"]: row["click"] for row in result.samples.to_table().to_pylist()}
    assert found == {f"r{n}": n == 7 for n in range(5, 20)}


def test_dead_letters_name_partition_and_offset(broker, tmp_path):
    """Of tombstones, of records that are no objects, and of those without a key."""
    good = {"request_id": "r", "time": 1_767_225_600_000_000, "price": "7.5"}
    topic, clicks = broker.create(), broker.create()
    broker.produce(topic, [json.dumps(good).encode(), None, b"[1]", b'{"time": 1}'])
    places = {"impressions": {"topic": topic}, "click": {"topic": clicks}}
    tables = {**config(places), "kafka": {"servers": broker.servers}}
    result = headrace.replay(tables, tmp_path / "out")
    letters = result.dead_letters.to_table().select(["source", "offset", "reason"]).to_pylist()
    assert letters == [
        {"source": f"{topic}[0]", "offset": 1, "reason": "undecodable"},
        {"source": f"{topic}[0]", "offset": 2, "reason": "wrong_type"},
        {"source": f"{topic}[0]", "offset": 3, "reason": "null_key"},
    ]
    assert result.samples.to_table().column("price").to_pylist() == [7.5]


def test_a_topic_that_does_not_exist_is_one_line(broker, tmp_path, capsys):
    """With exit code 1, and nothing is written."""
    places = {"impressions": {"topic": "nowhere"}, "click": {"topic": broker.create()}}
    path = write_config(tmp_path, broker, places)
    for command in (["validate", str(path)], ["replay", str(path), "--out", str(tmp_path / "o")]):
        assert main(command) == 1
        said = capsys.readouterr().err.splitlines()
        assert len(said) == 1
        assert "nowhere: no such topic" in said[0]
    assert not (tmp_path / "o").exists()


def test_validate_looks_at_the_first_records_of_topics(broker, tmp_path, capsys):
    """As of files."""
    places = as_topics(broker, {"impressions": [{"request_id": "a", "time": 5}], "click": []}, 1)
    path = write_config(tmp_path, broker, places)
    assert main(["validate", str(path)]) == 2
    assert "event times all lie in 1970" in capsys.readouterr().err


@pytest.mark.parametrize("client", ["librdkafka", "kafka-python"])
def test_two_streams_may_have_one_topic(broker, tmp_path, client):
    """Such as clicks with two windows."""
    shown = [{"request_id": f"r{n}", "time": (1_767_225_600 + n) * 1_000_000} for n in range(900)]
    clicks = [{"request_id": f"r{n}", "time": (1_767_226_200 + n // 2 * 2) * 1_000_000}
              for n in range(0, 900, 3)]  # fmt: skip
    places = as_topics(broker, {"impressions": shown, "click": clicks}, 2)
    tables = {
        **config(places),
        "kafka": {"servers": broker.servers, "client": client},
        "replay": {"batch_rows": 50},
    }
    tables["actions"]["long"] = {**tables["actions"]["click"], "window": "20m"}
    result = headrace.replay(tables, tmp_path / "out")
    assert result.summary.input == {"impressions": 900, "click": 300, "long": 300}
    assert result.summary.samples.positives == {"click": 150, "long": 300}
