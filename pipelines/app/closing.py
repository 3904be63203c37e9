"""What the terminal shows at the end of a replay, in 80 columns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from headrace.monitoring.ending import what_stayed_open
from headrace.monitoring.report.ran import about_the_log
from headrace.pipelines.app.terminal import Terminal, headed
from headrace.pipelines.run.remote import Address
from headrace.schemas.config.durations import SECOND, format_duration

_ENDLESS = 10_000


def closing_table(summary: dict[str, Any], findings: Sequence[str], out: Path | Address) -> None:
    """Print the results of a replay: outcomes, samples, learners, findings."""
    console = Terminal()
    console.print(f"log       {about_the_log(summary)}", highlight=False)
    _print_outcomes(console, summary)
    opened = what_stayed_open(summary)
    if opened:
        console.print(f"end       {opened}", highlight=False)
    samples = summary["samples"]
    positives = ", ".join(f"{n:,} {name}" for name, n in samples["positives"].items())
    console.print(
        f"samples   {samples['rows']:,} with {positives or 'no actions'}; "
        f"{samples['negatives_dropped']:,} negatives dropped"
    )
    if len(samples["emissions"]) > 1:
        kinds = ", ".join(f"{n:,} {name}" for name, n in samples["emissions"].items())
        console.print(f"          {kinds}")
    joined = summary["joined"]
    if joined is not None:
        actions = ", ".join(f"{n:,} {name}" for name, n in joined["actions"].items())
        found = ", ".join(f"{n:,} in {place}" for place, n in joined["found_in"].items())
        console.print(f"joined    {actions}; impressions found: {found or 'none'}")
    if summary["labels"]:
        console.print(_labels_table(summary["labels"]))
    if summary["learners"]:
        console.print(_learners_table(summary["learners"]))
    console.print(
        f"run       {summary['elapsed_s']:.1f} s, {summary['events_per_s']:,} events/s, "
        f"peak memory {summary['peak_rss_mb']:,.0f} MB"
    )
    for finding in findings:
        console.print(headed("attention", "yellow", f" {finding}"), highlight=False)
    for name, learner in summary["learners"].items():
        if (start := learner["start"]) is not None:
            said = [f"{what} {', '.join(start[what])}" for what in ("new", "gone") if start[what]]
            console.print(
                f"start     {name} goes on from {start['path']}, {start['samples']:,} samples; "
                f"features: {len(start['kept'])} kept{', ' * bool(said)}{', '.join(said)}",
                highlight=False,
            )
    if summary["state_bytes"] is not None:
        console.print(
            f"state     {summary['state_bytes'] / 1e6:,.1f} MB, to go on from: --continue {out}",
            highlight=False, soft_wrap=True,
        )  # fmt: skip
    console.print(f"report    {out / 'report.html'}")


def _print_outcomes(console: Console, summary: dict[str, Any]) -> None:
    """Print where records ended: as a table, or line by line if that is too wide."""
    outcomes = summary["outcomes"]
    names = [
        name
        for name in next(iter(outcomes.values()))
        if name == "settled" or any(counts[name] for counts in outcomes.values())
    ]
    table = _table("Where every record ended")
    table.add_column("stream", no_wrap=True)
    # Two words take two lines, so that the table fits a terminal of 80 columns.
    carried = summary["carried"]
    carries = ["from_before"] if any(carried.values()) else []
    for name in ("read", *carries, *names):
        table.add_column(name.replace("_", "\n"), justify="right", no_wrap=True)
    for stream, counts in outcomes.items():
        before = [carried[stream]] if carries else []
        cells = [summary["input"][stream], *before, *(counts[name] for name in names)]
        table.add_row(stream, *(f"{count:,}" for count in cells))
    endless = console.options.update(max_width=_ENDLESS)
    if Measurement.get(console, endless, table).maximum <= console.width:
        console.print(table)
        return
    console.print("Where every record ended")
    for stream, counts in outcomes.items():
        ended = ", ".join(f"{counts[name]:,} {name.replace('_', ' ')}" for name in names)
        read = f"{summary['input'][stream]:,} read"
        if carries:
            read += f", {carried[stream]:,} from before"
        console.print(f"  {stream}: {read}; {ended}", highlight=False)


def _labels_table(labels: dict[str, dict[str, Any]]) -> Table:
    table = _table("Labels")
    table.add_column("label", overflow="fold", min_width=8)
    for heading in ("window", "positives", "rate", "came by\n1/4", "\n1/2", "\nits end"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, label in labels.items():
        shares = [label["label_rate"], *label["coverage"].values()]
        table.add_row(
            name, format_duration(round(label["window_s"] * SECOND)), f"{label['positives']:,}",
            *("" if share is None else f"{share:.2%}" for share in shares),
        )  # fmt: skip
    return table


def _table(title: str) -> Table:
    return Table(
        title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False
    )


def _learners_table(learners: dict[str, dict[str, Any]]) -> Table:
    table = _table("Learners")
    table.add_column("learner", overflow="fold", min_width=12)
    for heading in ("samples", "log loss", "normalised\nentropy", "AUC", "calibration"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("model's\nsha256", no_wrap=True)
    for name, learner in learners.items():
        table.add_row(name, *_figures(learner), learner["model"]["sha256"][:12])
        for predicted in ("served", "calibrated"):
            if learner[predicted] is not None:
                table.add_row(f"  {predicted}", *_figures(learner[predicted]), "")
    return table


def _figures(of: dict[str, Any]) -> list[str]:
    figures = ("log_loss", "normalized_entropy", "auc", "calibration")
    return [f"{of['samples']:,}", *(_number(of[figure]) for figure in figures)]


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4f}"
