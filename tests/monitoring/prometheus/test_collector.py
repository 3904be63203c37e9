"""The figures of a run as metrics: exact samples, read from a registry of the test."""

from __future__ import annotations

import json

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as open_metrics
from prometheus_client.parser import text_string_to_metric_families as parsed

from headrace.monitoring.figures import (
    Arrivals,
    Cells,
    Figures,
    GuardScope,
    Predictions,
    SourceFigures,
    Window,
)
from headrace.monitoring.prometheus.collector import FiguresCollector
from headrace.monitoring.prometheus.metrics import METRICS
from headrace.monitoring.statistics import SUMS

SECOND = 1_000_000


def cells(rows):
    return Cells(
        tuple(column for column, _ in rows), tuple(value for _, value in rows),
        np.array(list(rows.values()), float).reshape(-1, len(SUMS)),
    )  # fmt: skip


BINS = np.zeros((2, 20))
BINS[0, 3], BINS[1, 19] = 6.0, 2.0

FIGURES = Figures(
    published_s=1000.5,
    events=70,
    samples=40,
    outcomes={"clicks": {"settled": 3, "late": 0, "open": 5}},
    sources=(
        SourceFigures("clicks-0", "clicks", 9, 1, 30 * SECOND, 20 * SECOND, 4, False),
        SourceFigures("views-0", "views", 61, 0, None, None, None, True),
    ),
    clock=20 * SECOND,
    held_back_by="clicks-0",
    window=10 * SECOND,
    delay=7 * SECOND,
    predictions=(
        Predictions(
            "ctr", "clicks", "learned",
            cells({("", ""): [40, 3, 80, 6, 5.5, 9.25, 160, 12, 39],
                   ("app", "a"): [30, 2, 60, 4, 3.5, 7.0, 120, 8, 29],
                   ("app", "b"): [10, 1, 20, 2, 2.0, 2.25, 40, 4, 10]}),
            Window(0, 10 * SECOND, cells({("", ""): [5, 1, 10, 2, 1.5, 3.0, 20, 4, 5]})),
            BINS,
        ),
        Predictions("ctr", "clicks", "served", cells({}), None, np.zeros((2, 20))),
    ),
    shown={"app": ("a",)},
    learned={"ctr": 38},
    guard=(
        GuardScope("clicks", "", "", "watching", 10, 11.5),
        GuardScope("clicks", "app", "b", "young", 0, 0.0),
        GuardScope("clicks", "app", "c", "disconnected", 0, 30.0),
    ),
    arrivals=(
        Arrivals("clicks", "disconnected", 0, 31.5), Arrivals("installs", "young", None, None),
    ),
    held={"clicks": 2},
    drift={"feature": {"os": 0.25}, "score": {"ctr": 0.01}},
    checkpoint_s=990.0,
)  # fmt: skip


def registry(figures):
    found = CollectorRegistry()
    found.register(FiguresCollector(lambda: figures, "1.2"))
    return found


def samples(figures):
    """Return all samples by name and labels, as a scrape reads them."""
    text = generate_latest(registry(figures)).decode()
    labels = {metric.name: metric.labels for metric in METRICS}
    return {
        (sample.name, *(sample.labels[name] for name in labels[sample.name])): sample.value
        for family in parsed(text)
        for sample in family.samples
    }


def test_every_sample_of_a_run():
    """All of them, so that none is there that is not meant to be."""
    found = samples(FIGURES)
    logits = {name: found.pop(name) for name in list(found) if "logits" in name[0]}
    of_app = {
        "a": [30, 2, 60, 4, 3.5, 7.0, 120, 8, 29],
        "(other)": [10, 1, 20, 2, 2.0, 2.25, 40, 4, 10],
    }
    sums = (
        "samples",
        "positives",
        "weight",
        "positive_weight",
        "expected",
        "log_loss",
        "weight_squares",
        "positive_weight_squares",
        "mature_samples",
    )
    of = ("ctr", "clicks", "learned")
    assert found == {
        ("headrace_build_info", "1.2"): 1,
        ("headrace_published_time_seconds",): 1000.5,
        ("headrace_checkpoint_time_seconds",): 990,
        ("headrace_events_total",): 70,
        ("headrace_samples_total",): 40,
        ("headrace_outcomes_total", "clicks", "settled"): 3,
        ("headrace_outcomes_total", "clicks", "late"): 0,
        ("headrace_open_records", "clicks"): 5,
        ("headrace_clock_seconds",): 20,
        ("headrace_source_records_total", "clicks-0", "clicks"): 9,
        ("headrace_source_records_total", "views-0", "views"): 61,
        ("headrace_source_rejected_total", "clicks-0", "clicks"): 1,
        ("headrace_source_rejected_total", "views-0", "views"): 0,
        ("headrace_source_lag_records", "clicks-0", "clicks"): 4,
        ("headrace_source_event_time_seconds", "clicks-0", "clicks"): 30,
        ("headrace_source_progress_seconds", "clicks-0", "clicks"): 20,
        ("headrace_source_ended", "clicks-0", "clicks"): 0,
        ("headrace_source_ended", "views-0", "views"): 1,
        **{(f"headrace_prediction_{name}_total", *of, "", ""): total
           for name, total in zip(sums, [40, 3, 80, 6, 5.5, 9.25, 160, 12, 39], strict=True)},
        **{(f"headrace_prediction_{name}_total", *of, "app", value): total
           for value, totals in of_app.items()
           for name, total in zip(sums, totals, strict=True)},
        ("headrace_window_event_time_seconds", *of): 10,
        **{(f"headrace_window_{name}", *of, "", ""): total
           for name, total in zip(sums, [5, 1, 10, 2, 1.5, 3.0, 20, 4, 5], strict=True)},
        ("headrace_window_length_seconds",): 10,
        ("headrace_window_delay_seconds",): 7,
        ("headrace_learned_samples_total", "ctr"): 38,
        ("headrace_guard_state", "clicks", "", ""): 1,
        ("headrace_guard_positives", "clicks", "", ""): 10,
        ("headrace_guard_expected", "clicks", "", ""): 11.5,
        ("headrace_guard_state", "clicks", "app", "c"): 3,
        ("headrace_guard_positives", "clicks", "app", "c"): 0,
        ("headrace_guard_expected", "clicks", "app", "c"): 30,
        ("headrace_guard_held_total", "clicks"): 2,
        ("headrace_guard_arrivals_state", "clicks"): 3,
        ("headrace_guard_arrivals_state", "installs"): 0,
        ("headrace_guard_arrivals", "clicks"): 0,
        ("headrace_guard_arrivals_expected", "clicks"): 31.5,
        ("headrace_drift_stability_index", "feature", "os"): 0.25,
        ("headrace_drift_stability_index", "score", "ctr"): 0.01,
    }  # fmt: skip
    assert len(logits) == 40
    assert {name[4:]: weight for name, weight in logits.items() if weight} == {
        ("0", "-6"): 6, ("1", "+Inf"): 2,
    }  # fmt: skip


def test_before_the_first_figures_there_is_the_version_alone():
    assert samples(None) == {("headrace_build_info", "1.2"): 1}


def test_registering_reads_no_figures_and_names_every_metric():
    """A registry refuses a second collector of the same names."""

    def unread():
        raise AssertionError

    found = CollectorRegistry()
    found.register(FiguresCollector(unread, "1.2"))
    with pytest.raises(ValueError, match="Duplicated"):
        found.register(FiguresCollector(unread, "1.2"))


@pytest.mark.parametrize(
    "value", ['say "no"', "two\nlines", "back\\slash", "x" * 10_000, "a,b={c}", "naïve ☃", "\udcff"]
)
def test_any_value_of_a_slice_is_a_label(value):
    sums = [1, 0, 1, 0, 0.5, 0.7, 1, 0, 1]
    both = cells({("app", value): sums, ("app", f"{value}!"): sums})
    predictions = Predictions("l", "clicks", "learned", both, None, np.zeros((2, 20)))
    figures = Figures(0.0, 0, 0, {}, (), predictions=(predictions,),
                      shown={"app": both.values})  # fmt: skip
    names = [name for name in samples(figures) if name[0] == "headrace_prediction_samples_total"]
    assert len(names) == 2
    assert all(len(name[-1]) <= 200 for name in names)
    if len(value) < 100 and value != "\udcff":
        assert names[0][-1] == value
    assert open_metrics(registry(figures)).endswith(b"# EOF\n")


def test_names_follow_the_conventions_of_prometheus():
    for metric in METRICS:
        assert metric.name.startswith("headrace_")
        assert metric.text.endswith(".")
        for unit in ("_ms", "_us", "_minutes", "_mb"):
            assert not metric.name.removesuffix("_total").endswith(unit)
    assert len({metric.name for metric in METRICS}) == len(METRICS)


def test_figures_are_json():
    """Of slices the values that are shown, and the rest together."""
    found = json.loads(json.dumps(FIGURES.as_json()))
    totals = found["predictions"][0]["totals"]
    assert totals["value"] == ["", "a", "(other)"]
    assert totals["samples"] == [40, 30, 10]
    assert found["predictions"][0]["window"]["end"] == 10 * SECOND
    assert found["sources"][0]["lag"] == 4
    assert found["guard"][2]["state"] == "disconnected"
