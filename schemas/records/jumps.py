"""Events whose clock cannot be right: far ahead of their source, and alone with it.

The progress of a source is its greatest event time. One event from a device
whose clock says 2099 would raise it past everything, and every later event
would be late. So an event more than `max_jump` ahead of the greatest time
believed before it in its source is believed only if the rows after it agree: of
the next `WITNESSES` at least half, five of nine, must be no more than `max_jump`
before it. Otherwise it is rejected, and counts for nothing after. Near the end
of a source those that are left judge, so its last row is always believed, having
none. But fewer than five that agree do not confirm it: it is an event, and yet the
log is not taken to be complete until then. Nothing comes before the first row, so it
is judged too, and so is every row until one is believed; believed, it is confirmed.

The rule looks at rows alone, so it does not depend on how blocks are cut, and a
real gap in a log passes it. So does a run of six or more wrong rows that agree.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba as nb
import numpy as np
import numpy.typing as npt

from headrace.schemas.records.events import NEVER
from headrace.schemas.records.hashing import Int64s

WITNESSES = 9
_MOST_OF_THEM = 5


@dataclass(frozen=True)
class Judged:
    """What is known of the next rows of a source.

    Parameters
    ----------
    rows
        How many could be judged: the others wait for rows to follow.
    refuted, doubtful
        Which of those are no events, and which are events that nothing confirms,
        bool, shape (rows,).
    greatest
        The greatest confirmed event time after them.
    """

    rows: int
    refuted: npt.NDArray[np.bool_]
    doubtful: npt.NDArray[np.bool_]
    greatest: int


@nb.njit(cache=True, nogil=True)
def _judge(time, greatest, max_jump, ended, refuted, doubtful):
    for i in range(time.size):
        if greatest == NEVER or time[i] - max_jump > greatest:
            last = min(i + WITNESSES, time.size - 1)
            if last < i + WITNESSES and not ended:
                return i, greatest
            agree = 0
            for j in range(i + 1, last + 1):
                agree += time[j] >= time[i] - max_jump
            if 2 * agree < last - i:
                refuted[i] = True
                continue
            if greatest != NEVER and agree < _MOST_OF_THEM:
                doubtful[i] = True
                continue
        greatest = max(greatest, time[i])
    return time.size, greatest


def judge_jumps(time: Int64s, greatest: int, max_jump: int, ended: bool) -> Judged:
    """Judge the next rows of a source.

    Parameters
    ----------
    time
        Event times in the order of the source, int64 microseconds, shape (n,).
    greatest
        Greatest event time confirmed before them, `NEVER` without one.
    max_jump
        In microseconds.
    ended
        Whether no row follows.

    """
    refuted, doubtful = np.zeros((2, time.size), np.bool_)
    rows, greatest = _judge(time, greatest, max_jump, ended, refuted, doubtful)
    return Judged(int(rows), refuted[:rows], doubtful[:rows], int(greatest))
