"""What holds between an impression and an action: the rules that kernels ask, each in one place.

The numbers are those of ``docs/join.md``. Times are microseconds. On whole columns the
``py_func`` of a rule does the same without being compiled.
"""

from __future__ import annotations

from typing import NamedTuple

import numba as nb
import numpy as np
import pyarrow as pa

from headrace.joiner.plan.plans import JoinPlan
from headrace.schemas.records.events import ARRIVAL, TIME
from headrace.schemas.records.hashing import Int64s


class Durations(NamedTuple):
    """The durations that the rules need, in microseconds; those of `JoinPlan`."""

    settle_delay: int
    retention: int
    dedup_horizon: int
    wait_for_impression: int
    early: int

    @classmethod
    def of(cls, plan: JoinPlan) -> Durations:
        """Return those of a plan."""
        return cls(*(getattr(plan, name) for name in cls._fields))


@nb.njit(inline="always")
def known_at(time, arrival):
    """Rule 3: when a record is known."""
    return max(time, arrival)


def known_times(batch: pa.RecordBatch) -> Int64s:
    """Return when each event is known, by rule 3; int64 microseconds, shape (n,)."""
    known: Int64s = np.maximum(batch.column(TIME).to_numpy(), batch.column(ARRIVAL).to_numpy())
    return known


@nb.njit(inline="always")
def belongs(i_time, a_time, window, durations):
    """Rule 8: whether an action lies in its window after an impression of its key."""
    return i_time - durations.early <= a_time and a_time < i_time + window


@nb.njit(inline="always")
def in_time(i_known, a_time, durations):
    """Rule 9: whether an impression is known before the action has stopped waiting for it."""
    return i_known < a_time + durations.wait_for_impression


@nb.njit(inline="always")
def is_visible(i_time, i_known, a_time, a_arrival, durations):
    """Rule 9: whether an action sees an impression: remembered, and in time for it."""
    forgotten = i_time + max(durations.settle_delay + durations.retention, durations.dedup_horizon)
    return known_at(a_time, a_arrival) < forgotten and in_time(i_known, a_time, durations)


@nb.njit(inline="always")
def is_late(i_time, a_arrival, durations):
    """Rule 10: whether an action comes after its impression has settled."""
    return a_arrival >= i_time + durations.settle_delay


@nb.njit(inline="always")
def is_retained(i_time, a_arrival, durations):
    """Rules 15 and 16: whether the columns of its impression are there when an action comes."""
    return a_arrival < i_time + durations.settle_delay + durations.retention


@nb.njit(inline="always")
def comes_before(a, b, actions):
    """Whether action `a` is known before action `b`; ties go by place.

    Both are numbers of rows of `actions`, which has the arrays ``time``, ``arrival``,
    ``source`` and ``offset``.
    """
    known_a = known_at(actions.time[a], actions.arrival[a])
    known_b = known_at(actions.time[b], actions.arrival[b])
    if known_a != known_b:
        return known_a < known_b
    if actions.time[a] != actions.time[b]:
        return actions.time[a] < actions.time[b]
    if actions.source[a] != actions.source[b]:
        return actions.source[a] < actions.source[b]
    return actions.offset[a] < actions.offset[b]
