"""Charts of the report, as static SVG drawn by Vega-Lite."""

from __future__ import annotations

from typing import Any

import numpy as np
import vl_convert

from headrace.monitoring.delays import Survival
from headrace.monitoring.ratios import ratios
from headrace.monitoring.statistics import LOGIT_BINS, LOGIT_RANGE, Statistics
from headrace.schemas.config.durations import SECOND

_WIDTH, _HEIGHT = 780, 200
_CONFIG = {
    "font": "sans-serif",
    "view": {"stroke": None},
    "axis": {"gridColor": "#e8edf2", "domainColor": "#b8c4cf", "tickColor": "#b8c4cf"},
    "title": {"anchor": "start", "fontSize": 13},
    "legend": {"orient": "top", "title": None},
}
_TWO_DAYS_MS = 2 * 86_400_000
_COLOURS = ["#2f6db5", "#d9822b"]


def rate_chart(statistics: Statistics) -> str:
    """Draw label rate and mean prediction by window of event time, as SVG."""
    values = []
    for start, sums in statistics.windows():
        found = ratios(sums)
        weight = found["weight"]
        if weight:
            time = start // 1000
            values.append({"time": time, "rate": found["label_rate"], "what": "label rate"})
            values.append({"time": time, "rate": sums[4] / weight, "what": "mean prediction"})
    return _line(values, "rate", "what", "Label rate and mean prediction", ".2%")


def entropy_chart(statistics: Statistics) -> str:
    """Draw normalised entropy by window of event time; 1 is no better than the label rate."""
    values = []
    for start, sums in statistics.windows():
        entropy = ratios(sums)["normalized_entropy"]
        if entropy is not None:
            values.append({"time": start // 1000, "entropy": entropy, "what": "model"})
    rule = {
        "mark": {"type": "rule", "strokeDash": [4, 4], "color": "#8795a1"},
        "encoding": {"y": {"datum": 1.0}},
    }
    title = "Normalised entropy (below the dashed line: better than knowing the label rate)"
    return _line(values, "entropy", None, title, ".2f", [rule])


def reliability_chart(statistics: Statistics, groups: int = 20) -> str:
    """Draw the label rate against the prediction, in groups of about equal weight.

    Empty text if there is nothing to draw.
    """
    negative, positive = statistics.bins
    weight = negative + positive
    total = weight.sum()
    centre = (np.arange(LOGIT_BINS) + 0.5) * (2 * LOGIT_RANGE / LOGIT_BINS) - LOGIT_RANGE
    p = 1.0 / (1.0 + np.exp(-centre))
    group = np.minimum((np.cumsum(weight) - weight / 2) * groups / total, groups - 1).astype(int)
    values = []
    for number in range(groups):
        inside = (group == number) & (weight > 0)
        mass = weight[inside].sum()
        if mass > 0:
            rate = positive[inside].sum() / mass
            prediction = (p[inside] * weight[inside]).sum() / mass
            if rate > 0:
                values.append({"p": prediction, "rate": rate, "weight": mass})
    if not values:
        return ""
    low = min(min(v["p"], v["rate"]) for v in values)
    high = max(max(v["p"], v["rate"]) for v in values)
    log = {"type": "log", "domain": [low * 0.8, min(1.0, high * 1.25)], "nice": False}
    spec = {
        "title": "Reliability: where predictions are right, points lie on the line",
        "width": 360,
        "height": 320,
        "layer": [
            {
                "data": {"values": [{"p": x, "rate": x} for x in log["domain"]]},  # type: ignore[attr-defined]
                "mark": {"type": "line", "strokeDash": [4, 4], "color": "#8795a1"},
                "encoding": _xy("p", "rate", log),
            },
            {
                "data": {"values": values},
                "mark": {"type": "point", "filled": True, "size": 60, "color": _COLOURS[0]},
                "encoding": _xy("p", "rate", log),
            },
        ],
    }
    return _svg(spec)


def heat_map(cells: list[dict[str, Any]], column: str) -> str:
    """Draw by how much log losses differ by value of a slice column, as SVG.

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
         "axis": {"labelAngle": 0, "orient": "top", "labelLimit": 240}}  # fmt: skip
    y = {"field": "value", "type": "nominal", "title": column, "sort": order}
    colour = {
        "field": "change", "type": "quantitative",
        "scale": {"scheme": "blueorange", "domain": [-most, most]},
        # That of a gradient has a number that depends on how many were drawn before.
        "legend": None,
    }  # fmt: skip
    spec = {
        "title": f"Log loss by {column}, beside another learner: blue is better",
        "width": {"step": 180},
        "height": {"step": 20},
        "data": {"values": cells},
        "encoding": {"x": x, "y": y},
        "layer": [
            {"mark": "rect", "encoding": {"color": colour}},
            {"mark": {"type": "text", "fontSize": 11},
             "encoding": {"text": {"field": "change", "format": "+.2%"}}},
        ],
    }  # fmt: skip
    return _svg(spec)


def _xy(x: str, y: str, scale: dict[str, Any]) -> dict[str, Any]:
    axis = {"format": "~p", "tickCount": 5}
    return {
        "x": {"field": x, "type": "quantitative", "scale": scale, "axis": axis,
              "title": "mean prediction"},
        "y": {"field": y, "type": "quantitative", "scale": scale, "axis": axis,
              "title": "label rate"},
    }  # fmt: skip


def _line(
    values: list[dict[str, Any]],
    field: str,
    series: str | None,
    title: str,
    number: str,
    layers: list[dict[str, Any]] | None = None,
) -> str:
    times = [value["time"] for value in values]
    moments = "%H:%M" if not times or max(times) - min(times) < _TWO_DAYS_MS else "%b %d"
    encoding: dict[str, Any] = {
        "x": {
            "field": "time", "type": "temporal", "scale": {"type": "utc"}, "title": None,
            "axis": {"format": moments},
        },
        "y": {
            "field": field, "type": "quantitative", "title": None,
            "axis": {"format": number}, "scale": {"zero": False},
        },
    }  # fmt: skip
    if series is not None:
        encoding["color"] = {"field": series, "scale": {"range": _COLOURS}}
    line = {"mark": {"type": "line", "point": {"size": 30}, "color": _COLOURS[0]},
            "encoding": encoding}  # fmt: skip
    return _svg(
        {
            "title": title,
            "width": _WIDTH,
            "height": _HEIGHT,
            "data": {"values": values},
            "layer": [line, *(layers or [])],
        }
    )


def _svg(spec: dict[str, Any]) -> str:
    full = {"$schema": "https://vega.github.io/schema/vega-lite/v5.json", "config": _CONFIG, **spec}
    return str(vl_convert.vegalite_to_svg(full))


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
        line = {"type": "line", "interpolate": "step-after", "color": _COLOURS[0]}
        shape = {"mark": line, "encoding": {"x": x, "y": y}}
    else:
        mark = {"type": "rect", "color": _COLOURS[0]}
        sides = {"x": x, "x2": {"field": "to"}, "y": y, "y2": {"datum": 0}}
        shape = {"mark": mark, "encoding": sides}
    rules = [{"delay": window / SECOND, "name": name} for name, window in marks.items()]
    at = {"field": "delay", "type": "quantitative"}
    named = {"field": "name", "scale": {"range": _COLOURS[::-1]}}
    rule = {
        "data": {"values": rules},
        "mark": {"type": "rule", "strokeDash": [4, 4], "strokeWidth": 2},
        "encoding": {"x": at, "color": named},
    }
    return _svg(
        {
            "title": title, "width": _WIDTH, "height": _HEIGHT,
            "data": {"values": values}, "layer": [shape, rule],
        }
    )  # fmt: skip
