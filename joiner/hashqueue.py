"""Impressions that wait to settle: a first-in-first-out queue over event time.

In memory lie only digest, event time and arrival progress, 32 bytes an
impression; the other columns lie in the journal, and the oldest of them in a
bounded cache, for they are needed next.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from joiner.journal import Journal
from schemas.envelope import EventEnvelope
from schemas.events import ARRIVAL, KEY0, KEY1, OFFSET, TIME
from schemas.hashing import Int64s, UInt64s


@dataclass(eq=False, slots=True)
class Segment:
    """The impressions of one envelope, ordered by (event time, offset).

    Parameters
    ----------
    source, begin
        Source, and position of the envelope in it: the segment's name.
    key0, key1, time, arrival
        Columns of the rows, shape (n,).
    cell
        The journal cell that holds the other columns.
    head
        The first row that waits still.
    """

    source: int
    begin: int
    key0: UInt64s
    key1: UInt64s
    time: Int64s
    arrival: Int64s
    cell: int
    first_arrival: int
    head: int = 0

    @property
    def nbytes(self) -> int:
        """Bytes of memory held."""
        return self.key0.nbytes + self.key1.nbytes + self.time.nbytes + self.arrival.nbytes


@dataclass(frozen=True)
class Run:
    """Rows of one segment that settle together."""

    segment: Segment
    begin: int
    end: int


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
        read back from the journal when their turn comes. One journal cell at a
        time may exceed it.
    """

    def __init__(self, cache_bytes: int) -> None:
        self.cache_bytes = cache_bytes
        self.cached_bytes = 0
        self.payloads: dict[tuple[int, int], pa.RecordBatch] = {}
        self.count = 0
        self.waiting: set[tuple[int, int]] = set()
        # (time of the first waiting row, source, begin) orders the segments.
        self.heap: list[tuple[int, int, int, Segment]] = []

    @property
    def index_bytes(self) -> int:
        """Bytes of memory that the waiting impressions take, payloads aside."""
        return sum(item[3].nbytes for item in self.heap)

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
            Whether the payload is held in memory; else the journal must have it.
        """
        if settled == batch.num_rows:
            return True
        arrival = batch.column(ARRIVAL).to_numpy().copy()
        segment = Segment(
            source,
            begin,
            # Copies: views would hold the whole envelope in memory.
            batch.column(KEY0).to_numpy().copy(),
            batch.column(KEY1).to_numpy().copy(),
            batch.column(TIME).to_numpy().copy(),
            arrival,
            cell,
            int(arrival.min()),
            settled,
        )
        heapq.heappush(self.heap, (int(segment.time[settled]), source, begin, segment))
        self.waiting.add((source, begin))
        self.count += batch.num_rows - settled
        if self.cached_bytes + batch.nbytes > self.cache_bytes:
            return False
        self.payloads[source, begin] = batch
        self.cached_bytes += batch.nbytes
        return True

    def pop_until(self, bound: int) -> list[Run]:
        """Take out all rows with event time up to `bound`, that included."""
        runs = []
        while self.heap and self.heap[0][0] <= bound:
            _, source, begin, segment = heapq.heappop(self.heap)
            end = int(np.searchsorted(segment.time, bound, side="right"))
            runs.append(Run(segment, segment.head, end))
            self.count -= end - segment.head
            segment.head = end
            if end < segment.time.size:
                heapq.heappush(self.heap, (int(segment.time[end]), source, begin, segment))
        return runs

    def payload(self, run: Run, journal: Journal) -> pa.RecordBatch:
        """Return all columns of a run's rows, from the cache or from the journal."""
        segment = run.segment
        name = (segment.source, segment.begin)
        if name not in self.payloads:
            self._load(segment.cell, journal)
        batch = self.payloads[name]
        if segment.head >= segment.time.size:
            del self.payloads[name]
            self.waiting.remove(name)
            self.cached_bytes -= batch.nbytes
        return batch.slice(run.begin, run.end - run.begin)

    def _load(self, cell: int, journal: Journal) -> None:
        """Cache a whole cell: its segments are next to each other in time."""
        for data in journal.read("impressions", cell):
            envelope = EventEnvelope.decode(data)
            name = (envelope.source, envelope.begin)
            if name in self.waiting and name not in self.payloads:
                assert envelope.batch is not None  # only envelopes with rows are kept
                self.payloads[name] = envelope.batch
                self.cached_bytes += envelope.batch.nbytes

    def arrived_before(self, bound: int) -> Iterator[Segment]:
        """Yield the segments with a row whose arrival progress is below `bound`."""
        for _, _, _, segment in self.heap:
            if segment.first_arrival < bound:
                yield segment
