"""Dead letters say why, in words with the times that decided it."""

from __future__ import annotations

import numpy as np
import pytest

from headrace.schemas.config.durations import format_duration, format_moment
from headrace.schemas.records.texts import duration_texts, moment_texts
from tests.pipelines.rows import START

MINUTE = 60
JOINED = 'out_of_orderness = "1m"\ndedup_horizon = "1h"\nearly = "5s"'
FOREVER = [(START + 2 * 86_400, "end")]
"""A record after everything else."""


def details(result):
    return {
        (row["stream"], row["offset"]): row["detail"]
        for row in result.letters
    }  # fmt: skip


def test_every_reason_has_its_sentence(replay):
    """Windows are 10 minutes, so an impression settles 10 minutes and 0 seconds after it."""
    impressions = [
        (START, "a"), (START + 20 * MINUTE, "b"), (START + 25 * MINUTE, "a"),
        (START + 5 * MINUTE, "late"), *FOREVER,
    ]  # fmt: skip
    clicks = [
        (START + 5, "a"), (START + 9, "a"), (START + 19 * MINUTE, "b"), (START + 31 * MINUTE, "b"),
        (START + 32 * MINUTE, "nobody"), (START + 7 * MINUTE, "a"), *FOREVER,
    ]  # fmt: skip
    result = replay(impressions, clicks, action='id = "key"', join=JOINED)
    assert details(result) == {
        ("click", 1): "its id counted already for the impression of 2026-01-01 00:00:00: "
        "clicks-0.csv line 2, of 2026-01-01 00:00:05",
        ("click", 2): "it came 1m before the impression of 2026-01-01 00:20:00; early is 5s",
        ("click", 3): "it came 11m after the impression of 2026-01-01 00:20:00; its window is 10m",
        ("click", 4): "no impression of its key was remembered, or came before 2026-01-01 00:42:00",
        ("click", 5): "its source was already at 2026-01-01 00:31:00; its impression of "
        "2026-01-01 00:00:00 had settled at 2026-01-01 00:10:00",
        ("impressions", 2): "its key was kept of the impression of 2026-01-01 00:00:00, 25m "
        "before; dedup_horizon is 1h",
        ("impressions", 3): "its source was already at 2026-01-01 00:24:00; the impression had "
        "settled at 2026-01-01 00:15:00",
    }


def test_the_kept_copy_may_have_the_later_time(replay):
    """With joined actions the first to be known is kept; fractions of a second are shown."""
    impressions = [(START + MINUTE, "a"), (START + 2 * MINUTE, "b"), (START + 0.25, "a"), *FOREVER]
    joined = 'dedup_horizon = "1h"\njoined = true'
    result = replay(impressions, [(START + 20 * MINUTE, "end")], join=joined)
    assert details(result)["impressions", 2] == (
        "its key was kept of the impression of 2026-01-01 00:01:00, 59s 750ms after; "
        "dedup_horizon is 1h"
    )


@pytest.mark.parametrize("order", ["sorted", "sort"])
def test_lines_in_sentences_are_those_of_the_file(replay, order):
    """Also where records are sorted, and have other positions in the source's order."""
    clicks = [(START + 9 * MINUTE, "b"), (START + 30, "a"), (START + 31, "a"), *FOREVER]
    result = replay(
        [(START, "a"), (START, "b"), *FOREVER], clicks,
        action=f'id = "key"\norder = "{order}"', join=JOINED,
    )  # fmt: skip
    assert details(result)["click", 2] == (
        "its id counted already for the impression of 2026-01-01 00:00:00: "
        "clicks-0.csv line 3, of 2026-01-01 00:00:30"
    )


def test_texts_of_columns_are_those_of_single_values():
    """To the second, which is how single moments are written."""
    durations = [0, 1, 1_000, 61_000_000, 86_400_000_001, 7 * 86_400_000_000 + 10_000_000]
    expected = [format_duration(duration) for duration in durations]
    assert duration_texts(np.array(durations)).to_pylist() == expected
    assert duration_texts(np.empty(0, np.int64)).to_pylist() == []
    moments = [0, START * 1_000_000, (START + 10) * 1_000_000]
    assert moment_texts(np.array(moments)).to_pylist() == [format_moment(m) for m in moments]
    parts = [START * 1_000_000 + 1, START * 1_000_000 + 500_000, -1]
    assert moment_texts(np.array(parts)).to_pylist() == [
        "2026-01-01 00:00:00.000001", "2026-01-01 00:00:00.5", "1969-12-31 23:59:59.999999",
    ]  # fmt: skip
