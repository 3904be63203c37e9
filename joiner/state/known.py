"""The impressions that an action may meet before they settle, by key: 30 bytes each.

What has left before settling cannot be taken back, so the first of repeated
impressions to be known is kept: one that becomes known is *shadowed* by a kept
one of its key whose event time is less than `dedup_horizon` away on either side.
"""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headrace.joiner.state.keytable import following_slot, start
from headrace.schemas.records.events import ARRIVAL, TIME
from headrace.schemas.records.hashing import Int64s, UInt64s

_MOST_LOAD = 0.8
_GROWTH = 1.25
SMALLEST = 64


def known_times(batch: pa.RecordBatch) -> Int64s:
    """Return when each event is known: the later of event time and arrival progress."""
    known: Int64s = np.maximum(batch.column(TIME).to_numpy(), batch.column(ARRIVAL).to_numpy())
    return known


@nb.njit(cache=True, nogil=True)
def _insert(tags, times, knowns, tag, time, known):
    at = start(tag, tags.size)
    while tags[at] != np.uint64(0):
        at = following_slot(at, tags.size)
    tags[at] = tag
    times[at] = time
    knowns[at] = known


@nb.njit(cache=True, nogil=True)
def _insert_all(tags, times, knowns, tag, time, known):
    for i in range(tag.size):
        _insert(tags, times, knowns, tag[i], time[i], known[i])


@nb.njit(cache=True, nogil=True)
def keep(tags, times, knowns, tag, time, known, horizon):
    """Enter an impression unless it is shadowed; tell whether it was entered."""
    at = start(tag, tags.size)
    while tags[at] != np.uint64(0):
        if tags[at] == tag and -horizon < time - times[at] < horizon:
            return False
        at = following_slot(at, tags.size)
    tags[at] = tag
    times[at] = time
    knowns[at] = known
    return True


@nb.njit(cache=True, nogil=True)
def _rebuild(tags, times, knowns, bound, new_tags, new_times, new_knowns):
    count = 0
    for i in range(tags.size):
        if tags[i] != np.uint64(0) and times[i] > bound:
            _insert(new_tags, new_times, new_knowns, tags[i], times[i], knowns[i])
            count += 1
    return count


@nb.njit(cache=True, nogil=True)
def _keep_all(tags, times, knowns, tag, time, known, horizon):
    count = 0
    for i in range(tag.size):
        count += keep(tags, times, knowns, tag[i], time[i], known[i], horizon)
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
        self._allocate(SMALLEST)

    def _allocate(self, slots: int) -> None:
        self.tags = np.zeros(slots, np.uint64)
        self.times = np.empty(slots, np.int64)
        self.knowns = np.empty(slots, np.int64)

    @property
    def nbytes(self) -> int:
        """Bytes of memory held."""
        return self.tags.nbytes + self.times.nbytes + self.knowns.nbytes

    def make_room(self, more: int, clock: int) -> None:
        """Make room for so many entries; those that are past their lifetime go."""
        if self.count + more <= self.tags.size * _MOST_LOAD:
            return
        bound = clock - self.lifetime
        old = self.tags, self.times, self.knowns
        live = int(np.count_nonzero((self.tags != 0) & (self.times > bound)))
        self._allocate(max(SMALLEST, int((live + more) / _MOST_LOAD * _GROWTH) + 1))
        self.count = _rebuild(*old, bound, self.tags, self.times, self.knowns)

    def load(self, tags: UInt64s, times: Int64s, knowns: Int64s, clock: int) -> None:
        """Take over the entries of another table."""
        self.make_room(tags.size, clock)
        _insert_all(self.tags, self.times, self.knowns, tags, times, knowns)
        self.count += tags.size

    def restore(self, key1: UInt64s, time: Int64s, known: Int64s, clock: int) -> None:
        """Enter impressions that were entered before, in the order of becoming known."""
        self.make_room(key1.size, clock)
        self.count += _keep_all(
            self.tags, self.times, self.knowns, tags_of(key1), time, known, self.horizon
        )


def tags_of(key1: npt.NDArray[Any]) -> UInt64s:
    """Return the table's tags; 0 stands for an empty slot."""
    return np.where(key1 == 0, np.uint64(1), key1)
