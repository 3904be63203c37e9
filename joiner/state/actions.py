"""Actions that wait for their impression, found by key."""

from __future__ import annotations

from dataclasses import dataclass

import numba as nb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headrace.joiner.plan.plans import JoinPlan
from headrace.joiner.plan.rules import (
    RETENTION,
    SETTLE_DELAY,
    belongs,
    comes_before,
    is_late,
    is_retained,
    is_visible,
    rule_times,
)
from headrace.joiner.state.keytable import fits, probe, slot_value, slots_for
from headrace.joiner.state.remembered import RememberedKeys
from headrace.schemas.records.events import ARRIVAL, ID0, ID1, KEY0, KEY1, NEVER, OFFSET, TIME
from headrace.schemas.records.hashing import Int64s, UInt64s

Bools = npt.NDArray[np.bool_]

PENDING, SETTLED, LATE, EXPIRED, RESTORED = range(5)
"""State of an entry: undecided; counted or repeated; late; an orphan or outside of its
window; decided before a restart, in whichever way."""

COMPACTED_FROM = 1024
"""Below this many entries it is not worth while to drop those that are decided."""


@nb.njit(cache=True, nogil=True)
def _insert(slots, key0, key1, begin, end, following):
    """Chain entries of one key, the newest first; a slot points to the chain's head."""
    for entry in range(begin, end):
        at, head = probe(slots, key0, key1, key0[entry], key1[entry])
        following[entry] = head
        slots[at] = slot_value(key0[entry], entry)


@nb.njit(cache=True, nogil=True)
def _match(
    slots, key0, key1, following, state, seen, met, stream, a_time, a_arrival,
    i_key0, i_key1, i_time, i_known, windows, times, row_out, entry_out, seen_out,
):  # fmt: skip
    matched = 0
    newly_seen = 0
    for i in range(i_time.size):
        _, entry = probe(slots, key0, key1, i_key0[i], i_key1[i])
        while entry >= 0:
            if state[entry] == PENDING and is_visible(
                i_time[i], i_known[i], a_time[entry], a_arrival[entry], times
            ):
                if belongs(i_time[i], a_time[entry], windows[stream[entry]], times):
                    late = is_late(i_time[i], a_arrival[entry], times)
                    state[entry] = LATE if late else SETTLED
                    met[entry] = i_time[i]
                    row_out[matched] = i
                    entry_out[matched] = entry
                    matched += 1
                elif not seen[entry]:
                    seen[entry] = True
                    seen_out[newly_seen] = entry
                    newly_seen += 1
            entry = following[entry]
    return matched, newly_seen


@nb.njit(cache=True, nogil=True)
def _meet_remembered(found, i_time, i_known, begin, stream, a_time, a_arrival, windows, times,
                     state, seen, met):  # fmt: skip
    for i in range(found.size):
        entry = begin + i
        if not found[i] or not is_visible(
            i_time[i], i_known[i], a_time[entry], a_arrival[entry], times
        ):
            continue
        if belongs(i_time[i], a_time[entry], windows[stream[entry]], times):
            state[entry] = LATE
            met[entry] = i_time[i]
        else:
            seen[entry] = True


@nb.njit(cache=True, nogil=True)
def _met_by(
    slots, key0, key1, following, a_time, a_arrival, met, times,
    i_key0, i_key1, i_time, at, row_out, entry_out,
):  # fmt: skip
    found = 0
    for i in range(i_time.size):
        _, entry = probe(slots, key0, key1, i_key0[i], i_key1[i])
        while entry >= 0:
            if (
                met[entry] == i_time[i]
                and max(a_time[entry], a_arrival[entry]) <= at[i]
                and not is_late(i_time[i], a_arrival[entry], times)
            ):
                if found < row_out.size:
                    row_out[found] = i
                    entry_out[found] = entry
                found += 1
            entry = following[entry]
    return found


@nb.njit(cache=True, nogil=True)
def _counted_up_to(
    slots, key0, key1, following, stream, time, arrival, source, offset, id0, id1, met,
    times, late, row_out, entry_out, repeated,
):  # fmt: skip
    found = 0
    for i in range(late.size):
        own = late[i]
        repeated[i] = False
        has_id = id0[own] != np.uint64(0) or id1[own] != np.uint64(0)
        _, entry = probe(slots, key0, key1, key0[own], key1[own])
        while entry >= 0:
            if met[entry] == met[own] and (
                entry == own
                or not is_late(met[own], arrival[entry], times)
                or comes_before(entry, own, time, arrival, source, offset)
            ):
                if found < row_out.size:
                    row_out[found] = i
                    entry_out[found] = entry
                found += 1
                repeated[i] |= (
                    has_id
                    and entry != own
                    and stream[entry] == stream[own]
                    and id0[entry] == id0[own]
                    and id1[entry] == id1[own]
                )
            entry = following[entry]
    return found


@dataclass(frozen=True)
class Matches:
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


class PendingActions:
    """Every action not decided yet, of all streams of a shard.

    An entry's number is valid until the next `compact`.
    """

    def __init__(self, plan: JoinPlan) -> None:
        self.meets = plan.meets
        self.windows = np.array([action.window for action in plan.actions], np.int64)
        self.times = rule_times(plan)
        self.deadline = plan.action_deadline
        self.count = 0
        self.batches: list[pa.RecordBatch] = []
        """Payloads by number; `batch` and `row` of an entry say where its own is."""
        self.unmet = np.empty(0, np.int64)
        """Entries that are not known yet, if `JoinPlan.meets`."""
        self.uncorrected = np.empty(0, np.int64)
        """Late entries that may leave a correction when they are known."""
        self._reserve(256)
        self.slots = slots_for(256)

    key0: UInt64s
    key1: UInt64s
    time: Int64s
    arrival: Int64s
    offset: Int64s
    id0: UInt64s
    id1: UInt64s
    stream: npt.NDArray[np.int32]
    source: npt.NDArray[np.int32]
    batch: npt.NDArray[np.int32]
    row: npt.NDArray[np.int32]
    following: Int64s
    state: npt.NDArray[np.int8]
    seen: Bools
    met: Int64s
    """Event time of the impression that it belongs to, as soon as that is known, or `NEVER`."""

    def _reserve(self, capacity: int) -> None:
        for name, dtype in _COLUMNS:
            fresh = np.zeros(capacity, dtype)
            if self.count:
                fresh[: self.count] = getattr(self, name)[: self.count]
            setattr(self, name, fresh)

    @property
    def nbytes(self) -> int:
        """Bytes of memory held, payloads included."""
        own = self.slots.nbytes + sum(getattr(self, name).nbytes for name, _ in _COLUMNS)
        return own + sum(batch.nbytes for batch in self.batches)

    def add(
        self,
        stream: int,
        source: int,
        batch: pa.RecordBatch,
        remembered: RememberedKeys,
    ) -> tuple[Int64s, Int64s]:
        """Take in actions of stream ``1 + stream``; meet impressions that have settled.

        Returns
        -------
        late, seen
            Entries that belong to a settled impression and are decided as late, and
            those that now see an impression without belonging to it.
        """
        begin, end = self.count, self.count + batch.num_rows
        if end > self.time.size:
            self._reserve(max(end, self.time.size * 2))
        self.count = end
        new = slice(begin, end)
        for name, column in (
            (KEY0, self.key0), (KEY1, self.key1), (TIME, self.time),
            (ARRIVAL, self.arrival), (OFFSET, self.offset),
        ):  # fmt: skip
            column[new] = batch.column(name).to_numpy()
        has_id = ID0 in batch.schema.names
        self.id0[new] = batch.column(ID0).to_numpy() if has_id else 0
        self.id1[new] = batch.column(ID1).to_numpy() if has_id else 0
        self.stream[new] = stream
        self.source[new] = source
        self.batch[new] = len(self.batches)
        self.row[new] = np.arange(end - begin)
        self.state[new] = PENDING
        self.seen[new] = False
        self.met[new] = NEVER
        if self.meets:
            self.unmet = np.concatenate([self.unmet, np.arange(begin, end)])
        self.batches.append(batch)
        if fits(self.slots, end):
            _insert(self.slots, self.key0, self.key1, begin, end, self.following)
        else:
            self._index(end)
        found, time, known = remembered.find(self.key1[new])
        _meet_remembered(
            found, time, known, begin, self.stream, self.time,
            self.arrival, self.windows, self.times, self.state, self.seen, self.met,
        )  # fmt: skip
        late = begin + np.flatnonzero(self.state[new] == LATE)
        return late, begin + np.flatnonzero(self.seen[new])

    def match(
        self, key0: UInt64s, key1: UInt64s, time: Int64s, known: Int64s
    ) -> tuple[Matches, Int64s]:
        """Let kept impressions that settle now meet the actions of their keys.

        Returns
        -------
        matches
            The actions that belong to one of them, decided as settled or late.
        seen
            Entries that now see an impression without belonging to it.
        """
        row = np.empty(self.count, np.int64)
        entry = np.empty(self.count, np.int64)
        seen = np.empty(self.count, np.int64)
        if self.count == 0:
            return Matches(row, entry), seen
        matched, newly_seen = _match(
            self.slots, self.key0, self.key1, self.following, self.state, self.seen, self.met,
            self.stream, self.time, self.arrival, key0, key1, time, known,
            self.windows, self.times, row, entry, seen,
        )  # fmt: skip
        return Matches(row[:matched], entry[:matched]), seen[:newly_seen]

    def met_by(self, key0: UInt64s, key1: UInt64s, time: Int64s, at: Int64s) -> Matches:
        """Find the actions that had met each impression by the time `at` and are not late."""
        size = self.count
        while True:
            row, entry = np.empty(size, np.int64), np.empty(size, np.int64)
            found = _met_by(
                self.slots, self.key0, self.key1, self.following, self.time, self.arrival,
                self.met, self.times, key0, key1, time, at, row, entry,
            )  # fmt: skip
            if found <= size:
                return Matches(row[:found], entry[:found])
            size = found  # one impression may be asked for more than once

    def expired(self, clock: int) -> Int64s:
        """List the undecided entries whose deadline the clock has reached."""
        live = slice(0, self.count)
        due = self.time[live] <= clock - self.deadline
        return np.flatnonzero(due & (self.state[live] == PENDING))

    def known(self, entries: Int64s | slice) -> Int64s:
        """Return when each action is known: ``max(event time, arrival progress)``."""
        return np.maximum(self.time[entries], self.arrival[entries])

    def take_unmet(self, clock: int) -> Int64s:
        """Take out the entries that are known before `clock`, as they become known."""
        known = self.known(self.unmet)
        due, self.unmet = self.unmet[known < clock], self.unmet[known >= clock]
        if due.size < 2:
            return due
        return due[
            np.lexsort((self.offset[due], self.source[due], self.time[due], self.known(due)))
        ]

    def note_late(self, entries: Int64s) -> None:
        """Remember late entries whose impression is retained when they are known."""
        retained = is_retained.py_func(self.met[entries], self.arrival[entries], self.times)
        self.uncorrected = np.concatenate([self.uncorrected, entries[retained]])

    def take_uncorrected(self, clock: int) -> Int64s:
        """Take out the late entries that are known before `clock`."""
        known = self.known(self.uncorrected)
        due, self.uncorrected = self.uncorrected[known < clock], self.uncorrected[known >= clock]
        return due

    def counted_up_to(self, entries: Int64s) -> tuple[Matches, Bools]:
        """Find what had counted for the impressions of late entries when those were known.

        Returns
        -------
        matches
            For the row of each entry, shape (n,): the actions of its impression that
            are not late, the late ones known before it, and itself.
        repeated
            Whether one of those has the entry's stream and id, shape (n,).
        """
        repeated = np.empty(entries.size, np.bool_)
        size = self.count
        while True:
            row, entry = np.empty(size, np.int64), np.empty(size, np.int64)
            found = _counted_up_to(
                self.slots, self.key0, self.key1, self.following, self.stream, self.time,
                self.arrival, self.source, self.offset, self.id0, self.id1, self.met,
                self.times, entries, row, entry, repeated,
            )  # fmt: skip
            if found <= size:
                return Matches(row[:found], entry[:found]), repeated
            size = found  # an action may count for the rows of several late ones

    def rows(self, entries: Int64s) -> list[tuple[int, int, pa.RecordBatch]]:
        """Return the payloads of `entries` as (stream, source, rows), a batch each."""
        parts = []
        for number in np.unique(self.batch[entries]):
            of_batch = entries[self.batch[entries] == number]
            payload = self.batches[number].take(pa.array(self.row[of_batch]))
            first = of_batch[0]
            parts.append((int(self.stream[first]), int(self.source[first]), payload))
        return parts

    def wanted(self, clock: int) -> Int64s:
        """List the entries that something may still ask for."""
        live = slice(0, self.count)
        pending = self.state[live] == PENDING
        return np.flatnonzero(self.asked_for(pending, self.known(live), self.met[live], clock))

    def asked_for(self, pending: Bools, known: Int64s, met: Int64s, clock: int) -> Bools:
        """Tell which actions something may still ask for, by what is known of each."""
        asked = pending
        if self.meets:
            # It may be decided, as late, and yet leave with its impression when it is known;
            # or as settled, and yet label a sample that leaves only after the settle time.
            asked = asked | (known >= clock) | (met + self.times[SETTLE_DELAY] >= clock)
        if self.times[RETENTION]:
            # Corrections tell of it, and repetitions of its id, until its impression is forgotten.
            asked = asked | is_retained.py_func(met, clock, self.times)
        return asked

    def compact(self, clock: int) -> None:
        """Drop entries that nothing asks for any more, once they are more than half."""
        if self.count < COMPACTED_FROM:
            return
        undecided = self.wanted(clock)
        if undecided.size * 2 > self.count:
            return
        batches: list[pa.RecordBatch] = []
        order = []
        for number in np.unique(self.batch[undecided]):
            of_batch = undecided[self.batch[undecided] == number]
            batches.append(self.batches[number].take(pa.array(self.row[of_batch])))
            order.append(of_batch)
        keep = np.concatenate(order) if order else undecided
        if self.unmet.size or self.uncorrected.size:
            number = np.empty(self.count, np.int64)
            number[keep] = np.arange(keep.size)
            self.unmet, self.uncorrected = number[self.unmet], number[self.uncorrected]
        for name, _ in _COLUMNS:
            column = getattr(self, name)
            column[: keep.size] = column[keep]
        self.count = keep.size
        at = 0
        for number, batch in enumerate(batches):
            self.batch[at : at + batch.num_rows] = number
            self.row[at : at + batch.num_rows] = np.arange(batch.num_rows)
            at += batch.num_rows
        self.batches = batches
        self._index(self.count)

    def _index(self, entries: int) -> None:
        self.slots = slots_for(max(256, entries * 2))
        _insert(self.slots, self.key0, self.key1, 0, entries, self.following)


_COLUMNS = (
    ("key0", np.uint64), ("key1", np.uint64), ("time", np.int64), ("arrival", np.int64),
    ("offset", np.int64), ("id0", np.uint64), ("id1", np.uint64), ("stream", np.int32),
    ("source", np.int32), ("batch", np.int32), ("row", np.int32), ("following", np.int64),
    ("state", np.int8), ("seen", np.bool_), ("met", np.int64),
)  # fmt: skip
