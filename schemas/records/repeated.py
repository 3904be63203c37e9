"""Times in an hour that a zone repeats, such as the one in which summer time ends.

Such a time names two moments. A source in the order of time tells which: it is the one
that is nearer to the greatest time of the rows before it, which lies in the first pass
until the hour begins again. So a source may be out of order by up to half of the
repeated span there. Without a row that says in which pass a source begins, and in a source
that is in no order, nothing tells: the first pass is taken, and the row counted as
unresolved.

The rule looks at the rows before alone, so it does not depend on how blocks are cut.
"""

from __future__ import annotations

from functools import lru_cache

import numba as nb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headrace.schemas.config.durations import DAY
from headrace.schemas.records.events import EARLIEST, LATEST, NEVER
from headrace.schemas.records.hashing import Int64s

FIRST, SECOND, UNRESOLVED = "first_pass", "second_pass", "unresolved"
"""How rows in a repeated hour were resolved."""

_WEEK = 7 * DAY


def in_zone(naive: pa.Array, zone: str) -> tuple[pa.Array, Int64s | None]:
    """Take times without an offset as those of a zone.

    Returns
    -------
    time, repeated
        The moments, in the first pass of an hour that the zone repeats, and at the end of
        the gap if it skips the hour; and how much later the second pass is, 0 where there is
        none, int64 microseconds, shape (n,). The latter is None for a zone that never repeats
        an hour.
    """
    if not _repeats(zone):
        return pc.assume_timezone(naive, zone, nonexistent="latest"), None
    try:
        moments = pc.assume_timezone(naive, zone, ambiguous="raise", nonexistent="latest")
        return moments, np.zeros(len(naive), np.int64)
    except pa.ArrowInvalid:  # one at least is in a repeated hour
        passes = [
            pc.assume_timezone(naive, zone, ambiguous=which, nonexistent="latest")
            for which in ("earliest", "latest")
        ]
        first, second = (pc.fill_null(times.cast(pa.int64()), 0).to_numpy() for times in passes)
        return passes[0], second - first


@lru_cache
def _repeats(zone: str) -> bool:
    """Return whether the clocks of a zone ever go back, in the years of event times."""
    weeks = pa.array(np.arange(EARLIEST, LATEST, _WEEK)).cast(pa.timestamp("us", zone))
    local = pc.local_timestamp(weeks).cast(pa.int64()).to_numpy()
    return bool((np.diff(local) < _WEEK).any())


@nb.njit(cache=True, nogil=True)
def _resolve(time, repeated, greatest, anchored, resolved):
    first = second = unresolved = 0
    for i in range(time.size):
        resolved[i] = time[i]
        if repeated[i] == 0:
            anchored = True
        elif greatest != NEVER and time[i] + repeated[i] - greatest < greatest - time[i]:
            resolved[i] += repeated[i]
            anchored = True
            second += 1
        elif anchored:
            first += 1
        else:
            unresolved += 1
        greatest = max(greatest, resolved[i])
    return first, second, unresolved


def resolve(
    time: Int64s, repeated: Int64s, greatest: int, anchored: bool
) -> tuple[Int64s, dict[str, int]]:
    """Choose the pass of every row of a source in the order of time.

    Parameters
    ----------
    time, repeated
        Event times, in the first pass of a repeated hour, and how much later the second
        is, 0 where there is none; int64 microseconds, shape (n,).
    greatest
        Greatest event time before these rows, `NEVER` without one.
    anchored
        Whether a row before these tells the pass in which the source is.

    Returns
    -------
    time, counts
        The event times; and how many rows in repeated hours there are, by how they were
        resolved.

    Examples
    --------
    >>> time, counts = resolve(np.array([60, 70, 62, 72]), np.array([0, 30, 30, 30]), 50, True)
    >>> time.tolist(), counts
    ([60, 70, 62, 72], {'first_pass': 3, 'second_pass': 0, 'unresolved': 0})
    >>> resolve(np.array([89, 61, 91]), np.array([30, 30, 0]), 60, True)[0].tolist()
    [89, 91, 91]
    """
    resolved = np.empty(time.size, np.int64)
    counts = _resolve(time, repeated, greatest, anchored, resolved)
    return resolved, dict(zip((FIRST, SECOND, UNRESOLVED), counts, strict=True))
