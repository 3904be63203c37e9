import re
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest

from headrace.monitoring.report.charts import entropy_chart, heat_map, rate_chart, reliability_chart
from headrace.monitoring.report.svg import WIDTH
from headrace.monitoring.report.verdict import headline_rows, number, verdicts, with_interval
from headrace.monitoring.report.watching import delay_bars, guard_chart, guard_spans, slice_chart
from headrace.monitoring.statistics import Observation, Statistics
from headrace.schemas.config.durations import HOUR

DAY_1 = int(datetime(2026, 5, 1, tzinfo=UTC).timestamp() * 1e6)


def journal(*rows):
    """Return a guard's journal: (hours since DAY_1, slice, value, event) of each row."""
    hours, slices, values, events = zip(*rows, strict=True) if rows else ((),) * 4
    return pa.table(
        {
            "time": pa.array([DAY_1 + hour * HOUR for hour in hours], pa.timestamp("us", "UTC")),
            "label": pa.array(["click"] * len(rows), pa.string()),
            "slice": pa.array(slices, pa.string()),
            "value": pa.array(values, pa.string()),
            "event": pa.array(events, pa.string()),
            "reason": pa.array(["because"] * len(rows), pa.string()),
        }
    )


def statistics_of(rows=5_000, hours=100, factor=1.0, values=tuple(f"d{n}" for n in range(20))):
    random = np.random.default_rng(0)
    margin = random.normal(-2, 1, rows)
    label = (random.random(rows) < factor / (1 + np.exp(-margin))).astype(float)
    statistics = Statistics(HOUR, ("device",))
    times = DAY_1 + np.arange(rows) * hours * HOUR // rows
    device = pa.array([values[i % len(values)] for i in range(rows)])
    statistics.observe(Observation(times, label, np.ones(rows), margin, {"device": device}))
    return statistics


def test_a_guard_is_in_one_state_at_any_time():
    """Young until it is armed; a slice is watched until something is suspected."""
    rows = journal(
        (24, None, None, "armed"), (30, "device", "tv", "warn"), (31, "device", "tv", "disconnect"),
        (32, None, None, "warn"), (33, None, None, "calm"), (40, "device", "tv", "ask"),
        (41, "device", "tv", "accept"),
    )  # fmt: skip
    begin, end = DAY_1, DAY_1 + 48 * HOUR

    def hours(milliseconds):
        return (milliseconds * 1000 - begin) // HOUR

    found = [
        (of["scope"], of["state"], hours(of["from"]), hours(of["to"]))
        for of in guard_spans(rows, begin, end)
    ]
    assert found == [
        ("click", "young", 0, 24), ("click", "watching", 24, 32), ("click", "warned", 32, 33),
        ("click", "watching", 33, 48),
        ("click: device tv", "watching", 0, 30), ("click: device tv", "warned", 30, 31),
        ("click: device tv", "disconnected", 31, 40), ("click: device tv", "asking", 40, 41),
        ("click: device tv", "watching", 41, 48),
    ]  # fmt: skip
    assert "disconnected" in guard_chart(rows, begin, end)


def test_arrivals_have_states_of_their_own():
    """Beside those of labels, whose events they do not end."""
    rows = journal(
        (1, None, None, "armed"), (2, None, None, "lead-armed"), (3, None, None, "lead-disconnect"),
        (4, None, None, "disconnect"), (5, None, None, "lead-reconnect"),
    )  # fmt: skip
    found = [
        (of["scope"], of["state"]) for of in guard_spans(rows, DAY_1, DAY_1 + 6 * HOUR)
    ]  # fmt: skip
    assert found == [
        ("click", "young"), ("click", "watching"), ("click", "disconnected"),
        ("click: arrivals", "young"), ("click: arrivals", "watching"),
        ("click: arrivals", "disconnected"), ("click: arrivals", "watching"),
    ]  # fmt: skip


def test_a_guard_that_said_nothing_has_no_chart():
    """The page says so."""
    assert guard_chart(journal(), DAY_1, DAY_1 + HOUR) == ""


def test_a_slice_that_is_off_has_the_colour_of_its_band():
    """Twice and more, or in the tolerated band."""
    off, right = (slice_chart(statistics_of(factor=by), "device") for by in (2.6, 1.0))
    of_cells = [re.findall(r'fill="var\(--heat(\d)\)"', chart) for chart in (off, right)]
    assert of_cells[0].count("6") > 5 * of_cells[1].count("6")
    assert of_cells[1].count("3") > of_cells[0].count("3")


ODD = 'a\u2028"\x1b'


@pytest.mark.parametrize(
    "draw",
    [
        lambda: guard_chart(journal((1, "site", ODD, "armed")), DAY_1, DAY_1 + 4 * HOUR),
        lambda: heat_map([{"learner": "one", "value": ODD, "change": 0.1}], ODD),
        lambda: slice_chart(statistics_of(values=[ODD]), "device"),
    ],
    ids=["of a guard", "of learners", "of predictions"],
)
def test_values_may_have_any_characters(draw):
    """Vega makes expressions of the texts by which it sorts."""
    assert r"a\u2028" in draw()


def test_only_the_largest_values_are_drawn():
    """Twelve of twenty, and nothing without samples."""
    drawn = re.findall(r">(d\d+)<", slice_chart(statistics_of(), "device"))
    assert len(set(drawn)) == 12
    assert slice_chart(Statistics(HOUR, ("device",)), "device") == ""


@pytest.mark.parametrize(
    "draw",
    [
        rate_chart, entropy_chart, reliability_chart, lambda of: slice_chart(of, "device"),
        lambda _: delay_bars("click", [{"below_s": 1.0, "actions": 3}]),
    ],
    ids=["rate", "entropy", "reliability", "slices", "delays"],
)  # fmt: skip
def test_a_chart_is_as_wide_as_all_others_follows_the_page_and_is_always_the_same(draw):
    """Its colours are variables of the page, and nothing in it depends on what was drawn before."""
    statistics = statistics_of()
    chart = draw(statistics)
    assert f'width="{WIDTH}"' in chart
    assert set(re.findall(r'(?:fill|stroke)="([^"]+)"', chart)) <= {
        "none", "transparent", *re.findall(r"var\(--\w+\)", chart),
    }  # fmt: skip
    assert chart.count("aria-label") <= 4  # of title and legend, not of each mark
    rate_chart(statistics)
    assert draw(statistics) == chart


def test_axes_have_dates():
    """Also where hours are shown."""
    assert "May 01" in rate_chart(statistics_of(hours=24))
    assert "12:00" in rate_chart(statistics_of(hours=24))
    assert "May 03" in rate_chart(statistics_of(hours=240))


def test_labels_without_delays_have_no_chart():
    """No action came."""
    assert delay_bars("click", [{"below_s": 1.0, "actions": 0}]) == ""


def learner(label="click", actual=1.0, interval=(0.9, 1.1), worst=None):
    return {
        "label": label,
        "after_warm_up": {
            "actual": actual, "actual_interval": list(interval), "positives": 1_234,
            "samples": 56_789,
        },
        "worst_slice": worst,
    }  # fmt: skip


WORST = {
    "slice": "device", "value": "tv", "actual": 0.5, "low": 0.4, "high": 0.6, "samples": 900,
    "positives": 50, "expected": 100.4, "among": 7,
}  # fmt: skip


def test_the_verdict_names_counts_and_the_worst_slice():
    """It is a finding if a slice is surely off by more than the band."""
    ((kind, text),) = verdicts({"learners": {"a": learner(worst=WORST)}})
    assert (kind, text) == (
        "finding",
        "click: 1.000 times as many positives as learner a predicts (0.900 to 1.100; 1,234 of "
        "56,789 samples). Worst slice: device tv, 0.50 times (0.40 to 0.60; 50 for 100 predicted, "
        "900 samples).",
    )


@pytest.mark.parametrize(
    ("interval", "low", "high", "kind", "chance"),
    [
        ((0.9, 1.1), 0.9, 1.4, "good", True),
        ((0.9, 1.1), 1.1, 1.4, "good", False),
        ((0.9, 1.1), 1.3, 1.4, "finding", False),
        ((1.3, 1.4), 0.9, 1.4, "finding", True),
        ((0.7, 0.79), 0.9, 1.4, "finding", True),
    ],
)
def test_what_is_tolerated_or_may_be_chance_is_no_finding(interval, low, high, kind, chance):
    """Neither significance alone nor size alone."""
    worst = {**WORST, "low": low, "high": high}
    ((found, text),) = verdicts({"learners": {"a": learner(interval=interval, worst=worst)}})
    assert (found, "may be chance" in text) == (kind, chance)


def test_the_state_of_a_guard_comes_first():
    """Learners of a label that was judged are not judged again."""
    summary = {
        "guard": {"click": {"state": "disconnected", "since": "2026-05-01T10:00:00+00:00"}},
        "learners": {"a": learner(), "b": learner(), "c": learner("buy")},
    }
    found = verdicts(summary)
    assert [kind for kind, _ in found] == ["bad", "good", "good"]
    assert found[0][1] == "The guard of click has disconnected learning since 2026-05-01 10:00."
    assert [text.split(":")[0] for _, text in found[1:]] == ["click", "buy"]


def test_without_final_labels_nothing_is_judged():
    """And without learners nothing is said of them."""
    young = {**learner(), "after_warm_up": None}
    assert verdicts({"learners": {"a": young}}) == [
        ("plain", "Nothing is judged: no label of a learner is final.")
    ]
    assert verdicts({"learners": {}}) == []
    assert headline_rows({"a": young}) == []


def test_figures_have_their_intervals_in_words():
    """Where there are any."""
    of = {"a": 0.5, "a_interval": [0.25, None], "b": 0.5, "b_interval": None, "c": None}
    assert with_interval(of, "a", ".2f") == "0.50 (0.25 to any)"
    assert with_interval(of, "b", ".2f") == "0.50"
    assert with_interval(of, "c") == number(None) == "undefined"
