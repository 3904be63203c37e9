"""The sections of the report on labels: rates over time, delays, coverage, what does not count."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from headrace.monitoring.labels import PARTS
from headrace.monitoring.report.charts import label_rate_chart
from headrace.monitoring.report.verdict import with_interval
from headrace.monitoring.report.watching import delay_bars
from headrace.schemas.config.durations import DAY, SECOND, format_duration


def label_section(name: str, label: Mapping[str, Any], learners: list[str]) -> dict[str, Any]:
    """Return what the report shows of a label.

    Parameters
    ----------
    name
        The label.
    label
        See `headrace.schemas.summary.LabelSummary`.
    learners
        Names of the learners that learn it.

    Returns
    -------
    dict
        ``name``, ``window``, ``learned``, in words; ``heads`` and ``row`` of its table; ``charts``;
        ``bin``, ``hour`` or ``day``, and ``bins``, a row for each.
    """
    daily = label["bin_s"] * SECOND == DAY
    window = round(label["window_s"] * SECOND)
    coverage = {
        f"came by {format_duration(window // over)}": _share(label["coverage"][part])
        for part, over in PARTS.items()
    }
    counts = [_count(label[of]) for of in ("outside_window", "late", "orphans")]
    return {
        "name": name,
        "window": format_duration(window),
        "learned": f"learned by {', '.join(learners)}" if learners else "not learned",
        "heads": ["samples", "positives", "rate", *coverage, "after it", "late", "orphans"],
        "row": [
            _count(label["samples"]), _count(label["positives"]),
            _rate(label), *coverage.values(), *counts,
        ],
        "charts": [label_rate_chart(name, label["bins"], label["bin_s"]),
                   delay_bars(name, label["delays"])],
        "bin": "day" if daily else "hour",
        "bins": [
            [_start(of["start"], daily), _count(of["samples"]), _count(of["positives"]), _rate(of)]
            for of in label["bins"]
        ],
    }  # fmt: skip


def _start(moment: str, daily: bool) -> str:
    return f"{datetime.fromisoformat(moment):{'%Y-%m-%d' if daily else '%Y-%m-%d %H:%M'}}"


def _rate(of: Mapping[str, Any]) -> str:
    return "" if of["label_rate"] is None else with_interval(of, "label_rate", ".3%")


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def _count(number: int) -> str:
    return f"{number:,}"
