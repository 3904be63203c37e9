"""The join of one shard: a deterministic state machine over envelopes.

What leaves it depends on the events and their positions alone: not on how
blocks are cut, on the order in which sources meet, on repeats, or on crashes.

Applying an envelope costs a constant a row, whatever the length of the log: an
impression is appended to the queue, and when it settles, one probe tells
whether its key was kept before and one whether an action waits for it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headrace.joiner.journal.cells import AHEAD, Journal
from headrace.joiner.journal.layout import DECIDED, SEEN, new_rings, record_of, ring_bounds
from headrace.joiner.meeting import Meeting
from headrace.joiner.plan.plans import JoinPlan
from headrace.joiner.samples.labels import Labels, label
from headrace.joiner.samples.output import JoinOutput
from headrace.joiner.samples.rows import labelled
from headrace.joiner.samples.sampled import emit_held, emit_settled
from headrace.joiner.state.actions import EXPIRED, LATE, PendingActions
from headrace.joiner.state.groups import HeldRows
from headrace.joiner.state.hashqueue import HashQueue, Run, Segment, sort_by_time
from headrace.joiner.state.remembered import RememberedKeys
from headrace.joiner.state.retained import Retained
from headrace.joiner.state.settling import SettlingRows, gather
from headrace.schemas.records.envelope import (
    CORRECTIONS,
    JOINED,
    EventEnvelope,
    SampleEnvelope,
    batch_to_bytes,
)
from headrace.schemas.records.events import (
    ARRIVAL,
    FOREVER,
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
        self.clock = NEVER
        self.sequence = 0
        self.told_epoch = NEVER
        self.dropped = 0
        self.position = [0] * plan.sources
        self.progress = [NEVER] * plan.sources
        self.rejected = [0] * plan.sources
        self.ended = [False] * plan.sources
        self.received = [0] * len(plan.stream_names)
        self.outcomes: Counter[tuple[int, Outcome]] = Counter()
        self.spans = [[FOREVER, NEVER] for _ in plan.stream_names]
        self.queue = HashQueue(cache_bytes, keeps_recent=plan.meets)
        self.remembered = RememberedKeys(plan.dedup_horizon)
        self.actions = PendingActions(plan)
        self.held = HeldRows(plan)
        self.retained = Retained(plan)
        self.rings = new_rings(plan)
        self.meeting = Meeting(plan, self.queue, self.actions, self.retained, self.rings)
        self.ahead: dict[tuple[int, int], EventEnvelope] = {}

    # --- one envelope ---------------------------------------------------------------------

    def apply(self, envelope: EventEnvelope, journal: Journal) -> JoinOutput:
        """Apply an envelope; a replayed one changes nothing."""
        output = JoinOutput()
        if envelope.begin > self.position[envelope.source]:
            self.ahead[envelope.source, envelope.begin] = envelope
            if journal.durable:
                journal.append(AHEAD, 0, envelope.encode(journal.compressed))
            return output
        self._apply_in_turn(envelope, journal, output)
        self._apply_ahead(envelope.source, journal, output)
        clock = min(self.progress)
        if clock > self.clock:
            self._advance(clock, journal, output)
        elif envelope.stream:
            # A very late action may be past its deadline already.
            self._expire_actions(journal, output)
        self.dropped += output.dropped
        for stream, records in output.settled.items():
            self.outcomes[stream, Outcome.SETTLED] += records
        for dead in output.dead:
            self.outcomes[dead.stream, dead.outcome] += dead.batch.num_rows
        return output

    def emit(self, output: JoinOutput) -> SampleEnvelope | None:
        """Make the envelope for the trainer, or None if it would tell nothing new."""
        beside = {f"{JOINED}{stream}": batches for stream, batches in output.joined.items()}
        if output.corrections:
            beside[CORRECTIONS] = output.corrections
        # Some rows leave only when the clock is past their time, not at it.
        told = FOREVER if all(self.ended) else self.clock - 1
        epoch = told // self.plan.epoch
        if not (output.samples or beside) and epoch == self.told_epoch:
            return None
        self.told_epoch = epoch
        self.sequence += 1
        return SampleEnvelope(
            self.shard,
            self.plan.shards,
            self.sequence - 1,
            told,
            [list(pair) for pair in zip(self.position, self.rejected, strict=True)],
            self.outcome_counts(),
            self.dropped,
            self.spans,
            dict(self.meeting.looked_up),
            self.progress if told == FOREVER else [],
            output.samples,
            beside,
        )

    def outcome_counts(self) -> dict[str, dict[str, int]]:
        """Return records by stream name and outcome so far; what has none yet is open."""
        names = self.plan.stream_names
        counts: dict[str, dict[str, int]] = {name: {} for name in names}
        for (stream, outcome), count in sorted(self.outcomes.items()):
            counts[names[stream]][outcome.value] = count
        for name, received in zip(names, self.received, strict=True):
            counts[name][Outcome.OPEN.value] = received - sum(counts[name].values())
        return counts

    def _apply_ahead(self, source: int, journal: Journal, output: JoinOutput) -> None:
        due = sorted(name for name in self.ahead if name[0] == source)
        used = False
        for name in due:
            if name[1] > self.position[source]:
                break
            self._apply_in_turn(self.ahead.pop(name), journal, output)
            used = True
        if used and journal.durable:
            journal.clear(AHEAD, 0)
            for envelope in self.ahead.values():
                journal.append(AHEAD, 0, envelope.encode(journal.compressed))

    def _apply_in_turn(self, envelope: EventEnvelope, journal: Journal, output: JoinOutput) -> None:
        source = envelope.source
        expected = self.position[source]
        if envelope.end < expected:
            return
        self.progress[source] = max(self.progress[source], envelope.progress)
        self.ended[source] |= envelope.ended
        if envelope.end == expected:
            return
        self.position[source] = envelope.end
        self.rejected[source] = envelope.rejected
        batch: pa.RecordBatch = envelope.batch
        if batch is None:
            return
        if envelope.begin < expected:
            batch = batch.filter(pc.greater_equal(batch.column(OFFSET), expected))
        self._note_times(envelope.stream, batch)
        self.received[envelope.stream] += batch.num_rows
        if envelope.stream == 0:
            batch = self._without_late(source, batch, output)
            batch = sort_by_time(batch)
        if batch.num_rows == 0:
            return
        if batch is not envelope.batch:
            envelope = replace(envelope, begin=max(envelope.begin, expected), batch=batch)
        latest = int(batch.column(TIME).to_numpy().max())
        if envelope.stream == 0:
            ring = self.rings["impressions"]
            segment = Segment.of(source, envelope.begin, batch, ring.cell(latest))
            cached = self.queue.push(segment, batch)
            if self.plan.meets:
                self.meeting.arrivals.push(source, envelope.begin, batch, self.clock)
            if journal.durable or not cached:
                ring.append(journal, latest, envelope.encode(journal.compressed))
            if journal.durable:
                self.rings["segments"].append(journal, latest, segment.encode())
        else:
            if journal.durable:
                data = envelope.encode(journal.compressed)
                self.rings["actions"].append(journal, latest, data)
            self._add_actions(envelope.stream - 1, source, batch, journal, output)

    def _note_times(self, stream: int, batch: pa.RecordBatch) -> None:
        if batch.num_rows:
            time = batch.column(TIME).to_numpy()
            first, last = self.spans[stream]
            self.spans[stream] = [min(first, int(time.min())), max(last, int(time.max()))]

    def _without_late(
        self, source: int, batch: pa.RecordBatch, output: JoinOutput
    ) -> pa.RecordBatch:
        time, arrival = batch.column(TIME).to_numpy(), batch.column(ARRIVAL).to_numpy()
        late = arrival >= time + self.plan.settle_delay
        if not late.any():
            return batch
        output.bury(Outcome.LATE, 0, source, batch.filter(pa.array(late)))
        return batch.filter(pa.array(~late))

    def _add_actions(
        self, stream: int, source: int, batch: pa.RecordBatch, journal: Journal, output: JoinOutput
    ) -> None:
        late, seen = self.actions.add(stream, source, batch, self.remembered)
        self._record(journal, seen, SEEN)
        self._bury_late(journal, late, output)

    def _bury_late(self, journal: Journal, late: Int64s, output: JoinOutput) -> None:
        self._record(journal, late, DECIDED)
        output.bury_actions(Outcome.LATE, self.actions, late)
        self.actions.note_late(late)

    # --- the clock ------------------------------------------------------------------------

    def _advance(self, clock: int, journal: Journal, output: JoinOutput) -> None:
        plan = self.plan
        if plan.meets:
            self.meeting.advance(self.clock, clock, journal, output)
        self.clock = clock
        runs = self.queue.pop_until(clock - plan.settle_delay, journal)
        if runs:
            self._settle(runs, journal, output)
        self.retained.correct(output, self.actions, clock)
        if plan.sampling.by_group:
            released = self.held.pop_until(clock - plan.release_delay)
            if released is not None:
                emit_held(plan, *released, output)
        self._expire_actions(journal, output)
        bounds = ring_bounds(plan, clock)
        for name, ring in self.rings.items():
            ring.expire(journal, bounds[name])
        self.actions.compact(clock)
        self.retained.expire(bounds["retained"])

    # --- settling -------------------------------------------------------------------------

    def _settle(self, runs: list[Run], journal: Journal, output: JoinOutput) -> None:
        plan = self.plan
        rows = gather(runs)
        if plan.meets:
            kept = ~self.meeting.take_shadowed(runs, rows)
        else:
            kept = self.remembered.keep_first(rows.key1, rows.time, rows.known)
            self._bury_duplicates(output, rows, np.flatnonzero(~kept))
        survivors = np.flatnonzero(kept)
        if survivors.size == 0:
            return
        columns = (rows.key0, rows.key1, rows.time, rows.known)
        if survivors.size < rows.time.size:
            columns = tuple(column[survivors] for column in columns)  # type: ignore[assignment]
        if plan.meets:
            self.remembered.keep_first(*columns[1:])
        time = columns[2]
        if journal.durable:
            arrays = [pa.array(column) for column in columns[1:]]
            keys = pa.RecordBatch.from_arrays(arrays, ["key1", "time", "known"])
            self.rings["keys"].append(journal, int(time[-1]), batch_to_bytes(keys))

        matches, seen = self.actions.match(*columns)
        self._record(journal, seen, SEEN)
        late = self.actions.state[matches.entry] == LATE
        labels = label(
            survivors.size,
            matches.row[~late],
            matches.entry[~late],
            self.actions,
            len(plan.actions),
        )
        self._record(journal, matches.entry[~late], DECIDED)
        output.bury_actions(Outcome.DUPLICATE, self.actions, labels.duplicates)
        self._bury_late(journal, matches.entry[late], output)
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
            negative = ~labels.positive
            chosen = survivors[negative]
            emit_settled(plan, rows, chosen, labels.select(negative), self.actions, output)

    def _retain(self, rows: SettlingRows, survivors: Int64s, journal: Journal) -> None:
        batch = pa.concat_batches(rows.take(survivors))
        if journal.durable:
            latest = int(rows.time[survivors[-1]])
            data = batch_to_bytes(batch, journal.compressed)
            self.rings["retained"].append(journal, latest, data)
        self.retained.push(batch)

    def _hold(
        self, rows: SettlingRows, survivors: Int64s, labels: Labels, journal: Journal
    ) -> None:
        plan = self.plan
        impressions = pa.concat_batches(rows.take(survivors))
        observed = np.full(survivors.size, plan.release_delay)
        batch = labelled(plan, impressions, labels, self.actions, "window", observed)
        if journal.durable:
            latest = int(rows.time[survivors[-1]])
            data = batch_to_bytes(batch, journal.compressed)
            self.rings["held"].append(journal, latest, data)
        self.held.push(batch, NEVER)

    def _expire_actions(self, journal: Journal, output: JoinOutput) -> None:
        actions = self.actions
        entries = actions.expired(self.clock)
        if entries.size == 0:
            return
        self._record(journal, entries, DECIDED)
        actions.state[entries] = EXPIRED
        seen = actions.seen[entries]
        output.bury_actions(Outcome.OUTSIDE_WINDOW, actions, entries[seen])
        output.bury_actions(Outcome.ORPHAN, actions, entries[~seen])

    def _bury_duplicates(self, output: JoinOutput, rows: SettlingRows, duplicates: Int64s) -> None:
        if duplicates.size == 0:
            return
        for source in np.unique(rows.source[duplicates]):
            of_source = duplicates[rows.source[duplicates] == source]
            for part in rows.take(of_source):
                output.bury(Outcome.DUPLICATE, 0, int(source), part)

    # --- the journal ----------------------------------------------------------------------

    def _record(self, journal: Journal, entries: Int64s, what: int) -> None:
        if entries.size == 0 or not journal.durable:
            return
        latest = int(self.actions.time[entries].max())
        self.rings["actions"].append(journal, latest, record_of(self.actions, entries, what))
