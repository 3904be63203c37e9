"""Draw the dashboards with the figures of a Prometheus: a page to look at without Grafana.

Panels are where Grafana puts them, and their lines are what their expressions return. It is no
Grafana: it shows whether a dashboard has data, room and sensible units.

    python -m benchmarks.dashboards http://127.0.0.1:9090 BEGIN END FOLDER   (times in seconds)
"""

from __future__ import annotations

import html
import json
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

from headrace.monitoring.grafana.dashboards import DASHBOARDS
from headrace.monitoring.grafana.panels import WIDTH

_COLUMN, _ROW, _HEAD = 56, 36, 26
_COLOURS = ("#3274d9", "#e0752d", "#2f9e44", "#a352cc", "#e02f44", "#0f8a8a", "#8f6b2e", "#777")
_MOST = 8
"""So many series of a panel are drawn."""

Series = tuple[str, list[tuple[float, float]]]


def main() -> None:
    """Write a page for each dashboard."""
    url, begin, end, folder = sys.argv[1], float(sys.argv[2]), float(sys.argv[3]), sys.argv[4]
    Path(folder).mkdir(parents=True, exist_ok=True)
    for name, make in DASHBOARDS.items():
        text = page(make(), lambda target: ask(url, target, begin, end))
        (Path(folder) / f"{name}.html").write_text(text, encoding="utf-8")


def ask(url: str, target: dict[str, Any], begin: float, end: float) -> list[Series]:
    """Return the series of a target, each with its legend."""
    expression = target["expr"].replace("$__rate_interval", "1m")
    for variable, every in (("learner", ".*"), ("slice", ".+"), ("predicted", "learned")):
        expression = expression.replace(f"${variable}", every)
    step = max((end - begin) / 120, 1)
    query = urlencode({"query": expression, "start": begin, "end": end, "step": step})
    with urlopen(f"{url}/api/v1/query_range?{query}") as answer:
        result = json.load(answer)["data"]["result"]
    found = []
    for series in result:
        labels = series["metric"]
        legend = target["legendFormat"] or " ".join(labels.values())
        for label in ("learner", "predicted", "label", "slice", "value", "stream", "outcome",
                      "source", "bin", "instance"):  # fmt: skip
            legend = legend.replace(f"{{{{{label}}}}}", labels.get(label, ""))
        points = [(at, float(value)) for at, value in series["values"]]
        found.append((legend, [point for point in points if abs(point[1]) < float("inf")]))
    return found


def page(dashboard: dict[str, Any], ask_: Any) -> str:
    """Return the page of a dashboard."""
    bottom = max(of["gridPos"]["y"] + of["gridPos"]["h"] for of in dashboard["panels"])
    parts = []
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        width, height = place["w"] * _COLUMN - 8, place["h"] * _ROW - 8
        series = [one for target in panel["targets"] for one in ask_(target)]
        drawn = _chart(panel, series, width, height - _HEAD) if series else "<p>no data</p>"
        parts.append(
            f'<div style="left:{place["x"] * _COLUMN}px;top:{place["y"] * _ROW}px;'
            f'width:{width}px;height:{height}px"><b title="{html.escape(panel["description"])}">'
            f"{html.escape(panel['title'])}</b> <small>{panel['fieldConfig']['defaults']['unit']}"
            f"</small>{drawn}</div>"
        )
    return (
        f"<!doctype html><meta charset=utf-8><title>{dashboard['title']}</title><style>"
        "body{font:12px sans-serif;margin:8px;background:#f4f5f5}h1{font-size:16px}"
        "main{position:relative}main>div{position:absolute;background:#fff;overflow:hidden;"
        "border:1px solid #ddd;padding:2px 4px;box-sizing:border-box}"
        f"</style><h1>{dashboard['title']}</h1>"
        f'<main style="width:{WIDTH * _COLUMN}px;height:{bottom * _ROW}px">{"".join(parts)}</main>'
    )


def _chart(panel: dict[str, Any], series: list[Series], width: int, height: int) -> str:
    """Return the last value of each series, or its lines."""
    if panel["type"] in ("stat", "table", "bargauge"):
        size = 20 if panel["type"] == "stat" else 12
        lasts = (f"{html.escape(name)} <b>{points[-1][1]:,.6g}</b>" for name, points in series[:12]
                 if points)  # fmt: skip
        return f'<p style="font-size:{size}px">' + "<br>".join(lasts) + "</p>"
    series = series[:_MOST]
    values = [value for _, points in series for _, value in points]
    times = [at for _, points in series for at, _ in points]
    low, high = min(values, default=0.0), max(values, default=1.0)
    first, last = min(times, default=0.0), max(times, default=1.0)
    area = height - 18

    def at(point: tuple[float, float]) -> str:
        x = 60 + (point[0] - first) / ((last - first) or 1) * (width - 76)
        return f"{x:.1f},{6 + (high - point[1]) / ((high - low) or 1) * (area - 12):.1f}"

    lines = "".join(
        f'<polyline fill="none" stroke="{colour}" points="{" ".join(map(at, points))}"/>'
        for (_, points), colour in zip(series, _COLOURS, strict=False)
    )
    legend = " ".join(
        f'<tspan fill="{colour}">{html.escape(name)}</tspan>'
        for (name, _), colour in zip(series, _COLOURS, strict=False)
    )
    return (
        f'<svg width="{width - 8}" height="{height}">{lines}'
        f'<text x="0" y="12">{high:.5g}</text><text x="0" y="{area}">{low:.5g}</text>'
        f'<text x="60" y="{height - 4}">{legend}</text></svg>'
    )


if __name__ == "__main__":
    main()
