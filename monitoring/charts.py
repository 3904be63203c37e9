"""Charts of the report, as static SVG drawn by Vega-Lite."""

from __future__ import annotations

from typing import Any

import numpy as np
import vl_convert

from monitoring.ratios import ratios
from monitoring.statistics import LOGIT_BINS, LOGIT_RANGE, Statistics

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
    """Draw label rate and mean prediction by window."""
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
    """Draw normalised entropy by window; 1 is no better than the label rate."""
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
    """Draw the label rate against the prediction, over about equal weights."""
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
