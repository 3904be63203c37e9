import numpy as np
import pytest

from headrace.monitoring.labels import LabelSums
from headrace.schemas.config.durations import DAY, HOUR, MINUTE, SECOND
from headrace.schemas.summary import LabelSummary

T = 20_454 * DAY


def sums(hours=4, every=MINUTE, rate=1.0):
    """Return those of an impression a minute, of which each fifth has an action after 2 min."""
    found = LabelSums(10 * MINUTE)
    time = T + np.arange(hours * HOUR // every) * every
    found.add_impressions(time, np.full(time.size, rate))
    positive = time[::5]
    found.add_positives(positive, positive + 2 * MINUTE, np.full(positive.size, rate))
    return found


def test_rates_are_by_hour_up_to_three_days_and_by_day_beyond():
    """Bins begin at whole hours and days."""
    short = sums(72, 10 * MINUTE).as_json(0)
    assert (short["bin_s"], len(short["bins"])) == (3600, 72)
    long = sums(73, 10 * MINUTE).as_json(0)
    assert (long["bin_s"], len(long["bins"])) == (86_400, 4)
    assert [of["start"][:13] for of in long["bins"][:2]] == ["2026-01-01T00", "2026-01-02T00"]
    for of in (short, long):
        assert sum(one["samples"] for one in of["bins"]) == of["samples"]
        assert sum(one["positives"] for one in of["bins"]) == of["positives"]


def test_a_rate_has_its_interval_and_is_corrected_for_sampling():
    """Of negatives each stands for four here; positives are always kept."""
    found = LabelSums(10 * MINUTE)
    time = T + np.arange(60) * MINUTE
    positive = np.arange(60) < 10
    rate = np.where(positive, 1.0, 0.25)
    found.add_impressions(time, rate)
    found.add_positives(time[positive], time[positive] + 1, rate[positive])
    of = found.as_json(0)
    assert (of["samples"], of["positives"], of["weight"]) == (60, 10, 210.0)
    assert of["label_rate"] == pytest.approx(10 / 210)
    low, high = of["label_rate_interval"]
    assert low < 10 / 210 < high


def test_a_rate_is_unknown_where_positives_are_more_than_impressions():
    """What these were at first left in a run before, or was left out by sampling."""
    found = LabelSums(10 * MINUTE)
    found.add_positives(np.array([T, T]), np.array([T, T]), np.ones(2))
    found.add_impressions(np.array([T, T + HOUR]), np.ones(2))
    of = found.as_json(0)
    assert (of["samples"], of["positives"], of["label_rate"]) == (2, 2, 1.0)
    assert [one["label_rate"] for one in of["bins"]] == [None, 0.0]
    assert of["bins"][0]["label_rate_interval"] is None
    LabelSummary.model_validate({**of, "window_s": 600.0, "outside_window": 0, "orphans": 0,
                                 "late": 0})  # fmt: skip


def test_coverage_is_of_all_actions_of_known_impressions():
    """Parts of the window are open at their ends."""
    found = LabelSums(8 * MINUTE)
    shown = np.full(10, T)
    delay = np.array([0, 1, 2, 2, 3, 3.9, 4, 5, 7, 7.9]) * MINUTE
    found.add_positives(shown, T + delay.astype(np.int64), np.ones(10))
    assert found.as_json(0)["coverage"] == {"quarter": 0.2, "half": 0.6, "window": 1.0}
    assert found.as_json(10)["coverage"] == {"quarter": 0.1, "half": 0.3, "window": 0.5}
    assert set(LabelSums(MINUTE).as_json(0)["coverage"].values()) == {None}


def test_actions_are_counted_in_the_hour_in_which_they_come():
    """Their impressions may be of the hour before."""
    found = LabelSums(10 * MINUTE)
    found.add_positives(np.array([T - SECOND]), np.array([T + SECOND]), np.ones(1))
    assert found.met == {T: 1}
    assert [start for start, _ in found.hours] == [T - HOUR]


def test_nearly_all_actions_have_come_by_the_reach():
    """One of the usual durations, and not beyond the window."""
    assert sums().reach == 5 * MINUTE  # the first usual duration above 2 min
    assert LabelSums(MINUTE).reach == MINUTE


def test_sums_may_be_added_in_any_parts():
    """One batch or many."""
    whole, parts = sums(5), LabelSums(10 * MINUTE)
    time = T + np.arange(300) * MINUTE
    for begin in range(0, 300, 7):
        some = time[begin : begin + 7]
        parts.add_impressions(some, np.ones(some.size))
        positive = some[np.arange(begin, begin + some.size) % 5 == 0]
        parts.add_positives(positive, positive + 2 * MINUTE, np.ones(positive.size))
    assert parts.as_json(3) == whole.as_json(3)
    assert (parts.met, parts.reach) == (whole.met, whole.reach)


def test_the_section_of_a_label_has_the_form_of_the_summary():
    """With and without samples."""
    counts = {"window_s": 600.0, "outside_window": 3, "orphans": 0, "late": 0}
    for found in (sums(), LabelSums(10 * MINUTE)):
        LabelSummary.model_validate({**found.as_json(3), **counts})
