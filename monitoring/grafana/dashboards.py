"""The four dashboards.

Those of windows show the latest complete window of a run that goes on, and all windows of a log
that was written by ``headrace backfill``: the same expressions serve both.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from headrace.monitoring.figures import GUARD_STATES
from headrace.monitoring.grafana.panels import Panel, dashboard

_ALL = '{learner=~"$learner",predicted="$predicted",slice=""}'
_BY_VALUE = '{learner=~"$learner",predicted="$predicted",slice=~"$slice"}'
_SLICE = "{{slice}} {{value}}"
_COUNT = "short"
_FLOOR = 25
"""A slice with fewer expected positives in a window says nothing."""


def _ratio(above: str, below: str, cells: str) -> str:
    return f"headrace_window_{above}{cells} / headrace_window_{below}{cells}"


def _entropy(cells: str) -> str:
    """Return the log loss over the entropy of the window's own rate (He et al. 2014, eq. 1)."""
    rate = f"({_ratio('positive_weight', 'weight', cells)})"
    base = f"({rate} * ln({rate}) + (1 - {rate}) * ln(1 - {rate}))"
    return f"- ({_ratio('log_loss', 'weight', cells)}) / {base}"


def _floored(expression: str, cells: str) -> str:
    return f"({expression}) and headrace_window_expected{cells} >= {_FLOOR}"


def joiner() -> dict[str, Any]:
    """Return the dashboard of the joiner."""
    rate = "[$__rate_interval]"
    return dashboard(
        "headrace-joiner", "Headrace: joiner", "Whether the join goes on, and where records end.",
        [
            Panel("stat", "Records read", "Records read from all sources, a second.", "ops",
                  {"": f"sum(rate(headrace_events_total{rate}))"}, 4, 4),
            Panel("stat", "Samples", "Samples that were put in order, a second.", "ops",
                  {"": f"sum(rate(headrace_samples_total{rate}))"}, 4, 4),
            Panel("stat", "Records that wait", "Records whose window is open, of all streams.",
                  _COUNT, {"": "sum(headrace_open_records)"}, 4, 4),
            Panel("stat", "Clock of the join", "Event time up to which all sources have been read.",
                  "dateTimeAsIso", {"": "max(headrace_clock_seconds) * 1000"}, 4, 4),
            Panel("stat", "Last checkpoint", "Time since the last checkpoint.", "s",
                  {"": "time() - max(headrace_checkpoint_time_seconds)"}, 4, 4),
            Panel("stat", "Last models", "Time since models were written.", "s",
                  {"": "time() - max(headrace_models_time_seconds)"}, 4, 4),
            Panel("timeseries", "Records and samples",
                  "Records that were read, and samples that left, a second.", "ops",
                  {"records": f"sum(rate(headrace_events_total{rate}))",
                   "samples": f"sum(rate(headrace_samples_total{rate}))"}),
            Panel("timeseries", "Records by outcome",
                  "What became of records, a second; settled ones became samples or labels.", "ops",
                  {"{{stream}} {{outcome}}":
                   f"sum by (stream, outcome) (rate(headrace_outcomes_total{rate}))"}),
            Panel("timeseries", "Share of dead letters",
                  "Records that are late, duplicates, orphans, outside the window or invalid, of "
                  "those decided in the same time.", "percentunit",
                  {"{{stream}} {{outcome}}":
                   f'rate(headrace_outcomes_total{{outcome!="settled"}}{rate})'
                   " / on (stream, job, instance) group_left clamp_min(sum by (stream, job, "
                   f"instance) (rate(headrace_outcomes_total{rate})), 1e-9)"}),
            Panel("timeseries", "Records that wait, by stream",
                  "Records whose window is open: memory grows with them.", _COUNT,
                  {"{{stream}}": "sum by (stream) (headrace_open_records)"}),
            Panel("table", "Records by outcome, in all", "Since the run began.", _COUNT,
                  {"": "sum by (stream, outcome) (headrace_outcomes_total)"}, 12),
            Panel("timeseries", "Age of the figures",
                  "Time since a bundle ended: a run that hangs still answers.", "s",
                  {"{{instance}}": "time() - headrace_published_time_seconds"}),
        ],
    )  # fmt: skip


def drift() -> dict[str, Any]:
    """Return the dashboard of labels and of the guard."""
    guard = 'headrace_guard_{} or label_replace(vector({}), "label", "no guard", "", "")'
    states = {-1: "no guard", **dict(enumerate(GUARD_STATES))}
    block = 'headrace_guard_arrivals{} or label_replace(vector(0), "label", "no block", "", "")'
    return dashboard(
        "headrace-drift", "Headrace: labels and guard",
        "Whether labels are as predicted, and what the guard says of them.",
        [
            Panel("timeseries", "Label rate", "Share of positives by weight, by window.",
                  "percentunit",
                  {"{{learner}}": _ratio("positive_weight", "weight", _ALL)}),
            Panel("timeseries", "Positives over expected",
                  "Positive weight over the sum of predictions, by window: 1 is right. The guard "
                  "warns at 1.25 and disconnects at 1.5.", "none",
                  {"{{learner}}": _ratio("positive_weight", "expected", _ALL)},
                  bound=1.25, log=True),
            Panel("state-timeline", "Guard", "State by label and slice.", "none",
                  {"{{label}} {{slice}} {{value}}": guard.format("state", -1)}, names=states),
            Panel("timeseries", "Samples held back", "Samples that the guard kept from learning.",
                  _COUNT, {"{{label}}": guard.format("held_total", 0)}),
            Panel("state-timeline", "Arrivals of actions",
                  "State of the arrivals by label: learning waits while too few arrive.", "none",
                  {"{{label}}": guard.format("arrivals_state", -1)}, names=states),
            Panel("timeseries", "Arrivals and expected",
                  "Actions that arrived in the last complete block, and how many should; of a run "
                  "that goes on.", _COUNT,
                  {"{{label}} arrivals": block.format(""),
                   "{{label}} expected": block.format("_expected")}),
            Panel("timeseries", "Label rate by slice", "Share of positives by weight, by window.",
                  "percentunit", {_SLICE: _ratio("positive_weight", "weight", _BY_VALUE)}),
            Panel("timeseries", "Positives over expected, by slice",
                  f"Of slices with at least {_FLOOR} expected positives in a window. The guard "
                  "warns at 1.5 and disconnects at 2.", "none",
                  {_SLICE: _floored(_ratio("positive_weight", "expected", _BY_VALUE), _BY_VALUE)},
                  bound=1.5, log=True),
            Panel("timeseries", "Positives and expected", "Weight of positives, and the sum of "
                  "predictions, by window.", _COUNT,
                  {"{{learner}} positives": f"headrace_window_positive_weight{_ALL}",
                   "{{learner}} expected": f"headrace_window_expected{_ALL}"}),
            Panel("timeseries", "Share of samples by slice", "Share of the window's weight.",
                  "percentunit",
                  {_SLICE: f"headrace_window_weight{_BY_VALUE} / "
                           "on (job, instance, learner, predicted) group_left "
                           f"headrace_window_weight{_ALL}"}),
        ],
    )  # fmt: skip


def calibration() -> dict[str, Any]:
    """Return the dashboard of calibration and normalised entropy."""
    off = f"abs(ln({_ratio('expected', 'positive_weight', _BY_VALUE)}))"
    kinds = '{learner=~"$learner",slice=""}'
    return dashboard(
        "headrace-calibration", "Headrace: calibration and entropy",
        "How good predictions are, by learner and slice, by window of event time.",
        [
            Panel("timeseries", "Calibration",
                  "Sum of predictions over the weight of positives: 1 is right, more is too high.",
                  "none", {"{{learner}}": _ratio("expected", "positive_weight", _ALL)},
                  bound=1.25, log=True),
            Panel("timeseries", "Normalised entropy",
                  "Log loss over that of always predicting the window's own rate: less than 1 has "
                  "learned something.", "none", {"{{learner}}": _entropy(_ALL)}, bound=1.0),
            Panel("timeseries", "Calibration by slice",
                  f"Of slices with at least {_FLOOR} expected positives in a window.", "none",
                  {_SLICE: _floored(_ratio("expected", "positive_weight", _BY_VALUE), _BY_VALUE)},
                  bound=1.5, log=True),
            Panel("timeseries", "Normalised entropy by slice",
                  f"Of slices with at least {_FLOOR} expected positives in a window.", "none",
                  {_SLICE: _floored(_entropy(_BY_VALUE), _BY_VALUE)}, bound=1.0),
            Panel("table", "Slices that are worst calibrated",
                  f"|ln calibration| of the latest window, at least {_FLOOR} expected positives.",
                  "none", {"": f"topk(10, {_floored(off, _BY_VALUE)})"}, 12),
            Panel("timeseries", "Calibration by kind of prediction",
                  "As learned, as served, and calibrated.", "none",
                  {"{{learner}} {{predicted}}": _ratio("expected", "positive_weight", kinds)},
                  log=True),
            Panel("timeseries", "Log loss", "By window, in nats.", "none",
                  {"{{learner}}": _ratio("log_loss", "weight", _ALL)}),
            Panel("timeseries", "Samples of a window", "Ratios of few samples are noise.", _COUNT,
                  {"{{learner}}": f"headrace_window_samples{_ALL}"}),
            Panel("bargauge", "Predicted log-odds",
                  "Weight of samples by predicted log-odds, up to the edge, since the run began.",
                  _COUNT,
                  {"{{bin}}": 'sum by (bin) (headrace_prediction_logits_total'
                              '{learner=~"$learner",predicted="$predicted"}) > 0'}, 24),
        ],
    )  # fmt: skip


def sources() -> dict[str, Any]:
    """Return the dashboard of sources and lag."""
    rate = "[$__rate_interval]"
    return dashboard(
        "headrace-sources", "Headrace: sources and lag",
        "What each source delivers, what waits in it, and which one holds the join back.",
        [
            Panel("timeseries", "Records that wait", "Not yet read, by source.", _COUNT,
                  {"{{source}}": "headrace_source_lag_records"}),
            Panel("timeseries", "Records read", "A second, by source.", "ops",
                  {"{{source}}": f"rate(headrace_source_records_total{rate})"}),
            Panel("timeseries", "Progress behind the furthest",
                  "Event time by which a source is behind the one furthest ahead: the one furthest "
                  "behind holds the join back.", "s",
                  {"{{source}}": "max by (job, instance) (headrace_source_progress_seconds) "
                                 "- on (job, instance) group_right "
                                 "headrace_source_progress_seconds"}),
            Panel("timeseries", "Event time behind the clock on the wall",
                  "Time since the greatest event time of a source: of a log, since it was written.",
                  "s", {"{{source}}": "time() - headrace_source_event_time_seconds"}),
            Panel("timeseries", "Ahead of the clock of the join",
                  "Event time by which a source is ahead of the clock of the join.", "s",
                  {"{{source}}": "headrace_source_event_time_seconds "
                                 "- on (job, instance) group_left headrace_clock_seconds"}),
            Panel("timeseries", "Invalid records", "Share of the records of a source, in all.",
                  "percentunit",
                  {"{{source}}": "headrace_source_rejected_total "
                                 "/ clamp_min(headrace_source_records_total, 1)"}),
            Panel("table", "Records by source", "Since the run began.", _COUNT,
                  {"": "sum by (stream, source) (headrace_source_records_total)"}, 12),
            Panel("table", "Sources that have ended", "1 if a source has been read to its end.",
                  "none", {"": "max by (stream, source) (headrace_source_ended)"}, 12),
        ],
    )  # fmt: skip


DASHBOARDS = {"joiner": joiner, "drift": drift, "calibration": calibration, "sources": sources}
"""The dashboards by the name of their file."""


def texts() -> dict[str, str]:
    """Return the files of all dashboards by name."""
    return {
        f"{name}.json": json.dumps(make(), indent=1) + "\n" for name, make in DASHBOARDS.items()
    }


if __name__ == "__main__":
    for _name, _text in texts().items():
        (Path(sys.argv[1]) / _name).write_text(_text, encoding="utf-8")
