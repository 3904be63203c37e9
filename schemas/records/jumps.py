"""Events whose clock cannot be right: far ahead of their source, with few other rows there.

The progress of a source is its greatest event time. One event from a device
whose clock says 2099 would raise it past everything, and every later event
would be late. So a source has a *level*, a time that many of its rows vouch for, and an event more
than `max_jump` ahead of it is judged:

1. The level is raised to what at least half of the last `WITNESSES` rows have reached, if it is
   lower; only events that are neither rejected nor doubtful count. A log that goes on steadily
   passes here.
2. Else the next `WITNESSES` rows are asked: the event is rejected unless at least half of them are
   no more than `max_jump` before it. Near the end of a source the remaining rows decide.
3. If `_MANY` of them agree, its time is the new level, whatever the gap. If fewer do, it is so as
   long as all such jumps of the source together are at most `FEW_JUMPS` times `max_jump`. Else, or
   if no row agrees, it is *doubtful*: it is an event, but the log is not complete until its time.

A key votes once, and not for itself, so one that is repeated vouches for nothing; where there are
fewer than `_FEW_KEYS` keys before and after, rows vote. An event within `max_jump` of the level
needs no vote, and does not move it: many that are each a little ahead get no further than one. The
first row has no level before it, so it is judged too, as is every row until one is believed, whose
time is the level.

The rule looks at rows alone, so it does not depend on how blocks are cut, and a
real gap in a log passes it. So do wrong rows that are most of those around them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numba as nb
import numpy as np
import numpy.typing as npt

from headrace.schemas.records.events import NEVER
from headrace.schemas.records.hashing import Int64s

WITNESSES = 63
"""Rows before and after an event that are asked."""
FEW_JUMPS = 16
"""How many times `max_jump` the jumps for which few rows vouch may be together."""
_MANY = (WITNESSES + 1) // 2
_FEW_KEYS = 5


def _none() -> Int64s:
    return np.zeros((2, 0), np.int64)


@dataclass(frozen=True)
class Standing:
    """What is known of a source before its next row.

    Parameters
    ----------
    level
        The time that its rows vouch for, microseconds; `NEVER` before one is believed.
    spent
        The sum of jumps so far for which few rows vouched, microseconds.
    recent
        Times and keys of the last rows that are neither rejected nor doubtful, at most `WITNESSES`,
        int64, shape (2, n).
    """

    level: int = NEVER
    spent: int = 0
    recent: Int64s = field(default_factory=_none)

    def after(self, rows: Int64s, levels: Int64s) -> Standing:
        """Return the standing after more rows.

        Parameters
        ----------
        rows
            Times and keys of those that are neither rejected nor doubtful, of the last `WITNESSES`
            of these at least, shape (2, n).
        levels
            `Judged.levels` of all of them, or all that are not rejected.
        """
        recent = np.concatenate([self.recent, rows], axis=1)[:, -WITNESSES:]
        if not levels.size:
            return Standing(self.level, self.spent, recent)
        return Standing(max(self.level, int(levels[0, -1])), int(levels[1, -1]), recent)


@dataclass(frozen=True)
class Judged:
    """The verdict on the next rows of a source.

    Parameters
    ----------
    rows
        How many could be judged; the others wait for rows to follow.
    refuted, doubtful
        Which of these are rejected, and which are events that no other row confirms,
        bool, shape (rows,).
    levels
        `Standing.level` and `Standing.spent` after each of these rows, int64, shape (2, rows).
    """

    rows: int
    refuted: npt.NDArray[np.bool_]
    doubtful: npt.NDArray[np.bool_]
    levels: Int64s


def is_ahead(time: Int64s, level: int, max_jump: int) -> bool:
    """Return whether any row must be judged; if none must, keys are not needed."""
    return time.size > 0 and (level == NEVER or int(time.max()) > level + max_jump)


@nb.njit(cache=True, nogil=True)
def _reached(times, keys, end, count):
    """Return what at least half of the last rows have reached, and how many keys these have.

    The rows are a ring that ends before `end`.
    """
    found = np.empty(count, np.int64)
    met = np.empty(count, np.int64)
    distinct = 0
    for back in range(1, count + 1):
        at = (end - back) % WITNESSES
        for other in range(distinct):
            if met[other] == keys[at]:
                break
        else:
            met[distinct], found[distinct] = keys[at], times[at]
            distinct += 1
    asked = distinct
    if distinct < _FEW_KEYS:
        if count < _FEW_KEYS:
            return NEVER, distinct
        for back in range(1, count + 1):
            found[back - 1] = times[(end - back) % WITNESSES]
        asked = count
    return np.sort(found[:asked])[(asked - 1) // 2], distinct


@nb.njit(cache=True, nogil=True)
def _asked(time, key, at, last, least, keys):
    """Return how many keys, or rows, after a row were asked and agree, and whether keys were.

    That is if there are enough after it, or were `keys` before it.
    """
    met = np.empty(last - at, np.int64)
    distinct, agree, rows_agree = 0, 0, 0
    for row in range(at + 1, last + 1):
        agrees = time[row] >= least
        rows_agree += agrees
        known = key[row] == key[at]
        for other in range(distinct):
            if known:
                break
            known = met[other] == key[row]
        if not known:
            met[distinct] = key[row]
            distinct += 1
            agree += agrees
    if max(distinct, keys) < _FEW_KEYS:
        return last - at, rows_agree, False
    return distinct, agree, True


@nb.njit(cache=True, nogil=True)
def _judge(time, key, recent, level, spent, max_jump, ended, refuted, doubtful, levels):
    times, keys = np.empty(WITNESSES, np.int64), np.empty(WITNESSES, np.int64)
    count = recent.shape[1]
    times[:count], keys[:count] = recent[0], recent[1]
    end = count
    for i in range(time.size):
        if level == NEVER or time[i] > level + max_jump:
            reached, known = _reached(times, keys, end, count)
            raised = max(level, reached)
            if raised == NEVER or time[i] > raised + max_jump:
                last = min(i + WITNESSES, time.size - 1)
                asked, agree, by_key = _asked(time, key, i, last, time[i] - max_jump, known)
                certain = by_key and max(agree, asked - agree) >= _MANY
                if last < i + WITNESSES and not ended and not certain:
                    return i
                if 2 * agree < asked:
                    refuted[i] = True
                    levels[0, i], levels[1, i] = level, spent
                    continue
                if raised == NEVER or agree >= _MANY:
                    raised = time[i]
                elif agree and spent + time[i] - raised <= FEW_JUMPS * max_jump:
                    spent += time[i] - raised
                    raised = time[i]
                else:
                    doubtful[i] = True
                    levels[0, i], levels[1, i] = level, spent
                    continue
            level = raised
        levels[0, i], levels[1, i] = level, spent
        times[end % WITNESSES], keys[end % WITNESSES] = time[i], key[i]
        end += 1
        count = min(count + 1, WITNESSES)
    return time.size


def judge_jumps(time: Int64s, key: Int64s, before: Standing, max_jump: int, ended: bool) -> Judged:
    """Judge which of the next rows of a source to believe.

    Parameters
    ----------
    time, key
        Event times in the order of the source, microseconds, and their keys' hashes; int64, shape
        (n,). Keys may be anything if no row `is_ahead`.
    before
        What is known of the rows before them.
    max_jump
        How far an event may be ahead without agreeing rows, inclusive; microseconds.
    ended
        Whether no row follows.
    """
    refuted, doubtful = np.zeros((2, time.size), np.bool_)
    levels = np.empty((2, time.size), np.int64)
    rows = time.size
    if is_ahead(time, before.level, max_jump):
        rows = _judge(time, key, before.recent, before.level, before.spent, max_jump, ended,
                      refuted, doubtful, levels)  # fmt: skip
    else:
        levels[0], levels[1] = before.level, before.spent
    return Judged(rows, refuted[:rows], doubtful[:rows], levels[:, :rows])
