"""Impressions that wait to settle: a first-in-first-out queue over event time.

In memory lies one small object an envelope. The columns lie in the journal;
the oldest of them, which are needed next, and if asked for the newest, which
actions ask for, lie in a bounded cache as well.
"""

from __future__ import annotations

import heapq
import struct
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from headrace.joiner.journal.cells import Journal
from headrace.joiner.state.known import known_times
from headrace.schemas.records.envelope import EventEnvelope
from headrace.schemas.records.events import OFFSET, TIME

_SEGMENT = struct.Struct("<8q")

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
        Rows from `first_time` on still wait; event time of the last row.
    last_known
        When the last of its rows is known.
    cell
        The journal cell that holds the rows.
    rows, nbytes
        Size of the whole segment.
    """

    source: int
    begin: int
    first_time: int
    last_time: int
    last_known: int
    cell: int
    rows: int
    nbytes: int

    @classmethod
    def of(cls, source: int, begin: int, batch: pa.RecordBatch, cell: int) -> Segment:
        """Describe an envelope's rows, ordered by `sort_by_time`."""
        time = batch.column(TIME).to_numpy()
        first, last, known = int(time[0]), int(time[-1]), int(known_times(batch).max())
        return cls(source, begin, first, last, known, cell, batch.num_rows, batch.nbytes)

    def encode(self) -> bytes:
        """Write the description as bytes."""
        return _SEGMENT.pack(*(getattr(self, name) for name in self.__slots__))

    @classmethod
    def decode(cls, data: bytes) -> Segment:
        """Read what `encode` wrote."""
        return cls(*_SEGMENT.unpack(data))

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
        self.waiting: dict[Name, Segment] = {}
        # (time of the first waiting row, source, begin) orders the segments.
        self.heap: list[tuple[int, int, int]] = []

    def push(self, segment: Segment, batch: pa.RecordBatch) -> bool:
        """Add impressions.

        Returns
        -------
        bool
            Whether the rows are held until they settle; else the journal must have them.
        """
        self.expect(segment)
        if self.cached_bytes + segment.nbytes > self.cache_bytes:
            self._remember_recent(segment, batch)
            return False
        self.payloads[segment.name] = batch
        self.cached_bytes += segment.nbytes
        return True

    def expect(self, segment: Segment) -> None:
        """Add impressions whose rows the journal has."""
        heapq.heappush(self.heap, (segment.first_time, *segment.name))
        self.waiting[segment.name] = segment

    def _remember_recent(self, segment: Segment, batch: pa.RecordBatch) -> None:
        if segment.nbytes > self.recent_bytes:
            return
        self.recent[segment.name] = batch
        self.recent_cached += segment.nbytes
        while self.recent_cached > self.recent_bytes:
            _, oldest = self.recent.popitem(last=False)
            self.recent_cached -= oldest.nbytes

    def pop_until(self, bound: int, journal: Journal) -> list[Run]:
        """Take out all rows with event time up to and including `bound`."""
        runs = []
        while self.heap and self.heap[0][0] <= bound:
            _, source, begin = heapq.heappop(self.heap)
            segment = self.waiting[source, begin]
            batch = self.payload(segment, journal)
            time = batch.column(TIME).to_numpy()
            head = int(np.searchsorted(time, segment.first_time))
            end = int(np.searchsorted(time, bound, side="right"))
            if end > head:  # `first_time` of a restored segment may lie before its first row
                runs.append(Run(source, begin, head, batch.slice(head, end - head)))
            if end < segment.rows:
                segment.first_time = int(time[end])
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

    def warm(self, journal: Journal) -> None:
        """Fill the cache from the journal, as it would be had it been filled as rows came."""
        for segment in sorted(self.waiting.values(), key=lambda s: (s.first_time, s.name)):
            if self.cached_bytes + segment.nbytes > self.cache_bytes:
                return
            self.payload(segment, journal)

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
