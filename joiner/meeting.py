"""What happens to impressions and actions before they settle, as they become known."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from headrace.joiner.journal.pieces import ShadowedRows
from headrace.joiner.journal.segments import Segment
from headrace.joiner.journal.shardjournal import ShardJournal
from headrace.joiner.plan.plans import JoinPlan
from headrace.joiner.samples.joined import joined_rows
from headrace.joiner.samples.labels import Labels, label
from headrace.joiner.samples.output import JoinOutput
from headrace.joiner.samples.precedence import precedence
from headrace.joiner.samples.sampled import emit_early
from headrace.joiner.state.actions import PendingActions
from headrace.joiner.state.arrivals import Arrivals, BecameKnown, SegmentRows
from headrace.joiner.state.encounters import Encounters
from headrace.joiner.state.expected import expect_scheduled
from headrace.joiner.state.finder import find_kept
from headrace.joiner.state.fullkeys import same_keys
from headrace.joiner.state.hashqueue import HashQueue, SettlingSlice
from headrace.joiner.state.impressions import Impressions
from headrace.joiner.state.retained import Retained
from headrace.joiner.state.scheduled import Scheduled
from headrace.schemas.records.events import KEY0, TIME, Outcome
from headrace.schemas.records.hashing import Bools, Int64s


class Meeting:
    """Joined actions, and samples that leave before they settle.

    Parameters
    ----------
    plan
        The join.
    queue, actions, retained
        Those of the shard.
    """

    def __init__(
        self, plan: JoinPlan, queue: HashQueue, actions: PendingActions, retained: Retained
    ) -> None:
        self.plan, self.queue, self.actions, self.retained = plan, queue, actions, retained
        self.arrivals = Arrivals(plan)
        self.scheduled = Scheduled()

    def push(self, segment: Segment, batch: pa.RecordBatch, clock: int) -> None:
        """Add impressions that wait to settle, to meet actions before."""
        self.arrivals.push(segment.name, batch, clock)

    def advance(self, since: int, clock: int, journal: ShardJournal, output: JoinOutput) -> None:
        """Let everything that becomes known in ``[since, clock)`` have its consequences."""
        came = self.arrivals.meet(since, clock, self.actions)
        journal.known(came.keys)
        self._bury_shadowed(came, journal, output)
        met, shown = came.encounters, None
        if met.entry.size:
            shown = find_kept(
                self._impressions(met), since - self.plan.settle_delay,
                self.queue, self.retained, journal, output.looked_up,
            )  # fmt: skip
            met, shown = self._of_same_keys(met, shown)
            self.actions.write_marks(came.encounters.entry, journal)
        if self.plan.emission.early:
            self._schedule(came.kept, journal)
            self._emit_first(clock, output)
        if shown is not None and met.entry.size:
            self._emit_met(met, shown, output)

    def take_shadowed(self, slices: list[SettlingSlice]) -> Bools:
        """Return which rows of slices that settle are duplicates already, shape (n,)."""
        return self.arrivals.take_shadowed(slices)

    def export(self, clock: int, journal: ShardJournal) -> None:
        """Write down in a new journal what it has taken in and not let go of."""
        keys, shadowed = self.arrivals.export(clock)
        journal.known(keys)
        for part in shadowed:
            # What is shadowed is known, so its event time has passed too.
            journal.shadowed(part, clock)
        for batch, emit in self.scheduled.export():
            journal.scheduled(batch, emit)

    def restore(self, clock: int, journal: ShardJournal) -> None:
        """Take over what a journal says; the queue has been restored before."""
        self.arrivals.restore(*journal.read_known(), self.queue.waiting, clock)
        found, _ = self.queue.look_up(self.queue.not_known_at(clock), journal)
        for name, batch in found.items():
            self.arrivals.push(name, batch, clock)
        parts = list(journal.read_scheduled())
        for batch, emit in parts:
            expect_scheduled(batch, emit, self.plan)
        self.scheduled.restore(parts, clock)

    def _bury_shadowed(self, came: BecameKnown, journal: ShardJournal, output: JoinOutput) -> None:
        for part, shadowing in zip(came.shadowed, came.shadowing, strict=True):
            batch = part.columns()
            output.bury(Outcome.DUPLICATE, 0, part.name[0], batch, shadowing)
            latest = int(batch.column(TIME).to_numpy().max())
            journal.shadowed(ShadowedRows(part.name, part.rows), latest)

    def _schedule(self, kept: list[SegmentRows], journal: ShardJournal) -> None:
        plan = self.plan
        for part in kept:
            batch = part.columns()
            key0, time = batch.column(KEY0).to_numpy(), batch.column(TIME).to_numpy()
            emit = plan.emission.first_emit(key0, time, part.known, plan.longest_window)
            order = np.argsort(emit, kind="stable")
            batch, emit = batch.take(pa.array(order)), emit[order]
            self.scheduled.push(batch, emit)
            journal.scheduled(batch, emit)

    def _emit_first(self, clock: int, output: JoinOutput) -> None:
        due = self.scheduled.pop_before(clock)
        if due is not None:
            batch, emit = due
            labels = self._labels_at(Impressions.of(batch), emit)
            emission = self.plan.emission.first
            emit_early(self.plan, batch, labels, emit, emission, self.actions, output)

    def _impressions(self, met: Encounters) -> Impressions:
        key0, key1 = self.actions.key0[met.entry], self.actions.key1[met.entry]
        return Impressions(key0, key1, met.time, met.known)

    def _of_same_keys(
        self, met: Encounters, shown: pa.RecordBatch
    ) -> tuple[Encounters, pa.RecordBatch]:
        """Return the encounters of equal keys and their impressions; the others are taken back."""
        same = same_keys(shown, self.plan.columns[: self.plan.keys], self.actions, met.entry)
        if same.all():
            return met, shown
        other = met.entry[~same]
        # One that came after settling is decided as late already, and stays so.
        self.actions.part(other[~self.actions.decided[other]])
        return met.select(np.flatnonzero(same)), shown.filter(pa.array(same))

    def _emit_met(self, encounters: Encounters, shown: pa.RecordBatch, output: JoinOutput) -> None:
        plan, actions, entry = self.plan, self.actions, encounters.entry
        impressions = self._impressions(encounters)
        first, repeated = precedence(entry, actions)
        turns = np.zeros(entry.size, np.bool_)
        if plan.emission.early:
            left = plan.emission.first_emit(
                impressions.key0, impressions.time, impressions.known, plan.longest_window
            )
            turns = first & (encounters.at > left) & ~actions.late(entry)
        leaves = ~repeated if plan.joined else np.zeros(entry.size, np.bool_)
        for stream in range(len(plan.actions)):
            chosen = np.flatnonzero(leaves & (actions.stream[entry] == stream))
            if chosen.size:
                rows = shown.take(pa.array(chosen))
                output.joined.setdefault(stream, []).append(
                    joined_rows(plan, stream, rows, encounters.select(chosen), actions)
                )
        chosen = np.flatnonzero(turns)
        if chosen.size:
            chosen = chosen[np.argsort(encounters.at[chosen], kind="stable")]
            emit = encounters.at[chosen]
            labels = self._labels_at(impressions.select(chosen), emit)
            rows = shown.take(pa.array(chosen))
            trigger = actions.stream[entry[chosen]]
            emit_early(plan, rows, labels, emit, "positive", actions, output, trigger)

    def _labels_at(self, impressions: Impressions, at: Int64s) -> Labels:
        """Return the labels that impressions have by the time `at`, before they settle."""
        matches = self.actions.met_by(impressions, at)
        return label(at.size, matches, self.actions, len(self.plan.actions))
