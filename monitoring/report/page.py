"""The HTML report of a replay: one file, no script, nothing loaded from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from headrace.monitoring.delays import Survival
from headrace.monitoring.detectors import Said, what_others_say
from headrace.monitoring.ending import what_stayed_open
from headrace.monitoring.headline import judged
from headrace.monitoring.ratios import ratios
from headrace.monitoring.report.charts import (
    coverage_chart,
    delay_chart,
    entropy_chart,
    heat_map,
    rate_chart,
    reliability_chart,
)
from headrace.monitoring.report.drift import drift_table
from headrace.monitoring.report.labels import label_section
from headrace.monitoring.report.pairwise import pairwise_tables
from headrace.monitoring.report.ran import about_the_log, configuration_lines, stream_rows
from headrace.monitoring.report.verdict import (
    headline_rows,
    number,
    verdicts,
    with_interval,
)
from headrace.monitoring.report.watching import guard_chart, slice_chart
from headrace.monitoring.statistics import SAMPLES, WEIGHT, Statistics
from headrace.schemas.config.durations import SECOND, format_duration

if TYPE_CHECKING:
    from jinja2 import Template

_SLICE_ROWS = 20
_EVENTS = 50

_TIMES = {
    "first_pass": "in an hour that the zone repeats, told by the order: of its first pass",
    "second_pass": "in an hour that the zone repeats, told by the order: of its second pass",
    "unresolved": "in an hour that the zone repeats, not told by anything: taken as of its "
    "first pass",
    "floored": "finer than a microsecond: the rest is cut off",
}
"""What the counts of `headrace.schemas.summary.TimeCounts` mean."""


def render_report(
    summary: dict[str, Any],
    statistics: Mapping[str, Statistics],
    findings: list[str],
    served: Mapping[str, Statistics] | None = None,
    guard: pa.Table | None = None,
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
    served
        Statistics of predictions as served, by learner.
    guard
        The guard's journal, with the columns ``time``, ``label``, ``slice``, ``value``, ``event``
        and ``reason``; None if there was no guard.
    """
    outcomes, learners = summary["outcomes"], summary["learners"]
    names = list(next(iter(outcomes.values())))
    before = ["from_before"] if any(summary["carried"].values()) else []
    rows = [
        [
            stream,
            _count(summary["input"][stream]),
            *(_count(summary["carried"][stream]) for _ in before),
            *(_count(counts[name]) for name in names),
        ]
        for stream, counts in outcomes.items()
    ]
    of_final = {
        name: of
        for name in learners
        if (of := judged(statistics[name], (served or {}).get(name))) is not None and not of.empty
    }
    # Of several learners of a label the first stands for what happened to it.
    first = {learners[name]["label"]: name for name in reversed(list(of_final))}
    watched = {label: of_final[first[label]] for label in reversed(first)}
    return report_template().render(
        input_total=_count(sum(summary["input"].values())),
        elapsed=summary["elapsed_s"],
        events_per_s=_count(summary["events_per_s"]),
        peak=_count(round(summary["peak_rss_mb"])),
        verdicts=verdicts(summary),
        findings=findings,
        tiles=_tiles(summary),
        headlines=headline_rows(learners),
        left_out=_left_out(learners),
        slice_charts=[
            chart for of in watched.values() for by in of.slices if (chart := slice_chart(of, by))
        ],
        guard=_guard(guard, watched),
        about_the_log=about_the_log(summary),
        labels=[
            label_section(
                name, label, [of for of, learner in learners.items() if learner["label"] == name]
            )
            for name, label in summary["labels"].items()
        ],
        streams=stream_rows(summary),
        closed=summary["end_of_log"]["mode"] == "close",
        configuration=configuration_lines(summary["config"]),
        outcome_names=[name.replace("_", " ") for name in (*before, *names)],
        outcome_rows=rows,
        opened=what_stayed_open(summary),
        sources=_sources(summary["sources"]),
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
        has_propensity=any(of["pairwise"] is not None for of in learners.values()),
        heat_maps=_heat_maps(learners, statistics),
        drift=drift_table(summary.get("drift")),
        detectors=[
            (label, [_said(said) for said in what_others_say(of.windows())])
            for label, of in watched.items()
        ],
        learners=[
            _section(name, learner, statistics[name], of_final.get(name))
            for name, learner in learners.items()
        ],
    )


def _section(
    name: str, learner: dict[str, Any], statistics: Statistics, of_final: Statistics | None
) -> dict[str, Any]:
    """Return what the report shows of one learner."""
    model, since = learner["model"], learner["after_warm_up"]
    charts = []
    if not statistics.empty:
        charts = [chart(statistics) for chart in (rate_chart, entropy_chart, reliability_chart)]
    begin = None if since is None else _microseconds(since["since"])
    return {
        "name": name,
        "algorithm": learner["algorithm"],
        "label": learner["label"],
        "figures_of": _figures_of(learner),
        "compared": _compared(learner),
        "served_share": learner["served"] and f"{learner['served']['share']:.3g}",
        "charts": charts,
        "slice_tables": []
        if of_final is None or begin is None
        else [(column, _slice_rows(of_final, column, begin)) for column in of_final.slices],
        "pairwise": pairwise_tables(learner["pairwise"]),
        "model": model,
        "figures": [
            f"{_count(n)} {figure.replace('_', ' ')}" for figure, n in model["figures"].items()
        ],
    }


def _microseconds(moment: str) -> int:
    return round(datetime.fromisoformat(moment).timestamp()) * SECOND


def _guard(journal: pa.Table | None, watched: Mapping[str, Statistics]) -> dict[str, Any] | None:
    """Return what the report shows of the guard, None without one."""
    if journal is None:
        return None
    windows = [window for of in watched.values() for window in of.windows()]
    if not windows:
        return None
    length = next(iter(watched.values())).window
    starts = [start for start, _ in windows]
    recent = journal.slice(max(0, journal.num_rows - _EVENTS))
    return {
        "chart": guard_chart(journal, min(starts), max(starts) + length),
        "events": [
            [
                f"{row['time']:%Y-%m-%d %H:%M}", row["label"],
                "" if row["slice"] is None else f"{row['slice']} {row['value']}",
                row["event"], row["reason"],
            ]
            for row in recent.to_pylist()
        ],
        "earlier": _count(journal.num_rows - recent.num_rows),
    }  # fmt: skip


def _sources(sources: list[dict[str, Any]]) -> list[list[str]]:
    """Return the sources that end first, those without any event before."""
    order = sorted(sources, key=lambda of: (of["latest"] or "", of["stream"], of["name"]))
    return [
        [
            of["name"], of["stream"], _count(of["records"]), _count(of["rejected"]),
            (of["latest"] or "no event").replace("T", " ")[:19],
        ]
        for of in order[:_SLICE_ROWS]
    ]  # fmt: skip


def _said(said: Said) -> list[str]:
    """Return a row of the table of detectors."""
    first = [_minute(time) for time in said.alarms[:3]]
    more = len(said.alarms) - len(first)
    return [
        said.detector, _count(said.windows), _count(len(said.alarms)),
        ", ".join([*first, *([f"{more:,} more"] if more else [])]),
    ]  # fmt: skip


def _minute(time: int) -> str:
    return f"{datetime.fromtimestamp(time // SECOND, UTC):%Y-%m-%d %H:%M}"


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
    rows = [("just before learning", learner, f"{learner['mature_share']:.2%}")]
    if (served := learner["served"]) is not None:
        rows.append(("when known, as served", served, "100.00%"))
    if (calibrated := learner["calibrated"]) is not None:
        rows.append(("as served, calibrated", calibrated, "100.00%"))
    return [
        [
            when, _count(of["samples"]), mature, number(of["log_loss"]),
            number(of["normalized_entropy"]), with_interval(of, "auc"),
            with_interval(of, "calibration"), number(of["calibration_error"]),
        ]
        for when, of, mature in rows
    ]  # fmt: skip


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


def report_template() -> Template:
    """Return the template of the report, which takes some hundredths of a second at first."""
    return _template("report.html")


@cache
def _template(name: str) -> Template:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

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


def _left_out(learners: Mapping[str, dict[str, Any]]) -> str:
    """Return in words what headline figures leave out."""
    found = [of["after_warm_up"] for of in learners.values() if of["after_warm_up"] is not None]
    if not found or not any(of["left_out"] for of in found):
        return ""
    since = min(of["since"] for of in found).replace("T", " ")[:16]
    windows = max(of["left_out"] for of in found)
    return f"the first {windows:,} window{'s'[: windows > 1]}, before {since} UTC"


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


def _slice_rows(statistics: Statistics, name: str, since: int) -> list[list[str]]:
    totals = sorted(statistics.totals(name, since).items(), key=lambda of: (-of[1][SAMPLES], of[0]))
    weight = sum(float(sums[WEIGHT]) for _, sums in totals)
    rows = []
    for value, sums in totals[:_SLICE_ROWS]:
        found = ratios(sums)
        rows.append(
            [
                value, f"{found['weight'] / weight:.2%}", with_interval(found, "label_rate", ".3%"),
                with_interval(found, "calibration", ".3f"), _count(found["samples"]),
                _count(found["positives"]), number(found["normalized_entropy"]),
            ]
        )  # fmt: skip
    return rows


def _count(number: int | float | None) -> str:
    return "" if number is None else f"{number:,.0f}"
