"""Charts of the report, as static SVG drawn by Vega-Lite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np

from headrace.monitoring.delays import Survival
from headrace.monitoring.headline import Windows, bucketed, summed
from headrace.monitoring.ratios import against_expected, middles, rate_interval, ratios
from headrace.monitoring.report.svg import (
    BLUE,
    DASHED,
    FAINT,
    HEIGHT,
    INK,
    ORANGE,
    svg,
    time_x,
)
from headrace.monitoring.statistics import (
    P_SUM,
    POSITIVE_SQUARES,
    POSITIVE_WEIGHT,
    WEIGHT,
    Statistics,
)
from headrace.schemas.config.durations import DAY, SECOND

_POINTS = 60
"""Points of a line; windows are added up until there are no more."""


def _ends(windows: Windows, length: int) -> tuple[int, int]:
    """Return the time from the first window to the end of the last, milliseconds."""
    return windows[0][0] // 1000, (windows[-1][0] + length) // 1000


def _binned(statistics: Statistics) -> tuple[Windows, int]:
    """Return windows by day if there are more than three days of them, and the length of a bin."""
    windows, length = statistics.windows(), statistics.window
    if windows and windows[-1][0] + length - windows[0][0] > 3 * DAY and length < DAY:
        windows, length = summed(windows, DAY), DAY
    return bucketed(windows, length, _POINTS)


def label_rate_chart(label: str, bins: Sequence[Mapping[str, Any]], bin_s: float) -> str:
    """Draw the rate of a label with its interval by event time; empty text without impressions.

    Parameters
    ----------
    label
        Its name.
    bins, bin_s
        See `headrace.schemas.summary.LabelSummary`.
    """
    half = round(bin_s * 500)
    starts = [round(datetime.fromisoformat(of["start"]).timestamp() * 1000) for of in bins]
    values = [
        {
            "time": start + half, "rate": of["label_rate"],
            "low": of["label_rate_interval"][0], "high": of["label_rate_interval"][1],
        }
        for start, of in zip(starts, bins, strict=True)
        if of["label_rate"] is not None
    ]  # fmt: skip
    if not values:
        return ""
    x = time_x(starts[0], starts[-1] + 2 * half)
    y = {"type": "quantitative", "title": None, "axis": {"format": ".2~%", "tickCount": 5}}
    line = {"type": "line", "color": BLUE, "point": {"size": 12, "color": BLUE}}
    return svg(
        {
            "title": f"{label}: rate with its 95 % interval", "height": HEIGHT,
            "data": {"values": values},
            "layer": [
                {"mark": {"type": "area", "opacity": 0.18, "color": BLUE},
                 "encoding": {"x": x, "y": {**y, "field": "low"}, "y2": {"field": "high"}}},
                {"mark": line, "encoding": {"x": x, "y": {**y, "field": "rate"}}},
            ],
        }
    )  # fmt: skip


def rate_chart(statistics: Statistics) -> str:
    """Draw label rate with its interval, and mean prediction, by event time."""
    windows, length = _binned(statistics)
    values = []
    for start, sums in windows:
        interval = rate_interval(sums)
        if interval is not None:
            values.append(
                {
                    "time": (start + length // 2) // 1000, "low": interval.low,
                    "high": interval.high, "label rate": sums[POSITIVE_WEIGHT] / sums[WEIGHT],
                    "mean prediction": sums[P_SUM] / sums[WEIGHT],
                }
            )  # fmt: skip
    x = time_x(*_ends(windows, length))
    y = {"type": "quantitative", "title": None, "axis": {"format": ".2~%", "tickCount": 5}}
    band = {
        "mark": {"type": "area", "opacity": 0.18, "color": BLUE},
        "encoding": {"x": x, "y": {**y, "field": "low"}, "y2": {"field": "high"}},
    }
    lines = {
        "transform": [{"fold": ["label rate", "mean prediction"]}],
        "mark": {"type": "line"},
        "encoding": {
            "x": x,
            "y": {**y, "field": "value"},
            "color": {"field": "key", "scale": {"range": [BLUE, ORANGE]}},
        },
    }
    return svg(
        {
            "title": "Label rate with its 95 % interval, and mean prediction", "height": HEIGHT,
            "data": {"values": values}, "layer": [band, lines],
        }
    )  # fmt: skip


def entropy_chart(statistics: Statistics) -> str:
    """Draw normalised entropy by event time; 1 is no better than the label rate."""
    windows, length = _binned(statistics)
    values = [
        {"time": (start + length // 2) // 1000, "entropy": entropy}
        for start, sums in windows
        if (entropy := ratios(sums)["normalized_entropy"]) is not None
    ]
    y = {
        "field": "entropy", "type": "quantitative", "title": None, "scale": {"zero": False},
        "axis": {"format": ".2f", "tickCount": 5},
    }  # fmt: skip
    line = {
        "mark": {"type": "line", "point": {"size": 12, "color": BLUE}, "color": BLUE},
        "encoding": {"x": time_x(*_ends(windows, length)), "y": y},
    }
    return svg(
        {
            "title": "Normalised entropy (1: no better than the label rate)", "height": HEIGHT,
            "data": {"values": values},
            "layer": [line, {"mark": DASHED, "encoding": {"y": {"datum": 1.0}}}],
        }
    )  # fmt: skip


def reliability_chart(statistics: Statistics, groups: int = 20) -> str:
    """Draw the label rate with its interval against the prediction, in groups of equal weight.

    Empty text if there is nothing to draw.
    """
    negative, positive = statistics.bins
    weight = negative + positive
    group = np.minimum(
        (np.cumsum(weight) - weight / 2) * groups / weight.sum(), groups - 1
    ).astype(int)  # fmt: skip
    mass, rates, predictions = (
        np.bincount(group, of, groups) for of in (weight, positive, middles() * weight)
    )
    total = statistics.totals()[""].copy()
    # Bins have no squares of weights: a positive weighs what positives do on average.
    one = total[POSITIVE_SQUARES] / total[POSITIVE_WEIGHT] if total[POSITIVE_WEIGHT] else 1.0
    values = []
    for of, hits, expected in zip(mass, rates, predictions, strict=True):
        row = total * 0
        row[[WEIGHT, POSITIVE_WEIGHT, P_SUM, POSITIVE_SQUARES]] = of, hits, expected, one * hits
        found = against_expected(row)
        if hits > 0 and found is not None:
            p, interval = expected / of, found[1]
            assert interval.high is not None
            values.append(
                {"p": p, "rate": hits / of, "low": interval.low * p, "high": interval.high * p}
            )
    if not values:
        return ""
    least = min(min(v["p"], v["low"]) for v in values)
    most = max(max(v["p"], v["high"]) for v in values)
    ends = [least * 0.8, min(1.0, most * 1.25)]
    log = {"type": "log", "domain": ends, "nice": False}
    axis = {"format": "~p", "tickCount": 5}
    x = {"field": "p", "type": "quantitative", "scale": log, "axis": axis,
         "title": "mean prediction"}  # fmt: skip
    y = {**x, "field": "rate", "title": "label rate"}
    return svg(
        {
            "title": "Reliability: on the line predictions are right", "height": 300,
            "data": {"values": values},
            "layer": [
                {
                    "data": {"values": [{"p": end, "rate": end} for end in ends]},
                    "mark": {"type": "line", "strokeDash": [4, 4], "color": FAINT},
                    "encoding": {"x": x, "y": y},
                },
                {
                    "mark": {"type": "rule", "color": BLUE, "opacity": 0.5, "strokeWidth": 2},
                    "encoding": {"x": x, "y": {**y, "field": "low"}, "y2": {"field": "high"}},
                },
                {
                    "mark": {"type": "point", "filled": True, "size": 36, "color": BLUE},
                    "encoding": {"x": x, "y": y},
                },
            ],
        }
    )  # fmt: skip


def heat_map(cells: list[dict[str, Any]], column: str) -> str:
    """Draw by how much log losses differ by value of a slice column.

    Parameters
    ----------
    cells
        Of each learner and value: ``learner``, ``value``, and ``change``, a share of the other
        learner's log loss.
    column
        Name of the slice column.
    """
    most = max(0.001, *(abs(cell["change"]) for cell in cells))
    order = list(dict.fromkeys(cell["value"] for cell in cells))
    x = {"field": "learner", "type": "nominal", "title": None,
         "axis": {"labelAngle": 0, "orient": "top", "labelLimit": 200}}  # fmt: skip
    y = {"field": "value", "type": "nominal", "title": None, "sort": order,
         "axis": {"labelLimit": 120}}  # fmt: skip
    shown = [
        {**cell, "better": cell["change"] < 0, "shade": abs(cell["change"]) / most}
        for cell in cells
    ]
    colour = {"field": "better", "scale": {"domain": [True, False], "range": [BLUE, ORANGE]},
              "legend": None}  # fmt: skip
    shade = {"field": "shade", "type": "quantitative", "legend": None,
             "scale": {"domain": [0, 1], "range": [0, 0.8]}}  # fmt: skip
    text = {"field": "change", "format": "+.2%"}
    return svg(
        {
            "title": f"Log loss by {column} (blue: better than the other)",
            "height": {"step": 20},
            "data": {"values": shown},
            "encoding": {"x": x, "y": y},
            "layer": [
                {"mark": "rect", "encoding": {"color": colour, "opacity": shade}},
                {"mark": {"type": "text", "fontSize": 11, "color": INK},
                 "encoding": {"text": text}},
            ],
        }
    )  # fmt: skip


def coverage_chart(survival: Survival, marks: dict[str, int]) -> str:
    """Draw the part of the actions that a window catches, by its length.

    Parameters
    ----------
    survival
        Estimate for one action stream; it must have an action.
    marks
        Windows to mark, microseconds, by name.
    """
    rows = np.unique(np.linspace(0, survival.delay.size - 1, 400).astype(int))
    values = [
        {"delay": max(float(survival.delay[row]) / SECOND, 1e-3),
         "coverage": (1 - survival.share[row]) / (1 - survival.share[-1])}
        for row in rows
    ]  # fmt: skip
    return _by_delay(values, "coverage", "Coverage: part of the actions within a window", marks)


def delay_chart(survival: Survival, marks: dict[str, int], bins: int = 60) -> str:
    """Draw how many first actions come after each delay, in bins of equal ratio."""
    delay = np.maximum(survival.delay / SECOND, 1e-3)
    edges = np.geomspace(delay.min(), delay.max() * 1.001, bins + 1)
    counts, _ = np.histogram(delay, edges, weights=survival.actions)
    values = [
        {"delay": low, "to": high, "actions": count}
        for low, high, count in zip(edges[:-1], edges[1:], counts.tolist(), strict=True)
    ]
    return _by_delay(values, "actions", "First actions by delay", marks)


def _by_delay(values: list[dict[str, Any]], field: str, title: str, marks: dict[str, int]) -> str:
    # Ticks are the durations that people use, not those that the scale would choose.
    ticks = [1e-3, 1, 10, 60, 600, 3600, 6 * 3600, 86_400, 7 * 86_400, 30 * 86_400]
    words = ["1 ms", "1 s", "10 s", "1 min", "10 min", "1 h", "6 h", "1 d", "7 d", "30 d"]
    label = " : ".join(
        f"datum.value == {tick} ? '{word}'" for tick, word in zip(ticks, words, strict=True)
    )
    low = min(value["delay"] for value in values)
    high = max(value.get("to", value["delay"]) for value in values)
    high = max([high, *(window / SECOND for window in marks.values())])
    x: dict[str, Any] = {
        "field": "delay", "type": "quantitative", "title": None,
        "scale": {"type": "log", "domain": [low, high * 1.02], "nice": False},
        "axis": {"values": [t for t in ticks if low <= t <= high], "labelExpr": f"{label} : ''"},
    }  # fmt: skip
    y = {"field": field, "type": "quantitative", "title": None}
    if field == "coverage":
        y["axis"] = {"format": ".0%"}  # type: ignore[assignment]
        line = {"type": "line", "interpolate": "step-after", "color": BLUE}
        shape = {"mark": line, "encoding": {"x": x, "y": y}}
    else:
        mark = {"type": "rect", "color": BLUE}
        sides = {"x": x, "x2": {"field": "to"}, "y": y, "y2": {"datum": 0}}
        shape = {"mark": mark, "encoding": sides}
    rules = [{"delay": window / SECOND, "name": name} for name, window in marks.items()]
    at = {"field": "delay", "type": "quantitative"}
    named = {"field": "name", "scale": {"range": [ORANGE, BLUE]}}
    rule = {
        "data": {"values": rules},
        "mark": {"type": "rule", "strokeDash": [4, 4], "strokeWidth": 2},
        "encoding": {"x": at, "color": named},
    }
    return svg(
        {
            "title": title, "height": HEIGHT,
            "data": {"values": values}, "layer": [shape, rule],
        }
    )  # fmt: skip
