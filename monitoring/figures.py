"""Where a run stands, in figures: one object that is replaced as a whole, never changed.

A run publishes a new one about once a second, between two bundles. Whoever shows it, on
another thread, reads a consistent state however long that takes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headrace.monitoring.guard import STATES
from headrace.monitoring.statistics import (
    LOGIT_BINS,
    LOGIT_RANGE,
    OTHER,
    SAMPLES,
    SUMS,
    Floats,
    Statistics,
)
from headrace.schemas.records.restored import Finite, Moment, Text, checked, expect, written

MOST_SHOWN = 50
"""So many values of a slice column are shown each for itself; the rest is `OTHER`."""

LOGIT_EDGES = tuple(range(-9, 10))
"""Upper edges of all bins of log-odds but the last, which has none; the first has no lower one."""

MOST_SCOPES = 50
"""So many scopes of a label's guard are shown, the worst first."""

MOST_DECISIONS = 20
"""So many of the latest decisions of guards are shown."""

GUARD_STATES = STATES
"""States of a scope of the guard; their numbers are their places."""


@dataclass(frozen=True)
class Cells:
    """Sums by slice: all samples have the column ``""`` and the value ``""``.

    Parameters
    ----------
    slices, values
        Column and value of each, of length n.
    sums
        Float64, shape (n, 9), in the order of `headrace.monitoring.statistics.SUMS`.
    """

    slices: tuple[str, ...]
    values: tuple[str, ...]
    sums: Floats

    def limited(self, shown: Mapping[str, Sequence[str]]) -> Cells:
        """Return the cells of the values that are shown, and the sum of the others of a column.

        Parameters
        ----------
        shown
            By slice column; of a column that is not there, all others are shown together.
        """
        kept = {(column, value) for column, values in shown.items() for value in values}
        places: dict[tuple[str, str], int] = {}
        at = np.empty(len(self.slices), np.int64)
        for i, cell in enumerate(zip(self.slices, self.values, strict=True)):
            name = cell if not cell[0] or cell in kept else (cell[0], OTHER)
            at[i] = places.setdefault(name, len(places))
        return Cells(
            tuple(column for column, _ in places),
            tuple(value for _, value in places),
            _added(at, self.sums, len(places)),
        )

    def as_json(self) -> dict[str, Any]:
        """Return the cells as columns, as JSON types."""
        columns = zip(SUMS, self.sums.T.tolist(), strict=True)
        return {"slice": list(self.slices), "value": list(self.values), **dict(columns)}


@dataclass(frozen=True)
class Window:
    """The latest window of which no sample comes any more.

    Parameters
    ----------
    start, end
        Event times ``[start, end)``, microseconds.
    cells
        Its sums.
    """

    start: int
    end: int
    cells: Cells


@dataclass(frozen=True)
class Predictions:
    """What a learner predicted, and what came.

    Parameters
    ----------
    learner, label
        Its name, and the action stream that it predicts.
    predicted
        ``learned``, ``served`` or ``calibrated``, see
        `headrace.monitoring.statistics.STATISTICS_SCHEMA`.
    totals
        Sums over all windows so far, also over those that have been written and are forgotten.
    window
        The latest complete window; None before the first.
    bins
        Weight of negatives and of positives by log-odds, shape (2, 20): by `LOGIT_EDGES`.
    """

    learner: str
    label: str
    predicted: str
    totals: Cells
    window: Window | None
    bins: Floats


@dataclass(frozen=True)
class SourceFigures:
    """How far a source has been read.

    Parameters
    ----------
    name, stream
        Its name, and that of its stream.
    records, rejected
        How many records were read, and how many of them are invalid.
    event_time, progress
        The greatest event time, and the progress, microseconds; None before the first record.
    lag
        Records that wait, or messages where they have several; None if nobody has said.
    ended
        Whether it has been read to its end.
    """

    name: str
    stream: str
    records: int
    rejected: int
    event_time: int | None
    progress: int | None
    lag: int | None
    ended: bool


@dataclass(frozen=True)
class GuardScope:
    """What the guard of a label says of all samples, or of those with a value of a column.

    Parameters
    ----------
    label
        The action stream.
    slice, value
        Column and value; both ``""`` for all samples.
    state
        One of `GUARD_STATES`.
    positives, expected
        Positives, and the sum of predictions, in the last complete block; None before it.
    since
        Emit time since when it is in its state, ISO 8601; None if it has been so from the start.
    reason
        Why it is disconnected; None if it is not.
    """

    label: str
    slice: str
    value: str
    state: str
    positives: int | None
    expected: float | None
    since: str | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Arrivals:
    """What the guard of a label says of the arrivals of its actions.

    Parameters
    ----------
    label
        The action stream.
    state
        One of `GUARD_STATES`.
    arrivals, expected
        How many came in the last complete block, and how many were expected; None before it.
    since, reason
        See `GuardScope`.
    """

    label: str
    state: str
    arrivals: int | None
    expected: float | None
    since: str | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Decision:
    """What a guard decided: a row of its journal.

    Parameters
    ----------
    time
        Emit time of the row that decided, microseconds.
    label, slice, value
        See `GuardScope`.
    event, reason
        What it was, such as ``disconnect``, and why, a sentence.
    """

    time: int
    label: str
    slice: str
    value: str
    event: str
    reason: str


@dataclass(frozen=True)
class Figures:
    """Where a run stands between two bundles.

    Parameters
    ----------
    published_s
        When this was so, seconds since 1970.
    events
        Records read since the run began.
    samples
        Samples that were put in order since then.
    outcomes
        Records by stream and outcome, of all outcomes.
    sources
        The sources.
    clock, held_back_by
        The event time up to which all sources have been read, microseconds, and the source
        furthest behind; None without one.
    window, delay
        Length of a window, and the longest time from the event time of a sample to when it is
        complete, microseconds.
    predictions
        By learner and kind of prediction.
    shown
        Values that are shown each for itself, by slice column.
    learned
        Samples that were learned, by learner.
    guard
        Scopes of the guard: of each label all samples, then the worst values first.
    arrivals
        Arrivals of actions, of the labels of which they are looked at.
    decisions
        The latest decisions of the guard, the newest last.
    held
        Samples that the guard held back, by label.
    drift
        Stability index of the last hour that was compared, by ``feature`` or ``score`` and name
        (`headrace.monitoring.drift`).
    checkpoint_s, models_s
        When the last checkpoint was taken and the last models were written by this process,
        seconds since 1970; None before the first.
    """

    published_s: float
    events: int
    samples: int
    outcomes: Mapping[str, Mapping[str, int]]
    sources: tuple[SourceFigures, ...]
    clock: int | None = None
    held_back_by: str | None = None
    window: int = 0
    delay: int = 0
    predictions: tuple[Predictions, ...] = ()
    shown: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    learned: Mapping[str, int] = field(default_factory=dict)
    guard: tuple[GuardScope, ...] = ()
    arrivals: tuple[Arrivals, ...] = ()
    decisions: tuple[Decision, ...] = ()
    held: Mapping[str, int] = field(default_factory=dict)
    drift: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    checkpoint_s: float | None = None
    models_s: float | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the figures as JSON types: of slices the values that are shown."""
        plain = {
            name: value
            for name, value in vars(self).items()
            if name not in ("sources", "predictions", "guard", "arrivals", "decisions", "shown")
        }
        return {
            **plain,
            "sources": [vars(source) for source in self.sources],
            "predictions": [self._predictions(of) for of in self.predictions],
            "guard": [vars(scope) for scope in self.guard],
            "arrivals": [vars(of) for of in self.arrivals],
            "decisions": [vars(decision) for decision in self.decisions],
        }

    def _predictions(self, of: Predictions) -> dict[str, Any]:
        window = of.window
        return {
            "learner": of.learner,
            "label": of.label,
            "predicted": of.predicted,
            "totals": of.totals.limited(self.shown).as_json(),
            "window": None if window is None else {
                "start": window.start,
                "end": window.end,
                **window.cells.limited(self.shown).as_json(),
            },
            "bins": of.bins.tolist(),
        }  # fmt: skip


_Sums = tuple[Finite, Finite, Finite, Finite, Finite, Finite, Finite, Finite, Finite]


@written
class _WrittenWindow:
    start: Moment
    end: Moment
    slices: list[Text]
    values: list[Text]
    sums: list[_Sums]


@written
class _Written:
    taken: list[
        tuple[Text, Text, Finite, Finite, Finite, Finite, Finite, Finite, Finite, Finite, Finite]
    ]
    latest: _WrittenWindow | None


class Running:
    """Sums over all windows of a `Statistics`, of which closed ones may have been taken out."""

    def __init__(self) -> None:
        self.places: dict[tuple[str, str], int] = {}
        self.taken = np.zeros((0, len(SUMS)))
        self.latest: Window | None = None

    def take(self, rows: pa.Table, window: int) -> None:
        """Note rows of `STATISTICS_SCHEMA` that were taken out; `window` is in microseconds."""
        if not rows.num_rows:
            return
        columns = rows.column("slice").fill_null("").to_pylist()
        values = rows.column("value").fill_null("").to_pylist()
        sums = np.column_stack([rows.column(name).to_numpy().astype(float) for name in SUMS])
        starts = rows.column("window").cast(pa.int64()).to_numpy()
        at = self._places(zip(columns, values, strict=True))
        self.taken = _grown(self.taken, len(self.places)) + _added(at, sums, len(self.places))
        last = int(starts.max())
        self.latest = Window(last, last + window, self._of_window(at, starts, sums, last))

    def totals(self, statistics: Statistics) -> Cells:
        """Return the sums of all windows so far."""
        held = statistics.all_totals()
        at = self._places(held)
        names = tuple(self.places)
        totals = _grown(self.taken, len(names))
        totals[at] += np.array(list(held.values())).reshape(-1, len(SUMS))
        return Cells(
            tuple(column for column, _ in names), tuple(value for _, value in names), totals
        )

    def window(self, statistics: Statistics, until: int) -> Window | None:
        """Return the latest window that ends at `until` or before, microseconds; None if none."""
        last = statistics.last_window(until)
        if last is None:
            return self.latest
        found = statistics.all_totals(last, last)
        columns, values = (tuple(cell[of] for cell in found) for of in range(2))
        cells = Cells(columns, values, np.array(list(found.values())))
        return Window(last, last + statistics.window, cells)

    def _places(self, cells: Iterable[tuple[str, str]]) -> npt.NDArray[np.int64]:
        places = self.places
        return np.array([places.setdefault(cell, len(places)) for cell in cells], np.int64)

    def _of_window(
        self,
        at: npt.NDArray[np.int64],
        starts: npt.NDArray[np.int64],
        sums: Floats,
        start: int,
    ) -> Cells:
        rows = np.flatnonzero(starts == start)
        names = list(self.places)
        found = [names[place] for place in at[rows]]
        columns, values = tuple(column for column, _ in found), tuple(value for _, value in found)
        return Cells(columns, values, sums[rows])

    def export(self) -> dict[str, Any]:
        """Return what was taken out, as JSON types."""
        rows = _grown(self.taken, len(self.places)).tolist()
        latest = self.latest
        return {
            "taken": [[*cell, *sums] for cell, sums in zip(self.places, rows, strict=True)],
            "latest": None if latest is None else {
                "start": latest.start, "end": latest.end, "slices": latest.cells.slices,
                "values": latest.cells.values, "sums": latest.cells.sums.tolist(),
            },
        }  # fmt: skip

    def restore(self, state: dict[str, Any]) -> None:
        """Replace the state by what `export` returned.

        Raises
        ------
        DamagedError
            If it is not what `export` returns.
        """
        checked(_Written, state, "sums taken out")
        self.places = {
            (column, value): i for i, (column, value, *_) in enumerate(state["taken"])
        }  # fmt: skip
        expect(len(self.places) == len(state["taken"]), "sums taken out", "have a value twice")
        self.taken = np.array([sums for _, _, *sums in state["taken"]], float).reshape(
            -1, len(SUMS)
        )
        latest = state["latest"]
        self.latest = None
        if latest is not None:
            sums = np.array(latest["sums"], float).reshape(len(latest["slices"]), len(SUMS))
            expect(len(latest["values"]) == len(sums), "sums taken out", "are of other values")
            cells = Cells(tuple(latest["slices"]), tuple(latest["values"]), sums)
            self.latest = Window(latest["start"], latest["end"], cells)


class Shown:
    """Chooses the values of slice columns that are shown each for itself.

    A value that is shown stays so: the counts of `OTHER` never fall because one left it.
    """

    def __init__(self) -> None:
        self.values: dict[str, dict[str, None]] = {}

    def admit(self, cells: Cells) -> None:
        """Choose more values while there is room: those with the most samples first."""
        order = np.argsort(-cells.sums[:, SAMPLES], kind="stable")
        for i in order:
            column, value = cells.slices[i], cells.values[i]
            shown = self.values.setdefault(column, {}) if column else {}
            if column and value != OTHER and len(shown) < MOST_SHOWN:
                shown[value] = None

    @property
    def by_column(self) -> dict[str, tuple[str, ...]]:
        """The values by column."""
        return {column: tuple(values) for column, values in self.values.items()}


def logit_bins(bins: Floats) -> Floats:
    """Return counts by log-odds in the bins of `LOGIT_EDGES`, shape (2, 20).

    Parameters
    ----------
    bins
        Those of `headrace.monitoring.statistics.Statistics`, shape (2, `LOGIT_BINS`).
    """
    width = 2 * LOGIT_RANGE / LOGIT_BINS
    edges = [0, *(round((edge + LOGIT_RANGE) / width) for edge in LOGIT_EDGES)]
    return np.add.reduceat(bins, edges, axis=1)


def _added(at: npt.NDArray[np.int64], sums: Floats, size: int) -> Floats:
    """Return rows added up by their places, shape (size, 9)."""
    columns = [np.bincount(at, weights=column, minlength=size) for column in sums.T]
    return np.column_stack(columns) if at.size else np.zeros((size, sums.shape[1]))


def _grown(sums: Floats, size: int) -> Floats:
    return np.concatenate([sums, np.zeros((size - len(sums), sums.shape[1]))])
