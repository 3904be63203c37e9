"""Events whose clock cannot be right: far ahead of their source, with no other row there.

The progress of a source is its greatest event time. One event from a device
whose clock says 2099 would raise it past everything, and every later event
would be late. So an event more than `max_jump` ahead of the greatest time
believed before it in its source is believed only if the rows after it agree: of
the next `WITNESSES` at least half, five of nine, must be no more than `max_jump`
before it. Otherwise it is rejected, and has no further effect. Near the end of a
source the remaining rows decide, so its last row, having none after it, is always
believed. But fewer than five rows that agree do not confirm an event: it counts, but
the log is not considered complete until its time. The first row has none before it,
so it is judged too, and so is every row until one is believed; that one is confirmed.

The rule looks at rows alone, so it does not depend on how blocks are cut, and a
real gap in a log passes it. So do six or more wrong rows in sequence that agree.
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
    """The verdict on the next rows of a source.

    Parameters
    ----------
    rows
        How many could be judged; the others wait for rows to follow.
    refuted, doubtful
        Which of these are rejected, and which are events that no other row confirms,
        bool, shape (rows,).
    greatest
        The greatest confirmed event time up to and including these rows.
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
    """Judge which of the next rows of a source to believe.

    Parameters
    ----------
    time
        Event times in the order of the source, int64 microseconds, shape (n,).
    greatest
        Greatest event time confirmed before them, `NEVER` without one.
    max_jump
        How far an event may be ahead without agreeing rows, inclusive; microseconds.
    ended
        Whether no row follows.
    """
    refuted, doubtful = np.zeros((2, time.size), np.bool_)
    rows, greatest = _judge(time, greatest, max_jump, ended, refuted, doubtful)
    return Judged(int(rows), refuted[:rows], doubtful[:rows], int(greatest))
