"""The way of an epoch past the guard of a label: some rows are held back from learning.

One learner of each label is judged; what its guard holds back, no learner of the label learns.
Pieces end where the guard decides, so that no result depends on where epochs are cut.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headrace.learners.learner import Floats
from headrace.learners.ordering import Epoch
from headrace.schemas.records.events import COUNT, EMIT, RATE, STREAM
from headrace.schemas.records.hashing import Bools, Int64s

Int32s = npt.NDArray[np.int32]


class Lead(Protocol):
    """Compares the arrivals of actions with what is predicted of impressions as they are known.

    All is given in order of emit time, and before the rows of samples at which a guard decides.
    """

    @property
    def stream(self) -> int:
        """Number of the action stream, from 0."""

    def end(self, drain: int) -> None:
        """Judge nothing from a time on: the log has ended."""

    def arrive(self, known: Int64s, count: Int64s) -> None:
        """Take numbers of actions that became known, shape (m,)."""

    def show(self, known: Int64s, log_odds: Floats) -> None:
        """Take impressions that became known; NaN if nothing was predicted, shape (m,)."""

    def settle(self, delay: Int64s) -> None:
        """Take positives that may be learned: how long each took, shape (m,)."""


class LabelGuard(Protocol):
    """Decides, between prediction and learning, which rows with a label may be learned."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Slice columns by whose values rows are held back too."""

    @property
    def lead(self) -> Lead | None:
        """What is to be told of arrivals; None if they are not looked at."""

    @property
    def remaining(self) -> int:
        """How many rows it still takes before it decides again."""

    @property
    def holding(self) -> bool:
        """Whether it may hold rows back now."""

    def begin(self) -> None:
        """Begin an epoch."""

    def encode(self, columns: Mapping[str, pa.Array], order: Int64s) -> Any:
        """Encode the slice columns of an epoch, each of shape (n,), and put them in order."""

    def look_up(self, encoded: Any, some: slice) -> Int32s:
        """Return numbers of the values of the next rows, int32, shape (m, columns)."""

    def holder(self, scopes: Int32s) -> Int32s:
        """Return what holds each row back, -1 for nothing, shape (m,)."""

    def reason(self, holder: int) -> str:
        """Return why something holds rows back, a sentence."""

    def observe(self, emit: Int64s, positive: Bools, odds: Floats, scopes: Int32s) -> None:
        """Take rows with their labels and the odds predicted of them; see `remaining`."""

    def take_journal(self) -> list[dict[str, Any]]:
        """Take out what was decided since the last call, each with ``decided``, an emit time."""

    def held_at(self, emit: Int64s, columns: Mapping[str, pa.Array]) -> Bools:
        """Return which rows beside the samples of the epoch are not to be learned from."""


@dataclass(frozen=True)
class Held:
    """Rows that were held back from learning for a label.

    Parameters
    ----------
    rows
        Rows of the epoch, in canonical order, int64, shape (m,).
    reasons
        Why, a dictionary of sentences, shape (m,).
    """

    rows: Int64s
    reasons: pa.DictionaryArray


class Judging:
    """An epoch before the guard of a label.

    Parameters
    ----------
    guard
        The guard.
    epoch
        The epoch.
    own
        Rows of the learner that is judged, in canonical order, int64, shape (m,).
    label
        Their labels by row of the epoch, shape (n,).
    early
        Whether labels may still change: then positives leave again, besides the negatives that
        they were at first, and there are p of them for each impression, not p for 1 - p.
    name
        Name of the label.
    """

    def __init__(
        self, guard: LabelGuard, epoch: Epoch, own: Int64s, label: Floats, early: bool,
        name: str,
    ) -> None:  # fmt: skip
        self.guard, self.epoch, self.own, self.early = guard, epoch, own, early
        guard.begin()
        texts = {name: epoch.texts(name) for name in guard.columns}
        self.encoded = guard.encode(texts, epoch.order)
        rank = np.empty(epoch.order.size, np.int64)
        rank[epoch.order] = np.arange(epoch.order.size)
        self.position = rank[own]
        self.emit = epoch.column(EMIT)[own]
        self.positive = label[own] > 0
        self.log_rate = np.log(epoch.column(RATE)[own])
        self.lead = guard.lead
        self.delay = own if self.lead is None else _delays(epoch, name)[own]
        self.held = np.full(epoch.order.size, -1, np.int32)
        self.reasons: list[str] = []
        self.done = self.passed = 0

    @property
    def next(self) -> int:
        """How many more of its own rows the next piece may have."""
        return min(self.guard.remaining, self.own.size - self.done)

    def hold(self, count: int) -> Bools | None:
        """Return which of the next `count` own rows are held back, shape (count,).

        None stands for no row.
        """
        last = self.done + count == self.own.size
        until = self.held.size if last else int(self.position[self.done + count - 1]) + 1
        here = slice(self.passed, until)
        scopes = self.guard.look_up(self.encoded, here)
        held: Bools | None = None
        if self.guard.holding:
            holder = self.guard.holder(scopes)
            held = holder >= 0
            for number in np.unique(holder[held]).tolist():
                self.held[here][holder == number] = len(self.reasons)
                self.reasons.append(self.guard.reason(number))
        if count < len(scopes):
            of_own = self.position[self.done : self.done + count] - self.passed
            scopes, held = scopes[of_own], None if held is None else held[of_own]
        self.passed, self.scopes = until, scopes
        if self.lead is not None:
            some = slice(self.done, self.done + count)
            positive = self.positive[some]
            self.lead.settle(self.delay[some][positive if held is None else positive & ~held])
        return held

    def observe(self, margin: Floats) -> None:
        """Show the guard the rows of the last piece.

        Parameters
        ----------
        margin
            Log-odds that were predicted of them, corrected for sampling, shape (count,). Odds may
            overflow: what is not finite says nothing.
        """
        judged = margin.size
        if self.early and self.epoch.drain is not None:
            # What leaves after the last impression is positives alone, or mostly negatives.
            ahead = self.emit[self.done : self.done + judged]
            judged = int(np.searchsorted(ahead, self.epoch.drain))
        if judged:
            some = slice(self.done, self.done + judged)
            log_odds = margin[:judged]
            if self.early:
                log_odds = -np.logaddexp(0.0, -log_odds)
            odds = np.exp(log_odds - self.log_rate[some])
            self.guard.observe(self.emit[some], self.positive[some], odds, self.scopes[:judged])
        self.done += margin.size

    def finish(self) -> None:
        """Ask about the rows after the last own one."""
        if self.passed < self.held.size:
            self.hold(0)

    @property
    def result(self) -> Held | None:
        """The rows that were held back, None for none."""
        held = self.held >= 0
        if not held.any():
            return None
        reasons = pa.DictionaryArray.from_arrays(self.held[held], pa.array(self.reasons))
        return Held(self.epoch.order[held], reasons)


class Showing:
    """Impressions that become known among the turns of an epoch, shown to a guard's lead.

    Parameters
    ----------
    lead
        Who compares arrivals with them.
    turns
        Their places among the turns, ascending, int64, shape (k,).
    emit
        When they became known, int64, shape (k,).
    since
        The learner serves after the turn at this place; None if it is not known to serve yet.
    """

    def __init__(self, lead: Lead, turns: Int64s, emit: Int64s, since: int | None) -> None:
        self.lead, self.turns, self.emit, self.since = lead, turns, emit, since
        self.done = 0

    def taught(self, turns: Int64s) -> None:
        """Tell at which places, ascending, the learner has learned."""
        if self.since is None and turns.size:
            self.since = int(turns[0])
            self.done = int(self.turns.searchsorted(self.since))

    def next(self, end: int) -> Int64s:
        """Return the places before `end` of those to show next; none before the learner serves."""
        if self.since is None:
            return self.turns[:0]
        return self.turns[self.done : int(self.turns.searchsorted(end))]

    def show(self, log_odds: Floats) -> None:
        """Show the impressions that `next` returned, with what was predicted of them."""
        some = slice(self.done, self.done + log_odds.size)
        self.lead.show(self.emit[some], log_odds)
        self.done = some.stop


def tell_arrivals(lead: Lead, epoch: Epoch) -> None:
    """Tell of the actions that became known in an epoch, and where the log has ended."""
    if epoch.drain is not None:
        lead.end(epoch.drain)
    if epoch.arrivals is not None:
        stream, known, count = (
            epoch.arrivals.column(of).to_numpy() for of in (STREAM, EMIT, COUNT)
        )
        own = stream == lead.stream
        lead.arrive(known[own], count[own])


def _delays(epoch: Epoch, label: str) -> Int64s:
    """Return how long after each impression its action came, microseconds; shape (n,)."""
    shown, came = (
        epoch.column(of).astype("datetime64[us]").astype(np.int64)
        for of in ("event_time", f"{label}_time")
    )
    delay: Int64s = came - shown
    return delay


def mask_of(held: Held | None, rows: int) -> Bools:
    """Return which rows of an epoch are held back, shape (rows,)."""
    mask = np.zeros(rows, np.bool_)
    if held is not None:
        mask[held.rows] = True
    return mask
