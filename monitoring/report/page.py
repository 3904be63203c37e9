"""The HTML report of a replay: one file, no script, nothing loaded from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from headrace.monitoring.delays import Survival
from headrace.monitoring.ending import what_stayed_open
from headrace.monitoring.ratios import ratios
from headrace.monitoring.report.charts import (
    coverage_chart,
    delay_chart,
    entropy_chart,
    heat_map,
    rate_chart,
    reliability_chart,
)
from headrace.monitoring.statistics import SAMPLES, Statistics
from headrace.schemas.config.durations import SECOND, format_duration

_SLICE_ROWS = 20

_TIMES = {
    "first_pass": "in an hour that the zone repeats, told by the order: of its first pass",
    "second_pass": "in an hour that the zone repeats, told by the order: of its second pass",
    "unresolved": "in an hour that the zone repeats, not told by anything: taken as of its "
    "first pass",
    "floored": "finer than a microsecond: the rest is cut off",
}
"""What the counts of `headrace.schemas.summary.TimeCounts` mean."""


def render_report(
    summary: dict[str, Any], statistics: Mapping[str, Statistics], findings: list[str]
) -> str:
    """Return the report as HTML.

    Parameters
    ----------
    summary
        Contents of ``summary.json``.
    statistics
        Statistics of the progressive predictions, by learner.
    findings
        What is wrong with the input, a sentence each.
    """
    outcomes = summary["outcomes"]
    names = list(next(iter(outcomes.values())))
    rows = [
        [stream, _count(summary["input"][stream]), *(_count(counts[name]) for name in names)]
        for stream, counts in outcomes.items()
    ]
    return _template("report.html").render(
        input_total=_count(sum(summary["input"].values())),
        elapsed=summary["elapsed_s"],
        events_per_s=_count(summary["events_per_s"]),
        peak=_count(round(summary["peak_rss_mb"])),
        findings=findings,
        tiles=_tiles(summary),
        outcome_names=[name.replace("_", " ") for name in names],
        outcome_rows=rows,
        opened=what_stayed_open(summary),
        bad_values=[
            [stream, column, cause, _count(found["count"]), ", ".join(found["examples"])]
            for stream, columns in summary["bad_values"].items()
            for column, causes in columns.items()
            for cause, found in causes.items()
        ],
        times=[
            [stream, _count(counts[name]), meaning]
            for stream, counts in summary["times"].items()
            for name, meaning in _TIMES.items()
            if counts[name]
        ],
        window=format_duration(round(summary["window_s"] * SECOND)),
        heat_maps=_heat_maps(summary["learners"], statistics),
        learners=[
            _section(name, learner, statistics[name])
            for name, learner in summary["learners"].items()
        ],
    )


def _section(name: str, learner: dict[str, Any], statistics: Statistics) -> dict[str, Any]:
    """Return what the report shows of one learner."""
    watched = bool(statistics.rows)
    model = learner["model"]
    return {
        "name": name,
        "algorithm": learner["algorithm"],
        "label": learner["label"],
        "figures_of": _figures_of(learner),
        "compared": _compared(learner),
        "served_share": learner["served"] and f"{learner['served']['share']:.3g}",
        "charts": [chart(statistics) for chart in (rate_chart, entropy_chart, reliability_chart)]
        if watched
        else [],
        "slice_tables": [(column, _slice_rows(statistics, column)) for column in statistics.slices]
        if watched
        else [],
        "model": model,
        "figures": [
            f"{_count(n)} {figure.replace('_', ' ')}" for figure, n in model["figures"].items()
        ],
    }


def _compared(learner: dict[str, Any]) -> str:
    """Return in words how a learner differs from the one that it is compared with."""
    if (found := learner["compared"]) is None:
        return ""
    share = found["mean"] / (learner["served"]["log_loss"] - found["mean"])
    surely = found["low"] > 0 or found["high"] < 0
    worse = "higher" if found["mean"] > 0 else "lower"
    return (
        f"Beside {found['reference']}, on the same {_count(found['rows'])} impressions: log loss "
        f"{abs(share):.2%} {worse} ({found['mean']:+.5f}, 95 % interval {found['low']:+.5f} to "
        f"{found['high']:+.5f}){'' if surely else ', which may be chance'}."
    )


def _figures_of(learner: dict[str, Any]) -> list[list[str]]:
    """Return the rows that compare predictions just before learning with those of a server."""
    names = ("log_loss", "normalized_entropy", "auc", "calibration")
    rows = [("just before learning", learner, f"{learner['mature_share']:.2%}")]
    if (served := learner["served"]) is not None:
        rows.append(("when known, as served", served, "100.00%"))
    if (calibrated := learner["calibrated"]) is not None:
        rows.append(("as served, calibrated", calibrated, "100.00%"))
    return [
        [when, _count(of["samples"]), mature, *(_number(of[name]) for name in names)]
        for when, of, mature in rows
    ]


@dataclass(frozen=True)
class WindowsOf:
    """What the page of windows shows of one action stream.

    Parameters
    ----------
    name, survival
        The stream, and its delays.
    configured, recommended
        Windows to mark, microseconds.
    sentence
        The recommendation in words; empty without one.
    rows
        The table: window, coverage, open, waiting, state, memory, shards, note.
    """

    name: str
    survival: Survival
    configured: int
    recommended: int | None
    sentence: str
    rows: list[list[str]]


def render_windows(streams: list[WindowsOf]) -> str:
    """Return the page that helps to choose windows, as HTML."""
    shown = []
    for stream in streams:
        marks = {"configured": stream.configured}
        if stream.recommended is not None:
            marks["recommended"] = stream.recommended
        charts = []
        if stream.survival.delay.size:
            charts = [coverage_chart(stream.survival, marks), delay_chart(stream.survival, marks)]
        shown.append(
            {
                "name": stream.name, "recommended": stream.sentence, "charts": charts,
                "rows": stream.rows,
            }
        )  # fmt: skip
    longest = max(stream.survival.longest for stream in streams)
    return _template("windows.html").render(streams=shown, longest=format_duration(longest))


def _template(name: str) -> Template:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
    )
    return environment.get_template(name)


def _tiles(summary: dict[str, Any]) -> list[tuple[str, str]]:
    samples = summary["samples"]
    tiles = [("samples", _count(samples["rows"]))]
    tiles += [(f"positives ({name})", _count(n)) for name, n in samples["positives"].items()]
    if len(samples["emissions"]) > 1:
        tiles += [(f"of them {name}", _count(n)) for name, n in samples["emissions"].items()]
    if summary["joined"] is not None:
        tiles += [
            (f"joined ({name})", _count(n)) for name, n in summary["joined"]["actions"].items()
        ]
    tiles.append(("negatives dropped", _count(samples["negatives_dropped"])))
    return tiles


def _heat_maps(
    learners: dict[str, dict[str, Any]], statistics: Mapping[str, Statistics]
) -> list[str]:
    """Return a chart for each slice column: the log loss of learners beside that of the first.

    Only of learners that are compared with another, and of values with most samples.
    """
    charts = []
    columns = next((found.slices for found in statistics.values()), ())
    for column in columns:
        cells = []
        for name, learner in learners.items():
            if learner["compared"] is None:
                continue
            others = statistics[learner["compared"]["reference"]].totals(column)
            own = sorted(statistics[name].totals(column).items(), key=lambda of: -of[1][SAMPLES])
            for value, sums in own[:_SLICE_ROWS]:
                loss, other = (ratios(of)["log_loss"] for of in (sums, others.get(value, 0 * sums)))
                if loss and other:
                    label = f"{name} beside {learner['compared']['reference']}"
                    cells.append({"value": value, "learner": label, "change": loss / other - 1})
        if cells:
            charts.append(heat_map(cells, column))
    return charts


def _slice_rows(statistics: Statistics, name: str) -> list[list[str]]:
    totals = sorted(statistics.totals(name).items(), key=lambda item: -item[1][SAMPLES])
    rows = []
    for value, sums in totals[:_SLICE_ROWS]:
        found = ratios(sums)
        rate = found["label_rate"]
        rows.append(
            [
                value,
                _count(found["samples"]),
                _count(found["positives"]),
                "" if rate is None else f"{rate:.3%}",
                _number(found["log_loss"]),
                _number(found["normalized_entropy"]),
                _number(found["calibration"]),
            ]
        )
    return rows


def _count(number: int | float | None) -> str:
    return "" if number is None else f"{number:,.0f}"


def _number(number: int | float | None) -> str:
    return "undefined" if number is None else f"{number:.4f}"
