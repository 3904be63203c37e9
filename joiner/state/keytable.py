"""Open addressing over key digests.

Where slots point to entries lying elsewhere, a slot holds 32 bits of the digest
as a tag and the entry's number plus one, so that most probes are decided without
touching the entries.
"""

from __future__ import annotations

import numba as nb
import numpy as np

from headrace.schemas.records.hashing import UInt64s

_MOST_LOAD = 0.6
SMALLEST = 64
"""Slots of an empty table; a power of two."""
_LOW = np.uint64(0xFFFFFFFF)
_HIGH = np.uint64(0xFFFFFFFF00000000)


@nb.njit(inline="always")
def start(tag, size):
    """Where to begin to look for a tag among any number of slots."""
    return np.int64(((tag >> np.uint64(32)) * np.uint64(size)) >> np.uint64(32))


@nb.njit(inline="always")
def following_slot(at, size):
    """Where to go on."""
    at += 1
    return 0 if at == size else at


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
