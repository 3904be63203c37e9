"""The impressions that an action may meet before they settle, by key: 30 bytes each.

What has left before settling cannot be taken back, so the first of repeated
impressions to be known is kept: one that becomes known is *shadowed* by a kept
one of its key whose event time is less than `dedup_horizon` away on either side.
"""

from __future__ import annotations

from typing import NamedTuple

import numba as nb
import numpy as np

from headrace.joiner.journal.pieces import KeptKeys
from headrace.joiner.state.keytable import following_slot, start
from headrace.schemas.records.events import NEVER
from headrace.schemas.records.hashing import Bools, Int64s, UInt64s

_MOST_LOAD = 0.8
_GROWTH = 1.25
SMALLEST = 64


class KnownTable(NamedTuple):
    """A hash table of impressions by key, by open addressing; each column of shape (slots,).

    Parameters
    ----------
    tags
        Second half of the key's digest, 0 for an empty slot.
    times, knowns
        Event time of the impression, and when it was known, microseconds.
    """

    tags: UInt64s
    times: Int64s
    knowns: Int64s

    @classmethod
    def empty(cls, slots: int) -> KnownTable:
        """Allocate empty slots."""
        return cls(np.zeros(slots, np.uint64), np.empty(slots, np.int64), np.empty(slots, np.int64))


@nb.njit(inline="always")
def _put(table, at, tag, time, known):
    table.tags[at] = tag
    table.times[at] = time
    table.knowns[at] = known


@nb.njit(cache=True, nogil=True)
def keep(table, tag, time, known, horizon):
    """Enter an impression unless it is shadowed.

    Returns `NEVER` if it was entered, else the event time of the earliest one that shadows it.
    """
    at = start(tag, table.tags.size)
    shadowing = NEVER
    while table.tags[at] != np.uint64(0):
        other = table.times[at]
        if table.tags[at] == tag and -horizon < time - other < horizon:
            shadowing = other if shadowing == NEVER else min(shadowing, other)
        at = following_slot(at, table.tags.size)
    if shadowing == NEVER:
        _put(table, at, tag, time, known)
    return shadowing


@nb.njit(cache=True, nogil=True)
def _enter(entries, bound, table):
    """Enter those of another table, or of its columns, that are newer than `bound`."""
    count = 0
    for i in range(entries.tags.size):
        if entries.tags[i] != np.uint64(0) and entries.times[i] > bound:
            at = start(entries.tags[i], table.tags.size)
            while table.tags[at] != np.uint64(0):
                at = following_slot(at, table.tags.size)
            _put(table, at, entries.tags[i], entries.times[i], entries.knowns[i])
            count += 1
    return count


class KnownImpressions:
    """The impressions that an action may meet, by key.

    An entry is the second half of the key's digest, event time and time of
    becoming known; of two keys whose halves agree (one impression in
    ``2^64 / entries``) the second would be taken for the first.

    Parameters
    ----------
    horizon
        See the module.
    lifetime
        How long after its event time an entry is needed, microseconds.
    """

    def __init__(self, horizon: int, lifetime: int) -> None:
        self.horizon, self.lifetime = horizon, lifetime
        self.count = 0
        self.table = KnownTable.empty(SMALLEST)

    @property
    def nbytes(self) -> int:
        """Bytes of memory held."""
        return sum(column.nbytes for column in self.table)

    def make_room(self, more: int, clock: int) -> None:
        """Make room for so many entries; those that are past their lifetime go."""
        if self.count + more <= self.table.tags.size * _MOST_LOAD:
            return
        bound = clock - self.lifetime
        old = self.table
        live = int(np.count_nonzero(self._live(bound)))
        self.table = KnownTable.empty(max(SMALLEST, int((live + more) / _MOST_LOAD * _GROWTH) + 1))
        self.count = _enter(old, bound, self.table)

    def _live(self, bound: int) -> Bools:
        return (self.table.tags != 0) & (self.table.times > bound)

    def entered(self, count: int) -> None:
        """Note that a kernel has entered so many impressions, for which there was room."""
        self.count += count

    def export(self, clock: int) -> KeptKeys:
        """Return the entries that are within their lifetime, in no order."""
        live = self._live(clock - self.lifetime)
        return KeptKeys(*self.table).select(live)

    def restore(self, entries: KeptKeys, clock: int) -> None:
        """Enter impressions that were kept before, in any order.

        Kept ones of a key are a horizon apart, so none of them shadows another.
        """
        self.make_room(entries.key1.size, clock)
        columns = KnownTable(tags_of(entries.key1), entries.time, entries.known)
        self.count += _enter(columns, clock - self.lifetime, self.table)


def tags_of(key1: UInt64s) -> UInt64s:
    """Return the table's tags; 0 stands for an empty slot."""
    return np.where(key1 == 0, np.uint64(1), key1)
