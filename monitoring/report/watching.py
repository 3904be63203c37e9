"""Charts of what happened to labels: slices over time, the guard's states, delays of actions."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from headrace.monitoring.headline import bucketed, summed
from headrace.monitoring.report.svg import BLUE, HEIGHT, svg, time_x
from headrace.monitoring.statistics import P_SUM, POSITIVE_WEIGHT, SAMPLES, Statistics
from headrace.schemas.config.durations import DAY, SECOND, format_duration

MOST_VALUES, _COLUMNS = 12, 36
FULL = 20.0
"""A cell has its full colour from so many predicted positives on."""

BANDS = (1 / 2, 1 / 1.5, 1 / 1.25, 1.25, 1.5, 2.0)
_NAMES = ("< 0.5", "0.5-0.67", "0.67-0.8", "0.8-1.25", "1.25-1.5", "1.5-2", "> 2")
_COLOURS = [f"var(--heat{number})" for number in range(len(_NAMES))]

STATES = {
    "young": "var(--faint)", "watching": "var(--good)", "warned": "var(--warn)",
    "disconnected": "var(--bad)", "asking": "var(--asking)",
}  # fmt: skip
_BECOMES = {
    "armed": "watching", "warn": "warned", "calm": "watching", "disconnect": "disconnected",
    "ask": "asking", "reconnect": "watching", "accept": "watching",
}  # fmt: skip
_LEAD = "lead-"
"""Events of arrivals begin with it."""
_SCOPES = 20


def slice_chart(statistics: Statistics, column: str) -> str:
    """Draw by how many times positives are as many as predicted, by value and event time.

    Of the values with most samples. Classes of ratios have the bands by which a guard judges; a
    cell of few predicted positives is pale, as its ratio says little. Empty text without samples.
    """
    totals = sorted(statistics.totals(column).items(), key=lambda of: (-of[1][SAMPLES], of[0]))
    chosen = [value for value, _ in totals[:MOST_VALUES]]
    # All rows have the columns of the whole.
    whole, length = bucketed(statistics.windows(), statistics.window, _COLUMNS)
    if not chosen or not whole:
        return ""
    values = []
    for value in chosen:
        for start, sums in summed(statistics.windows(column, value), length):
            expected = float(sums[P_SUM])
            if expected > 0:
                ratio = float(sums[POSITIVE_WEIGHT]) / expected
                values.append(
                    {
                        "value": value, "from": start // 1000, "to": (start + length) // 1000,
                        "ratio": _NAMES[sum(ratio >= band for band in BANDS)],
                        "count": min(1.0, expected / FULL),
                    }
                )  # fmt: skip
    first, last = whole[0][0] // 1000, (whole[-1][0] + length) // 1000
    colour = {
        "field": "ratio", "type": "ordinal", "scale": {"domain": list(_NAMES), "range": _COLOURS},
        "legend": {"symbolType": "square", "symbolSize": 60, "columnPadding": 7,
                   "labelFontSize": 9},
    }  # fmt: skip
    count = {"field": "count", "type": "quantitative", "legend": None,
             "scale": {"domain": [0, 1], "range": [0.15, 1]}}  # fmt: skip
    y = {"field": "value", "type": "nominal", "sort": chosen, "title": None,
         "axis": {"labelLimit": 90}}  # fmt: skip
    return svg(
        {
            "title": f"Positives over predicted ones, by {column}",
            "height": {"step": 18},
            "data": {"values": values},
            "mark": {"type": "rect", "stroke": None},
            "encoding": {
                "x": time_x(first, last, "from"), "x2": {"field": "to"}, "y": y,
                "color": colour, "opacity": count,
            },
        }
    )  # fmt: skip


def guard_spans(journal: pa.Table, begin: int, end: int) -> list[dict[str, Any]]:
    """Return how long a guard was in which state, by scope.

    Parameters
    ----------
    journal
        The guard's rows, in order, with the columns ``time``, ``label``, ``slice``, ``value`` and
        ``event``.
    begin, end
        Of the log, microseconds.

    Returns
    -------
    list of dict
        ``scope``, ``state``, ``from`` and ``to`` (milliseconds); scopes of all samples first,
        then in order of their first event.
    """
    rows = journal.set_column(
        journal.schema.get_field_index("time"), "time", journal.column("time").cast(pa.int64())
    ).to_pylist()
    scopes: dict[str, list[tuple[int, str]]] = {}
    for row in sorted(rows, key=lambda row: row["slice"] is not None):
        name, event = row["label"], row["event"].removeprefix(_LEAD)
        if event != row["event"]:
            name += ": arrivals"
        if row["slice"] is not None:
            name += f": {row['slice']} {row['value']}"
        # A slice has no events of its own before something is suspected.
        at_first = "young" if row["slice"] is None else "watching"
        changes = scopes.setdefault(name, [(begin, at_first)])
        changes.append((row["time"], _BECOMES[event]))
    return [
        {"scope": scope, "state": state, "from": since // 1000, "to": until // 1000}
        for scope, changes in list(scopes.items())[:_SCOPES]
        for (since, state), (until, _) in zip(changes, [*changes[1:], (end, "")], strict=True)
        if until > since
    ]


def guard_chart(journal: pa.Table, begin: int, end: int) -> str:
    """Draw the states of a guard over event time; empty text if it said nothing."""
    spans = guard_spans(journal, begin, end)
    if not spans:
        return ""
    order = list(dict.fromkeys(span["scope"] for span in spans))
    return svg(
        {
            "title": "States of the guard",
            "height": {"step": 20},
            "data": {"values": spans},
            "mark": {"type": "rect", "height": {"band": 0.7}},
            "encoding": {
                "x": time_x(begin // 1000, end // 1000, "from"), "x2": {"field": "to"},
                "y": {"field": "scope", "type": "nominal", "sort": order, "title": None,
                      "axis": {"labelLimit": 120}},
                "color": {"field": "state", "type": "nominal",
                          "legend": {"columns": 3, "symbolType": "square"},
                          "scale": {"domain": list(STATES), "range": list(STATES.values())}},
            },
        }
    )  # fmt: skip


def delay_bars(label: str, delays: list[dict[str, Any]]) -> str:
    """Draw which part of a label's positives came within each delay; empty text without any.

    Parameters
    ----------
    label
        Its name.
    delays
        ``below_s`` and ``actions`` of each bin, by delay.
    """
    total = sum(found["actions"] for found in delays)
    if not total:
        return ""
    values = [
        {"delay": _short(found["below_s"]), "share": found["actions"] / total} for found in delays
    ]
    y = {"field": "share", "type": "quantitative", "title": None,
         "axis": {"format": "~%", "tickCount": 4}}  # fmt: skip
    x = {"field": "delay", "type": "nominal", "sort": None, "title": "less than",
         "axis": {"labelAngle": 0, "labelFontSize": 9}}  # fmt: skip
    return svg(
        {
            "title": f"{label}: first actions by delay", "height": HEIGHT,
            "data": {"values": values}, "mark": {"type": "bar", "color": BLUE},
            "encoding": {"x": x, "y": y},
        }
    )  # fmt: skip


def _short(seconds: float) -> str:
    return format_duration(min(round(seconds * SECOND), 365 * DAY))
