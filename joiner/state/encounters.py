"""Actions and the impressions they meet, in the order in which both become known.

A record is known at ``max(event time, arrival progress)``: the event time from
which on it can have a consequence. When a shard's clock is past that time, all
that was known by then has been applied, so the order of becoming known, with
ties broken by event time, source and offset, is a function of the log.
"""

from __future__ import annotations

from typing import NamedTuple

import numba as nb
import numpy as np

from headrace.joiner.plan.rules import belongs, comes_before, in_time, is_retained, known_at
from headrace.joiner.state.keytable import following_slot, probe, start
from headrace.joiner.state.known import keep
from headrace.schemas.records.events import NEVER
from headrace.schemas.records.hashing import Int64s


class Encounters(NamedTuple):
    """Actions and the impressions they met, as they met; each column of shape (n,).

    Parameters
    ----------
    entry
        The action.
    time, known
        Event time of the impression, and when it was known.
    at
        When both were known.
    """

    entry: Int64s
    time: Int64s
    known: Int64s
    at: Int64s

    @classmethod
    def room(cls, size: int) -> Encounters:
        """Make room for so many."""
        return cls(*(np.empty(size, np.int64) for _ in cls._fields))

    def select(self, rows: Int64s | slice) -> Encounters:
        """Return some of them."""
        return Encounters(*(column[rows] for column in self))


@nb.njit(inline="always")
def _sift(entries, begin, root, size, actions):
    """Let an entry sink in the heap of `size` entries from `begin` on; its root is known last."""
    while True:
        child = 2 * root + 1
        if child >= size:
            return
        if child + 1 < size and comes_before(
            entries[begin + child], entries[begin + child + 1], actions
        ):
            child += 1
        if not comes_before(entries[begin + root], entries[begin + child], actions):
            return
        entries[begin + root], entries[begin + child] = (
            entries[begin + child], entries[begin + root],
        )  # fmt: skip
        root = child


@nb.njit(cache=True, nogil=True)
def _sort(entries, begin, end, actions):
    """Put entries in the order of becoming known: a heap sort, quick whatever their order is."""
    size = end - begin
    for root in range(size // 2 - 1, -1, -1):
        _sift(entries, begin, root, size, actions)
    for last in range(size - 1, 0, -1):
        entries[begin], entries[begin + last] = entries[begin + last], entries[begin]
        _sift(entries, begin, 0, last, actions)


@nb.njit(inline="always")
def _can_meet(actions, entry, time, known, windows, durations):
    """Whether an action may meet a kept impression of its key."""
    return (
        is_retained(time, actions.arrival[entry], durations)
        and in_time(known, actions.time[entry], durations)
        and belongs(time, actions.time[entry], windows[actions.stream[entry]], durations)
    )


@nb.njit(inline="always")
def _write(out, at, actions, entry, time, known, when):
    """Let an action meet an impression, and write the encounter down."""
    actions.met[entry] = time
    out.entry[at] = entry
    out.time[at] = time
    out.known[at] = known
    out.at[at] = when


@nb.njit(cache=True, nogil=True)
def meet(impressions, tags, due, actions, index, horizon, windows, durations, out, shadowing):
    """Let impressions and due actions, each as they become known, meet.

    Returns how many encounters there are, and how many impressions were kept; `shadowing` has
    what `keep` says of each impression.
    """
    encounters = 0
    entered = 0
    i = 0
    a = 0
    while i < tags.size or a < due.size:
        if a < due.size:
            entry = due[a]
            a_known = known_at(actions.time[entry], actions.arrival[entry])
        if i < tags.size and (a == due.size or impressions.known[i] <= a_known):
            time, known = impressions.time[i], impressions.known[i]
            shadowing[i] = keep(index, tags[i], time, known, horizon)
            kept = shadowing[i] == NEVER
            entered += kept
            if kept:
                found = encounters
                _, entry = probe(
                    actions.slots, actions.key0, actions.key1,
                    impressions.key0[i], impressions.key1[i],
                )  # fmt: skip
                while entry >= 0:
                    if (
                        actions.met[entry] == NEVER
                        and known_at(actions.time[entry], actions.arrival[entry]) < known
                        and _can_meet(actions, entry, time, known, windows, durations)
                    ):
                        out.entry[found] = entry
                        found += 1
                    entry = actions.following[entry]
                _sort(out.entry, encounters, found, actions)
                while encounters < found:
                    _write(out, encounters, actions, out.entry[encounters], time, known, known)
                    encounters += 1
            i += 1
            continue
        a += 1
        tag = actions.key1[entry] if actions.key1[entry] != np.uint64(0) else np.uint64(1)
        at = start(tag, index.tags.size)
        while index.tags[at] != np.uint64(0):
            time, known = index.times[at], index.knowns[at]
            if index.tags[at] == tag and _can_meet(actions, entry, time, known, windows, durations):
                _write(out, encounters, actions, entry, time, known, a_known)
                encounters += 1
                break  # kept ones are a horizon apart: it belongs to no other
            at = following_slot(at, index.tags.size)
    return encounters, entered
