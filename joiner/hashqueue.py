"""Impressions that wait to settle: a first-in-first-out queue over event time.

In memory lies one small object an envelope. The columns lie in the journal;
the oldest of them, which are needed next, and if asked for the newest, which
actions ask for, lie in a bounded cache as well.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from joiner.journal import Journal
from schemas.envelope import EventEnvelope
from schemas.events import OFFSET, TIME

Name = tuple[int, int]
"""Source, and position of the envelope in it."""


@dataclass(eq=False, slots=True)
class Segment:
    """The impressions of one envelope, ordered by (event time, offset).

    Parameters
    ----------
    source, begin
        Source, and position of the envelope in it: the segment's name.
    first_time, last_time
        Event times of the first row that still waits, and of the last row.
    cell
        The journal cell that holds the rows.
    rows, nbytes
        Size of the whole segment.
    head
        The first row that waits still.
    """

    source: int
    begin: int
    first_time: int
    last_time: int
    cell: int
    rows: int
    nbytes: int
    head: int

    @property
    def name(self) -> Name:
        """Its name."""
        return self.source, self.begin


@dataclass(frozen=True)
class Run:
    """Rows of one segment that settle together; `first` is the number of the first."""

    source: int
    begin: int
    first: int
    batch: pa.RecordBatch


def sort_by_time(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Order rows by (event time, offset); rows in order come back as they are."""
    time = batch.column(TIME).to_numpy()
    if time.size < 2 or bool((time[1:] >= time[:-1]).all()):
        return batch
    order = np.lexsort((batch.column(OFFSET).to_numpy(), time))
    return batch.take(pa.array(order))


class HashQueue:
    """The waiting impressions of a shard.

    Parameters
    ----------
    cache_bytes
        How many bytes of payload to hold in memory; beyond it, new payloads are
        read back from the journal when their turn comes.
    keeps_recent
        Whether half of the cache is for the newest payloads.
    """

    def __init__(self, cache_bytes: int, keeps_recent: bool = False) -> None:
        self.cache_bytes = cache_bytes // 2 if keeps_recent else cache_bytes
        self.recent_bytes = cache_bytes - self.cache_bytes
        self.cached_bytes = 0
        self.payloads: dict[Name, pa.RecordBatch] = {}
        self.recent: OrderedDict[Name, pa.RecordBatch] = OrderedDict()
        self.recent_cached = 0
        self.count = 0
        self.waiting: dict[Name, Segment] = {}
        # (time of the first waiting row, source, begin) orders the segments.
        self.heap: list[tuple[int, int, int]] = []

    def push(
        self, source: int, begin: int, batch: pa.RecordBatch, cell: int, settled: int = 0
    ) -> bool:
        """Add impressions, ordered by `sort_by_time`.

        Parameters
        ----------
        source, begin, batch
            The envelope.
        cell
            Cell of the journal's ring of impressions that holds it.
        settled
            How many of its first rows have settled already.

        Returns
        -------
        bool
            Whether the payload is held until it settles; else the journal must have it.
        """
        if settled == batch.num_rows:
            return True
        time = batch.column(TIME)
        segment = Segment(
            source, begin, time[settled].as_py(), time[-1].as_py(), cell, batch.num_rows,
            batch.nbytes, settled,
        )  # fmt: skip
        heapq.heappush(self.heap, (segment.first_time, source, begin))
        self.waiting[segment.name] = segment
        self.count += batch.num_rows - settled
        if self.cached_bytes + segment.nbytes > self.cache_bytes:
            self._remember_recent(segment, batch)
            return False
        self.payloads[segment.name] = batch
        self.cached_bytes += segment.nbytes
        return True

    def _remember_recent(self, segment: Segment, batch: pa.RecordBatch) -> None:
        if segment.nbytes > self.recent_bytes:
            return
        self.recent[segment.name] = batch
        self.recent_cached += segment.nbytes
        while self.recent_cached > self.recent_bytes:
            _, oldest = self.recent.popitem(last=False)
            self.recent_cached -= oldest.nbytes

    def pop_until(self, bound: int, journal: Journal) -> list[Run]:
        """Take out all rows with event time up to `bound`, that included."""
        runs = []
        while self.heap and self.heap[0][0] <= bound:
            _, source, begin = heapq.heappop(self.heap)
            segment = self.waiting[source, begin]
            batch = self.payload(segment, journal)
            if segment.last_time <= bound:
                end = segment.rows
            else:
                end = int(np.searchsorted(batch.column(TIME).to_numpy(), bound, side="right"))
            head, segment.head = segment.head, end
            self.count -= end - head
            runs.append(Run(source, begin, head, batch.slice(head, end - head)))
            if end < segment.rows:
                segment.first_time = batch.column(TIME)[end].as_py()
                heapq.heappush(self.heap, (segment.first_time, source, begin))
            else:
                self._forget(segment)
        return runs

    def _forget(self, segment: Segment) -> None:
        del self.waiting[segment.name], self.payloads[segment.name]
        self.cached_bytes -= segment.nbytes
        if self.recent.pop(segment.name, None) is not None:
            self.recent_cached -= segment.nbytes

    def payload(self, segment: Segment, journal: Journal) -> pa.RecordBatch:
        """Return all rows of a segment, from the cache or from the journal into it."""
        if segment.name not in self.payloads:
            self._load(segment, journal)
        return self.payloads[segment.name]

    def _load(self, wanted: Segment, journal: Journal) -> None:
        """Cache a segment, and as many of its cell's next ones as there is room for."""
        room = self.cache_bytes - self.cached_bytes - wanted.nbytes
        names = {wanted.name}
        for segment in sorted(
            (s for s in self.waiting.values() if s.cell == wanted.cell), key=lambda s: s.first_time
        ):
            if segment.name not in self.payloads and segment is not wanted:
                room -= segment.nbytes
                if room < 0:
                    break
                names.add(segment.name)
        for name, batch in _read_back(journal, wanted.cell, names):
            self.payloads[name] = batch
            self.cached_bytes += self.waiting[name].nbytes

    def look_up(
        self, segments: list[Segment], journal: Journal
    ) -> tuple[dict[Name, pa.RecordBatch], set[Name]]:
        """Return the rows of some segments without caching them, and which were read back."""
        found = {}
        for segment in segments:
            batch = self.payloads.get(segment.name, self.recent.get(segment.name))
            if batch is not None:
                found[segment.name] = batch
        missing = [segment for segment in segments if segment.name not in found]
        for cell in {segment.cell for segment in missing}:
            names = {segment.name for segment in missing if segment.cell == cell}
            found.update(_read_back(journal, cell, names))
        return found, {segment.name for segment in missing}


def _read_back(journal: Journal, cell: int, names: set[Name]) -> list[tuple[Name, pa.RecordBatch]]:
    found = []
    for data in journal.read("impressions", cell):
        envelope = EventEnvelope.decode(data)
        name = (envelope.source, envelope.begin)
        if name in names:
            names.remove(name)  # what a journal holds twice is read once
            found.append((name, envelope.batch))
    return found
