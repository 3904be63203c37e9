"""Impressions that wait to settle: a first-in-first-out queue over event time.

In memory lies one small object an envelope. The columns lie in the journal;
the oldest of them, which are needed next, and if asked for the newest, which
actions ask for, lie in a bounded cache as well.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from headrace.joiner.journal.segments import Name, Segment
from headrace.joiner.journal.shardjournal import ShardJournal
from headrace.joiner.state.columns import in_one
from headrace.schemas.records.events import OFFSET, TIME
from headrace.schemas.records.hashing import Int64s
from headrace.schemas.records.restored import expect

_FEW = 8
_SMALL_ROWS = 4_096
"""So many segments of fewer rows are made one: a live source has a segment for each tenth of a
second, and each costs more than its rows."""

Moved = Callable[[list[Segment], Segment, "Int64s | None"], None]
"""Told of segments that were made one: with them, that one, and where in all their rows together
each of its rows was; None for the same order."""


@dataclass(frozen=True)
class SettlingSlice:
    """Neighbouring rows of one segment that settle together.

    Parameters
    ----------
    name
        Name of the segment.
    first
        Number of the slice's first row in the segment.
    batch
        The rows.
    is_last
        Whether no row of the segment waits any longer.
    """

    name: Name
    first: int
    batch: pa.RecordBatch
    is_last: bool


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
        # (time of the first waiting row, source, begin) orders the segments. There may be
        # entries of segments that have been merged; those of living ones have their time.
        self.heap: list[tuple[int, int, int]] = []
        self.small: defaultdict[tuple[int, int], list[Segment]] = defaultdict(list)
        """Cached segments that may be merged, by source and size; some may have settled."""

    def push(self, segment: Segment, batch: pa.RecordBatch) -> bool:
        """Add impressions.

        Returns
        -------
        bool
            Whether the cache has the rows until they settle; else the journal must.
        """
        self._expect(segment)
        if self.cached_bytes + segment.nbytes > self.cache_bytes:
            self._remember_recent(segment, batch)
            return False
        self._cache(segment, batch)
        return True

    def _cache(self, segment: Segment, batch: pa.RecordBatch) -> None:
        self.payloads[segment.name] = batch
        self.cached_bytes += segment.nbytes
        if segment.rows < _SMALL_ROWS:
            self.small[segment.source, segment.rows.bit_length() // 3].append(segment)

    def compact(self, clock: int, moved: Moved) -> None:
        """Merge small cached segments, of which nothing is unknown at `clock`.

        The journal is not told: use it only where that need not have their rows.
        """
        full = [key for key, segments in self.small.items() if len(segments) >= _FEW]
        for key in full:
            segments = [s for s in self.small[key] if self.waiting.get(s.name) is s]
            known = [segment for segment in segments if segment.last_known < clock]
            if len(known) < _FEW:
                self.small[key] = segments
                continue
            self.small[key] = [segment for segment in segments if segment.last_known >= clock]
            self._merge(known, moved)

    def _merge(self, segments: list[Segment], moved: Moved) -> None:
        whole = in_one([self.payloads[segment.name] for segment in segments])
        time, offset = (whole.column(name).to_numpy() for name in (TIME, OFFSET))
        order: Int64s | None = None
        tied = time[1:] == time[:-1]
        if ((time[1:] < time[:-1]) | (tied & (offset[1:] < offset[:-1]))).any():
            order = np.lexsort((offset, time))
            whole = whole.take(pa.array(order))
        last = max(segments, key=lambda segment: segment.last_time)
        merged = Segment(
            last.source, min(segment.begin for segment in segments),
            min(segment.first_time for segment in segments), last.last_time,
            max(segment.last_known for segment in segments), last.cell,
            whole.num_rows, whole.nbytes,
        )  # fmt: skip
        for segment in segments:
            self._forget(segment)
        self._expect(merged)
        self._cache(merged, whole)
        moved(segments, merged, order)

    def _expect(self, segment: Segment) -> None:
        heapq.heappush(self.heap, (segment.first_time, *segment.name))
        self.waiting[segment.name] = segment

    def restore(self, segments: Iterable[Segment], settled_until: int) -> None:
        """Add impressions whose rows the journal has, but for those that have settled.

        Parameters
        ----------
        segments
            Their segments.
        settled_until
            Event times up to and including this one have settled.

        Raises
        ------
        DamagedError
            If two have one name.
        """
        for segment in segments:
            expect(segment.name not in self.waiting, "segments", f"{segment.name} is there twice")
            if segment.last_time > settled_until:
                segment.first_time = max(segment.first_time, settled_until + 1)
                self._expect(segment)

    def export(self, journal: ShardJournal) -> Iterator[tuple[Segment, pa.RecordBatch]]:
        """Return each segment with all of its rows, which the queue or `journal` has."""
        # A cell may lie on disk, and is read as a whole: once for all its segments.
        by_cell = defaultdict(list)
        for segment in self.waiting.values():
            by_cell[segment.cell].append(segment)
        for segments in by_cell.values():
            found, _ = self.look_up(segments, journal)
            for segment in segments:
                yield segment, found[segment.name]

    def _remember_recent(self, segment: Segment, batch: pa.RecordBatch) -> None:
        if segment.nbytes > self.recent_bytes:
            return
        self.recent[segment.name] = batch
        self.recent_cached += segment.nbytes
        while self.recent_cached > self.recent_bytes:
            _, oldest = self.recent.popitem(last=False)
            self.recent_cached -= oldest.nbytes

    def pop_until(self, bound: int, journal: ShardJournal) -> list[SettlingSlice]:
        """Take out all rows with event time up to and including `bound`."""
        slices = []
        while self.heap and self.heap[0][0] <= bound:
            first_time, *name = heapq.heappop(self.heap)
            segment = self.waiting.get((name[0], name[1]))
            if segment is None or segment.first_time != first_time:
                continue
            batch = self.payload(segment, journal)
            time = batch.column(TIME).to_numpy()
            first = int(np.searchsorted(time, segment.first_time))
            end = int(np.searchsorted(time, bound, side="right"))
            is_last = end == segment.rows
            if end > first:  # `first_time` of a restored segment may lie before its first row
                rows = batch.slice(first, end - first)
                slices.append(SettlingSlice(segment.name, first, rows, is_last))
            if is_last:
                self._forget(segment)
            else:
                segment.first_time = int(time[end])
                heapq.heappush(self.heap, (segment.first_time, *segment.name))
        return slices

    def _forget(self, segment: Segment) -> None:
        del self.waiting[segment.name], self.payloads[segment.name]
        self.cached_bytes -= segment.nbytes
        if self.recent.pop(segment.name, None) is not None:
            self.recent_cached -= segment.nbytes

    def payload(self, segment: Segment, journal: ShardJournal) -> pa.RecordBatch:
        """Return all rows of a segment, from the cache or from the journal into it."""
        if segment.name not in self.payloads:
            self._load(segment, journal)
        return self.payloads[segment.name]

    def warm(self, journal: ShardJournal) -> None:
        """Fill the cache from the journal, as it would be had it been filled as rows came."""
        for segment in sorted(self.waiting.values(), key=lambda s: (s.first_time, s.name)):
            if self.cached_bytes + segment.nbytes > self.cache_bytes:
                return
            self.payload(segment, journal)

    def _load(self, wanted: Segment, journal: ShardJournal) -> None:
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
        for name, batch in journal.read_rows(wanted.cell, names):
            self._check(name, batch)
            self.payloads[name] = batch
            self.cached_bytes += self.waiting[name].nbytes
        expect(wanted.name in self.payloads, "segments", f"the rows of {wanted.name} are missing")

    def _check(self, name: Name, batch: pa.RecordBatch) -> None:
        """Compare rows that were read back with what is known of them."""
        rows = self.waiting[name].rows
        expect(batch.num_rows == rows, "segments", f"{name} has other than {rows} rows")

    def look_up(
        self, segments: list[Segment], journal: ShardJournal
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
            for name, batch in journal.read_rows(cell, names):
                self._check(name, batch)
                found[name] = batch
        lost = [segment.name for segment in missing if segment.name not in found]
        expect(not lost, "segments", f"the rows of {lost[:3]} are missing")
        return found, {segment.name for segment in missing}

    def overlapping(self, times: Int64s) -> list[Segment]:
        """List the segments, by name, that may have waiting rows of some event times."""
        times = np.sort(times)
        return sorted(
            (
                segment
                for segment in self.waiting.values()
                if np.searchsorted(times, segment.last_time, side="right")
                > np.searchsorted(times, segment.first_time)
            ),
            key=lambda segment: segment.name,
        )

    def not_known_at(self, clock: int) -> list[Segment]:
        """List the segments of which the last row is known at `clock` or later."""
        return [segment for segment in self.waiting.values() if segment.last_known >= clock]
