"""The actions of a shard by key, and the kernels that look for those of an impression."""

from __future__ import annotations

from typing import NamedTuple

import numba as nb
import numpy as np
import numpy.typing as npt

from headrace.joiner.plan.rules import belongs, is_late, is_visible, known_at
from headrace.joiner.state.keytable import probe, slot_value
from headrace.schemas.records.events import NEVER
from headrace.schemas.records.hashing import Bools, Int64s, UInt64s


class ActionTable(NamedTuple):
    """What kernels see of the actions: a hash table, and the columns of its entries.

    Parameters
    ----------
    slots
        Open addressing by key, see `headrace.joiner.state.keytable`.
    following
        The next entry of the same key, -1 after the last; shape (capacity,) like all
        that follow.
    key0, key1
        The two halves of the key's digest.
    time, arrival
        Event time and arrival progress, microseconds.
    stream, source, offset
        Number of the action stream, number of the source, position in it.
    id0, id1
        The two halves of the id's digest, (0, 0) for none.
    decided
        Whether its outcome is known.
    seen
        Event time of the latest impression that has been visible to it without its belonging
        to that, `NEVER` without one.
    met
        Event time of the impression that it belongs to, as soon as that is known, or
        `NEVER`.
    """

    slots: UInt64s
    following: Int64s
    key0: UInt64s
    key1: UInt64s
    time: Int64s
    arrival: Int64s
    stream: npt.NDArray[np.int32]
    source: npt.NDArray[np.int32]
    offset: Int64s
    id0: UInt64s
    id1: UInt64s
    decided: Bools
    seen: Int64s
    met: Int64s


class Matches(NamedTuple):
    """Which actions are those of which impressions.

    Parameters
    ----------
    row
        Row of the impression, int64, shape (m,).
    entry
        Entry of the action, int64, shape (m,).
    """

    row: Int64s
    entry: Int64s

    @classmethod
    def room(cls, size: int) -> Matches:
        """Make room for so many."""
        return cls(np.empty(size, np.int64), np.empty(size, np.int64))

    def select(self, rows: slice | Bools) -> Matches:
        """Return some of them."""
        return Matches(self.row[rows], self.entry[rows])


@nb.njit(cache=True, nogil=True)
def insert(slots, key0, key1, begin, end, following):
    """Chain entries of one key, the newest first; a slot points to the chain's head."""
    for entry in range(begin, end):
        at, head = probe(slots, key0, key1, key0[entry], key1[entry])
        following[entry] = head
        slots[at] = slot_value(key0[entry], entry)


@nb.njit(cache=True, nogil=True)
def match(actions, impressions, windows, durations, out, seen_out, noted):
    """Decide the actions that belong to impressions; return how many, and how many now see one.

    `noted` says which entries are in `seen_out`: an entry may see several impressions.
    """
    matched = 0
    newly_seen = 0
    for i in range(impressions.time.size):
        time, known = impressions.time[i], impressions.known[i]
        _, entry = probe(
            actions.slots, actions.key0, actions.key1, impressions.key0[i], impressions.key1[i]
        )
        while entry >= 0:
            if not actions.decided[entry] and is_visible(
                time, known, actions.time[entry], actions.arrival[entry], durations
            ):
                if belongs(time, actions.time[entry], windows[actions.stream[entry]], durations):
                    actions.decided[entry] = True
                    actions.met[entry] = time
                    out.row[matched] = i
                    out.entry[matched] = entry
                    matched += 1
                elif time > actions.seen[entry]:
                    actions.seen[entry] = time
                    if not noted[entry]:
                        noted[entry] = True
                        seen_out[newly_seen] = entry
                        newly_seen += 1
            entry = actions.following[entry]
    return matched, newly_seen


@nb.njit(cache=True, nogil=True)
def meet_remembered(actions, begin, found, time, known, windows, durations):
    """Let entries from `begin` on meet the remembered impressions of their keys."""
    for i in range(found.size):
        entry = begin + i
        if not found[i] or not is_visible(
            time[i], known[i], actions.time[entry], actions.arrival[entry], durations
        ):
            continue
        if belongs(time[i], actions.time[entry], windows[actions.stream[entry]], durations):
            actions.decided[entry] = True
            actions.met[entry] = time[i]
        else:
            actions.seen[entry] = time[i]


@nb.njit(cache=True, nogil=True)
def met_by(actions, impressions, at, durations, out):
    """Find who had met which impression by the time `at` and is not late; return how many."""
    found = 0
    for i in range(impressions.time.size):
        _, entry = probe(
            actions.slots, actions.key0, actions.key1, impressions.key0[i], impressions.key1[i]
        )
        while entry >= 0:
            if (
                actions.met[entry] == impressions.time[i]
                and known_at(actions.time[entry], actions.arrival[entry]) <= at[i]
                and not is_late(impressions.time[i], actions.arrival[entry], durations)
            ):
                if found < out.row.size:
                    out.row[found] = i
                    out.entry[found] = entry
                found += 1
            entry = actions.following[entry]
    return found


@nb.njit(cache=True, nogil=True)
def met_of_keys(actions, entries, noted, out):
    """Find who has met an impression among the actions of the keys of entries; return how many.

    Each once, with the newest entry of its key as `row`; `noted` is false of all entries before.
    """
    found = 0
    for own in entries:
        _, newest = probe(
            actions.slots, actions.key0, actions.key1, actions.key0[own], actions.key1[own]
        )
        entry = np.int64(-1) if noted[newest] else newest
        noted[newest] = True
        while entry >= 0:
            if actions.met[entry] != NEVER:
                out.row[found] = newest
                out.entry[found] = entry
                found += 1
            entry = actions.following[entry]
    return found
