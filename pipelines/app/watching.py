"""Where a run stands, in a terminal: lines in the manner of Vowpal Wabbit, or a table of them."""

from __future__ import annotations

import json
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from headrace.monitoring.report.livepage import amount, duration, ratio, shortened
from headrace.monitoring.standing import (
    AT_REST,
    Calibration,
    LearnerStanding,
    StreamStanding,
    learners,
    streams,
)
from headrace.monitoring.statistics import SAMPLES, Floats
from headrace.pipelines.app.shown import say
from headrace.pipelines.app.terminal import Terminal
from headrace.pipelines.jobs.watching import RunReader, Seen

_EVERY_S = 0.5
_LINE_EVERY_S = 5.0
"""A line comes so often, and whenever there are twice as many samples."""
_WIDE = 110
_FIGURES = (
    "samples", "k/sum p\nsince", "ratio\nsince", "loss\nsince", "ratio\noverall", "loss\noverall",
    "behind", "lag",
)  # fmt: skip


@dataclass(frozen=True)
class Line:
    """What is said of a learner: since the line before, and since the run began.

    Parameters
    ----------
    learner, label, samples
        The learner, the action stream that it predicts, and samples so far.
    since, whole
        Since the line before, and since the run began.
    guard
        The worst state of a scope of the label's guard, and which; empty without a guard.
    worst
        The worst slice, with positives over expected; empty if none is large enough.
    behind, lag
        How far the action stream is behind, microseconds, and how many records wait in all
        sources together; None if nobody knows.
    """

    learner: str
    label: str
    samples: int
    since: Calibration
    whole: Calibration
    guard: str
    worst: str
    behind: int | None
    lag: int | None

    def cells(self) -> list[str]:
        """Return the figures of the line for a table, in the order of `_FIGURES`."""
        return [
            f"{self.samples:,}", _against(self.since), ratio(self.since), _loss(self.since),
            ratio(self.whole), _loss(self.whole), _behind(self.behind), _lag(self.lag),
        ]  # fmt: skip

    def plain(self, seen: Seen) -> str:
        """Return the line by itself, as ``name=value`` with values that have no spaces."""
        pairs = {
            "time": seen.written, "state": seen.state, "learner": self.learner,
            "label": self.label, "samples": self.samples, "since_k": self.since.positives,
            "since_p": self.since.expected, "since_ratio": self.since.ratio,
            "since_loss": self.since.log_loss, "k": self.whole.positives,
            "p": self.whole.expected, "ratio": self.whole.ratio, "loss": self.whole.log_loss,
            "guard": self.guard, "worst": self.worst,
            "behind_s": None if self.behind is None else self.behind / 1e6, "lag": self.lag,
        }  # fmt: skip
        return " ".join(f"{name}={_word(value)}" for name, value in pairs.items())


class Progress:
    """Makes lines of what is read; each is about the samples since the one before.

    The first one is about all samples.
    """

    def __init__(self) -> None:
        self.last: dict[str, Floats] = {}

    def lines(self, figures: dict[str, Any]) -> list[Line]:
        """Return a line for each learner."""
        of_streams = {of.name: of for of in streams(figures)}
        lags = [of.lag for of in of_streams.values()]
        lag = None if not lags or None in lags else sum(of for of in lags if of is not None)
        found = []
        for of in learners(figures):
            before = self.last.get(of.name)
            # After a crash a run goes on from before what was seen.
            if before is None or of.sums[SAMPLES] < before[SAMPLES]:
                before = np.zeros_like(of.sums)
            since = of.sums - before
            self.last[of.name] = of.sums
            found.append(_line(of, since, figures, of_streams.get(of.label), lag))
        return found

    def is_due(self, figures: dict[str, Any]) -> bool:
        """Return whether a learner has twice as many samples as at the last line."""
        return any(
            of.sums[SAMPLES] >= 2 * np.maximum(self.last.get(of.name, of.sums)[SAMPLES], 1)
            for of in learners(figures)
        )


def _line(
    of: LearnerStanding,
    since: Floats,
    figures: dict[str, Any],
    stream: StreamStanding | None,
    lag: int | None,
) -> Line:
    worst = of.worst
    return Line(
        shortened(of.name), shortened(of.label), of.whole.samples, Calibration.of(since), of.whole,
        _guard(figures, of.label),
        "" if worst is None else
        f"{shortened(worst.slice)}={shortened(worst.value)} {ratio(worst.whole)}",
        None if stream is None else stream.behind, lag,
    )  # fmt: skip


def _guard(figures: dict[str, Any], label: str) -> str:
    """Return the state of all samples, and how many values are not at rest in which way."""
    scopes = [of for of in figures["guard"] if of["label"] == label]
    if not scopes:
        return ""
    states = [of["state"] for of in scopes[1:] if of["state"] not in AT_REST]
    others = [f"{states.count(state)} {state}" for state in dict.fromkeys(states)]
    return ", ".join([scopes[0]["state"], *others])


def _against(of: Calibration) -> str:
    return f"{amount(of.positives)}/{amount(of.expected)}"


def _loss(of: Calibration) -> str:
    return "" if of.log_loss is None else f"{of.log_loss:.4f}"


def _behind(behind: int | None) -> str:
    return "" if behind is None else duration(behind)


def _lag(lag: int | None) -> str:
    return "" if lag is None else f"{lag:,}"


def _word(value: object) -> str:
    """Return a value without spaces; one of text is quoted if it has any."""
    if value is None or value == "":
        return "-"
    if isinstance(value, float):
        return f"{value:.6g}"
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if " " in text or '"' in text else text


@dataclass
class _Screen:
    """What is in the terminal: how the run is, the latest lines, and what they say at length.

    In a narrow one guard and worst slice are beside the table alone.
    """

    console: Console
    rows: deque[Line]
    latest: list[Line]

    def drawn(self, seen: Seen) -> Group:
        several, wide = len(self.latest) > 1, self.console.width >= _WIDE
        table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
        if several:
            table.add_column("learner", no_wrap=True, overflow="ellipsis", max_width=16)
        for name in _FIGURES:
            table.add_column(name, justify="right", no_wrap=True)
        if wide:
            for name in ("guard", "worst slice"):
                table.add_column(name, no_wrap=True, overflow="ellipsis", max_width=24)
        for line in self.rows:
            cells = [line.learner] * several + line.cells() + [line.guard, line.worst] * wide
            # As text, never as markup: values of slices come from a log.
            table.add_row(*(Text(cell) for cell in cells))
        about = [
            f"{line.learner}: guard {line.guard or 'none'}; worst slice {line.worst or 'none'}"
            for line in self.latest
        ]
        return Group(Text("\n".join([_headline(seen), *about])), table)


def _headline(seen: Seen) -> str:
    if seen.figures is None:
        return f"{seen.state}: no figures yet"
    rate = "" if seen.events_per_s is None else f", {seen.events_per_s:,.0f}/s"
    held = sum(seen.figures["held"].values())
    behind = seen.figures["held_back_by"]
    return (
        f"{seen.state} ({seen.written}): {seen.figures['events']:,} events{rate}, "
        f"{seen.figures['samples']:,} samples"
        + (f", {held:,} held back" if held else "")
        + (f"; clock held back by {shortened(behind)}" if behind else "")
    )


def watch(
    reader: RunReader,
    once: bool = False,
    sleep: Callable[[float], None] = time.sleep,
    console: Console | None = None,
) -> Seen:
    """Show where a run stands until it ends; return how it did.

    In a terminal the lines are a table, which is drawn again in its place; else each is printed.

    Parameters
    ----------
    reader
        Reads where it stands.
    once
        Whether to show that once, and return.
    sleep
        Waits so many seconds.
    console
        Where to show it; by default standard output.

    Raises
    ------
    FolderError
        If there is no run.
    """
    console = Terminal() if console is None else console
    if once or not console.is_terminal:
        return _print(reader, once, sleep)
    screen = _Screen(console, deque(maxlen=max(console.height - 8, 3)), [])
    progress, shown_s = Progress(), 0.0
    seen = reader.read()
    with Live(screen.drawn(seen), console=console, auto_refresh=False) as live:
        while True:
            figures, now = seen.figures, time.monotonic()
            due = not seen.goes_on or now >= shown_s + _LINE_EVERY_S
            if figures is not None and (due or progress.is_due(figures)):
                screen.latest = progress.lines(figures)
                new = (line for line in screen.latest if line.since.samples or not screen.rows)
                screen.rows.extend(new)
                shown_s = now
            live.update(screen.drawn(seen), refresh=True)
            if not seen.goes_on:
                return seen
            sleep(_EVERY_S)
            seen = reader.read()


def _print(reader: RunReader, once: bool, sleep: Callable[[float], None]) -> Seen:
    progress, printed_s, last = Progress(), -_LINE_EVERY_S, None
    while True:
        seen = reader.read()
        ends, figures, now = not seen.goes_on, seen.figures, time.monotonic()
        due = once or ends or now >= printed_s + _LINE_EVERY_S
        if figures is not None and seen is not last and (due or progress.is_due(figures)):
            for line in progress.lines(figures):
                say(line.plain(seen))
            printed_s, last = now, seen
        if ends or once:
            if figures is None or not figures["predictions"]:
                say(f"time={seen.written or '-'} state={seen.state}")
            sys.stdout.flush()
            return seen
        sys.stdout.flush()
        sleep(_EVERY_S)
