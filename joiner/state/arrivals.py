"""Impressions until they are known, and what they and actions bring about when they are.

Of repeated impressions one is met, see `headrace.joiner.state.known`; who meets whom
says `headrace.joiner.state.encounters`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from headrace.joiner.journal.pieces import KeptKeys, ShadowedRows
from headrace.joiner.journal.segments import Name, Segment
from headrace.joiner.plan.plans import JoinPlan
from headrace.joiner.plan.rules import known_times
from headrace.joiner.state.actions import PendingActions
from headrace.joiner.state.columns import column
from headrace.joiner.state.encounters import Encounters, meet
from headrace.joiner.state.hashqueue import SettlingSlice
from headrace.joiner.state.impressions import Impressions
from headrace.joiner.state.known import KnownImpressions, tags_of
from headrace.schemas.records.events import KEY0, KEY1, NEVER, OFFSET, TIME
from headrace.schemas.records.hashing import Bools, Int64s
from headrace.schemas.records.restored import expect_within


@dataclass(frozen=True)
class SegmentRows:
    """Some impressions of one envelope.

    Parameters
    ----------
    name
        Name of the segment.
    batch
        All of its rows.
    rows, known
        Numbers of those that are meant, and when each is known; int64, shape (n,).
    """

    name: Name
    batch: pa.RecordBatch
    rows: Int64s
    known: Int64s

    def select(self, mask: Bools) -> SegmentRows:
        """Return some of them."""
        if mask.all():
            return self
        return SegmentRows(self.name, self.batch, self.rows[mask], self.known[mask])

    def columns(self) -> pa.RecordBatch:
        """Return all columns of them."""
        return self.batch.take(pa.array(self.rows))


@dataclass
class BecameKnown:
    """What one step of the clock brought about.

    Parameters
    ----------
    kept, shadowed
        Impressions that became known, by segment.
    shadowing
        For each of `shadowed` the event times of the kept ones of which its rows are copies.
    keys
        The kept ones by key, as they became known.
    encounters
        Who met whom.
    """

    kept: list[SegmentRows] = field(default_factory=list)
    shadowed: list[SegmentRows] = field(default_factory=list)
    shadowing: list[Int64s] = field(default_factory=list)
    keys: KeptKeys = field(default_factory=KeptKeys.none)
    encounters: Encounters = field(default_factory=lambda: Encounters.room(0))


class Arrivals:
    """Impressions and actions of a shard as they become known.

    Parameters
    ----------
    plan
        The join.
    """

    def __init__(self, plan: JoinPlan) -> None:
        self.unknown: list[SegmentRows] = []
        """Impressions that are not known yet."""
        self.index = KnownImpressions(plan.dedup_horizon, plan.remembered_for)
        self.shadowed: dict[Name, Bools] = {}
        """Which rows of a waiting segment are duplicates already, shape (rows,)."""

    def push(self, name: Name, batch: pa.RecordBatch, clock: int) -> None:
        """Add the impressions of a segment; those known before `clock` are left out."""
        known = known_times(batch)
        rows = np.flatnonzero(known >= clock)
        if rows.size:
            self.unknown.append(SegmentRows(name, batch, rows, known[rows]))

    def meet(self, since: int, clock: int, actions: PendingActions) -> BecameKnown:
        """Let everything that becomes known in ``[since, clock)`` meet."""
        due, rest = [], []
        for part in self.unknown:
            now = part.known < clock
            if now.any():
                due.append(part.select(now))
            if not now.all():
                rest.append(part.select(~now))
        self.unknown = rest
        entries = actions.take_unmet(clock)
        came = BecameKnown()
        if not due and entries.size == 0:
            return came
        impressions, order = _in_order(due)
        size = impressions.time.size
        shadowing = np.empty(size, np.int64)
        self.index.make_room(size, since)
        encounters = Encounters.room(actions.count)
        count, entered = meet(
            impressions, tags_of(impressions.key1), entries, actions.table, self.index.table,
            self.index.horizon, actions.windows, actions.durations, encounters, shadowing,
        )  # fmt: skip
        self.index.entered(entered)
        came.encounters = encounters.select(slice(count))
        if not due:
            return came
        keys = KeptKeys(impressions.key1, impressions.time, impressions.known)
        kept = shadowing == NEVER
        came.keys = keys if kept.all() else keys.select(kept)
        in_place = np.empty(size, np.int64)
        in_place[order] = shadowing
        ends = np.cumsum([part.rows.size for part in due])
        for part, times in zip(due, np.split(in_place, ends[:-1]), strict=True):
            mask = times > NEVER
            if not mask.all():
                came.kept.append(part.select(~mask))
            if mask.any():
                came.shadowed.append(part.select(mask))
                came.shadowing.append(times[mask])
                self._shadow(part.name, part.batch.num_rows, part.rows[mask])
        return came

    def _shadow(self, name: Name, size: int, rows: Int64s) -> None:
        self.shadowed.setdefault(name, np.zeros(size, np.bool_))[rows] = True

    def moved(self, segments: list[Segment], merged: Segment, order: Int64s | None) -> None:
        """Note that segments were made one, see `headrace.joiner.state.hashqueue.Moved`."""
        masks = [self.shadowed.pop(segment.name, None) for segment in segments]
        if all(mask is None for mask in masks):
            return
        whole = np.concatenate([
            np.zeros(segment.rows, np.bool_) if mask is None else mask
            for segment, mask in zip(segments, masks, strict=True)
        ])  # fmt: skip
        self.shadowed[merged.name] = whole if order is None else whole[order]

    def take_shadowed(self, slices: list[SettlingSlice]) -> Bools:
        """Return which rows of slices that settle are duplicates already, shape (n,).

        A segment that has settled as a whole is let go of.
        """
        pieces = []
        for part in slices:
            mask = self.shadowed.get(part.name)
            rows = part.batch.num_rows
            here = slice(part.first, part.first + rows)
            pieces.append(np.zeros(rows, np.bool_) if mask is None else mask[here])
            if part.is_last:
                self.shadowed.pop(part.name, None)
        return np.concatenate(pieces)

    def export(self, clock: int) -> tuple[KeptKeys, list[ShadowedRows]]:
        """Return what impressions were kept and which were not, as far as it is asked for."""
        shadowed = [
            ShadowedRows(name, np.flatnonzero(mask)) for name, mask in self.shadowed.items()
        ]
        return self.index.export(clock), shadowed

    def restore(
        self,
        keys: KeptKeys,
        shadowed: list[ShadowedRows],
        waiting: dict[Name, Segment],
        clock: int,
    ) -> None:
        """Take over what `export` returned; `push` adds what is not known yet.

        Parameters
        ----------
        keys, shadowed
            What was exported, or journaled since; of more than is asked for.
        waiting
            The segments that wait to settle.
        clock
            The shard's.
        """
        self.index.restore(keys, clock)
        for part in shadowed:
            if part.name in waiting:
                expect_within(part.rows, 0, waiting[part.name].rows, "duplicates")
                self._shadow(part.name, waiting[part.name].rows, part.rows)


def _in_order(parts: list[SegmentRows]) -> tuple[Impressions, Int64s]:
    """Return impressions as they become known, and where each is in the parts together."""
    if not parts:
        none, keys = np.empty(0, np.int64), np.empty(0, np.uint64)
        return Impressions(keys, keys, none, none), none
    batches = [
        part.batch.select([KEY0, KEY1, TIME, OFFSET]).take(pa.array(part.rows)) for part in parts
    ]
    key0, key1, time, offset = (column(batches, name) for name in (KEY0, KEY1, TIME, OFFSET))
    known = np.concatenate([part.known for part in parts])
    source = np.repeat([part.name[0] for part in parts], [part.rows.size for part in parts])
    order = np.lexsort((offset, source, time, known))
    return Impressions(key0, key1, time, known).select(order), order
