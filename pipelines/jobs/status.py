"""Where a run stands, written every second for ``headrace status`` and ``headrace watch``."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headrace.pipelines.run.disk import write_text
from headrace.pipelines.run.liveplace import STATUS, LivePlace
from headrace.pipelines.run.locking import is_held
from headrace.pipelines.run.place import Place
from headrace.pipelines.sinks.completion import read_completion
from headrace.pipelines.sinks.hours import moment
from headrace.pipelines.sources.source import Growing, SourceState
from headrace.schemas.errors import FolderError
from headrace.schemas.records.events import EARLIEST, FOREVER, NEVER

if TYPE_CHECKING:  # reading a status takes no Beam
    from headrace.pipelines.beam.run import Run
    from headrace.pipelines.jobs.figures import FiguresKeeper
    from headrace.pipelines.jobs.livecheckpoints import LiveCheckpoints
    from headrace.pipelines.sources.plans import StreamPlan

_EVERY_S = 1.0
_ENDS_EVERY_S = 2.0
_RATE_OVER_S = 10.0
_UNFINISHED = "killed"


@dataclass(frozen=True)
class SourceStatus:
    """Where a source stands.

    Parameters
    ----------
    name, stream
        Its name, and that of its stream.
    position, end, lag
        The position of the next record, where the log ends, and how many positions are in
        between; the latter None if nobody has said. Where messages have several records, they
        count messages: the one of which the next record is, and that one as waiting.
    records, rejected
        How many records were read, and how many of them are invalid.
    event_time, progress
        The greatest event time, and the progress, ISO 8601; None before the first record.
    ended
        Whether it has been read to its end.
    """

    name: str
    stream: str
    position: int
    end: int | None
    lag: int | None
    records: int
    rejected: int
    event_time: str | None
    progress: str | None
    ended: bool


@dataclass(frozen=True)
class Status:
    """Where a run stands; times are ISO 8601, UTC.

    Parameters
    ----------
    state
        ``running``, ``stopped`` (it goes on if it is started again), ``ended`` (so have its
        logs), ``failed``, or ``killed``.
    written
        When this was so.
    pid
        The process.
    events, events_per_s, samples
        How many events were read since the run began, how many a second in the last ten
        seconds, and how many samples left since the process began.
    lag
        How many records are waiting in all logs together, or messages where they have several;
        None if nobody has said.
    clock, held_back_by
        The event time up to which all sources have been read, and the source furthest behind.
    checkpoint
        When the last checkpoint was taken, by this process.
    complete
        Until when each output is complete.
    sources
        The sources.
    figures
        All figures, see `headrace.monitoring.figures.Figures`, as they were between two bundles;
        None before the first.
    """

    state: str
    written: str
    pid: int
    events: int
    events_per_s: float
    samples: int
    lag: int | None
    clock: str | None
    held_back_by: str | None
    checkpoint: str | None
    complete: dict[str, str | None]
    sources: list[SourceStatus]
    figures: dict[str, Any] | None = None


class StatusKeeper:
    """Writes the status of a run from time to time.

    Parameters
    ----------
    place, run, checkpoints
        The run.
    growing
        Its logs.
    streams
        The streams, by number.
    watch
        Called with every status.
    """

    def __init__(
        self,
        place: LivePlace,
        run: Run,
        checkpoints: LiveCheckpoints,
        growing: Growing,
        streams: tuple[StreamPlan, ...],
        watch: Callable[[Status], None],
    ) -> None:
        self.place, self.run, self.checkpoints = place, run, checkpoints
        self.growing, self.streams, self.watch = growing, streams, watch
        self.ends: Mapping[int, int] | None = None
        self.asked_s = 0.0
        self.rate = Rate()

    @contextlib.contextmanager
    def keeping(self) -> Iterator[None]:
        """Write while the block runs, and at its end how it ended."""
        stop = threading.Event()
        thread = threading.Thread(target=self._keep, args=(stop,), daemon=True)
        thread.start()
        state = "failed"
        try:
            yield
            ended = all(state.ended for state in self.run.blocks.states.values())
            state = "ended" if ended else "stopped"
        finally:
            stop.set()
            thread.join()
            # A status is for display: that it cannot be written must not hide why a run failed.
            with contextlib.suppress(OSError):
                self._write(state)

    def _keep(self, stop: threading.Event) -> None:
        while not stop.wait(_EVERY_S):
            now = time.monotonic()
            if now >= self.asked_s + _ENDS_EVERY_S:
                self.ends = self.growing.ends(range(len(self.growing.partitions)))
                self.asked_s = time.monotonic()
            # On a full disk the run itself fails, or goes on when there is room again.
            with contextlib.suppress(OSError):
                self.watch(self._write("running"))

    def _write(self, state: str) -> Status:
        status = self._status(state)
        _put(self.place, asdict(status))
        return status

    def _status(self, state: str) -> Status:
        states = dict(self.run.blocks.states)
        open_ = [number for number, of in states.items() if not of.ended]
        behind = min(open_, key=lambda number: (states[number].progress, number), default=None)
        taken = self.checkpoints.taken_at
        sources = [self._source(number, of) for number, of in sorted(states.items())]
        lags = [source.lag for source in sources]
        figures = self.run.board.figures
        return Status(
            state,
            _now(time.time()),
            os.getpid(),
            self.run.board.events,
            self.rate.of(self.run.board.events),
            self.run.board.samples,
            sum(lag for lag in lags if lag is not None) if self.ends is not None else None,
            None if behind is None else _text(states[behind].progress),
            None if behind is None else self.growing.partitions[behind].name,
            None if taken is None else _now(taken),
            {name: _text(until) for name, until in sorted(self._complete().items())},
            sources,
            None if figures is None else figures.as_json(),
        )

    def _source(self, number: int, state: SourceState) -> SourceStatus:
        partition = self.growing.partitions[number]
        stream = self.streams[partition.stream]
        position = stream.numbering.message(state.position)
        end = None if self.ends is None else stream.numbering.message(self.ends[number])
        return SourceStatus(
            partition.name,
            stream.name,
            position,
            end,
            None if end is None else max(end - position, 0),
            state.records,
            state.rejected,
            _text(state.greatest),
            _text(state.progress),
            state.ended,
        )

    def _complete(self) -> dict[str, int]:
        with contextlib.suppress(FileNotFoundError):
            return read_completion(self.place.out)
        return {}


class Rate:
    """How many events were read a second, in the last ten seconds."""

    def __init__(self) -> None:
        self.counts: deque[tuple[float, int]] = deque()

    def of(self, events: int) -> float:
        """Return the rate now that so many have been read."""
        now = time.monotonic()
        self.counts.append((now, events))
        while now - self.counts[0][0] > _RATE_OVER_S:
            self.counts.popleft()
        then, before = self.counts[0]
        return round((events - before) / (now - then), 1) if now > then else 0.0


class ReplayStatus:
    """Writes where a replay stands, between two bundles, when its figures are new.

    Parameters
    ----------
    place, run
        The replay.
    figures
        Gathers its figures.
    """

    def __init__(self, place: Place, run: Run, figures: FiguresKeeper) -> None:
        self.place, self.run, self.figures = place, run, figures
        self.rate = Rate()

    def offer(self) -> None:
        """Write if it is due; called between two bundles."""
        before = self.run.board.figures
        self.figures.offer()
        if self.run.board.figures is not before:
            self.write()

    def write(self) -> None:
        """Write the figures on the board."""
        figures = self.run.board.figures
        assert figures is not None  # they have been published
        clock, taken = figures.clock, figures.checkpoint_s
        status = Status(
            "running", _now(figures.published_s), os.getpid(), figures.events,
            self.rate.of(figures.events), figures.samples, None,
            None if clock is None else _text(clock), figures.held_back_by,
            None if taken is None else _now(taken), {}, [], figures.as_json(),
        )  # fmt: skip
        # It is for display: on a full disk the run itself fails, or goes on when there is room.
        with contextlib.suppress(OSError):
            _put(self.place, asdict(status))


def note_end(place: Place, state: str) -> None:
    """Write how a run has ended, if it wrote where it stands."""
    with contextlib.suppress(OSError, ValueError):
        _put(place, {**_read(place), "state": state})


def read_status(out: Path) -> dict[str, Any]:
    """Return the status of the run in a folder, as JSON types, see `Status`.

    Raises
    ------
    FolderError
        If there is no such run.
    """
    place = LivePlace(out)
    try:
        found = _read(place)
    except (OSError, ValueError) as error:
        hint = "name the --out folder of headrace stream"
        raise FolderError(out, "has no run that goes on", hint) from error
    if found["state"] == "running" and not is_held(place):
        found["state"] = _UNFINISHED
    return found


def _read(place: Place) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((place.partial / STATUS).read_text(encoding="utf-8"))
    return found


def _put(place: Place, status: dict[str, Any]) -> None:
    path = place.partial / STATUS
    hidden = path.with_name(f"{STATUS}.partial")
    write_text(hidden, json.dumps(status) + "\n")
    hidden.replace(path)


def _text(time: int) -> str | None:
    """Return microseconds as ISO 8601; None if they stand for no time."""
    if not EARLIEST <= time < FOREVER or time == NEVER:
        return None
    return moment(time).isoformat(timespec="milliseconds")


def _now(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
