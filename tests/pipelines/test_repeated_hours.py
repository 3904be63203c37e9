"""The hour that a zone repeats, in logs whose times have no offset."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import headrace
from headrace.learners.registry import parameter_models
from headrace.pipelines.sources.inputs import resolve
from headrace.pipelines.sources.source import SourceState
from headrace.pipelines.sources.sourcereader import SourceReader
from headrace.schemas.config.loading import parse_config
from headrace.schemas.records.events import TIME

BERLIN = ZoneInfo("Europe/Berlin")
MIDNIGHT = datetime(2026, 10, 24, 22, tzinfo=UTC)  # 02:00 to 03:00 comes twice: 0 h and 1 h UTC
MINUTES = [n ^ 7 for n in range(360)]  # up to seven minutes out of order


def local(minute):
    return f"{(MIDNIGHT + timedelta(minutes=minute)).astimezone(BERLIN):%Y-%m-%d %H:%M:%S}"


def micros(minute):
    return int((MIDNIGHT + timedelta(minutes=minute)).timestamp()) * 1_000_000


def write(path, minutes):
    lines = [f"k{minute},{local(minute)}" for minute in minutes]
    path.write_text("\n".join(["id,t", *lines]) + "\n")


def tables(folder, order="sorted", **join):
    time = {"column": "t", "format": "%Y-%m-%d %H:%M:%S", "zone": "Europe/Berlin"}
    (folder / "clicks.csv").write_text(f"id,t\nk60,{local(61)}\n")
    return {
        "impressions": {"path": str(folder / "shown*.csv"), "key": "id", "time": time,
                        "order": order},
        "actions": {
            "click": {"path": str(folder / "clicks.csv"), "key": "id", "time": time,
                      "window": "10m"},
        },
        "join": {"end_of_log": "close", "shards": 1, **join},
    }  # fmt: skip


def read(inputs, folder, rows, state=None):
    """Return the event times of the first file from a state on, and the state after each block."""
    reader = SourceReader(inputs, inputs.logs[0], str(folder), state)
    times, states = [], []
    while True:
        block = reader.next(rows)
        if block.begin == block.end:
            return times, states
        for envelope in block.envelopes:
            if envelope.batch is not None:
                times += envelope.batch.column(TIME).to_pylist()
        states.append(block.state)


@pytest.mark.parametrize("max_jump", ["1d", "30m"])
def test_the_order_of_a_file_tells_the_pass_however_it_is_read(tmp_path, max_jump):
    """For blocks of every size, and from every position on; though a jump may be an hour."""
    write(tmp_path / "shown.csv", MINUTES)
    inputs = resolve(
        parse_config(tables(tmp_path, max_jump=max_jump), "configuration", parameter_models())
    )
    expected = [micros(minute) for minute in MINUTES]
    ends = []
    for rows in (1, 7, 100, 1_000):
        times, states = read(inputs, tmp_path, rows)
        assert times == expected
        ends.append(states[-1])
        if rows == 1:
            for position, state in enumerate(states, 1):
                stored = json.loads(json.dumps(asdict(state)))  # as in a checkpoint
                again, after = read(inputs, tmp_path, 64, SourceState(**stored))
                assert again == expected[position:]
                assert (after or [state])[-1] == states[-1]
    assert all(end == ends[0] for end in ends)
    assert ends[0].time_counts == {"first_pass": 60, "second_pass": 60, "unresolved": 0}


def test_a_file_in_no_order_tells_nothing(tmp_path):
    """The first pass is taken, and the finding says of how many times and what to do."""
    write(tmp_path / "shown.csv", reversed(MINUTES))
    result = headrace.replay(tables(tmp_path, "sort"), tmp_path / "out")
    counts = result.summary.times["impressions"]
    assert (counts.first_pass, counts.second_pass, counts.unresolved) == (0, 0, 120)
    (said,) = [finding for finding in result.findings if "repeats" in finding]
    assert said == (
        "impressions: 120 times in t lie in an hour that Europe/Berlin repeats, and nothing tells "
        "in which pass; the first is taken (0 more were told by the order of the file). Log times "
        "with an offset or in UTC, and set impressions.time."
    )
    assert "Event times that needed a choice" in result.report.read_text()
    samples = result.samples.to_table()
    early = pa.array([micros(120), micros(180)]).cast(pa.timestamp("us", "UTC")).to_pylist()
    in_hour = [time for time in samples["event_time"].to_pylist() if early[0] <= time < early[1]]
    assert len(in_hour) == 120


def test_a_file_that_begins_in_the_hour_tells_nothing_until_a_pass_has_ended(tmp_path):
    """Of the second of two files that are cut there; nothing is lost as late."""
    write(tmp_path / "shown-1.csv", range(150))
    write(tmp_path / "shown-2.csv", range(150, 360))
    result = headrace.replay(tables(tmp_path), tmp_path / "out")
    counts = result.summary.times["impressions"]
    assert (counts.first_pass, counts.second_pass, counts.unresolved) == (30, 60, 30)
    times = sorted(result.samples.to_table(columns=["event_time"])["event_time"].to_pylist())
    expected = [MIDNIGHT + timedelta(minutes=minute) for minute in range(360)]
    assert times == expected
    assert result.summary.outcomes["impressions"]["late"] == 0


@pytest.mark.parametrize("form", ["format", "ISO text", "ISO text and offsets", "timestamps"])
def test_every_notation_without_an_offset_is_resolved(tmp_path, form):
    """It is in the summary, and no finding; a time with an offset needs no choice."""
    texts = [local(minute) for minute in MINUTES]
    if form == "ISO text and offsets":
        moments = [MIDNIGHT + timedelta(minutes=minute) for minute in MINUTES]
        texts[::2] = [f"{moment:%Y-%m-%d %H:%M:%S}+00:00" for moment in moments[::2]]
    column = pa.array(texts)
    time = {"column": "t", "zone": "Europe/Berlin"}
    if form == "timestamps":
        column = column.cast(pa.timestamp("ns"))
    else:
        time["format"] = "%Y-%m-%d %H:%M:%S" if form == "format" else "iso8601"
    rows = {"id": [f"k{minute}" for minute in MINUTES], "t": column}
    pq.write_table(pa.table(rows), tmp_path / "shown.parquet")
    config = tables(tmp_path)
    config["impressions"] |= {"path": str(tmp_path / "shown.parquet"), "time": time}
    result = headrace.replay(config, tmp_path / "out")
    half = 30 if form == "ISO text and offsets" else 60
    counts = result.summary.times["impressions"]
    assert (counts.first_pass, counts.second_pass, counts.unresolved) == (half, half, 0)
    assert not [finding for finding in result.findings if "repeats" in finding]
    times = result.samples.to_table(columns=["event_time"])["event_time"].to_pylist()
    assert sorted(times) == [MIDNIGHT + timedelta(minutes=minute) for minute in range(360)]
