"""A run that does not end: what it writes is what a replay of the same records writes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time

import pyarrow as pa
import pytest

import headrace
from headrace.pipelines.app.cli import main
from tests.pipelines.kafka.reading import oracle
from tests.pipelines.kafka.test_topiclogs import (
    ROOT,
    as_files,
    as_topics,
    config,
    logs,
    write_config,
)

__all__ = ["logs"]


def live_config(broker, places, live=None, **join):
    tables = config(places, **join)
    return {**tables, "kafka": {"servers": broker.servers}, "live": live or {}}


def models_of(folder):
    """Return the checksum of the newest model of each learner."""
    found = {}
    for learner in sorted(path for path in (folder / "model").iterdir() if path.is_dir()):
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


def test_a_run_is_stopped_and_goes_on(broker, tmp_path, logs, capsys):
    """As a process, by SIGTERM; `headrace status` says where it stands."""
    places = as_topics(broker, logs["clean"], 3)
    path = write_config(tmp_path, broker, places)
    out = tmp_path / "out"
    command = [sys.executable, "-m", "headrace", "stream", str(path), "--out", str(out)]
    for signal_sent in (signal.SIGTERM, signal.SIGINT):
        process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
        wait_for(lambda: status_of(out, capsys)["state"] == "running")
        wait_for(lambda: status_of(out, capsys)["lag"] == 0)
        refused = subprocess.run([*command, "--quiet"], cwd=ROOT, stderr=subprocess.PIPE, text=True)
        assert refused.returncode == 2
        assert "is in use by process" in refused.stderr
        process.send_signal(signal_sent)
        said = process.stderr.read()
        assert process.wait(30) == 0
        assert "stopped after" in said
        status = status_of(out, capsys)
        assert status["state"] == "stopped"
        assert status["events"] == sum(len(of) for of in logs["clean"].values())
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE)
    wait_for(lambda: status_of(out, capsys)["state"] == "running")
    process.kill()
    process.wait()
    assert main(["status", str(out)]) == 1
    assert "killed" in capsys.readouterr().out


def status_of(out, capsys):
    code = main(["status", str(out), "--json"])
    text = capsys.readouterr().out
    return json.loads(text) if code != 2 else {"state": None}


def wait_for(condition):
    until_s = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until_s
        time.sleep(0.1)


def test_what_cannot_go_on_is_said_in_one_line(broker, tmp_path, logs):
    """Another configuration, more partitions, files in the way, files in place of topics."""
    rows = {name: of[:100] for name, of in logs["clean"].items()}
    places = as_topics(broker, rows, 1)
    tables, out = live_config(broker, places), tmp_path / "out"
    stopping = threading.Event()
    stopping.set()
    headrace.stream(tables, out, stopping=stopping)
    changed = {**tables, "join": {**tables["join"], "out_of_orderness": "1s"}}
    with pytest.raises(headrace.ConfigError, match=r"join\.out_of_orderness.*another folder"):
        headrace.stream(changed, out, stopping=stopping)
    broker.partitions(places["click"]["topic"], 2)
    with pytest.raises(headrace.ConfigError, match=r"other partitions.*\[1\] was not there"):
        headrace.stream(tables, out, stopping=stopping)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    with pytest.raises(headrace.FolderError, match=r"notes\.txt"):
        headrace.stream(tables, tmp_path / "full", stopping=stopping)
    files = config(as_files(tmp_path, rows))
    with pytest.raises(headrace.ConfigError, match="headrace replay"):
        headrace.stream(files, tmp_path / "other", stopping=stopping)
    assert not (tmp_path / "other").exists()


def test_what_goes_wrong_ends_a_run_in_one_line(broker, tmp_path, logs):
    """Records that retention removed while it stood; a folder in which no model can be written."""
    rows = {name: of[:200] for name, of in logs["clean"].items()}
    places = as_topics(broker, rows, 1)
    tables = live_config(broker, places, {"snapshot": "0s"})
    stopping = threading.Event()
    stopping.set()
    headrace.stream(tables, tmp_path / "gap", stopping=stopping)
    broker.delete_records(places["impressions"]["topic"], 50)
    with pytest.raises(headrace.HeadraceError, match=r"records 0 to 49 were deleted before"):
        headrace.stream(tables, tmp_path / "gap", until_end=True)
    out = tmp_path / "full"
    headrace.stream(tables, out, stopping=stopping)
    (out / "model").write_text("in the way")
    with pytest.raises(headrace.HeadraceError, match=r"model.*cannot be written"):
        headrace.stream(tables, out, until_end=True)
    (out / "model").unlink()
    assert headrace.stream(tables, out, until_end=True).ended


def test_one_event_far_ahead_of_its_time_does_not_move_the_clock(broker, tmp_path, logs):
    """It is a dead letter, and everything else is as it was."""
    rows = {name: list(of) for name, of in logs["clean"].items()}
    headrace.replay(config(as_files(tmp_path, rows)), tmp_path / "files")
    expected = headrace.load_result(tmp_path / "files").samples.to_table()
    ahead = {**rows["impressions"][500], "request_id": "ahead", "time": 4_000_000_000_000_000}
    rows["impressions"].insert(500, ahead)
    places = as_topics(broker, rows, 1)
    headrace.stream(live_config(broker, places), tmp_path / "live", until_end=True)
    live = headrace.load_live(tmp_path / "live")
    assert live.samples.to_table().equals(expected)
    letters = live.dead_letters.to_table().to_pylist()
    assert [(letter["reason"], letter["offset"]) for letter in letters] == [("time_jump", 500)]
