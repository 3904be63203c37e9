"""Where a run stands: the worst comes first."""

from __future__ import annotations

import pytest

from headrace.monitoring.figures import GuardScope
from headrace.monitoring.standing import learners, streams, worst_scopes
from headrace.schemas.config.durations import MINUTE
from tests.monitoring.watched import figures, sums

ALL = ("", "")


def test_positives_are_compared_with_the_sum_of_predictions():
    """With its interval, exact for a Poisson variable."""
    (found,) = learners(figures({ALL: sums(1000, 100, 80, loss=300)}))
    assert (found.whole.samples, found.whole.positives, found.whole.expected) == (1000, 100, 80)
    assert found.whole.ratio == pytest.approx(1.25)
    assert found.whole.log_loss == pytest.approx(0.3)
    assert (found.whole.low, found.whole.high) == pytest.approx((81.36 / 80, 121.63 / 80), rel=1e-3)


def test_what_the_guard_holds_back_comes_before_what_is_only_off():
    """Then what is surely off by the largest factor; chance comes last."""
    guard = [GuardScope("click", "", "", "watching", 30, 31.0)] + [
        GuardScope("click", "app", value, state, 30, 31.0)
        for value, state in (("warned", "warned"), ("off", "watching"), ("gone", "disconnected"))
    ]
    (found,) = learners(figures({
        ALL: sums(4000, 400, 400), ("app", "chance"): sums(100, 27, 20),
        ("app", "off"): sums(1000, 200, 100), ("app", "further"): sums(1000, 300, 100),
        ("app", "warned"): sums(1000, 100, 100), ("app", "gone"): sums(1000, 100, 100),
        ("app", "small"): sums(10, 9, 1),
    }, guard=guard))  # fmt: skip
    assert [of.value for of in found.slices] == [
        "gone", "warned", "further", "off", "chance", "small",
    ]  # fmt: skip
    assert [of.beyond > 1 for of in found.slices[2:]] == [True, True, False, False]
    assert found.worst.value == "gone"


def test_a_value_that_is_off_in_the_latest_window_is_found_though_its_totals_are_right():
    """A run that goes on for months would hide it."""
    (found,) = learners(figures(
        {ALL: sums(9, 9, 9), ("app", "a"): sums(10**6, 1000, 1000),
         ("app", "b"): sums(10**6, 1000, 1000)},
        window={ALL: sums(9, 9, 9), ("app", "b"): sums(500, 5, 60)},
    ))  # fmt: skip
    assert [of.value for of in found.slices] == ["b", "a"]
    assert found.slices[0].beyond > 2
    assert found.slices[1].window is None


def test_small_values_are_not_judged_and_neither_is_a_run_without_any():
    """Nine positives for one expected may be nothing."""
    (found,) = learners(figures({ALL: sums(10, 9, 1), ("app", "small"): sums(10, 9, 1)}))
    assert found.worst is None
    (found,) = learners(figures({}))
    assert (found.whole.samples, found.whole.ratio, found.whole.log_loss) == (0, None, None)


@pytest.mark.parametrize(
    ("mature", "served", "predicted"),
    [(1000, {ALL: sums(50, 5, 5)}, "learned"), (900, {ALL: sums(50, 5, 5)}, "served"),
     (900, {}, "learned")],
)  # fmt: skip
def test_final_labels_are_judged(mature, served, predicted):
    """Those of samples that leave early come too soon; as served they are final."""
    (found,) = learners(figures({ALL: sums(1000, 100, 100, mature=mature)}, served=served))
    assert found.predicted == predicted


def test_a_stream_is_behind_by_the_events_of_the_others():
    """A stream of which nobody has said how much waits has no lag."""
    views, click = streams(figures())
    assert (views.name, views.behind, views.lag, views.ended) == ("views", 0, 7, False)
    assert (click.records, click.rejected, click.behind) == (92, 3, MINUTE)
    of = figures()
    of["sources"][1].update(lag=None, event_time=None)
    assert [(found.lag, found.behind) for found in streams(of)] == [(7, 0), (None, None)]
    assert [found.event_time for found in streams(figures(sources=()))] == [None, None]


def test_scopes_of_a_guard_are_in_order_of_their_states_and_then_of_their_blocks():
    """One without a block is last."""
    found = worst_scopes([
        {"state": "young", "positives": None, "expected": None, "value": "e"},
        {"state": "watching", "positives": 10, "expected": 11.0, "value": "d"},
        {"state": "watching", "positives": 0, "expected": 11.0, "value": "c"},
        {"state": "warned", "positives": 9, "expected": 9.0, "value": "b"},
        {"state": "asking", "positives": 9, "expected": 9.0, "value": "a"},
    ])  # fmt: skip
    assert [of["value"] for of in found] == list("abcde")
