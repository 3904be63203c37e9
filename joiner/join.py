"""The join of one shard: a deterministic state machine over envelopes.

What leaves it depends on the events and their positions alone: not on how
blocks are cut, on the order in which sources meet, on repeats, or on crashes.

Applying an envelope costs a constant a row, whatever the length of the log: an
impression is appended to the queue, and when it settles, one probe tells
whether its key was kept before and one whether an action waits for it.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headrace.joiner.journal.cells import Cells
from headrace.joiner.journal.pieces import KeptKeys
from headrace.joiner.journal.rings import Rings
from headrace.joiner.journal.shardjournal import ShardJournal
from headrace.joiner.meeting import Meeting
from headrace.joiner.plan.plans import JoinPlan
from headrace.joiner.plan.rules import Durations, is_late
from headrace.joiner.samples.corrections import corrections
from headrace.joiner.samples.labels import Labels, label
from headrace.joiner.samples.output import JoinOutput
from headrace.joiner.samples.rows import labelled
from headrace.joiner.samples.sampled import emit_held, emit_settled
from headrace.joiner.samples.served import emit_arrivals, emit_mature, emit_served
from headrace.joiner.state.actions import PendingActions
from headrace.joiner.state.actiontable import Matches
from headrace.joiner.state.columns import in_one
from headrace.joiner.state.fullkeys import same_keys
from headrace.joiner.state.groups import HeldRows
from headrace.joiner.state.hashqueue import HashQueue, SettlingSlice, sort_by_time
from headrace.joiner.state.remembered import RememberedKeys
from headrace.joiner.state.retained import Retained
from headrace.joiner.state.settling import SettlingRows, gather
from headrace.joiner.tally import Tally
from headrace.schemas.records.envelope import (
    ARRIVALS,
    CORRECTIONS,
    JOINED,
    MATURE,
    SERVED,
    EventEnvelope,
    SampleEnvelope,
)
from headrace.schemas.records.events import (
    ARRIVAL,
    FOREVER,
    IMPRESSIONS,
    NEVER,
    OFFSET,
    TIME,
    Outcome,
)
from headrace.schemas.records.hashing import Int64s


class ShardJoin:
    """State and transitions of one shard.

    Parameters
    ----------
    plan
        The join.
    shard
        Number of this shard, in ``[0, plan.shards)``.
    cache_bytes
        Payload held in memory; the rest is read back from the journal.
    """

    def __init__(self, plan: JoinPlan, shard: int, cache_bytes: int) -> None:
        self.plan = plan
        self.shard = shard
        self.durations = Durations.of(plan)
        self.tally = Tally.empty(plan)
        self.rings = Rings(plan)
        self.queue = HashQueue(cache_bytes, keeps_recent=plan.meets)
        self.remembered = RememberedKeys(plan.dedup_horizon)
        self.actions = PendingActions(plan)
        self.held = HeldRows(plan)
        self.retained = Retained(plan)
        self.meeting = Meeting(plan, self.queue, self.actions, self.retained)
        self.ahead: dict[tuple[int, int], EventEnvelope] = {}
        """Envelopes that came ahead of their turn, by source and position."""

    @property
    def clock(self) -> int:
        """The least progress of all sources that has had its consequences."""
        return self.tally.clock

    # --- one envelope ---------------------------------------------------------------------

    def apply(self, envelope: EventEnvelope, cells: Cells) -> JoinOutput:
        """Apply an envelope; a replayed one changes nothing."""
        tally, journal, output = self.tally, ShardJournal(self.rings, cells), JoinOutput()
        if envelope.begin > tally.position[envelope.source]:
            self.ahead[envelope.source, envelope.begin] = envelope
            journal.ahead(envelope)
            return output
        self._apply_in_turn(envelope, journal, output)
        self._apply_ahead(envelope.source, journal, output)
        clock = min(tally.progress)
        if clock > tally.clock:
            self._advance(clock, journal, output)
        elif envelope.stream:
            # A very late action may be past its deadline already.
            self._expire_actions(output)
        tally.add(output)
        return output

    def emit(self, output: JoinOutput) -> SampleEnvelope | None:
        """Make the envelope for the trainer, or None if it would tell nothing new."""
        tally = self.tally
        beside = {f"{JOINED}{stream}": batches for stream, batches in output.joined.items()}
        others = {
            CORRECTIONS: output.corrections, SERVED: output.served, MATURE: output.mature,
            ARRIVALS: output.arrivals,
        }  # fmt: skip
        beside |= {name: batches for name, batches in others.items() if batches}
        # Some rows leave only when the clock is past their time, not at it.
        told = FOREVER if all(tally.ended) else tally.clock - 1
        epoch = told // self.plan.epoch
        if not (output.samples or beside) and epoch == tally.told_epoch:
            return None
        tally.told_epoch = epoch
        tally.sequence += 1
        return SampleEnvelope(
            self.shard,
            self.plan.shards,
            tally.sequence - 1,
            told,
            [list(pair) for pair in zip(tally.position, tally.rejected, strict=True)],
            tally.outcome_counts(self.plan.stream_names),
            tally.dropped,
            tally.spans,
            dict(tally.looked_up),
            tally.progress if told == FOREVER else [],
            max(tally.shown, tally.spans[IMPRESSIONS][1])
            if all(tally.exhausted[source] for source in self.plan.shown)
            else NEVER,
            tally.take_copies(self.plan.stream_names),
            output.samples,
            beside,
        )

    def warm(self, cells: Cells) -> None:
        """Fill the cache as it would be had it been filled as impressions came."""
        self.queue.warm(ShardJournal(self.rings, cells))

    def _apply_ahead(self, source: int, journal: ShardJournal, output: JoinOutput) -> None:
        due = sorted(name for name in self.ahead if name[0] == source)
        used = False
        for name in due:
            if name[1] > self.tally.position[source]:
                break
            self._apply_in_turn(self.ahead.pop(name), journal, output)
            used = True
        if used:
            journal.still_ahead(self.ahead.values())

    def _apply_in_turn(
        self, envelope: EventEnvelope, journal: ShardJournal, output: JoinOutput
    ) -> None:
        tally, source = self.tally, envelope.source
        expected = tally.position[source]
        if envelope.end < expected:
            return
        tally.progress[source] = max(tally.progress[source], envelope.progress)
        tally.ended[source] |= envelope.ended
        tally.exhausted[source] |= envelope.exhausted
        if envelope.stream == IMPRESSIONS and not envelope.exhausted:
            tally.shown = max(tally.shown, envelope.progress)
        if envelope.end == expected:
            return
        tally.position[source] = envelope.end
        tally.rejected[source] = envelope.rejected
        batch: pa.RecordBatch = envelope.batch
        if batch is None:
            return
        if envelope.begin < expected:
            batch = batch.filter(pc.greater_equal(batch.column(OFFSET), expected))
        tally.receive(envelope.stream, batch)
        if envelope.stream:
            if batch.num_rows:
                self._add_actions(envelope.stream - 1, source, batch, journal, output)
                if self.plan.served.step:
                    emit_arrivals(self.plan, envelope.stream - 1, batch, output)
            return
        batch = sort_by_time(self._without_late(source, batch, output))
        if batch.num_rows:
            self._add_impressions(source, max(envelope.begin, expected), batch, journal)
            if self.plan.served.share:
                emit_served(self.plan, source, batch, output)

    def _without_late(
        self, source: int, batch: pa.RecordBatch, output: JoinOutput
    ) -> pa.RecordBatch:
        time, arrival = batch.column(TIME).to_numpy(), batch.column(ARRIVAL).to_numpy()
        late = is_late.py_func(time, arrival, self.durations)
        if not late.any():
            return batch
        output.bury(Outcome.LATE, 0, source, batch.filter(pa.array(late)))
        return batch.filter(pa.array(~late))

    def _add_impressions(
        self, source: int, begin: int, batch: pa.RecordBatch, journal: ShardJournal
    ) -> None:
        segment = journal.segment(source, begin, batch)
        cached = self.queue.push(segment, batch)
        if self.plan.meets:
            self.meeting.push(segment, batch, self.clock)
        journal.waiting(segment, batch, in_memory=cached)

    def _add_actions(
        self,
        stream: int,
        source: int,
        batch: pa.RecordBatch,
        journal: ShardJournal,
        output: JoinOutput,
    ) -> None:
        journal.acted(stream, source, batch)
        late, seen = self.actions.add(stream, source, batch, self.remembered)
        self.actions.write_marks(seen, journal)
        self.actions.write_marks(late, journal)
        self._bury_late(late, output)

    def _bury_late(self, late: Int64s, output: JoinOutput) -> None:
        output.bury_actions(Outcome.LATE, self.actions, late, self.actions.met)
        self.actions.note_late(late)

    # --- the clock ------------------------------------------------------------------------

    def _advance(self, clock: int, journal: ShardJournal, output: JoinOutput) -> None:
        plan = self.plan
        if plan.meets:
            self.meeting.advance(self.clock, clock, journal, output)
        self.tally.clock = clock
        slices = self.queue.pop_until(clock - plan.settle_delay, journal)
        if slices:
            self._settle(slices, journal, output)
        corrected = corrections(plan, self.actions, self.retained, clock)
        if corrected is not None:
            output.corrections.append(corrected)
        if plan.sampling.by_group:
            released = self.held.release(clock)
            if released is not None:
                emit_held(plan, *released, output)
        self._expire_actions(output)
        journal.expire(clock)
        self.actions.compact(clock)
        self.retained.expire(clock)
        if not journal.durable:
            self.queue.compact(clock, self.meeting.arrivals.moved)

    # --- settling -------------------------------------------------------------------------

    def _settle(
        self, slices: list[SettlingSlice], journal: ShardJournal, output: JoinOutput
    ) -> None:
        plan = self.plan
        rows = gather(slices)
        settling = rows.impressions
        if plan.meets:
            kept = ~rows.ordered(self.meeting.take_shadowed(slices))
        else:
            keys = KeptKeys(settling.key1, settling.time, settling.known)
            kept, copied = self.remembered.keep_first(*keys)
            self._bury_duplicates(output, rows, np.flatnonzero(~kept), copied)
        survivors = np.flatnonzero(kept)
        if survivors.size == 0:
            return
        if survivors.size < rows.size:
            settling = settling.select(survivors)
        keys = KeptKeys(settling.key1, settling.time, settling.known)
        if plan.meets:
            self.remembered.keep_first(*keys)
        journal.kept(keys)

        matches, seen = self.actions.match(settling)
        late = self.actions.late(matches.entry)
        in_time = self._of_same_keys(matches.select(~late), rows, survivors)
        self.actions.write_marks(seen, journal)
        self.actions.write_marks(matches.entry, journal)
        labels = label(survivors.size, in_time, self.actions, len(plan.actions))
        output.bury_actions(
            Outcome.DUPLICATE, self.actions, labels.duplicates, self.actions.met, labels.originals
        )
        self._bury_late(matches.entry[late], output)
        if plan.served.share:
            emit_mature(plan, rows, survivors, labels, output)
        if plan.retention:
            self._retain(rows, survivors, journal)
        if plan.sampling.by_group:
            self._hold(rows, survivors, labels, journal)
            return  # they have settled when they are released
        output.settle(0, survivors.size)
        for stream, counts in enumerate(labels.count, start=1):
            output.settle(stream, int(counts.sum()))
        if plan.emission.mode == "window":
            emit_settled(plan, rows, survivors, labels, self.actions, output)
        elif plan.emission.mode == "window_and_immediate":
            negative = labels.undecided
            chosen = survivors[negative]
            emit_settled(plan, rows, chosen, labels.select(negative), self.actions, output)

    def _of_same_keys(self, matches: Matches, rows: SettlingRows, survivors: Int64s) -> Matches:
        """Return the matches of equal keys; the others wait on, for an impression of their own.

        Late ones need not be asked: they change no label, and which of them come only when
        no column of their impression is at hand depends on the order of arrival.
        """
        if not matches.entry.size:
            return matches
        key = self.plan.columns[: self.plan.keys]
        shown = rows.columns(survivors[matches.row], key)
        same = same_keys(shown, key, self.actions, matches.entry)
        if same.all():
            return matches
        self.actions.part(matches.entry[~same])
        return matches.select(same)

    def _retain(self, rows: SettlingRows, survivors: Int64s, journal: ShardJournal) -> None:
        batch = in_one(rows.take(survivors))
        journal.retained(batch)
        self.retained.push(batch)

    def _hold(
        self, rows: SettlingRows, survivors: Int64s, labels: Labels, journal: ShardJournal
    ) -> None:
        plan = self.plan
        impressions = in_one(rows.take(survivors))
        observed = np.full(survivors.size, plan.release_delay)
        batch = labelled(plan, impressions, labels, self.actions, "window", observed)
        journal.held(batch)
        self.held.push(batch)

    def _expire_actions(self, output: JoinOutput) -> None:
        # The journal need not be told: the clock says as much.
        actions = self.actions
        entries = actions.expire(self.clock)
        if entries.size == 0:
            return
        sees = actions.seen[entries] > NEVER
        output.bury_actions(Outcome.OUTSIDE_WINDOW, actions, entries[sees], actions.seen)
        output.bury_actions(Outcome.ORPHAN, actions, entries[~sees])

    def _bury_duplicates(
        self, output: JoinOutput, rows: SettlingRows, duplicates: Int64s, copied: Int64s
    ) -> None:
        if duplicates.size == 0:
            return
        for source in np.unique(rows.source[duplicates]):
            of_source = duplicates[rows.source[duplicates] == source]
            begin = 0
            for part in rows.take(of_source):
                here = slice(begin, begin + part.num_rows)
                begin = here.stop
                output.bury(Outcome.DUPLICATE, 0, int(source), part, copied[of_source[here]])
