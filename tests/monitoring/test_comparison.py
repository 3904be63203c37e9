"""Paired differences of log loss, and their intervals."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.monitoring.comparison import FEWEST_WINDOWS, Comparison

HOUR = 3_600_000_000


def test_without_windows_it_is_the_interval_of_paired_rows():
    """That of a t-test with many rows."""
    from scipy import stats

    random = np.random.default_rng(1)
    one, other = random.random(5_000), random.random(5_000)
    comparison = Comparison(HOUR)
    comparison.observe(random.integers(0, 3 * HOUR, 5_000), one, other)
    found = comparison.difference()
    expected = stats.ttest_rel(one, other).confidence_interval(0.95)
    assert found.rows == 5_000
    assert found.windows is None
    assert found.mean == pytest.approx((one - other).mean())
    assert (found.low, found.high) == pytest.approx(tuple(expected), rel=2e-3)


def test_the_interval_of_windows_covers_the_truth():
    """Nineteen of twenty times, where that of rows is far too narrow."""
    random = np.random.default_rng(2)
    covered = narrow = 0
    for _ in range(400):
        windows = 40
        shared = np.repeat(random.normal(0, 0.1, windows), 50)
        difference = 0.02 + shared + random.normal(0, 0.2, shared.size)
        comparison = Comparison(HOUR)
        comparison.observe(
            np.repeat(np.arange(windows) * HOUR, 50), difference, np.zeros(shared.size)
        )
        found = comparison.difference()
        assert found.windows == windows
        covered += found.low <= 0.02 <= found.high
        half = 1.96 * difference.std() / np.sqrt(difference.size)
        narrow += abs(difference.mean() - 0.02) <= half
    assert 0.91 < covered / 400 < 0.98
    assert narrow / 400 < 0.7


@pytest.mark.parametrize("windows", [FEWEST_WINDOWS - 1, FEWEST_WINDOWS])
def test_equal_learners_differ_by_nothing(windows):
    """Exactly, and surely."""
    comparison = Comparison(HOUR)
    loss = np.random.default_rng(3).random(windows)
    comparison.observe(np.arange(windows) * HOUR, loss, loss)
    found = comparison.difference()
    assert (found.mean, found.low, found.high) == (0.0, 0.0, 0.0)


def test_nothing_is_said_of_less_than_two_rows():
    comparison = Comparison(HOUR)
    assert comparison.difference() is None
    comparison.observe(np.zeros(1, np.int64), np.ones(1), np.zeros(1))
    assert comparison.difference() is None


@given(st.lists(st.integers(0, 9), max_size=6), st.integers(0, 5))
def test_neither_cuts_nor_saving_change_the_sums(sizes, saved):
    random = np.random.default_rng(4)
    rows = sum(sizes)
    time = np.sort(random.integers(0, 4 * HOUR, rows))
    one, other = random.random(rows), random.random(rows)
    whole, parts, at = Comparison(HOUR), Comparison(HOUR), 0
    whole.observe(time, one, other)
    for number, size in enumerate(sizes):
        if number == saved:
            state = json.loads(json.dumps(parts.export()))
            parts = Comparison(HOUR)
            parts.restore(state)
        here = slice(at, at + size)
        parts.observe(time[here], one[here], other[here])
        at += size
    assert parts.sums == whole.sums
