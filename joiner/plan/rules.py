"""What holds between an impression and an action: the rules that kernels ask, each in one place.

The numbers are those of ``docs/join.md``. Times are microseconds; `times` is what
`rule_times` returns. On whole columns their ``py_func`` does the same without being compiled.
"""

from __future__ import annotations

import numba as nb
import numpy as np

from headrace.joiner.plan.plans import JoinPlan
from headrace.schemas.records.hashing import Int64s

SETTLE_DELAY, RETENTION, HORIZON, WAIT, EARLY = range(5)


def rule_times(plan: JoinPlan) -> Int64s:
    """Return the durations that the rules need, int64, shape (5,)."""
    return np.array(
        [
            plan.settle_delay,
            plan.retention,
            plan.dedup_horizon,
            plan.wait_for_impression,
            plan.early,
        ],
        np.int64,
    )


@nb.njit(inline="always")
def belongs(i_time, a_time, window, times):
    """Rule 8: whether an action lies in its window after an impression of its key."""
    return i_time - times[EARLY] <= a_time and a_time < i_time + window


@nb.njit(inline="always")
def in_time(i_known, a_time, times):
    """Rule 9: whether an impression is known before the action has stopped waiting for it."""
    return i_known < a_time + times[WAIT]


@nb.njit(inline="always")
def is_visible(i_time, i_known, a_time, a_arrival, times):
    """Rule 9: whether an action sees an impression: remembered, and in time for it."""
    retained = i_time + times[SETTLE_DELAY] + times[RETENTION]
    return a_arrival < max(retained, i_time + times[HORIZON]) and in_time(i_known, a_time, times)


@nb.njit(inline="always")
def is_late(i_time, a_arrival, times):
    """Rule 10: whether an action comes after its impression has settled."""
    return a_arrival >= i_time + times[SETTLE_DELAY]


@nb.njit(inline="always")
def is_retained(i_time, a_arrival, times):
    """Rules 15 and 16: whether the columns of its impression are there when an action comes."""
    return a_arrival < i_time + times[SETTLE_DELAY] + times[RETENTION]


@nb.njit(inline="always")
def comes_before(a, b, time, arrival, source, offset):
    """Whether action `a` is known before action `b`; ties go by place."""
    known_a, known_b = max(time[a], arrival[a]), max(time[b], arrival[b])
    if known_a != known_b:
        return known_a < known_b
    if time[a] != time[b]:
        return time[a] < time[b]
    if source[a] != source[b]:
        return source[a] < source[b]
    return offset[a] < offset[b]
