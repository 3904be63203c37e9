"""``headrace explain DIR KEY...``: all that a run made of a key."""

from __future__ import annotations

import json
import threading
from random import Random

import pyarrow.parquet as pq
import pytest

import headrace
from headrace.pipelines.app.cli import main
from headrace.pipelines.jobs import stream
from tests.pipelines.direct import run_directly
from tests.pipelines.growing import run_stream
from tests.pipelines.random_logs import random_log, small_guards
from tests.pipelines.rows import START

MINUTE = 60


@pytest.fixture
def explain(capsys):
    """Explain, and return what is printed: a tree of JSON, or lines."""

    def run(out, *key, code=0, lines=False, options=()):
        capsys.readouterr()
        command = ["explain", str(out), *map(str, key), *options]
        assert main([*command, *([] if lines else ["--json"])]) == code
        printed = capsys.readouterr()
        if code == 2:
            return printed.err
        return printed.out.splitlines() if lines else json.loads(printed.out)

    return run


def outputs(out, name):
    folder = out / name
    return pq.read_table(folder).to_pylist() if folder.exists() else []


WITH_HELD = (37, 49, 122)
"""Logs in which guards hold samples back."""


# Together they have every emission, groups as units, `keep`, and sorted and open logs.
@pytest.mark.parametrize("seed", [12, 30, *WITH_HELD], ids=lambda seed: f"random log {seed}")
def test_what_is_said_agrees_with_every_output(tmp_path, seed, explain, monkeypatch):
    """Dead letters, samples, corrections and quarantine; with any options."""
    small_guards(monkeypatch)
    log = random_log(Random(seed))
    log.options.setdefault("monitor", {})["near_misses"] = True
    out = tmp_path / "out"
    command = ["replay", str(log.write(tmp_path / "log")), "--out", str(out), "--quiet"]
    assert main([*command, "--allow-invalid", "--shards", "3", "--batch-rows", "50"]) == 0
    letters, samples = outputs(out, "dead_letters"), outputs(out, "samples")
    corrections, held = outputs(out, "corrections"), outputs(out, "quarantine")
    learners = len(headrace.load_result(out).summary.learners)
    keys = {
        (row["request"], row["item"])
        for parts in (log.impressions, *log.actions.values()) for rows in parts for row in rows
        if row["request"] is not None
    }  # fmt: skip
    said = {key: explain(out, *key) for key in sorted(keys)}
    assert all(one["notes"] == [] for one in said.values())
    records = {
        (row["stream"], row["source"], row["offset"]): (row["outcome"], row["why"])
        for one in said.values() for row in one["records"]
    }  # fmt: skip
    with_key = [row for row in letters if json.loads(row["record"])["request"] is not None]
    for row in with_key:
        place = (row["stream"], row["source"], row["offset"])
        assert records.pop(place) == (row["reason"], row["detail"])
    assert {outcome for outcome, _ in records.values()} <= {"settled", "open"}
    found = [len(one["samples"]) for one in said.values()]
    assert sum(found) == len(samples)
    assert sum(len(one["corrections"]) for one in said.values()) == len(corrections)
    learning = [(key, row) for key, one in said.items() for row in one["learning"]]
    assert len(learning) == learners * len(samples)
    back = {
        (key, row["label"], row["time"], row["emit_time"], row["emission"])
        for key, row in learning if row["why"].startswith("held back by the guard: ")
    }  # fmt: skip
    # Those that leave again for an action of another stream tell the learner nothing.
    told = [row for row in held if row.get("trigger") in (None, row["quarantine_label"])]
    assert len(back) == len(told)
    assert (len(held) > 0) == (seed in WITH_HELD)
    kept = [row for one in said.values() for row in one["sampling"] if row["kept"]]
    assert len(kept) == len({(r["request"], r["item"], r["event_time"]) for r in samples})


def log_of(replay, **options):
    """A log with a key that counts, one that is dropped, and an orphan."""
    impressions = [(START + n, f"i{n}") for n in range(20)] + [(START + 3_600, "end")]
    clicks = [(START + 5, "i0"), (START + 6, "nobödy"), (START + 3_600, "end")]
    return replay(impressions, clicks, **options)


def test_without_the_logs_outputs_are_shown(replay, tmp_path, explain):
    """And a note says why records that are in no output are not."""
    log_of(replay)
    whole = explain(tmp_path / "out", "i0")
    assert [row["outcome"] for row in whole["records"]] == ["settled", "settled"]
    (tmp_path / "clicks-0.csv").unlink()
    left = explain(tmp_path / "out", "i0")
    assert (left["records"], left["samples"]) == ([], whole["samples"])
    (note,) = left["notes"]
    assert "the logs cannot be read, so only outputs are shown" in note
    assert "actions.click.path" in note
    options = ["--config", str(tmp_path / "join.toml")]
    assert "actions.click.path" in explain(tmp_path / "out", "i0", code=2, options=options)


def test_a_changed_log_is_noted(replay, tmp_path, explain):
    """What is said of records is then what the run would make of them now."""
    log_of(replay)
    with (tmp_path / "clicks-0.csv").open("a") as file:
        file.write(f"{START + 3_600},i1\n")
    said = explain(tmp_path / "out", "i1")
    assert [row["outcome"] for row in said["records"]] == ["settled", "outside_window"]
    assert said["notes"] == [
        "configuration or logs have changed since the run: what is said of records is what it "
        "would make of them now"
    ]


def test_a_configuration_that_was_moved_can_be_named(replay, tmp_path, explain):
    log_of(replay)
    (tmp_path / "join.toml").rename(tmp_path / "other.toml")
    assert "cannot be read" in explain(tmp_path / "out", "i0")["notes"][0]
    said = explain(tmp_path / "out", "i0", options=["--config", str(tmp_path / "other.toml")])
    assert (len(said["records"]), said["notes"]) == (2, [])


def test_a_record_names_its_key(replay, tmp_path, explain):
    """Also where records are sorted; without a key, or without logs, it names none."""
    log_of(replay, action='order = "sort"')
    out = tmp_path / "out"
    where = ["--stream", "click", "--source", "clicks-0.csv", "--offset"]
    (record,) = explain(out, options=[*where, "1"])["records"]
    assert (record["place"], record["outcome"]) == ("clicks-0.csv line 3", "orphan")
    says = explain(out, code=2, options=[*where, "7"])
    assert "--offset has no record in clicks-0.csv that is an event (got 7)" in says
    says = explain(out, code=2, options=["--stream", "buy", *where[2:], "1"])
    assert "--stream is no stream (got 'buy'); use impressions, click" in says
    says = explain(out, code=2, options=[*where[:3], "other.csv", "--offset", "1"])
    assert "--source is no source of the stream (got 'other.csv'); use one of clicks-0.csv" in says
    (tmp_path / "join.toml").unlink()
    says = explain(out, code=2, options=[*where, "1"])
    assert "cannot be looked up, since the logs are not read" in says


@pytest.mark.parametrize(
    ("what", "says"),
    [
        (["a", "b"], "KEY expected a value for each of key (got 'a b'); give them in this order"),
        ([], "expected the values of a key, or --stream, --source and --offset of a record"),
        (["a", "--offset", "1"], "expected the values of a key, or --stream"),
        (["--stream", "click"], "expected the values of a key, or --stream"),
    ],
    ids=["too many values", "no key", "a key and a record", "half a record"],
)
def test_what_is_no_key_is_refused(replay, tmp_path, explain, what, says):
    log_of(replay)
    assert says in explain(tmp_path / "out", code=2, options=what)


def test_a_key_that_nothing_has_is_said_to_be_none(replay, tmp_path, explain):
    log_of(replay)
    assert explain(tmp_path / "out", "none", code=1, lines=True) == [
        "key=none",
        "nothing has this key",
    ]


def test_a_folder_that_is_neither_run_nor_model_is_refused(tmp_path, explain):
    says = explain(tmp_path, "a", "b", code=2)
    assert f"{tmp_path} is no run, and of a model one row is explained (got a b)" in says


def test_joined_actions_and_open_records_are_shown(replay, tmp_path, explain):
    """What is open says when it would be decided, and until when the log is known."""
    impressions = [(START, "a"), (START + 20 * MINUTE, "b"), (START + 20 * MINUTE, "end")]
    clicks = [(START + MINUTE, "a"), (START + 21 * MINUTE, "b"), (START + 20 * MINUTE, "none"),
              (START + 15 * MINUTE, "a")]  # fmt: skip
    replay(impressions, clicks, join="joined = true", end='end_of_log = "open"')
    known = "the log is known until 2026-01-01 00:20:00"
    assert explain(tmp_path / "out", "b", lines=True) == [
        "key=b",
        "impression of 2026-01-01 00:20:00 (impressions-0.csv line 3)",
        f"    open: it settles at 2026-01-01 00:30:00; {known}",
        "click of 2026-01-01 00:21:00 (clicks-0.csv line 3)",
        "    open: it came 1m after the impression of 2026-01-01 00:20:00 (window 10m), which "
        f"settles at 2026-01-01 00:30:00; {known}",
    ]
    assert explain(tmp_path / "out", "none", lines=True)[2:] == [
        "    open: an impression of its own may come, so it is decided at 2026-01-01 00:40:00; "
        f"{known}"
    ]
    shown = explain(tmp_path / "out", "a", lines=True)
    assert shown[-1] == "joined click, of 2026-01-01 00:00:00"
    assert (
        "    open: it came 15m after the impression of 2026-01-01 00:00:00 (window 10m); an "
        f"impression of its own may come, so it is decided at 2026-01-01 00:35:00; {known}"
    ) in shown


def test_of_a_run_that_continues_records_have_the_verdicts_of_one_run(tmp_path, explain, capsys):
    """A note says so; what lies nearest is looked for among its own impressions."""
    stream = 'key = ["key"]\ntime = { column = "time", unit = "s" }\n'
    (tmp_path / "join.toml").write_text(
        f'[impressions]\npath = "impressions-*.csv"\n{stream}'
        f'[actions.click]\npath = "clicks-*.csv"\n{stream}window = "10m"\n'
        '[join]\nend_of_log = "open"\nmax_jump = "1d"\n[monitor]\nnear_misses = true\n'
    )

    def write(name, *rows):
        lines = [f"{START + minute * MINUTE},{key}\n" for minute, key in rows]
        (tmp_path / name).write_text("".join(["time,key\n", *lines]))

    def run(out, *options):
        command = ["replay", str(tmp_path / "join.toml"), "--out", str(tmp_path / out), *options]
        assert main([*command, "--quiet"]) == 0

    write("impressions-1.csv", (0, "a"), (9, "b"))
    write("clicks-1.csv", (1, "a"), (9, "gone"))
    run("first")
    write("impressions-2.csv", (70, "c"), (600, "end"))
    write("clicks-2.csv", (12, "b"), (20, "B"), (75, "C"), (160, "none"), (600, "end"))
    run("second", "--continue", str(tmp_path / "first"))
    said = explain(tmp_path / "second", "b")
    assert [(row["place"], row["outcome"]) for row in said["records"]] == [
        ("impressions-1.csv line 3", "settled"), ("clicks-2.csv line 2", "settled"),
    ]  # fmt: skip
    assert len(said["samples"]) == 1
    assert "the run continues another" in said["notes"][0]
    nearest = {
        json.loads(row["record"])["key"]: row["detail"].partition("; ")[2]
        for row in outputs(tmp_path / "second", "dead_letters")
    }  # fmt: skip
    assert nearest == {
        "B": "", "gone": "",
        "C": "its key differs from that of the impression of 2026-01-01 01:10:00, key='c', in case",
        "none": "there are no impressions from 2026-01-01 02:00:00 to 2026-01-01 10:00:00",
    }  # fmt: skip


def test_of_a_live_run_its_outputs_are_shown(replay, tmp_path, explain, monkeypatch):
    """The key columns are those of a configuration, or else the first of samples."""
    monkeypatch.setattr(stream, "run_graph", run_directly)
    log_of(replay)
    live = tmp_path / "live"
    run_stream(headrace.load_config(tmp_path / "join.toml"), live, threading.Event(), Steady())
    whole = explain(tmp_path / "out", "i0")
    for options in ([], ["--config", str(tmp_path / "join.toml")]):
        said = explain(live, "i0", options=options)
        assert said["samples"] == whole["samples"]
        assert said["notes"] == [
            "the logs of a run that goes on are not read: only outputs are shown"
        ]
        (orphan,) = explain(live, "nobödy", options=options)["records"]
        assert (orphan["outcome"], orphan["place"]) == ("orphan", "clicks-0.csv line 3")


class Steady:
    """No chance: of a log that grows, whole blocks come."""

    def choice(self, portions):
        return 8_192

    def random(self):
        return 0.5
