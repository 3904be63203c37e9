"""What the terminal shows: progress, the closing table, what a job would do."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

from headrace.monitoring.report.page import WindowsOf
from headrace.pipelines.app.shown import warn
from headrace.pipelines.app.terminal import Terminal, headed
from headrace.pipelines.jobs.validation import Validation
from headrace.pipelines.jobs.windows import Measured
from headrace.pipelines.run.board import Board
from headrace.pipelines.sources.files import LogFile
from headrace.pipelines.sources.inputs import Inputs
from headrace.pipelines.sources.preview import Preview
from headrace.schemas.config.durations import format_duration, format_moment
from headrace.schemas.types import type_name

if TYPE_CHECKING:
    from headrace.pipelines.jobs.status import Status

_REFRESH_S = 0.2


@contextmanager
def watching(inputs: Inputs, quiet: bool) -> Iterator[Callable[[Board], None]]:
    """Show the progress of a replay on standard error while the block runs."""
    console = Terminal(stderr=True)
    if quiet:
        yield lambda board: None
        return
    # Parquet files state their rows; text files would have to be read to count them, and
    # asking another machine would delay the start.
    rows = [
        _rows(log.path)
        if isinstance(log, LogFile) and log.format == "parquet" and log.location.local
        else None
        for log in inputs.own_logs
    ]
    total = sum(count for count in rows if count is not None) if None not in rows else None
    progress = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[figures]}"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )
    task = progress.add_task("replaying", total=total, figures="starting Beam")
    stop = threading.Event()
    boards: list[Board] = []

    def refresh() -> None:
        while not stop.wait(_REFRESH_S):
            if boards and boards[0].events:
                board = boards[0]
                figures = f"{board.events:,} events, {board.samples:,} samples"
                if board.event_time is not None:
                    figures += f", at {format_moment(board.event_time)}"
                progress.update(task, completed=board.events, figures=figures)
                if not console.is_terminal and board.events >= printed_at[0] * 2:
                    printed_at[0] = max(board.events, 1)
                    console.print(f"replaying: {figures}")

    printed_at = [50_000]
    thread = threading.Thread(target=refresh, daemon=True)
    thread.start()
    try:
        if console.is_terminal:
            with progress:
                yield boards.append
        else:
            yield boards.append
    finally:
        stop.set()
        thread.join()


@contextmanager
def counting() -> Iterator[Callable[[int], None]]:
    """Show on standard error how many events were read while the block runs."""
    with Terminal(stderr=True).status("reading") as status:
        yield lambda events: status.update(f"reading: {events:,} events")


def _rows(path: str) -> int:
    import pyarrow.parquet as pq

    return int(pq.read_metadata(path).num_rows)


@contextmanager
def announcing(quiet: bool) -> Iterator[Callable[[str], None]]:
    """Print lines and warnings on standard error while the block runs, unless `quiet`."""

    def announce(line: str) -> None:
        if not quiet:
            warn(f"headrace: {line}")

    class Announced(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            announce(record.getMessage())

    log, handler = logging.getLogger("headrace"), Announced(logging.WARNING)
    before = log.level
    log.addHandler(handler)
    log.setLevel(logging.WARNING)
    try:
        yield announce
    finally:
        log.removeHandler(handler)
        log.setLevel(before)


_LINE_EVERY_S = 10.0


def status_lines(announce: Callable[[str], None]) -> Callable[[Status], None]:
    """Return a watcher that announces the figures of a run from time to time."""
    last = time.monotonic()

    def watch(status: Status) -> None:
        nonlocal last
        if time.monotonic() < last + _LINE_EVERY_S:
            return
        last = time.monotonic()
        lag = "unknown" if status.lag is None else f"{status.lag:,}"
        announce(
            f"{status.events:,} events ({status.events_per_s:,.0f}/s), lag {lag}, clock "
            f"{status.clock or 'not yet'}, samples until {status.complete.get('samples')}"
        )

    return watch


def status_table(status: dict[str, Any]) -> None:
    """Print where a run stands, see `headrace.pipelines.jobs.status.Status`."""
    console = Terminal(highlight=False)
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("source", overflow="fold")
    for heading in ("position", "lag", "rejected"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("read until (event time)", no_wrap=True)
    for source in status["sources"]:
        lag = "unknown" if source["lag"] is None else f"{source['lag']:,}"
        until = "ended" if source["ended"] else source["progress"] or "no record yet"
        figures = (f"{source['position']:,}", lag, f"{source['rejected']:,}")
        table.add_row(source["name"], *figures, until)
    console.print(
        f"{status['state']} (process {status['pid']}, {status['written']}): "
        f"{status['events']:,} events, {status['events_per_s']:,.0f}/s"
    )
    console.print(table)
    if status["held_back_by"] is not None:
        console.print(f"clock       {status['clock'] or 'not yet'}, by {status['held_back_by']}")
    console.print(f"checkpoint  {status['checkpoint'] or 'none yet, by this process'}")
    for name, until in status["complete"].items():
        console.print(f"complete    {name} until {until or 'not yet'}")


def windows_page(measured: list[Measured], coverage: float) -> list[WindowsOf]:
    """Return the contents of the page of windows, numbers formatted as text."""
    return [
        WindowsOf(
            found.stream,
            found.survival,
            next(c.window for c in found.choices if "configured" in c.note),
            found.recommended,
            _sentence(found, coverage),
            [
                [
                    format_duration(choice.window),
                    "" if choice.coverage is None else f"{choice.coverage:.1%}",
                    f"{choice.open:,}",
                    f"{choice.waiting:,}",
                    f"{choice.state_mb:,.1f}",
                    f"{choice.memory_mb:,.1f}",
                    f"{choice.shards:,}",
                    choice.note,
                ]
                for choice in found.choices
            ],
        )
        for found in measured
    ]


def _sentence(found: Measured, coverage: float) -> str:
    if found.recommended is None:
        return ""
    caught = found.survival.coverage(found.recommended) or 0.0
    return (
        f"{format_duration(found.recommended)} catches {caught:.1%} of the actions within "
        f"{format_duration(found.survival.longest)} (wanted: {coverage:.0%}), estimated from "
        f"{found.survival.actions.sum():,} first actions on {found.impressions:,} impressions."
    )


def windows_table(pages: list[WindowsOf]) -> None:
    """Print what each window would catch and cost."""
    console = Terminal(highlight=False)
    for page in pages:
        table = Table(
            title=page.name, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0),
            pad_edge=False,
        )  # fmt: skip
        # Two words take two lines, so that the table fits a terminal of 80 columns.
        for name in ("window", "coverage", "open", "waiting", "state\nMB", "memory\nMB", "shards"):
            table.add_column(name, justify="right", no_wrap=True)
        table.add_column("", no_wrap=True)
        for row in page.rows:
            table.add_row(*row)
        console.print(table)
        console.print(page.sentence or "No action belongs to an impression: nothing to recommend.")


def _describe(preview: Preview, sorts: bool) -> str:
    if preview.first_time is None or preview.last_time is None:
        times = "no valid event time"
    else:
        first, last = (format_moment(time) for time in (preview.first_time, preview.last_time))
        times = f"event times {first} to {last}"
        if not sorts and not preview.in_order:
            times += ", not in order"
    invalid = ", ".join(f"{count:,} {reason}" for reason, count in preview.reasons.items())
    return f"first {preview.records:,} records: {times}; invalid: {invalid or 'none'}"


def describe(inputs: Inputs, validation: Validation) -> None:
    """Print what a replay of a validated configuration would read and do."""
    console = Terminal(highlight=False)
    config, join = inputs.config, inputs.join
    windows = {action.name: action.window for action in join.actions}
    for stream in validation.streams:
        key = ", ".join(f"{name} ({type_name(kind)})" for name, kind in stream.key.items())
        console.print(
            headed(
                stream.name, "bold",
                f": {stream.files} {stream.format} file(s), {stream.size / 1e6:,.1f} MB, "
                f"{'sorted on reading' if stream.sorts else 'read in file order'}",
            )
        )  # fmt: skip
        console.print(f"  key {key}; event time {stream.time_column}")
        console.print(f"  {_describe(stream.first_records, stream.sorts)}")
        for reason, example in stream.first_records.examples.items():
            console.print(headed("  attention", "yellow", f" {reason}: {example}"))
        for column, causes in stream.first_records.bad_values.items():
            for cause, found in causes.items():
                said = (
                    f" {found['count']:,} values of {column} are {cause} "
                    f"(such as {', '.join(found['examples'])}): null in samples"
                )
                console.print(headed("  attention", "yellow", said))
        if stream.name in windows:
            window = format_duration(windows[stream.name])
            console.print(f"  joined within {window} of the impression")
    console.print(
        headed(
            "join", "bold",
            f": {join.shards} shards; an impression settles "
            f"{format_duration(join.settle_delay)} after its event time, and its key is "
            f"remembered for {format_duration(join.dedup_horizon)}",
        )
    )  # fmt: skip
    keys = "a hash that everybody can compute" if inputs.secret.is_public else "join.secret"
    console.print(f"  keys are compared by {keys} (docs/security.md)")
    end = config.join.end_of_log
    console.print(
        f'  at the end of the log (end_of_log = "{end}") '
        + (
            "every window closes: the log is declared complete"
            if end == "close"
            else "what has not settled stays open and leaves no sample"
        )
    )
    if join.emission.early:
        console.print(f"  samples leave early: emission {join.emission.mode}")
    if join.joined:
        console.print("  each action also leaves with its impression as soon as both are known")
    sampling = join.sampling
    kept = (
        "all negatives kept"
        if sampling.keeps_all
        else (f"{sampling.rate:.3g} of negative {'groups' if sampling.by_group else 'rows'} kept")
    )
    said = f": {kept}, correction {config.sampling.correction}"
    console.print(headed("sampling", "bold", said))
    for name, learner in inputs.train.learners.items():
        features = learner.features
        count = (
            len(features.categorical) + len(features.multi_valued)
            + len(features.numeric) + len(features.crosses)
        )  # fmt: skip
        table = "an exact table" if learner.table else f"2^{learner.bits} coordinates"
        said = f": {learner.algorithm} on {learner.label}, {count} features in {table}"
        console.print(headed(f"learner {name}", "bold", said))
    for warning in validation.warnings:
        console.print(headed("attention", "yellow", f" {warning}"))
    console.print("The configuration is good.")
