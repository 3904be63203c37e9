"""A run that does not end: what it writes is what a replay of the same records writes."""

from __future__ import annotations

import json
import threading

import pyarrow as pa
import pytest

import headrace
from tests.pipelines.kafka.reading import oracle
from tests.pipelines.kafka.test_topiclogs import as_files, as_topics, config, logs

__all__ = ["logs"]


def live_config(broker, places, live=None, **join):
    tables = config(places, **join)
    return {**tables, "kafka": {"servers": broker.servers}, "live": live or {}}


def models_of(folder):
    """Return the checksum of the newest model of each learner."""
    found = {}
    for learner in sorted((folder / "model").iterdir()):
        newest = max(learner.glob("snapshot-*"))
        found[learner.name] = headrace.load_model(newest).manifest["sha256"]
    return found


def rows(dataset):
    return dataset.to_table(use_threads=False).combine_chunks()


def check_equal(live_out, replayed):
    """Compare the rows of every output, in their order, and the models."""
    live = headrace.load_live(live_out)
    assert rows(live.samples).equals(rows(replayed.samples))
    if replayed.corrections is not None:
        assert rows(live.corrections).equals(rows(replayed.corrections))
    for name, dataset in replayed.joined.items():
        assert rows(live.joined[name]).equals(rows(dataset))
    order = [("stream", "ascending"), ("offset", "ascending"), ("record", "ascending")]
    names = ["stream", "offset", "reason", "record"]
    dead, expected = (pa.table(rows(of.dead_letters)).select(names) for of in (live, replayed))
    if replayed.dead_letters.schema.metadata is None:
        assert dead.sort_by(order).num_rows == expected.sort_by(order).num_rows
    assert models_of(live_out) == models_of(replayed.out)


@pytest.mark.parametrize(("log", "partitions"), [("clean", 3), ("dirty", 1)])
def test_until_the_end_a_topic_gives_what_its_replay_gives(broker, tmp_path, logs, log, partitions):
    replayed = headrace.replay(config(as_files(tmp_path, logs[log])), tmp_path / "files")
    places = as_topics(broker, logs[log], partitions)
    stood = headrace.stream(live_config(broker, places), tmp_path / "live", until_end=True)
    assert stood.ended
    assert stood.events == sum(len(of) for of in logs[log].values())
    check_equal(tmp_path / "live", replayed)


def test_outputs_go_to_topics_too(broker, tmp_path, logs):
    """Each row once, though the run was stopped and went on, and dead letters likewise."""
    places = as_topics(broker, logs["dirty"], 1)
    samples, letters = broker.create(), broker.create()
    tables = live_config(broker, places, {"checkpoint": "0s"})
    tables["outputs"] = {"samples": samples, "dead_letters": letters}
    out = tmp_path / "live"
    stopping = threading.Event()
    stopping.set()  # at the first bundle
    assert not headrace.stream(tables, out, until_end=True, stopping=stopping).ended
    assert headrace.stream(tables, out, until_end=True).ended
    live = headrace.load_live(out)
    expected = live.samples.to_table().column("request_id").to_pylist()
    found = [json.loads(value)["request_id"] for _, _, value in oracle(broker, samples)]
    assert found == expected
    dead = [json.loads(value)["record"] for _, _, value in oracle(broker, letters)]
    assert sorted(dead) == sorted(live.dead_letters.to_table().column("record").to_pylist())
    with pytest.raises(headrace.HeadraceError, match="not written by this run"):
        headrace.stream(tables, tmp_path / "other", until_end=True)
