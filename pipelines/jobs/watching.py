"""Reading where a run stands, whatever kind of run it is, and whether it still goes on."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from headrace.monitoring.figures import (
    MOST_DECISIONS,
    MOST_SCOPES,
    Decision,
    Figures,
    GuardScope,
    Predictions,
    Running,
    Shown,
    SourceFigures,
)
from headrace.monitoring.guard import GUARD
from headrace.monitoring.standing import worst_scopes
from headrace.monitoring.statistics import Statistics
from headrace.pipelines.jobs.statisticsfile import read_recorded
from headrace.pipelines.run.liveplace import STATUS, LivePlace
from headrace.pipelines.run.locking import is_held
from headrace.pipelines.run.place import Place
from headrace.pipelines.run.seal import SUMMARY
from headrace.pipelines.sinks.hours import microseconds
from headrace.schemas.errors import FolderError

STARTING, RUNNING, STOPPED, ENDED, FAILED, KILLED = (
    "starting", "running", "stopped", "ended", "failed", "killed",
)  # fmt: skip
GOES_ON = (STARTING, RUNNING)


@dataclass(frozen=True)
class Seen:
    """Where a run stands.

    Parameters
    ----------
    state
        ``starting`` (nothing is known yet), ``running``, ``stopped``, ``ended``, ``failed`` or
        ``killed``.
    written
        When this was so, ISO 8601; None of a run that starts.
    events_per_s
        Events a second in the last ten seconds; None if the run has ended.
    figures
        See `headrace.monitoring.figures.Figures.as_json`; None before the first.
    """

    state: str
    written: str | None = None
    events_per_s: float | None = None
    figures: dict[str, Any] | None = None

    @property
    def goes_on(self) -> bool:
        """Whether more is to come."""
        return self.state in GOES_ON


class RunReader:
    """Reads where the run in a folder stands, from any number of threads.

    Its file is read again only when it has changed, however many ask.

    Parameters
    ----------
    folder
        The ``--out`` of a live run or of a replay.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.places = (LivePlace(folder), Place(folder))
        self.lock = threading.Lock()
        self.stamp: tuple[Any, ...] | None = None
        self.found = Seen(STARTING)

    def read(self) -> Seen:
        """Return where the run stands; the same object as before if nothing has changed.

        Raises
        ------
        FolderError
            If there is no run.
        """
        with self.lock:
            # The lock first: a run writes how it ended before it lets go.
            held = is_held(self.places[0])
            stamp = self._stamp(held)
            if stamp != self.stamp:
                self.found = self._read(stamp, held)
                self.stamp = stamp
            return self.found

    def _stamp(self, held: bool) -> tuple[Any, ...]:
        for path in (*(place.partial / STATUS for place in self.places), self.folder / SUMMARY):
            try:
                stat = path.stat()
            except OSError:
                continue
            if path.name == SUMMARY and held:
                break  # it is of the run before
            return path, stat.st_mtime_ns, stat.st_ino, stat.st_size, held
        return None, held

    def _read(self, stamp: tuple[Any, ...], held: bool) -> Seen:
        path = stamp[0]
        if path is None:
            if held:
                return Seen(STARTING) if self.found.figures is None else self.found
            if self.stamp is None:
                hint = "name the --out folder of headrace stream or headrace replay"
                raise FolderError(self.folder, "has no run to watch", hint)
            # A replay that fails before its first checkpoint leaves nothing.
            return Seen(FAILED, self.found.written, None, self.found.figures)
        if path.name == SUMMARY:
            return _of_result(self.folder)
        try:
            of = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return self.found  # the run has just ended; what there is now is read next time
        except (OSError, ValueError) as error:
            fact = f"cannot be read ({str(error).splitlines()[0]})"
            raise FolderError(path, fact, "start the run again") from error
        state = of["state"]
        if state == RUNNING and not held and not is_held(self.places[0]):
            state = KILLED
        return Seen(
            state, of["written"], of["events_per_s"] if state == RUNNING else None, of["figures"]
        )


def _of_result(folder: Path) -> Seen:
    """Return the figures of a replay that is complete, from its result."""
    recorded = read_recorded(folder)
    path = folder / SUMMARY
    summary = json.loads(path.read_text(encoding="utf-8"))
    predictions, shown = [], Shown()
    for (learner, predicted), bins in recorded.bins.items():
        of = pc.and_(
            pc.equal(recorded.rows["learner"], learner),
            pc.equal(recorded.rows["predicted"], predicted),
        )
        running = Running()
        running.take(recorded.rows.filter(of), recorded.window)
        totals = running.totals(Statistics(recorded.window, ()))
        shown.admit(totals)
        label = recorded.labels[learner]
        predictions.append(Predictions(learner, label, predicted, totals, running.latest, bins))
    figures = Figures(
        published_s=path.stat().st_mtime,
        events=sum(summary["input"].values()),
        samples=recorded.samples,
        outcomes=recorded.outcomes,
        sources=tuple(
            SourceFigures(
                of["name"], of["stream"], of["records"], of["rejected"], _time(of["latest"]), None,
                None, True,
            )
            for of in summary["sources"]
        ),
        window=recorded.window,
        predictions=tuple(predictions),
        shown=shown.by_column,
        guard=tuple(
            GuardScope(
                label, of.get("slice", ""), of.get("value", ""), of["state"], of["positives"],
                of["expected"], of["since"], of["reason"],
            )
            for label, guard in summary["guard"].items()
            for of in [guard, *worst_scopes(guard["slices"])[: MOST_SCOPES - 1]]
        ),
        decisions=_decisions(folder / GUARD),
        held={label: guard["held"] for label, guard in summary["guard"].items()},
    )  # fmt: skip
    written = datetime.fromtimestamp(figures.published_s, UTC).isoformat(timespec="seconds")
    return Seen(ENDED, written, None, figures.as_json())


def _decisions(folder: Path) -> tuple[Decision, ...]:
    """Return the last rows of the journal of a guard, if there was one."""
    if not folder.exists():
        return ()
    rows = pq.read_table(folder)
    return tuple(
        Decision(
            microseconds(row["time"]), row["label"], row["slice"] or "", row["value"] or "",
            row["event"], row["reason"],
        )
        for row in rows.slice(max(0, rows.num_rows - MOST_DECISIONS)).to_pylist()
    )  # fmt: skip


def _time(text: str | None) -> int | None:
    return None if text is None else microseconds(datetime.fromisoformat(text))
