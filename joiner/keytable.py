"""Open-addressing hash tables over 128-bit key digests.

Entries lie dense, in order of insertion; a slot holds 32 bits of the digest
as a tag and the entry's number plus one, so that most probes are decided
without touching the entries.
"""

from __future__ import annotations

import numba as nb
import numpy as np
import numpy.typing as npt

from schemas.hashing import Int64s, UInt64s

_MOST_LOAD = 0.6
SMALLEST = 64
"""Slots and entries of an empty table; a power of two."""
_LOW = np.uint64(0xFFFFFFFF)
_HIGH = np.uint64(0xFFFFFFFF00000000)


@nb.njit(inline="always")
def probe(slots, k0, k1, a, b):
    """Find key (a, b): its slot, and its entry or -1 if the slot is empty."""
    mask = np.uint64(slots.size - 1)
    at = a & mask
    while True:
        slot = slots[at]
        if slot == np.uint64(0):
            return at, np.int64(-1)
        if (slot ^ a) & _HIGH == np.uint64(0):
            entry = np.int64(slot & _LOW) - 1
            if k0[entry] == a and k1[entry] == b:
                return at, entry
        at = (at + np.uint64(1)) & mask


@nb.njit(inline="always")
def slot_value(a, entry):
    """Make the slot that points to `entry` of a key whose first half is `a`."""
    return (a & _HIGH) | np.uint64(entry + 1)


def slots_for(entries: int) -> UInt64s:
    """Allocate empty slots that hold `entries` below the load limit."""
    size = SMALLEST
    while entries > size * _MOST_LOAD:
        size *= 2
    return np.zeros(size, np.uint64)


def fits(slots: UInt64s, entries: int) -> bool:
    """Tell whether `entries` stay below the load limit."""
    return entries <= slots.size * _MOST_LOAD


@nb.njit(cache=True, nogil=True)
def _keep_first(slots, k0, k1, time, known, count, a, b, t, p, horizon, kept):
    for i in range(a.size):
        at, entry = probe(slots, k0, k1, a[i], b[i])
        if entry < 0:
            entry = count
            count += 1
            slots[at] = slot_value(a[i], entry)
            k0[entry] = a[i]
            k1[entry] = b[i]
        elif t[i] < time[entry] + horizon:
            kept[i] = False
            continue
        kept[i] = True
        time[entry] = t[i]
        known[entry] = p[i]
    return count


@nb.njit(cache=True, nogil=True)
def _find(slots, k0, k1, a, b, out):
    for i in range(a.size):
        out[i] = probe(slots, k0, k1, a[i], b[i])[1]


@nb.njit(cache=True, nogil=True)
def _compact(k0, k1, time, known, count, bound, slots):
    live = 0
    for i in range(count):
        if time[i] > bound:
            k0[live] = k0[i]
            k1[live] = k1[i]
            time[live] = time[i]
            known[live] = known[i]
            at, _ = probe(slots, k0, k1, k0[live], k1[live])
            slots[at] = slot_value(k0[live], live)
            live += 1
    return live


class RememberedKeys:
    """The last kept impression of each key, for as long as it is remembered.

    Parameters
    ----------
    horizon
        A further impression of a key within this time (microseconds, open at
        its end) of the kept one is a duplicate.
    """

    key0: UInt64s
    key1: UInt64s
    time: Int64s
    known: Int64s

    def __init__(self, horizon: int) -> None:
        self.horizon = horizon
        self.count = 0
        self.slots = slots_for(0)
        self._reserve(SMALLEST)

    def _reserve(self, capacity: int) -> None:
        for name, dtype in _COLUMNS:
            fresh = np.empty(capacity, dtype)
            if self.count:
                fresh[: self.count] = getattr(self, name)[: self.count]
            setattr(self, name, fresh)

    @property
    def nbytes(self) -> int:
        """Bytes of memory held."""
        return self.slots.nbytes + sum(getattr(self, name).nbytes for name, _ in _COLUMNS)

    def keep_first(
        self, key0: UInt64s, key1: UInt64s, time: Int64s, known: Int64s, settled_up_to: int
    ) -> npt.NDArray[np.bool_]:
        """Settle impressions in their order: true for the kept, false for duplicates.

        Parameters
        ----------
        key0, key1, time, known
            Digest, event time and the time at which it is known, each shape
            (n,), ordered by (event time, source, offset).
        settled_up_to
            Event time up to which everything before these rows has settled;
            keys forgotten by then may be dropped.
        """
        self._make_room(key0.size, settled_up_to)
        kept = np.empty(key0.size, np.bool_)
        self.count = _keep_first(
            self.slots, self.key0, self.key1, self.time, self.known, self.count,
            key0, key1, time, known, self.horizon, kept,
        )  # fmt: skip
        return kept

    def find(self, key0: UInt64s, key1: UInt64s) -> Int64s:
        """Return the entry number of each key, -1 where it is not remembered."""
        out = np.empty(key0.size, np.int64)
        _find(self.slots, self.key0, self.key1, key0, key1, out)
        return out

    def _make_room(self, more: int, settled_up_to: int) -> None:
        wanted = self.count + more
        if wanted <= self.key0.size and fits(self.slots, wanted):
            return
        # Forget what has left its horizon before growing; most often that is enough.
        bound = settled_up_to - self.horizon
        live = int(np.count_nonzero(self.time[: self.count] > bound))
        room = live + max(more, live, SMALLEST)
        self.slots = slots_for(room)
        self.count = _compact(
            self.key0, self.key1, self.time, self.known, self.count, bound, self.slots
        )
        if room > self.key0.size or room * 2 < self.key0.size:
            self._reserve(room)


_COLUMNS = (
    ("key0", np.uint64),
    ("key1", np.uint64),
    ("time", np.int64),
    ("known", np.int64),
)
