"""Vega-Lite to static SVG that follows the page: its colours, its width, light or dark."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import vl_convert

from headrace.monitoring.report.texts import printable

WIDTH, HEIGHT = 400, 190
BLUE, ORANGE, INK, FAINT = "var(--blue)", "var(--orange)", "var(--ink)", "var(--faint)"
"""Colours are variables of the page's style sheet, so that one drawing serves light and dark."""

_CONFIG = {
    "background": None,
    # Vega measures texts in the last of these that it has, so they should be as wide in a browser.
    "font": "Arial, Liberation Sans, sans-serif",
    # Texts for each mark would be the greater part of a drawing; the figure has one.
    "aria": False,
    "view": {"stroke": None},
    "axis": {
        "gridColor": "var(--grid)", "domainColor": FAINT, "tickColor": FAINT,
        "labelColor": INK, "titleColor": INK, "titleFontWeight": "normal",
        "labelFontSize": 11, "titleFontSize": 11,
    },
    "title": {"anchor": "start", "fontSize": 13, "color": INK, "fontWeight": 600,
              "limit": WIDTH - 30},
    "text": {"color": INK},
    "legend": {"orient": "top", "title": None, "labelColor": INK, "labelFontSize": 11,
               "padding": 0},
}  # fmt: skip
_DAY_MS = 86_400_000

Draw = Callable[[dict[str, Any]], str]
_draw: Draw = vl_convert.vegalite_to_svg

DASHED = {"type": "rule", "strokeDash": [4, 4], "color": FAINT}


def svg(spec: dict[str, Any]) -> str:
    """Return a drawing `WIDTH` wide with all its axes, whatever its labels and texts."""
    full = {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json", "config": _CONFIG,
        "width": WIDTH, "autosize": {"type": "fit-x", "contains": "padding"}, "padding": 6,
        **_printable(spec),
    }  # fmt: skip
    return str(_draw(full))


def draw_with(draw: Draw) -> None:
    """Let `draw` make drawings of specifications, in place of this process."""
    global _draw
    _draw = draw


def _printable(part: Any) -> Any:
    """Return a part of a specification without characters that Vega's expressions cannot have.

    Vega makes expressions of the texts by which it sorts.
    """
    if isinstance(part, str):
        return printable(part)
    if isinstance(part, dict):
        return {name: _printable(of) for name, of in part.items()}
    return [_printable(of) for of in part] if isinstance(part, list) else part


def time_axis(first: int, last: int) -> dict[str, Any]:
    """Return the axis of event time, UTC, with dates; times in milliseconds."""
    days = last - first > 3 * _DAY_MS
    words = "utcFormat(datum.value, '%b %d')"
    if not days:
        midnight = "utchours(datum.value) == 0 && utcminutes(datum.value) == 0"
        clock = "utcFormat(datum.value, '%H:%M')"
        words = f"datum.index == 0 || {midnight} ? [{clock}, {words}] : {clock}"
    return {
        "labelExpr": words,
        "tickCount": 6,
        "labelOverlap": "greedy",
        "labelSeparation": 12,
        "grid": False,
    }


def time_x(first: int, last: int, field: str = "time") -> dict[str, Any]:
    """Return the encoding of event time from `first` to `last`, milliseconds."""
    return {
        "field": field, "type": "temporal", "title": None, "axis": time_axis(first, last),
        "scale": {"type": "utc", "domain": [first, last], "nice": False},
    }  # fmt: skip
