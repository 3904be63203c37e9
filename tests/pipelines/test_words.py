"""Logs that are dirty as those of users are: the end of a run says in words what is wrong."""

from __future__ import annotations

import hashlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import headrace
from headrace.schemas.config.durations import HOUR, SECOND
from tests.pipelines.rows import START

CONFIG = """
[impressions]
path = "impressions.parquet"
key = ["id"]
time = {{ column = "time", unit = "us" }}
[actions.click]
path = "clicks-*.parquet"
key = ["id"]
time = {{ column = "time", unit = "us" }}
window = "10m"
[join]
end_of_log = "close"
{join}
"""
SHOWN = 4_000
TIMES = START * SECOND + np.arange(SHOWN) * 12 * SECOND  # 13 h 20 min
KEYS = np.array([hashlib.md5(str(n).encode()).hexdigest() for n in range(SHOWN)])
CLICKED = np.arange(0, SHOWN, 4)
DELAYS = np.random.default_rng(0).exponential(60 * SECOND, CLICKED.size).astype(np.int64)


def table(times, keys):
    order = np.argsort(times, kind="stable")
    return pa.table({"time": times[order], "id": pa.array(keys[order].tolist())})


@pytest.fixture
def replay(tmp_path):
    """Replay clicks, one file or several of (times, keys), and return findings and summary."""

    def run(*clicks, shown=(TIMES, KEYS), join=""):
        pq.write_table(table(*shown), tmp_path / "impressions.parquet")
        for number, of in enumerate(clicks):
            pq.write_table(table(*of), tmp_path / f"clicks-{number}.parquet")
        (tmp_path / "headrace.toml").write_text(CONFIG.format(join=join))
        result = headrace.replay(tmp_path / "headrace.toml", tmp_path / "out")
        return list(result.findings), result.summary

    return run


def clicks(by=0, keys=KEYS[CLICKED]):
    return TIMES[CLICKED] + DELAYS + by, keys


def test_a_sound_log_in_files_by_hour_has_no_findings(replay):
    """Rates are by hour, and add up."""
    times, keys = clicks()
    order = np.argsort(times)
    parts = np.array_split(order, 6)
    findings, summary = replay(*((times[part], keys[part]) for part in parts))
    assert findings == []
    label = summary.labels["click"]
    assert (label.bin_s, len(label.bins)) == (3600, 14)
    assert sum(of.samples for of in label.bins) == label.samples == SHOWN
    assert label.positives == summary.samples.positives["click"] == 1_000
    assert label.label_rate == 0.25
    assert label.coverage.quarter == np.mean(DELAYS < 150 * SECOND)
    span = summary.spans["impressions"]
    assert (span.last - span.first).total_seconds() == (SHOWN - 1) * 12
    assert summary.config["actions"]["click"]["window"] == "10m"


@pytest.mark.parametrize(
    ("by", "join", "words"),
    [(-5 * HOUR - HOUR // 2, "", "5h 30m before"), (HOUR, "", "1h after"),
     (-HOUR, "[sampling]\nnegative_rate = 0.2", "1h before")],
    ids=["half hours, before", "an hour, after", "few impressions have samples"],
)  # fmt: skip
def test_clicks_in_another_zone_are_told(replay, by, join, words):
    """Whether their impressions are forgotten or not; the impressions are those with samples."""
    findings, _ = replay(clicks(by), join=join)
    (found,) = (text for text in findings if "time zone" in text)
    assert found.startswith(f"click: most actions lie {words} their impression (")


def test_keys_that_are_capitals_from_an_hour_on_are_told(replay):
    """The hour, and an example of each."""
    times, keys = clicks()
    later = times >= (START + 9 * 3600) * SECOND
    upper = np.where(later, np.char.upper(keys), keys)
    findings, _ = replay((times, upper))
    assert (
        f"from 2026-01-01 09:00 on no action meets an impression ({later.sum():,} actions"
        in (findings[1])
    )
    example = upper[np.argsort(times)][np.sort(times) >= (START + 9 * 3600) * SECOND][0]
    assert f"such as {str(example)!r} here and" in findings[2]
    assert len(findings) == 3


def test_clicks_that_end_before_the_impressions_are_told(replay):
    """The log is declared complete, so all later labels are negative."""
    times, keys = clicks()
    early = times < (START + 9 * 3600) * SECOND
    (found,), _ = replay((times[early], keys[early]))
    assert found.startswith("click: no impression from 2026-01-01 09:00 on has an action (")


def test_purchases_of_days_that_have_no_impressions_are_told(replay):
    """A full export of actions beside the impressions of some hours."""
    late = (START + 9 * 3600) * SECOND <= TIMES
    findings, _ = replay(clicks(), shown=(TIMES[late], KEYS[late]))
    (found,) = (text for text in findings if "until" in text)
    assert "until 2026-01-01 09:00 no action meets an impression" in found
    assert "are files of impressions missing?" in found


def test_the_one_file_with_wrong_keys_is_told(replay):
    """All orphans are from it."""
    times, keys = clicks()
    files = [(times[n::4], keys[n::4]) for n in range(4)]
    files[2] = (files[2][0], np.char.add(files[2][1], np.resize(["", "", "x"], 250)))
    findings, summary = replay(*files)
    assert summary.outcomes["click"]["orphan"] == 83
    assert [text for text in findings if "orphans are from" in text] == [
        "click: all 83 orphans are from clicks-2.parquet (33.2% of the records there, 0.0% of the "
        "others). What is different there: who writes it, its keys, its clock?"
    ]


@pytest.mark.parametrize("mode", ["immediate", "elapsed", "window_and_immediate"])
def test_rates_of_labels_are_those_of_impressions_however_samples_leave(replay, mode):
    """An impression that leaves twice is one."""
    _, expected = replay(clicks())
    _, summary = replay(clicks(), join=f'emission = "{mode}"')
    assert summary.samples.rows > SHOWN
    assert summary.labels == expected.labels


def test_a_key_with_brackets_is_printed_as_it_is(replay, tmp_path, capsys):
    """They are no markup of the terminal's."""
    from headrace.pipelines.app.cli import main

    replay(clicks(keys=np.char.add(KEYS[CLICKED], "[/b]")))
    assert main(["replay", str(tmp_path / "headrace.toml"), "--out", str(tmp_path / "out")]) == 0
    assert "[/b]' here and" in " ".join(capsys.readouterr().out.split())
