"""Panels and dashboards of Grafana as JSON types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

WIDTH = 24
"""Columns of Grafana's grid: a panel beyond them is drawn over others."""

_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_SCHEMA_VERSION = 41


@dataclass(frozen=True)
class Panel:
    """A panel, without its place.

    Parameters
    ----------
    kind
        ``timeseries``, ``stat``, ``bargauge``, ``table`` or ``state-timeline``.
    title, text
        Its title, and the description behind it.
    unit
        Grafana's name of the unit.
    queries
        Expressions by their legend.
    width, height
        In cells of the grid.
    names
        What values stand for, by value.
    bound
        Value from which on something is wrong, of which a line is drawn; None for none.
    log
        Whether the axis is logarithmic, base 2.
    """

    kind: str
    title: str
    text: str
    unit: str
    queries: Mapping[str, str]
    width: int = 12
    height: int = 8
    names: Mapping[int, str] = field(default_factory=dict)
    bound: float | None = None
    log: bool = False


def dashboard(uid: str, title: str, text: str, panels: Sequence[Panel]) -> dict[str, Any]:
    """Return a dashboard: panels fill rows from the left, each row as high as its highest."""
    placed, x, y, height = [], 0, 0, 0
    for number, panel in enumerate(panels, 1):
        if x + panel.width > WIDTH:
            x, y, height = 0, y + height, 0
        place = {"h": panel.height, "w": panel.width, "x": x, "y": y}
        placed.append({"id": number, "gridPos": place, **_panel(panel)})
        x, height = x + panel.width, max(height, panel.height)
    return {
        "uid": uid,
        "title": title,
        "description": text,
        "tags": ["headrace"],
        "timezone": "utc",
        "editable": True,
        "graphTooltip": 1,
        "schemaVersion": _SCHEMA_VERSION,
        "refresh": "10s",
        "time": {"from": "now-30m", "to": "now"},
        "links": [
            {
                "title": "Headrace", "type": "dashboards", "tags": ["headrace"],
                "asDropdown": False, "includeVars": True, "keepTime": True, "targetBlank": False,
                "icon": "external link", "tooltip": "The other dashboards", "url": "",
            }
        ],
        "templating": {"list": [_data_source(), *(_variable(*of) for of in VARIABLES)]},
        "panels": placed,
    }  # fmt: skip


FIRST = "learned"
"""The kind of prediction that is shown first."""

VARIABLES = (
    ("learner", "Learner", "headrace_prediction_samples_total", "", ".*"),
    ("slice", "Slice", "headrace_prediction_samples_total", 'slice!=""', ".+"),
    ("predicted", "Predicted", "headrace_prediction_samples_total", "", None),
)
"""Name, title, metric, matcher, and what stands for all values, if that is offered."""


def _data_source() -> dict[str, Any]:
    return {
        "name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus",
        "refresh": 1, "hide": 0, "includeAll": False, "multi": False, "options": [], "regex": "",
    }  # fmt: skip


def _variable(
    name: str, title: str, metric: str, matcher: str, every: str | None
) -> dict[str, Any]:
    current = {"text": "All", "value": "$__all"} if every else {"text": FIRST, "value": FIRST}
    asked = f"{metric}{{{matcher}}}" if matcher else metric
    query = f"label_values({asked}, {name})"
    return {
        "name": name, "label": title, "type": "query", "datasource": _SOURCE,
        "query": {"query": query, "refId": name}, "definition": query,
        "refresh": 2, "sort": 1, "hide": 0, "includeAll": every is not None, "multi": False,
        "options": [], "regex": "", "current": current, **({"allValue": every} if every else {}),
    }  # fmt: skip


def _panel(panel: Panel) -> dict[str, Any]:
    instant = panel.kind in ("table", "bargauge")
    targets = [
        {
            "refId": chr(ord("A") + number),
            "datasource": _SOURCE,
            "expr": expression,
            "legendFormat": legend,
            "instant": instant,
            "range": not instant,
            **({"format": "table"} if panel.kind == "table" else {}),
        }
        for number, (legend, expression) in enumerate(panel.queries.items())
    ]
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.text,
        "datasource": _SOURCE,
        "targets": targets,
        "fieldConfig": {"defaults": _defaults(panel), "overrides": []},
        "options": _OPTIONS[panel.kind],
        "transformations": _TABLE if panel.kind == "table" else [],
    }


def _defaults(panel: Panel) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    if panel.bound is not None:
        steps.append({"color": "red", "value": panel.bound})
    names = {
        str(value): {"text": name, "index": place}
        for place, (value, name) in enumerate(panel.names.items())
    }
    return {
        "unit": panel.unit,
        "mappings": [{"type": "value", "options": names}] if names else [],
        "thresholds": {"mode": "absolute", "steps": steps},
        "color": {"mode": "palette-classic"},
        "custom": _custom(panel),
    }  # fmt: skip


def _custom(panel: Panel) -> dict[str, Any]:
    if panel.kind != "timeseries":
        return {}
    return {
        "lineWidth": 1,
        "fillOpacity": 5,
        "showPoints": "auto",
        "spanNulls": True,  # windows of a backfill are points far apart
        "scaleDistribution": {"type": "log", "log": 2} if panel.log else {"type": "linear"},
        "thresholdsStyle": {"mode": "off" if panel.bound is None else "dashed"},
    }


_REDUCED = {"calcs": ["lastNotNull"], "fields": "", "values": False}
_OPTIONS: dict[str, dict[str, Any]] = {
    "timeseries": {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
    "stat": {
        "reduceOptions": _REDUCED, "colorMode": "value", "graphMode": "area", "justifyMode": "auto",
        "textMode": "auto", "orientation": "auto",
    },
    "bargauge": {
        "reduceOptions": _REDUCED, "displayMode": "basic", "orientation": "vertical",
        "showUnfilled": True, "valueMode": "color",
    },
    "table": {"showHeader": True, "cellHeight": "sm"},
    "state-timeline": {
        "mergeValues": True, "showValue": "auto", "alignValue": "left", "rowHeight": 0.9,
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
        "tooltip": {"mode": "single", "sort": "none"},
    },
}  # fmt: skip
_TABLE = [
    {
        "id": "organize",
        "options": {"excludeByName": {"Time": True, "job": True, "instance": True}},
    }
]
