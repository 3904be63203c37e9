"""Keys of kept impressions, remembered so that repetitions are seen: 16 bytes a key.

A slot of the table is 13 bytes: 63 bits of the key's digest with a flag, and
the event time in 40 bits (a byte more for horizons from nine days on). Tables of
millions of keys grow by a tenth when nine of ten slots are taken, so a key takes
at most 15.9 bytes; smaller ones double. A slot whose key has left the horizon is
taken by the next key that passes it, so a table in balance is hardly ever rebuilt.

Two keys are one here if 63 bits of their digests agree: of n remembered keys a
shard, one impression in ``2^63 / n``, at ten million one in 10^12.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba as nb
import numpy as np
import numpy.typing as npt

from headrace.joiner.journal.pieces import KeptKeys
from headrace.joiner.state.keytable import following_slot, start
from headrace.schemas.records.events import NEVER
from headrace.schemas.records.hashing import Bools, Int64s, UInt64s
from headrace.schemas.records.prefetch import prefetch

SMALLEST = 64
_MOST_LOAD = 0.9
_LARGE = 1 << 22
"""Tables of fewer keys double."""
_GROWTH = 1.1
"""By which large ones grow: each time all keys are moved, so it is paid for with time."""
_MOST_AT_ONCE = 1 << 18
"""Keys to come for which there is room from the first on."""
_AHEAD = 8
"""How many keys ahead of one that is looked up to ask for."""
_SHORT_SPAN, _LONG_SPAN = 1 << 40, 1 << 48
"""Event times that a table holds at once, microseconds: 12 days, 8 years."""
_TAG = np.uint64(0xFFFFFFFFFFFFFFFE)
_FLAG = np.uint64(1)
_LOW32 = np.int64(0xFFFFFFFF)


class KeySlots(NamedTuple):
    """A hash table of keys by open addressing; each column of shape (slots,).

    Parameters
    ----------
    tags
        63 bits of the key's digest, and whether its impression was known after its
        event time; 0 for an empty slot.
    low, high
        Event time since the table's base in 40 or 48 bits, microseconds.
    """

    tags: UInt64s
    low: npt.NDArray[np.uint32]
    high: npt.NDArray[Any]


@nb.njit(inline="always")
def _time(slots, at):
    return np.int64(slots.low[at]) | (np.int64(slots.high[at]) << 32)


@nb.njit(inline="always")
def _put(slots, at, tag, time):
    slots.tags[at] = tag
    slots.low[at] = np.uint32(time & _LOW32)
    slots.high[at] = time >> 32


@nb.njit(inline="always")
def _ask_for(slots, at):
    prefetch(slots.tags, at)
    prefetch(slots.low, at)
    prefetch(slots.high, at)


@nb.njit(cache=True, nogil=True)
def _keep_first(slots, tag, time, horizon, kept, copied):
    """Settle impressions in order of time; return how many slots were taken anew."""
    size = slots.tags.size
    taken = 0
    for i in range(tag.size):
        if i + _AHEAD < tag.size:
            _ask_for(slots, start(tag[i + _AHEAD], size))
        at = start(tag[i], size)
        free = np.int64(-1)
        kept[i] = True
        while slots.tags[at] != np.uint64(0):
            same = (slots.tags[at] ^ tag[i]) & _TAG == np.uint64(0)
            if same or free < 0:
                then = _time(slots, at)
                if then <= time[i] - horizon:
                    # Nothing that comes from here on can ask for it any more.
                    free = at
                elif same:
                    kept[i] = False
                    copied[i] = then
                    break
            at = following_slot(at, size)
        if kept[i]:
            if free < 0:
                free = at
                taken += 1
            _put(slots, free, tag[i], time[i])
    return taken


@nb.njit(cache=True, nogil=True)
def _find(slots, tag, out):
    """Find the newest entry of each key, -1 for none."""
    size = slots.tags.size
    for i in range(tag.size):
        if i + _AHEAD < tag.size:
            prefetch(slots.tags, start(tag[i + _AHEAD], size))
        at = start(tag[i], size)
        out[i] = -1
        newest = np.int64(-1)
        while slots.tags[at] != np.uint64(0):
            if slots.tags[at] & _TAG == tag[i] & _TAG and _time(slots, at) > newest:
                newest = _time(slots, at)
                out[i] = at
            at = following_slot(at, size)


@nb.njit(cache=True, nogil=True)
def _count_newer(slots, bound):
    count = 0
    for i in range(slots.tags.size):
        count += slots.tags[i] != np.uint64(0) and _time(slots, i) > bound
    return count


@nb.njit(cache=True, nogil=True)
def _move(slots, bound, shift, new):
    """Enter what is newer than `bound` into another table, times less `shift`."""
    size = new.tags.size
    count = 0
    for i in range(slots.tags.size):
        if slots.tags[i] != np.uint64(0) and _time(slots, i) > bound:
            at = start(slots.tags[i], size)
            while new.tags[at] != np.uint64(0):
                at = following_slot(at, size)
            _put(new, at, slots.tags[i], _time(slots, i) - shift)
            count += 1
    return count


class RememberedKeys:
    """The last kept impression of each key, for as long as it is remembered.

    Parameters
    ----------
    horizon
        A further impression of a key within this time (microseconds, open at
        its end) of the kept one is a duplicate.
    """

    def __init__(self, horizon: int) -> None:
        self.horizon = horizon
        self.span = _SHORT_SPAN if horizon < _SHORT_SPAN // 4 * 3 else _LONG_SPAN
        self.taken = 0
        """Slots in use, those past their horizon included."""
        self.base = NEVER
        """Event time that is zero in the table."""
        self.known: dict[int, int] = {}
        """When flagged entries were known, by tag; the others were at their event time."""
        self.most_known = SMALLEST
        self._allocate(SMALLEST)

    def _allocate(self, slots: int) -> None:
        high = np.uint8 if self.span == _SHORT_SPAN else np.uint16
        self.slots = KeySlots(
            np.zeros(slots, np.uint64), np.empty(slots, np.uint32), np.empty(slots, high)
        )

    @property
    def nbytes(self) -> int:
        """Bytes of memory held, excluding those of `known`."""
        return sum(column.nbytes for column in self.slots)

    def keep_first(self, key1: UInt64s, time: Int64s, known: Int64s) -> tuple[Bools, Int64s]:
        """Settle impressions in their order.

        Parameters
        ----------
        key1, time, known
            Second half of the key's digest, event time, and when the impression
            was known, each of shape (n,), ordered by (event time, source, offset).

        Returns
        -------
        kept, copied
            Whether each is kept; and of one that is not, the event time of the kept one
            of which it is a copy; shape (n,).
        """
        kept, copied = np.empty(time.size, np.bool_), np.empty(time.size, np.int64)
        tag = _tags(key1)
        flagged = known > time
        tag[flagged] |= _FLAG
        begin = 0
        while begin < time.size:
            if self._room() < self._least_room() or time[begin] >= self.base + self.span:
                self._rebuild(time.size - begin, int(time[begin]))
            end = int(np.searchsorted(time, self.base + self.span, side="left"))
            end = min(end, begin + self._room())
            here = slice(begin, end)
            self.taken += _keep_first(
                self.slots, tag[here], time[here] - self.base, self.horizon,
                kept[here], copied[here],
            )  # fmt: skip
            copied[here] += self.base
            begin = end
        flagged &= kept
        if flagged.any():
            names = (tag[flagged] & _TAG).tolist()
            self.known.update(zip(names, known[flagged].tolist(), strict=True))
            if len(self.known) > self.most_known:
                bound = int(time[-1]) - self.horizon
                self.known = {tag: when for tag, when in self.known.items() if when > bound}
                self.most_known = max(SMALLEST, 2 * len(self.known))
        return kept, copied

    def find(self, key1: UInt64s) -> tuple[Bools, Int64s, Int64s]:
        """Look keys up.

        Returns
        -------
        found, time, known
            Whether a key is remembered; event time of its kept impression, and
            when that was known; each of shape (n,).
        """
        tag = _tags(key1)
        at = np.empty(tag.size, np.int64)
        _find(self.slots, tag, at)
        found = at >= 0
        return (found, *self._read(at))

    def _read(self, at: Int64s) -> tuple[Int64s, Int64s]:
        """Return time and known of some slots."""
        low, high = (column[at].astype(np.int64) for column in self.slots[1:])
        time = self.base + (low | (high << 32))
        known = time.copy()
        tag = self.slots.tags[at]
        for i in np.flatnonzero(tag & _FLAG):
            # Of one that is past its horizon it may be forgotten; nothing sees it any more.
            known[i] = self.known.get(int(tag[i] & _TAG), int(time[i]))
        return time, known

    def export(self, bound: int) -> KeptKeys:
        """Return the kept impressions newer than `bound`, in no order."""
        at = np.flatnonzero(self.slots.tags)
        time, known = self._read(at)
        newer = time > bound
        return KeptKeys(self.slots.tags[at[newer]] & _TAG, time[newer], known[newer])

    def restore(self, keys: KeptKeys) -> None:
        """Take over what `export` returned, in any order and with more that were kept before."""
        # In order of time, so that the last kept impression of a key stays.
        key1, time, known = keys.select(np.argsort(keys.time, kind="stable"))
        self.keep_first(key1, time, known)

    def _room(self) -> int:
        return int(self.slots.tags.size * _MOST_LOAD) - self.taken

    def _least_room(self) -> int:
        slots = self.slots.tags.size
        return max(SMALLEST // 8, slots // 64) if self.base > NEVER else slots

    def _rebuild(self, more: int, time: int) -> None:
        """Drop what rows from `time` on have left behind, and make room for some of them."""
        base = time if self.base == NEVER else max(self.base, time - self.horizon)
        bound = time - self.horizon - self.base
        old = self.slots
        live = int(_count_newer(old, bound))
        if live < _LARGE:
            slots = 2 * max(live, min(live + more, _MOST_AT_ONCE)) / _MOST_LOAD
        else:
            slots = live * _GROWTH / _MOST_LOAD
        self._allocate(max(SMALLEST, int(slots)))
        shift = 0 if self.base == NEVER else base - self.base
        self.taken = _move(old, bound, shift, self.slots)
        self.base = base


def _tags(key1: UInt64s) -> UInt64s:
    tag = key1 & _TAG
    tag[tag == 0] = np.uint64(2)
    return tag
