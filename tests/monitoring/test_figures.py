"""Figures: what was taken out of statistics still counts, and nothing ever falls."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from headrace.monitoring.figures import LOGIT_EDGES, MOST_SHOWN, Cells, Running, Shown, logit_bins
from headrace.monitoring.statistics import (
    LOGIT_BINS,
    OTHER,
    SUMS,
    Observation,
    Statistics,
)


def observed(times, labels, devices, margin=0.0):
    n = len(times)
    label = np.array(labels, float)
    return Observation(
        np.array(times, np.int64), label, np.full(n, 2.0), np.full(n, margin),
        {"device": pa.array(devices)},
    )  # fmt: skip


def by_cell(cells):
    names = zip(cells.slices, cells.values, strict=True)
    return {name: sums.tolist() for name, sums in zip(names, cells.sums, strict=True)}


LOSS = np.log(2)


def test_totals_are_the_sums_over_all_windows_also_those_taken_out():
    statistics, running = Statistics(10, ("device",)), Running()
    statistics.observe(observed([1, 2, 12], [1, 0, 1], ["a", "b", "a"]))
    whole = {
        ("", ""): [3, 2, 6, 4, 3, 6 * LOSS, 12, 8, 3],
        ("device", "a"): [2, 2, 4, 4, 2, 4 * LOSS, 8, 8, 2],
        ("device", "b"): [1, 0, 2, 0, 1, 2 * LOSS, 4, 0, 1],
    }
    for name, sums in by_cell(running.totals(statistics)).items():
        assert sums == pytest.approx(whole[name])
    running.take(statistics.take_before(10, "l", "learned"), 10)
    for name, sums in by_cell(running.totals(statistics)).items():
        assert sums == pytest.approx(whole[name])
    statistics.observe(observed([13], [0], ["c"]))
    after = by_cell(running.totals(statistics))
    assert after["", ""][:2] == [4, 2]
    assert after["device", "c"][:2] == [1, 0]


def test_the_latest_window_is_the_same_whether_windows_are_taken_out_or_kept():
    kept, taken, running, live = *(Statistics(10, ("device",)) for _ in "ab"), Running(), Running()
    for statistics in (kept, taken):
        statistics.observe(observed([1, 2, 12, 25], [1, 0, 1, 0], ["a", "b", "a", "b"]))
    assert running.window(kept, 9) is None
    live.take(taken.take_before(20, "l", "learned"), 10)
    for of, statistics in ((running, kept), (live, taken)):
        window = of.window(statistics, 20)
        assert (window.start, window.end) == (10, 20)
        cells = by_cell(window.cells)
        assert cells.keys() == {("", ""), ("device", "a")}
        for sums in cells.values():
            assert sums == pytest.approx([1, 1, 2, 2, 1, 2 * LOSS, 4, 4, 1])


def test_what_was_taken_out_outlives_the_process():
    statistics, running = Statistics(10, ("device",)), Running()
    statistics.observe(observed([1, 12], [1, 0], ["a", "b"]))
    running.take(statistics.take_before(10, "l", "learned"), 10)
    again, restored = Running(), Statistics(10, ("device",))
    restored.restore(statistics.export())
    again.restore(running.export())
    assert by_cell(again.totals(restored)) == by_cell(running.totals(statistics))
    assert again.window(restored, 10).end == 10


def test_values_beyond_those_shown_are_counted_together():
    cells = Cells(
        ("", "app", "app", "app"), ("", "x", "y", OTHER),
        np.arange(4.0)[:, None] * np.ones(len(SUMS)),
    )  # fmt: skip
    limited = cells.limited({"app": ("x",)})
    assert limited.slices == ("", "app", "app")
    assert limited.values == ("", "x", OTHER)
    assert limited.sums[:, 0].tolist() == [0, 1, 5]


def test_a_value_that_is_shown_stays_so_however_many_others_come():
    def cells(counts):
        sums = np.zeros((len(counts), len(SUMS)))
        sums[:, 0] = list(counts.values())
        return Cells(("app",) * len(counts), tuple(counts), sums)

    shown = Shown()
    shown.admit(cells({OTHER: 99.0, **{f"a{i}": float(i) for i in range(MOST_SHOWN - 1)}}))
    shown.admit(cells({"small": 1.0, "large": 9.0}))
    shown.admit(cells({"huge": 1e9}))
    (values,) = shown.by_column.values()
    assert len(values) == MOST_SHOWN
    assert values[0] == f"a{MOST_SHOWN - 2}"
    assert values[-1] == "large"


def test_log_odds_are_counted_between_whole_numbers():
    statistics = Statistics(10, ())
    for margin in (-30.0, -9.0, -1.0, 0.999, 9.0, 30.0):
        statistics.observe(observed([1], [1], ["a"], margin))
    bins = logit_bins(statistics.bins)
    assert bins.shape == (2, len(LOGIT_EDGES) + 1)
    assert bins.sum() == statistics.bins.sum()
    assert statistics.bins.shape == (2, LOGIT_BINS)
    found = dict(zip([*LOGIT_EDGES, "more"], bins[1].tolist(), strict=True))
    assert {edge: n for edge, n in found.items() if n} == {-9: 2, -8: 2, 0: 2, 1: 2, "more": 4}
