"""Delays of actions, and the part of them that a window catches."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.monitoring.delays import DelayHistogram, Delays, nice_window
from headrace.schemas.config.durations import DAY, HOUR, MINUTE, SECOND


def survival_of(rows, longest, watched_until, resolution=1):
    delays = Delays(longest, resolution)
    time, delay = (np.array(column) for column in zip(*rows, strict=True))
    delays.add(time, delay)
    return delays.survival(watched_until)


def test_survival_is_the_product_over_impressions_at_risk():
    """By hand, of five: one action after 2 (5 at risk), one is censored, one action after 6 (3)."""
    rows = [(0, 2), (0, 6), (0, -1), (6, -1), (0, -1)]
    survival = survival_of(rows, longest=100, watched_until=10)
    assert survival.delay.tolist() == [2, 6]
    assert survival.at_risk.tolist() == [5, 3]
    assert survival.share == pytest.approx([4 / 5, 4 / 5 * 2 / 3])
    assert survival.caught(2) == 0.0  # a window is open at its end
    assert survival.caught(3) == pytest.approx(1 / 5)
    assert survival.coverage(7) == 1.0
    assert survival.coverage(3) == pytest.approx((1 / 5) / (1 - 8 / 15))
    assert survival.window_for(0.4) == 3
    assert survival.window_for(0.5) == 7


def test_censored_impressions_do_not_shorten_delays():
    """With half of the log too young, the estimate equals that of a log watched to the end."""
    random = np.random.default_rng(5)
    count, span = 200_000, 4 * HOUR
    time = np.sort(random.integers(0, span, count))
    delay = np.where(random.random(count) < 0.3, random.exponential(HOUR, count), -1).astype(int)
    longest = 2 * HOUR
    whole = np.where(delay >= longest, -1, delay)
    observed = np.where(time + whole < span, whole, -1)
    truth = survival_of(zip(time, whole, strict=True), longest, 10 * span, SECOND)
    estimate = survival_of(zip(time, observed, strict=True), longest, span, SECOND)
    came = observed >= 0
    naive = np.count_nonzero(came & (observed < HOUR)) / np.count_nonzero(came)
    assert estimate.coverage(HOUR) == pytest.approx(truth.coverage(HOUR), abs=0.005)
    assert abs(naive - truth.coverage(HOUR)) > 0.02


def test_delays_do_not_depend_on_batch_cuts():
    """However the impressions are cut, the estimate is the same."""
    rows = [(t, t % 7 if t % 3 else -1) for t in range(100)]
    whole = survival_of(rows, 50, 120)
    parts = Delays(50, 1)
    for begin in range(0, 100, 9):
        time, delay = (np.array(column) for column in zip(*rows[begin : begin + 9], strict=True))
        parts.add(time, delay)
    again = parts.survival(120)
    assert again.share.tolist() == whole.share.tolist()
    assert parts.impressions_by_hour() == {0: 100}


def test_without_actions_no_window_is_recommended():
    """Coverage is undefined then."""
    survival = survival_of([(0, -1), (5, -1)], 10, 100)
    assert survival.window_for(0.9) is None
    assert survival.coverage(5) is None


def test_windows_are_rounded_up_to_usual_ones():
    """Nine and a half minutes become ten; ten stay ten."""
    assert nice_window(9 * MINUTE + 30 * SECOND) == 10 * MINUTE
    assert nice_window(10 * MINUTE) == 10 * MINUTE


def test_actions_are_counted_between_the_durations_that_people_use():
    """An edge belongs to the bin after it; what a window cuts has the window's end."""
    histogram = DelayHistogram()
    histogram.add(np.array([0, 999_999, 1_000_000, 7 * SECOND, 14 * SECOND]))
    assert histogram.as_json(15 * SECOND) == [
        {"below_s": 1.0, "actions": 2}, {"below_s": 2.0, "actions": 1},
        {"below_s": 5.0, "actions": 0}, {"below_s": 10.0, "actions": 1},
        {"below_s": 15.0, "actions": 1},
    ]  # fmt: skip


def test_empty_bins_before_the_first_action_are_left_out():
    """A log without actions has one bin, up to the window; one longer than all edges its own."""
    histogram = DelayHistogram()
    assert histogram.as_json(HOUR) == [{"below_s": 3600.0, "actions": 0}]
    histogram.add(np.array([100 * DAY]))
    assert histogram.as_json(120 * DAY) == [{"below_s": 120 * 86_400.0, "actions": 1}]


@given(st.lists(st.integers(0, 400 * DAY), max_size=50), st.integers(0, 50))
def test_histograms_of_parts_add_up(delays, cut):
    """In any order."""
    whole, first, second = DelayHistogram(), DelayHistogram(), DelayHistogram()
    whole.add(np.array(delays, np.int64))
    first.add(np.array(delays[:cut], np.int64))
    second.add(np.array(delays[cut:], np.int64))
    second.merge(first)
    assert second.counts.tolist() == whole.counts.tolist()
    assert whole.counts.sum() == len(delays)
