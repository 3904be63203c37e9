"""Actions that wait for their impression, found by key."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headrace.joiner.journal.pieces import Marks
from headrace.joiner.journal.shardjournal import ShardJournal
from headrace.joiner.plan.plans import JoinPlan
from headrace.joiner.plan.rules import Durations, is_late, is_retained, known_times
from headrace.joiner.state.actiontable import (
    ActionTable,
    Matches,
    insert,
    match,
    meet_remembered,
    met_by,
    met_of_keys,
)
from headrace.joiner.state.expected import expect_actions
from headrace.joiner.state.impressions import Impressions
from headrace.joiner.state.keytable import fits, slots_for
from headrace.joiner.state.remembered import RememberedKeys
from headrace.schemas.records.events import (
    ARRIVAL,
    ID0,
    ID1,
    KEY0,
    KEY1,
    NEVER,
    OFFSET,
    RECORD,
    TIME,
)
from headrace.schemas.records.hashing import Bools, Int64s, UInt64s

COMPACTED_FROM = 1024
"""Below this many entries it is not worth while to drop those that nothing asks for."""


class PendingActions:
    """The actions of a shard, of all streams, for as long as something may ask for them.

    An entry's number is valid until the next `compact`.

    Parameters
    ----------
    plan
        The join.
    """

    def __init__(self, plan: JoinPlan) -> None:
        self.plan = plan
        self.meets = plan.meets
        self.windows = np.array([action.window for action in plan.actions], np.int64)
        self.durations = Durations.of(plan)
        self.deadline = plan.action_deadline
        self.count = 0
        self.batches: list[pa.RecordBatch] = []
        """Payloads by number; `batch` and `row` of an entry say where its own is."""
        self.unmet = np.empty(0, np.int64)
        """Entries that are not known yet, if `JoinPlan.meets`."""
        self.uncorrected = np.empty(0, np.int64)
        """Late entries that may leave a correction when they are known."""
        self.slots = slots_for(256)
        self._reserve(256)

    table: ActionTable
    """What kernels see of the entries; valid until the next `add` or `compact`."""
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
    batch: npt.NDArray[np.int32]
    row: npt.NDArray[np.int32]

    def _reserve(self, capacity: int) -> None:
        for name, dtype in _COLUMNS:
            longer = np.zeros(capacity, dtype)
            if self.count:
                longer[: self.count] = getattr(self, name)[: self.count]
            setattr(self, name, longer)
        self._show()

    def _show(self) -> None:
        self.table = ActionTable(*(getattr(self, name) for name in ActionTable._fields))

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
        begin = self._append(stream, source, batch)
        if self.meets:
            self.unmet = np.concatenate([self.unmet, np.arange(begin, self.count)])
        found = remembered.find(self.key1[begin : self.count])
        meet_remembered(self.table, begin, *found, self.windows, self.durations)
        new = slice(begin, self.count)
        sees = self.seen[new] > NEVER
        return begin + np.flatnonzero(self.decided[new]), begin + np.flatnonzero(sees)

    def _append(self, stream: int, source: int, batch: pa.RecordBatch) -> int:
        """Add entries of which nothing is known yet; return the first."""
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
        self.decided[new] = False
        self.seen[new] = NEVER
        self.met[new] = NEVER
        self.batches.append(batch)
        if fits(self.slots, end):
            insert(self.slots, self.key0, self.key1, begin, end, self.following)
        else:
            self._index(end)
        return begin

    def match(self, impressions: Impressions) -> tuple[Matches, Int64s]:
        """Let kept impressions that settle now meet the actions of their keys.

        Returns
        -------
        matches
            The actions that belong to one of them: decided from now on, as `late` or
            as settled.
        seen
            Entries that now see an impression without belonging to it.
        """
        matches, seen = Matches.room(self.count), np.empty(self.count, np.int64)
        if self.count == 0:
            return matches, seen
        noted = np.zeros(self.count, np.bool_)
        matched, newly_seen = match(
            self.table, impressions, self.windows, self.durations, matches, seen, noted
        )
        return matches.select(slice(matched)), seen[:newly_seen]

    def met_by(self, impressions: Impressions, at: Int64s) -> Matches:
        """Find the actions that had met each impression by the time `at` and are not late."""
        matches = Matches.room(self.count)
        found = met_by(self.table, impressions, at, self.durations, matches)
        if found > matches.row.size:  # one impression may be asked for more than once
            matches = Matches.room(found)
            met_by(self.table, impressions, at, self.durations, matches)
        return matches.select(slice(found))

    def expire(self, clock: int) -> Int64s:
        """Decide the entries whose deadline the clock has reached; return them."""
        live = slice(0, self.count)
        due = self.time[live] <= clock - self.deadline
        entries = np.flatnonzero(due & ~self.decided[live])
        self.decided[entries] = True
        return entries

    def known(self, entries: Int64s | slice) -> Int64s:
        """Return when each action is known, by rule 3."""
        return np.maximum(self.time[entries], self.arrival[entries])

    def late(self, entries: Int64s) -> Bools:
        """Tell which entries are late for the impression that they have met, by rule 10."""
        return is_late.py_func(self.met[entries], self.arrival[entries], self.durations)

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
        retained = is_retained.py_func(self.met[entries], self.arrival[entries], self.durations)
        self.uncorrected = np.concatenate([self.uncorrected, entries[retained]])

    def take_uncorrected(self, clock: int) -> Int64s:
        """Take out the late entries that are known before `clock`."""
        known = self.known(self.uncorrected)
        due, self.uncorrected = self.uncorrected[known < clock], self.uncorrected[known >= clock]
        return due

    def met_of_keys(self, entries: Int64s) -> Matches:
        """Find all actions that have met impressions, of the keys of entries.

        Each once, however many entries a key has: it may have any number.

        Returns
        -------
        Matches
            With a number for each key as its row.
        """
        matches, noted = Matches.room(self.count), np.zeros(self.count, np.bool_)
        found = met_of_keys(self.table, entries, noted, matches)
        return matches.select(slice(found))

    def rows(self, entries: Int64s) -> list[tuple[int, int, pa.RecordBatch]]:
        """Return the payloads of `entries` as (stream, source, rows), a batch each."""
        return [self.payload(entries[at]) for at in self.by_batch(entries)]

    def by_batch(self, entries: Int64s) -> list[Int64s]:
        """Return where in `entries` those of each batch are."""
        batch = self.batch[entries]
        order = np.argsort(batch, kind="stable")
        begins = np.flatnonzero(np.diff(batch[order])) + 1
        return np.split(order, begins) if entries.size else []

    def payload(self, entries: Int64s) -> tuple[int, int, pa.RecordBatch]:
        """Return stream, source and rows of entries of one batch."""
        first = entries[0]
        rows = self.batches[self.batch[first]].take(pa.array(self.row[entries]))
        return int(self.stream[first]), int(self.source[first]), rows

    def numbers(self, entries: Int64s) -> Int64s:
        """Return the number of each record in its partition, shape (n,)."""
        numbers = np.empty(entries.size, np.int64)
        for at in self.by_batch(entries):
            _, _, rows = self.payload(entries[at])
            name = RECORD if RECORD in rows.schema.names else OFFSET
            numbers[at] = rows.column(name).to_numpy()
        return numbers

    def first_columns(self, entries: Int64s, count: int) -> Iterator[tuple[Int64s, list[pa.Array]]]:
        """Yield the first columns of entries, by stream: the types of streams may differ.

        As the places of a stream's entries, shape (n,), and columns of shape (n,) each.
        """
        # Batches of one stream are together, and rows of one batch.
        order = np.lexsort((self.batch[entries], self.stream[entries]))
        stream, number = self.stream[entries[order]], self.batch[entries[order]]
        row = self.row[entries[order]]
        begins = np.flatnonzero(np.diff(number, prepend=-1))
        ends = np.append(begins[1:], number.size)
        parts: dict[int, list[list[pa.Array]]] = {}
        for begin, end in zip(begins.tolist(), ends.tolist(), strict=True):
            batch, at = self.batches[number[begin]], pa.array(row[begin:end])
            columns = [batch.column(name).take(at) for name in range(count)]
            parts.setdefault(int(stream[begin]), []).append(columns)
        for of, pieces in parts.items():
            whole = [pa.concat_arrays(same) for same in zip(*pieces, strict=True)]
            yield order[stream == of], whole

    def part(self, entries: Int64s) -> None:
        """Take back that entries have met impressions: it was found that their keys differ."""
        self.decided[entries] = False
        self.met[entries] = NEVER

    def wanted(self, clock: int) -> Int64s:
        """List the entries that something may still ask for."""
        live = slice(0, self.count)
        pending = ~self.decided[live]
        return np.flatnonzero(self.asked_for(pending, self.known(live), self.met[live], clock))

    def asked_for(self, pending: Bools, known: Int64s, met: Int64s, clock: int) -> Bools:
        """Tell which actions something may still ask for, by what is known of each."""
        asked = pending
        if self.meets:
            # It may be decided, as late, and yet leave with its impression when it is known;
            # or as settled, and yet label a sample that leaves only after the settle time.
            asked = asked | (known >= clock) | (met + self.durations.settle_delay >= clock)
        if self.durations.retention:
            # Corrections tell of it, and repetitions of its id, until its impression is forgotten.
            asked = asked | is_retained.py_func(met, clock, self.durations)
        return asked

    def marks(self, entries: Int64s) -> Marks:
        """Return what is known of entries by now, for the journal."""
        whole = Marks(self.source, self.offset, self.decided, self.seen, self.met)
        return whole.select(entries)

    def write_marks(self, entries: Int64s, journal: ShardJournal) -> None:
        """Write what is known of entries by now."""
        if entries.size and journal.durable:
            journal.marked(self.marks(entries), int(self.time[entries].max()))

    def export(self, clock: int) -> tuple[list[tuple[int, int, pa.RecordBatch]], Int64s]:
        """Return what something may still ask for.

        Returns
        -------
        rows
            As (stream, source, batch), each of actions of stream ``1 + stream``.
        marked
            The entries of which something is known.
        """
        entries = self.wanted(clock)
        sees = np.maximum(self.seen[entries], self.met[entries]) > NEVER
        known = self.decided[entries] | sees
        return self.rows(entries), entries[known]

    def restore(
        self, rows: Iterable[tuple[int, int, pa.RecordBatch]], marks: Marks, clock: int
    ) -> None:
        """Take over actions and what is known of them, but for what nothing asks for.

        Parameters
        ----------
        rows
            As (stream, source, batch), in any order.
        marks
            What is known of them, put `together`.
        clock
            The shard's; it has decided all whose deadline it has reached.

        Raises
        ------
        DamagedError
            If they are not actions of the plan.
        """
        for stream, source, batch in rows:
            expect_actions(stream, source, batch, self.plan)
            decided, seen, met = marks.of(source, batch.column(OFFSET).to_numpy())
            decided |= batch.column(TIME).to_numpy() <= clock - self.deadline
            wanted = self.asked_for(~decided, known_times(batch), met, clock)
            if not wanted.any():
                continue
            begin = self._append(stream, source, batch.filter(pa.array(wanted)))
            new = slice(begin, self.count)
            self.decided[new], self.seen[new] = decided[wanted], seen[wanted]
            self.met[new] = met[wanted]
        live = np.arange(self.count)
        unknown = live[self.known(live) >= clock]
        if self.meets:
            self.unmet = unknown
        has_met = self.decided[unknown] & (self.met[unknown] > NEVER)
        self.note_late(unknown[has_met & self.late(unknown)])

    def compact(self, clock: int) -> None:
        """Drop entries that nothing asks for any more, once they are more than half."""
        if self.count < COMPACTED_FROM:
            return
        wanted = self.wanted(clock)
        if wanted.size * 2 > self.count:
            return
        batches: list[pa.RecordBatch] = []
        order = []
        for number in np.unique(self.batch[wanted]):
            of_batch = wanted[self.batch[wanted] == number]
            batches.append(self.batches[number].take(pa.array(self.row[of_batch])))
            order.append(of_batch)
        keep = np.concatenate(order) if order else wanted
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
        insert(self.slots, self.key0, self.key1, 0, entries, self.following)
        self._show()


_COLUMNS = (
    ("following", np.int64), ("key0", np.uint64), ("key1", np.uint64), ("time", np.int64),
    ("arrival", np.int64), ("stream", np.int32), ("source", np.int32), ("offset", np.int64),
    ("id0", np.uint64), ("id1", np.uint64), ("decided", np.bool_), ("seen", np.int64),
    ("met", np.int64), ("batch", np.int32), ("row", np.int32),
)  # fmt: skip
