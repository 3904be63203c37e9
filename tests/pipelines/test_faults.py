"""Faults that users of stream joins report, each as a test named after it.

Logs are CSV: impressions are (time, key), clicks (time, key); times are
seconds unless a case says otherwise.
"""

from __future__ import annotations

import pytest

from tests.pipelines.rows import START, every


def test_negatives_leave_although_the_click_stream_fell_silent(replay):
    """A click stream without more clicks holds no negative back (ksqlDB 9084, KAFKA-10847)."""
    result = replay(every(60, 200), [(START + 5, "i0")])
    assert result.labels == {f"i{n}": n == 0 for n in range(200)}


def test_an_idle_partition_does_not_hold_back_progress(replay):
    """One of three impression files ends early; the others settle as usual (Beam 20908)."""
    result = replay([every(60, 100), every(60, 1, "x"), every(60, 100, "y")], [(START + 5, "y0")])
    assert len(result.samples) == 201
    assert result.labels["y0"]
    assert result.dead == []


def test_a_matched_impression_leaves_no_second_row_with_nulls(replay):
    """Each impression is one row, clicked or not (the kind of SPARK-26187)."""
    clicks = [(START + n * 60 + 30, f"i{n}") for n in range(0, 100, 2)]
    result = replay(every(60, 100), clicks, rows=7)
    assert [row["key"] for row in result.samples] == [f"i{n}" for n in range(100)]
    assert [row["click"] for row in result.samples] == [n % 2 == 0 for n in range(100)]
    assert all((row["click_time"] is not None) == row["click"] for row in result.samples)


def test_late_records_are_never_dropped_silently(replay):
    """They are counted, written to the dead letters, and reported (KAFKA-16123)."""
    clicks = [*((START + n * 60 + 30, f"i{n}") for n in range(50)), (START + 40, "i0")]
    result = replay([*every(60, 50), (START, "late")], clicks)
    assert result.dead == [("click", 50, "late"), ("impressions", 50, "late")]
    assert result.summary["outcomes"]["impressions"]["late"] == 1
    assert "impressions: 2.0 % of 51 records are late" in result.printed
    assert 'order = "sort"' in result.printed


def test_keys_that_differ_in_case_or_padding_do_not_match_but_are_reported_if_asked(replay):
    """With `near_misses`, orphans that would match a loosened key are a finding."""
    impressions = [(START, "Abc"), (START + 1, "17"), (START + 2, "other")]
    clicks = [(START + 5, "abc "), (START + 6, "0017"), (START + 7, "nowhere")]
    silent = replay(impressions, clicks)
    assert silent.dead == [("click", n, "orphan") for n in range(3)]
    assert "loose" not in silent.printed
    assert "would match" not in silent.printed
    asked = replay(impressions, clicks, monitor="near_misses = true")
    assert not any(asked.labels.values())
    assert "of 3 orphans 2 would match an impression" in asked.printed
    assert "key='abc ' here and key='Abc' there" in asked.printed


@pytest.mark.parametrize("rows", [1, 3, 1000], ids=lambda rows: f"blocks of {rows}")
@pytest.mark.parametrize("at", [0, 1, 50, 98], ids=lambda at: f"at row {at}")
def test_a_clock_that_says_2099_closes_no_window(replay, rows, at):
    """One event decades ahead of its source is a dead letter, and nothing else changes."""
    impressions = every(60, 99)
    impressions.insert(at, (4_070_908_800, "broken"))
    clicks = [(START + n * 60 + 30, f"i{n}") for n in range(99)]
    clicks.insert(40, (4_070_908_800, "i40"))
    result = replay(impressions, clicks, rows=rows)
    assert result.dead == [("click", 40, "time_jump"), ("impressions", at, "time_jump")]
    assert result.labels == {f"i{n}": True for n in range(99)}
    assert "2099" in result.letters[0]["record"]


def test_a_gap_in_the_log_is_not_a_jump(replay):
    """After three silent days every row is accepted, down to the last few."""
    later = START + 3 * 86_400
    impressions = [*every(60, 50), *every(60, 50, "b", later), (later + 5 * 86_400, "last")]
    clicks = [(START + 30, "i0"), (later + 30, "b0")]
    result = replay(impressions, clicks, rows=3)
    assert result.dead == []
    assert len(result.samples) == 101
    assert [key for key, label in result.labels.items() if label] == ["i0", "b0"]


def test_clocks_that_disagree_are_reported_and_early_corrects_them(replay):
    """A click server whose clock is behind puts clicks before their impressions."""
    clicks = [(START + n * 60 - 2, f"i{n}") for n in range(50)]
    wrong = replay(every(60, 50), clicks)
    assert not any(wrong.labels.values())
    assert "do the clocks of the two streams disagree (join.early)?" in wrong.printed
    right = replay(every(60, 50), clicks, join='early = "5s"')
    assert all(right.labels.values())
    assert right.dead == []


@pytest.mark.parametrize(
    ("factor", "unit", "says"),
    [
        (1, "ms", "all lie in 1970 (got 'ms'); are they seconds (\"s\")?"),
        (1000, "s", "lie outside 1970 to 2099 (got 's'); are they milliseconds (\"ms\")"),
        (1_000_000, "ms", "lie outside 1970 to 2099 (got 'ms'); are they microseconds (\"us\")?"),
    ],
    ids=["seconds as ms", "milliseconds as s", "microseconds as ms"],
)
def test_times_of_another_unit_are_refused(replay, factor, unit, says):
    """They would lie in 1970 or in the year 50,000; the run does not start."""
    impressions = [(time * factor, key) for time, key in every(60, 20)]
    code, error = replay(impressions, impressions[:2], time=f'unit = "{unit}"')
    assert code == 2
    assert says in error
    assert "impressions.time.unit" in error


def test_times_of_1970_are_accepted_with_any_year(replay):
    """A simulation may begin at zero."""
    rows = every(60, 20, start=0)
    result = replay(rows, [(30, "i0")], time='unit = "s", any_year = true')
    assert result.labels["i0"]


def test_local_times_are_joined_across_midnight_and_a_skipped_hour(replay):
    """In Berlin, on the night when daylight saving begins."""
    local = 'format = "%Y-%m-%d %H:%M:%S", zone = "Europe/Berlin"'
    impressions = [("2026-03-28 23:55:00", "midnight"), ("2026-03-29 01:58:00", "skipped hour"),
                   ("2026-03-29 03:10:00", "after")]  # fmt: skip
    clicks = [("2026-03-29 00:03:00", "midnight"), ("2026-03-29 03:02:00", "skipped hour"),
              ("2026-03-29 03:21:00", "after")]  # fmt: skip
    result = replay(impressions, clicks, time=local)
    # 01:58 and 03:02 are four minutes apart; 03:10 and 03:21 eleven.
    assert result.labels == {"midnight": True, "skipped hour": True, "after": False}
    shown = [row["event_time"].isoformat() for row in result.samples]
    assert shown == [f"2026-03-{t}+00:00" for t in ("28T22:55:00", "29T00:58:00", "29T01:10:00")]


def test_null_and_empty_keys_match_nothing(replay):
    """They are dead letters in both streams, not one large key."""
    impressions = [(START, ""), (START + 1, "a"), (START + 2, "")]
    clicks = [(START + 3, ""), (START + 4, "a"), (START + 5, "")]
    result = replay(impressions, clicks)
    assert result.labels == {"a": True}
    assert result.dead == [(s, n, "null_key") for s in ("click", "impressions") for n in (0, 2)]


def test_all_of_forty_clicks_on_an_impression_are_counted(replay):
    """With ids, repeated ones are counted once."""
    clicks = [(START + n * 60 + s, f"i{n}") for n in range(100) for s in range(40)]
    result = replay(every(60, 100), clicks)
    assert {row["click_count"] for row in result.samples} == {40}
    assert result.summary["outcomes"]["click"]["settled"] == 4_000
    again = replay(every(60, 100), clicks, action='id = "key"')
    assert {row["click_count"] for row in again.samples} == {1}
    assert again.summary["outcomes"]["click"]["duplicate"] == 3_900
