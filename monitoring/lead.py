"""Whether actions still arrive as they are expected, long before their windows close.

Labels are final only when windows have closed: a dead stream of clicks shows in them half an hour
later. But how many actions should become known is known at once: the sum of p over the impressions
shown before, spread by the delays that actions usually have [1]_, times the usual number of
arrivals for each expected positive, because second clicks, copies and orphans arrive too::

    expected(t) = usual * sum over impressions of p (F(t + step - shown) - F(t - shown)) / share

The test is that of labels (`headrace.monitoring.guard`) in its Poisson form, over steps of event
time: with k arrivals where x were expected, and an alternative that is f times the edge of the
band, at which m = x / b or x b are expected::

    R <- (R + x) exp(-(f - 1) m) f^k

Of the impressions only a share is predicted in time, so that the expectation has noise of its own,
with a variance of (1 - share) / share times the sum of p^2; and actions come in clusters. Counts
and expectations are divided by phi, as is usual for counts that vary by more than a Poisson's: 1 +
that variance over the sum of p, or the mean of (k - x)^2 / x over stretches in which 30 are
expected, if it is more.

References
----------
.. [1] Chapelle 2014, Modeling delayed feedback in display advertising, section 3.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numba as nb
import numpy as np

from headrace.monitoring.exported import packed, unpacked
from headrace.monitoring.guard import DOWN, UP
from headrace.monitoring.statistics import Floats, Int64s
from headrace.schemas.config.durations import HOUR, SECOND
from headrace.schemas.records.restored import (
    Text,
    checked,
    expect,
    expect_moments,
    expect_times,
    expect_within,
    written,
)

_FACTORS = np.concatenate([DOWN, UP])
"""Alternatives, as factors of the edge of the band: those below it, then those above."""
_LOGS = np.log(_FACTORS)
FEWER, MORE = range(2)

ENOUGH_DELAYS = 200
"""From so many settled positives on it is known when actions come."""
ENOUGH_ARRIVALS = 200.0
"""From so many expected arrivals on it is known how many usually come."""
SILENCE, YOUNG_SILENCE = 20.0, 80.0
"""Without any arrival, where so many are expected, a source is idle or dead; what a model predicts
before it is settled may be wrong by four times."""

_PRIOR = 30.0
"""Before more is known as many arrive as expected, with the weight of so many."""
_REMEMBERED = 6 * HOUR
_LEAST_REMEMBERED = 1000.0
"""What is usual is known from so long, microseconds, and from at least so many arrivals."""
_CELL, _REMEMBERED_CELLS, _MOST_SQUARES = 30.0, 200.0, 9.0
"""Stretches by whose deviations it is known how much counts vary; one says at most so much."""
_MOST_DELAYS = 1 << 17
"""From so many positives on older ones count half: delays may change."""
_MOST_EVIDENCE = 1e200
_SHORTEST, _MOST_STEPS = SECOND, 1 << 16
_LINEAR_BINS, _GROWTH = 8, 1.25
"""Bins of delays are one step wide at first, then a quarter wider than all before."""

# Sums, by place in the array.
(
    _SHOWN, _TOTAL_ARRIVALS, _TOTAL_EXPECTED, _USUAL_ARRIVALS, _USUAL_EXPECTED, _P, _P_SQUARES,
    _SILENT, _SILENT_FOUND, _BLOCK_ARRIVALS, _BLOCK_EXPECTED, _CELL_ARRIVALS, _CELL_EXPECTED,
    _SQUARES, _CELLS,
) = range(15)  # fmt: skip
# Steps, by place in the array.
(
    _NEXT, _FIRST, _HEARD, _HEARD_FOUND, _OPENED, _CROSSED_FEWER, _CROSSED_MORE, _CROSSED_SILENT,
) = range(8)  # fmt: skip
_NONE = -(2**62)


@dataclass(frozen=True)
class LeadPlan:
    """Where the arrivals of a label's actions are, and by when they are expected.

    Parameters
    ----------
    stream
        Number of the action stream, from 0.
    share
        Share of the impressions that are predicted when they are known.
    step
        Arrivals are counted by steps of this length, microseconds.
    longest
        The window: actions come less than so long after their impression, microseconds.
    released
        So long after its event time an impression leaves with its label, microseconds.
    """

    stream: int
    share: float
    step: int
    longest: int
    released: int


class _State(NamedTuple):
    sums: Floats
    steps: Int64s
    ring: Floats
    """Sum of p up to before each of the last steps, shape (longest lag + 2,)."""
    delays: Floats
    """Settled positives by bin of their delay."""
    evidence: Floats
    """R by alternative, shape (12,)."""
    rise: Floats
    """How far the likelihood has risen since it was least, as a logarithm, by alternative."""
    begun: Floats
    """Step, arrivals and expected ones then: a change has probably begun there, shape (12, 3)."""

    @classmethod
    def new(cls, edges: Int64s) -> _State:
        steps = np.full(8, _NONE, np.int64)
        sums = np.zeros(15)
        sums[_SILENT] = -np.inf
        return cls(
            sums, steps, np.zeros(int(edges[-1]) + 2), np.zeros(edges.size - 1),
            np.zeros(_FACTORS.size), np.zeros(_FACTORS.size), np.zeros((_FACTORS.size, 3)),
        )  # fmt: skip


@nb.njit(cache=True, nogil=True)
def _settle(delays, delay, step, edges):
    """Add delays, microseconds, to the bins between edges."""
    for i in range(delay.size):
        lag = min(max(delay[i] // step, 0), edges[-1] - 1)
        b = 0
        while edges[b + 1] <= lag:
            b += 1
        delays[b] += 1.0


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _advance(
    s, until, step, shown, log_odds, came, came_count, edges, enough, most, share, band, alarms,
    silence, armed, decay,
):  # fmt: skip
    """Go through all steps before `until`.

    Returns how many rows of what is shown and came are before it; the others wait.
    """
    sums, steps, ring, evidence, begun = s.sums, s.steps, s.ring, s.evidence, s.begun
    rise = s.rise
    size, half = ring.size, evidence.size // 2
    longest = edges[-1]
    settled = s.delays.sum()
    known = settled >= enough
    if settled >= most:
        s.delays[:] /= 2
        settled /= 2
    density = s.delays / (settled * (edges[1:] - edges[:-1]))
    i = j = 0
    active = steps[_NEXT]
    t = steps[_NEXT]
    while t < until:
        if t - active > longest + 1:
            # All that was shown has come or will not: nothing is expected before the next.
            t = until
            if i < shown.size:
                t = min(t, shown[i] // step)
            if j < came.size:
                t = min(t, came[j] // step)
            ring[:] = sums[_SHOWN]
            if t >= until:
                break
        end = (t + 1) * step
        while i < shown.size and shown[i] < end:
            if math.isfinite(log_odds[i]):
                p = 1.0 / (1.0 + math.exp(-log_odds[i]))
                sums[_SHOWN] += p / share
                sums[_P] += p
                sums[_P_SQUARES] += p * p
                if steps[_FIRST] == _NONE:
                    steps[_FIRST] = t
                active = t
            i += 1
        place = (t + 1) % size
        ring[place] = sums[_SHOWN]
        count = 0
        while j < came.size and came[j] < end:
            count += came_count[j]
            active = t
            j += 1
        if not known or steps[_FIRST] == _NONE or t < steps[_FIRST] + longest:
            t += 1
            continue
        base, after = 0.0, ring[place]
        for b in range(density.size):
            at = place - edges[b + 1]
            before = ring[at + size if at < 0 else at]
            base += density[b] * (after - before)
            after = before
        usual = (sums[_USUAL_ARRIVALS] + _PRIOR) / (sums[_USUAL_EXPECTED] + _PRIOR)
        phi = 1.0
        if sums[_P] > 0.0:
            phi += (1.0 - share) / share * sums[_P_SQUARES] / sums[_P]
        phi = max(phi, (sums[_SQUARES] + _PRIOR * phi) / (sums[_CELLS] + _PRIOR))
        expected = usual * base
        sums[_TOTAL_ARRIVALS] += count
        sums[_TOTAL_EXPECTED] += expected
        sums[_BLOCK_ARRIVALS] += count
        sums[_BLOCK_EXPECTED] += expected
        if steps[_OPENED] == _NONE:
            steps[_OPENED] = t
        if count > 0:
            sums[_SILENT] = 0.0
            steps[_HEARD] = t
        else:
            sums[_SILENT] += expected
        if sums[_SILENT] >= silence * phi and steps[_CROSSED_SILENT] == _NONE:
            steps[_CROSSED_SILENT] = t
            steps[_HEARD_FOUND] = steps[_HEARD]
            sums[_SILENT_FOUND] = sums[_SILENT]
        if armed:
            x, k = expected / phi, count / phi
            for side in range(2):
                edge = x / band if side == 0 else x * band
                summed = 0.0
                for a in range(half * side, half * (side + 1)):
                    likely = (1.0 - _FACTORS[a]) * edge + k * _LOGS[a]
                    evidence[a] = min((evidence[a] + x) * math.exp(likely), _MOST_EVIDENCE)
                    summed += evidence[a]
                    rise[a] += likely
                    if rise[a] <= 0.0:
                        rise[a] = 0.0
                        begun[a, 0] = t
                        begun[a, 1] = sums[_TOTAL_ARRIVALS]
                        begun[a, 2] = sums[_TOTAL_EXPECTED]
                crossed = _CROSSED_FEWER + side
                if summed / half >= alarms[side] and steps[crossed] == _NONE:
                    steps[crossed] = t
        if decay > 0.0 and (
            steps[_CROSSED_FEWER] == _NONE
            and steps[_CROSSED_MORE] == _NONE
            and steps[_CROSSED_SILENT] == _NONE
        ):
            kept = math.exp(-min(decay, base / _LEAST_REMEMBERED))
            sums[_USUAL_ARRIVALS] = sums[_USUAL_ARRIVALS] * kept + count
            sums[_USUAL_EXPECTED] = sums[_USUAL_EXPECTED] * kept + base
            sums[_P] *= kept
            sums[_P_SQUARES] *= kept
            sums[_CELL_ARRIVALS] += count
            sums[_CELL_EXPECTED] += expected
            if sums[_CELL_EXPECTED] >= _CELL:
                off = sums[_CELL_ARRIVALS] - sums[_CELL_EXPECTED]
                less = 1.0 - 1.0 / _REMEMBERED_CELLS
                squares = min(off * off / sums[_CELL_EXPECTED], _MOST_SQUARES)
                sums[_SQUARES] = sums[_SQUARES] * less + squares
                sums[_CELLS] = sums[_CELLS] * less + 1.0
                sums[_CELL_ARRIVALS] = sums[_CELL_EXPECTED] = 0.0
        t += 1
    steps[_NEXT] = until
    return i, j


@dataclass(frozen=True)
class Suspicion:
    """What arrivals say against them.

    Parameters
    ----------
    side
        `FEWER` or `MORE`.
    time
        End of the step at which it was due, microseconds.
    since
        When it has probably begun, microseconds.
    arrivals, expected
        Since then.
    evidence
        Natural logarithm of the mean of R; None if it is for silence alone.
    """

    side: int
    time: int
    since: int
    arrivals: int
    expected: float
    evidence: float | None


@dataclass(frozen=True)
class Block:
    """A stretch of arrivals.

    Parameters
    ----------
    began
        Microseconds.
    arrivals, expected
        In it.
    """

    began: int
    arrivals: int
    expected: float


@written
class _Written:
    state: dict[Text, Text]
    waiting: tuple[Text, Text, Text, Text]


class Lead:
    """Compares the arrivals of one action stream with what is expected.

    All times are microseconds. What is shown, settles or arrives is given in order of the time at
    which it is known; `advance` then goes through the steps that are complete, so that nothing
    depends on how it is cut.

    Parameters
    ----------
    plan
        Of which stream.
    band
        Arrivals may be so many times as many as expected, or that part of them.
    alarms
        Evidence that is enough of fewer, and of more.

    """

    def __init__(self, plan: LeadPlan, band: float, alarms: tuple[float, float]) -> None:
        self.plan, self.band, self.alarms = plan, band, np.array(alarms)
        self.edges = _edges(-(-plan.longest // plan.step) + 1)
        self.state = _State.new(self.edges)
        self.shown: list[tuple[Int64s, Floats]] = []
        self.came: list[tuple[Int64s, Int64s]] = []
        self.until = 2**62

    @property
    def knows_usual(self) -> bool:
        """Whether enough actions have come to say how many usually do."""
        return bool(self.state.sums[_USUAL_EXPECTED] >= ENOUGH_ARRIVALS)

    @property
    def usual(self) -> float:
        """Arrivals for each expected positive."""
        sums = self.state.sums
        return float((sums[_USUAL_ARRIVALS] + _PRIOR) / (sums[_USUAL_EXPECTED] + _PRIOR))

    @property
    def stream(self) -> int:
        """Number of the action stream, from 0."""
        return self.plan.stream

    @property
    def passed(self) -> int:
        """End of the last step that was gone through, microseconds."""
        return int(self.state.steps[_NEXT]) * self.plan.step

    def end(self, drain: int) -> None:
        """Judge nothing from a time on: the log has ended, and actions with it."""
        self.until = drain // self.plan.step

    def arrive(self, known: Int64s, count: Int64s) -> None:
        """Take numbers of actions that became known in the steps of these times, shape (m,)."""
        if known.size:
            self.came.append((known, count))

    def show(self, known: Int64s, log_odds: Floats) -> None:
        """Take impressions that became known, and what was predicted of them, shape (m,).

        What is not finite says nothing.
        """
        if known.size:
            self.shown.append((known, log_odds))

    def settle(self, delay: Int64s) -> None:
        """Take positives that may be learned: how long each took, shape (m,)."""
        _settle(self.state.delays, delay, self.plan.step, self.edges)

    def advance(self, now: int, armed: bool, frozen: bool, silence: float) -> None:
        """Go through the steps that have ended by `now`.

        Parameters
        ----------
        now
            All that became known before it has been given.
        armed
            Whether arrivals are tested; silence is always.
        frozen
            Whether nothing is learned of what is usual.
        silence
            So many arrivals are expected in a silence that is suspicious.
        """
        until = min(now // self.plan.step, self.until)
        if until <= self.state.steps[_NEXT]:
            return
        step = self.plan.step
        shown, came = _joined(self.shown, np.float64), _joined(self.came, np.int64)
        if self.state.steps[_NEXT] == _NONE:
            firsts = [int(of[0][0]) // step for of in (shown, came) if of[0].size]
            self.state.steps[_NEXT] = min([until, *firsts])
        done = _advance(
            self.state, until, step, *shown, *came, self.edges, ENOUGH_DELAYS, _MOST_DELAYS,
            self.plan.share, self.band, self.alarms, silence, armed,
            0.0 if frozen else step / _REMEMBERED,
        )  # fmt: skip
        self.shown, self.came = (
            [(time[cut:], value[cut:])] if cut < time.size else []
            for (time, value), cut in zip((shown, came), done, strict=True)
        )

    def suspicion(self) -> Suspicion | None:
        """Return what was found since the last `reset`; fewer before more."""
        steps = self.state.steps
        fewer, more, silent = (
            int(steps[at]) for at in (_CROSSED_FEWER, _CROSSED_MORE, _CROSSED_SILENT)
        )
        if silent != _NONE and (fewer == _NONE or silent <= fewer):
            since, expected = int(steps[_HEARD_FOUND]) + 1, float(self.state.sums[_SILENT_FOUND])
            return self._suspicion(FEWER, silent, since, 0, expected, None)
        for side, step in ((FEWER, fewer), (MORE, more)):
            if step != _NONE:
                half = slice(6 * side, 6 * side + 6)
                own = self.state.evidence[half]
                begun, arrivals, expected = self.state.begun[half][np.argmax(own)].tolist()
                sums = self.state.sums
                return self._suspicion(
                    side, step, int(begun) + 1, int(sums[_TOTAL_ARRIVALS] - arrivals),
                    float(sums[_TOTAL_EXPECTED] - expected), math.log(own.mean()),
                )  # fmt: skip
        return None

    def _suspicion(
        self, side: int, step: int, since: int, arrivals: int, expected: float, of: float | None
    ) -> Suspicion:
        length = self.plan.step
        return Suspicion(side, (step + 1) * length, since * length, arrivals, expected, of)

    def reset(self) -> None:
        """Forget what was found, and what speaks for it."""
        s = self.state
        s.evidence[:] = s.rise[:] = 0.0
        s.begun[:] = [s.steps[_NEXT] - 1, s.sums[_TOTAL_ARRIVALS], s.sums[_TOTAL_EXPECTED]]
        s.steps[_CROSSED_FEWER : _CROSSED_SILENT + 1] = _NONE
        s.sums[_SILENT] = min(s.sums[_SILENT], 0.0)

    def forget(self) -> None:
        """Forget what is usual: how many arrive, and that any do."""
        self.state.sums[[_USUAL_ARRIVALS, _USUAL_EXPECTED]] = 0.0
        self.state.sums[_SILENT] = -np.inf
        self.reset()

    def take_block(self, least: float, length: int) -> Block | None:
        """Take out the block under way, if it has so many expected arrivals and is so long."""
        s = self.state
        opened, expected = int(s.steps[_OPENED]), float(s.sums[_BLOCK_EXPECTED])
        took = (int(s.steps[_NEXT]) - opened) * self.plan.step
        if opened == _NONE or expected < least or took < length:
            return None
        block = Block(opened * self.plan.step, int(s.sums[_BLOCK_ARRIVALS]), expected)
        self.clear_block()
        return block

    def clear_block(self) -> None:
        """Begin a block."""
        self.state.steps[_OPENED] = _NONE
        self.state.sums[[_BLOCK_ARRIVALS, _BLOCK_EXPECTED]] = 0.0

    def export(self) -> dict[str, Any]:
        """Return the whole state as JSON types."""
        waiting = (*_joined(self.shown, np.float64), *_joined(self.came, np.int64))
        return {
            "state": {name: packed(of) for name, of in self.state._asdict().items()},
            "waiting": [packed(of) for of in waiting],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Replace the state by what `export` returned.

        Raises
        ------
        DamagedError
            If it is not what `export` returns.
        """
        checked(_Written, state, "arrivals")
        # The logarithm of nothing stands for a silence that was never broken.
        found = _State(*(
            unpacked(state["state"].get(name), of.dtype, of.shape, finite=False)
            for name, of in self.state._asdict().items()
        ))  # fmt: skip
        expect_moments(found.steps, "steps")
        kinds = (np.int64, np.float64, np.int64, np.int64)
        shown, odds, came, count = (
            unpacked(text, kind, finite=False)
            for text, kind in zip(state["waiting"], kinds, strict=True)
        )
        expect(shown.size == odds.size and came.size == count.size, "arrivals", "are not whole")
        for times in (shown, came):
            expect_times(times, "arrivals", ascending=True)
        expect_within(count, 0, 1 << 40, "arrivals")
        self.state = found
        self.shown = [(shown, odds)] if shown.size else []
        self.came = [(came, count)] if came.size else []


def step_for(longest: int) -> int:
    """Return the length of steps for a window, microseconds: a second, or more for a long one."""
    return -(-longest // _MOST_STEPS // _SHORTEST) * _SHORTEST or _SHORTEST


def _edges(longest: int) -> Int64s:
    """Return the edges of the bins of delays, in steps, ascending, from 0 to `longest`."""
    edges = [0]
    while edges[-1] < longest:
        wider = edges[-1] + 1 if edges[-1] < _LINEAR_BINS else math.ceil(edges[-1] * _GROWTH)
        edges.append(min(wider, longest))
    return np.array(edges, np.int64)


def _joined(parts: list[tuple[Int64s, Any]], kind: Any) -> tuple[Int64s, Any]:
    if not parts:
        return np.empty(0, np.int64), np.empty(0, kind)
    if len(parts) == 1:
        return parts[0]
    first, second = zip(*parts, strict=True)
    return np.concatenate(first), np.concatenate(second)
