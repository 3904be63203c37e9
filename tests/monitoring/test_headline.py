import numpy as np
import pyarrow as pa
import pytest

from headrace.monitoring.headline import (
    bucketed,
    headline,
    judged,
    summed,
    warm_up,
    worst_slice,
)
from headrace.monitoring.statistics import Observation, Statistics
from headrace.schemas.config.durations import DAY, HOUR


def windows_at(*starts):
    return [(start, np.ones(9)) for start in starts]


def observed(rows, label, p, mature=None, **slices):
    """Return statistics of hourly windows with equal predictions."""
    statistics = Statistics(HOUR, tuple(slices))
    columns = {name: pa.array(values) for name, values in slices.items()}
    margin = np.full(rows, np.log(p / (1 - p)))
    times = np.arange(rows) * 10 * HOUR // rows
    label = np.asarray(label, float)
    statistics.observe(Observation(times, label, np.ones(rows), margin, columns, mature))
    return statistics


@pytest.mark.parametrize(
    ("starts", "left_out"),
    [
        ([], 0),
        (range(0, 9 * HOUR, HOUR), 0),
        (range(0, 25 * HOUR, HOUR), 2),
        (range(0, 3 * DAY, HOUR), 7),
        (range(0, 3 * DAY + HOUR, HOUR), 24),
        ([0, DAY, 2 * DAY, 9 * DAY], 1),
    ],
    ids=["none", "nine", "a day", "three days", "more", "gaps"],
)
def test_the_warm_up_is_a_day_of_a_long_log_and_a_tenth_of_a_short_one(starts, left_out):
    """Windows without samples are not there, and are not counted."""
    assert warm_up(windows_at(*starts), HOUR) == left_out


def test_headline_figures_leave_the_warm_up_out():
    """Of ten windows the first, in which all labels are positive."""
    label = [1] * 100 + ([1] * 10 + [0] * 90) * 9
    found = headline(observed(1_000, label, 0.1))
    assert (found["since"], found["windows"], found["left_out"]) == (HOUR, 9, 1)
    assert (found["samples"], found["positives"], found["label_rate"]) == (900, 90, 0.1)
    assert found["actual"] == pytest.approx(1.0)
    assert found["actual_interval"][0] < 1 < found["actual_interval"][1]
    # All windows are alike, so that nothing is uncertain.
    assert found["normalized_entropy_interval"] == pytest.approx([1.0, 1.0])
    assert headline(Statistics(HOUR, ())) is None


def test_a_run_is_judged_by_final_labels():
    """As served where those of learned samples may change; by none if nothing was served."""
    young = observed(10, [0] * 10, 0.1, np.arange(10) < 9)
    final, empty = observed(10, [0] * 10, 0.1), Statistics(HOUR, ())
    assert judged(final, None) is final
    assert judged(young, final) is final
    assert judged(young, empty) is None
    assert judged(young, None) is None
    assert judged(empty, None) is empty


def test_the_worst_slice_is_the_one_that_is_surely_off():
    """Not a small one that is further off by chance, nor one too small to be judged."""
    device = ["large"] * 4_000 + ["small"] * 300 + ["tiny"] * 100
    label = [1, 0, 0, 0, 0] * 800 + [0] * 4 + [1] * 52 + [0] * 244 + [1] * 100
    statistics = observed(4_400, label, 0.1, device=device)
    worst = worst_slice(statistics, 0)
    assert (worst.value, worst.samples, worst.positives, worst.among) == ("large", 4_000, 800, 2)
    assert worst.actual == pytest.approx(2.0)
    assert 1.8 < worst.low < 2.0 < worst.high < 2.2
    assert worst.beyond == worst.low


def test_a_slice_without_positives_is_off_by_what_was_expected():
    """A dead one has the ratio 0."""
    device = ["dead"] * 500 + ["good"] * 500
    worst = worst_slice(observed(1_000, [0] * 500 + [1, 0] * 250, 0.5, device=device), 0)
    assert (worst.value, worst.actual, worst.low) == ("dead", 0.0, 0.0)
    assert worst.beyond == pytest.approx(1 / worst.high)


def test_no_slice_is_the_worst_if_none_has_enough():
    """Or if there are no columns to slice by."""
    assert worst_slice(observed(100, [0] * 100, 0.1, device=["a", "b"] * 50), 0) is None
    assert worst_slice(observed(100, [0] * 100, 0.1), 0) is None


def test_values_summed_as_others_are_no_slice(monkeypatch):
    """They are many things."""
    monkeypatch.setattr("headrace.monitoring.statistics.MOST_VALUES", 1)
    statistics = observed(1_000, [1] * 1_000, 0.5, device=["a", "b"] * 500)
    assert set(statistics.totals("device")) == {"a", "(other)"}
    assert worst_slice(statistics, 0).value == "a"


def test_the_figures_of_each_slice_may_begin_late():
    """The worst after a time, of what came before nothing is said."""
    device = ["a"] * 500 + ["b"] * 500
    statistics = observed(1_000, [1] * 500 + [0] * 500, 0.5, device=device)
    assert worst_slice(statistics, 0).among == 2
    assert worst_slice(statistics, 5 * HOUR).among == 1


def test_windows_are_added_up_until_few_are_left():
    """Nothing is lost, and buckets begin at multiples of their length."""
    windows = windows_at(*range(HOUR, 101 * HOUR, HOUR))
    buckets, length = bucketed(windows, HOUR, 30)
    assert length == 4 * HOUR
    assert len(buckets) <= 30
    assert sum(sums[0] for _, sums in buckets) == 100
    assert all(start % length == 0 for start, _ in buckets)
    assert bucketed(windows[:7], HOUR, 30)[1] == HOUR
    assert bucketed([], HOUR, 30) == ([], HOUR)
    assert summed(windows, 101 * HOUR)[0][1].tolist() == [100.0] * 9
    assert windows[0][1].tolist() == [1.0] * 9
