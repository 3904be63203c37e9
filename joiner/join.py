"""The join of one shard: a deterministic state machine over envelopes.

What leaves it depends on the events and their positions alone: not on how
blocks are cut, on the order in which sources meet, on repeats, or on crashes.

Applying an envelope costs a constant a row, whatever the length of the log: an
impression is appended to the queue, and when it settles, one probe tells
whether its key was kept before and one whether an action waits for it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from joiner.actions import LATE, PendingActions
from joiner.arrivals import Arrivals, Fresh, Pairs
from joiner.emission import Scheduled
from joiner.groups import HeldRows, event_times
from joiner.hashqueue import HashQueue, Name, Run, Segment, sort_by_time
from joiner.joined import Finder, Impressions, joined_rows
from joiner.journal import AHEAD, RINGS, Journal, Ring
from joiner.labels import Labels, label
from joiner.plan import JoinPlan
from joiner.remembered import RememberedKeys
from joiner.samples import labelled, weighted
from joiner.sampling import Bools, Selection, Strata
from joiner.settling import SettlingRows, gather
from schemas.envelope import EventEnvelope, SampleEnvelope, batch_to_bytes
from schemas.events import (
    ARRIVAL,
    EMIT,
    FOREVER,
    GROUP0,
    KEY0,
    KEY1,
    NEVER,
    OFFSET,
    TIME,
    Outcome,
)
from schemas.hashing import Int64s

SEEN, DECIDED, MET = 0, 1, 2
"""What became of an action: it sees an impression, it is decided, it met one at once."""


@dataclass(frozen=True)
class DeadRows:
    """Records of one source that leave no sample, and why."""

    outcome: Outcome
    stream: int
    source: int
    batch: pa.RecordBatch


@dataclass
class JoinOutput:
    """What applying an envelope brought about; `joined` has an entry an action stream."""

    samples: list[pa.RecordBatch] = field(default_factory=list)
    joined: dict[int, list[pa.RecordBatch]] = field(default_factory=dict)
    corrections: list[pa.RecordBatch] = field(default_factory=list)
    dead: list[DeadRows] = field(default_factory=list)


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
        self.outcomes: Counter[tuple[int, Outcome]] = Counter()
        self.spans = [[FOREVER, NEVER] for _ in plan.stream_names]
        self.queue = HashQueue(cache_bytes, keeps_recent=plan.meets)
        self.remembered = RememberedKeys(plan.dedup_horizon)
        self.actions = PendingActions(plan)
        self.held = HeldRows(plan)
        self.retained: list[pa.RecordBatch] = []
        self.arrivals = Arrivals(plan)
        self.scheduled = Scheduled()
        self.shadowed: dict[Name, Bools] = {}
        """Rows of waiting segments that are duplicates already."""
        self.looked_up: Counter[str] = Counter()
        """Impressions found for actions that met them, by where: memory or journal."""
        self.ahead: dict[tuple[int, int], EventEnvelope] = {}
        self.rings = {name: Ring(name, span) for name, span in ring_spans(plan).items()}

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
        return output

    def emit(self, output: JoinOutput) -> SampleEnvelope | None:
        """Make the envelope for the trainer, or None if it would tell nothing new."""
        epoch = self.clock // self.plan.epoch
        if not (output.samples or output.joined) and epoch == self.told_epoch:
            return None
        self.told_epoch = epoch
        self.sequence += 1
        # What is emitted before settling comes when the clock is past its time, not at it.
        told = self.clock - 1 if self.plan.meets and self.clock < FOREVER else self.clock
        return SampleEnvelope(
            self.shard,
            self.plan.shards,
            self.sequence - 1,
            told,
            [list(pair) for pair in zip(self.position, self.rejected, strict=True)],
            self.outcome_counts(),
            self.dropped,
            self.spans,
            dict(self.looked_up),
            output.samples,
            output.joined,
        )

    def outcome_counts(self) -> dict[str, dict[str, int]]:
        """Return records by stream name and outcome so far, those still open aside."""
        names = self.plan.stream_names
        counts: dict[str, dict[str, int]] = {name: {} for name in names}
        for (stream, outcome), count in sorted(self.outcomes.items()):
            counts[names[stream]][outcome.value] = count
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
                self.arrivals.push(source, envelope.begin, batch, self.clock)
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
        self._bury(output, Outcome.LATE, 0, source, batch.filter(pa.array(late)))
        return batch.filter(pa.array(~late))

    def _add_actions(
        self, stream: int, source: int, batch: pa.RecordBatch, journal: Journal, output: JoinOutput
    ) -> None:
        late, impression_time, seen = self.actions.add(stream, source, batch, self.remembered)
        self._record(journal, late, DECIDED)
        self._record(journal, seen, SEEN)
        self._bury_actions(output, Outcome.LATE, late)
        if self.plan.retention and late.size:
            for entry, time in zip(late, impression_time, strict=True):
                impression = self._find_retained(int(entry), int(time))
                if impression is not None:
                    self._correct(output, impression, np.array([entry]))

    # --- the clock ------------------------------------------------------------------------

    def _advance(self, clock: int, journal: Journal, output: JoinOutput) -> None:
        plan = self.plan
        if plan.meets:
            self._meet(clock, journal, output)
        self.clock = clock
        runs = self.queue.pop_until(clock - plan.settle_delay, journal)
        if runs:
            self._settle(runs, journal, output)
        if plan.sampling.by_group:
            released = self.held.pop_until(clock - plan.release_delay)
            if released is not None:
                self._release(*released, output)
        self._expire_actions(journal, output)
        bounds = ring_bounds(plan, clock)
        for name, ring in self.rings.items():
            ring.expire(journal, bounds[name])
        self.actions.compact(clock)
        if plan.retention:
            self.retained = [
                batch
                for batch in self.retained
                if int(batch.column(TIME).to_numpy().max()) > bounds["impressions"]
            ]

    # --- becoming known -------------------------------------------------------------------

    def _meet(self, clock: int, journal: Journal, output: JoinOutput) -> None:
        met = self.arrivals.meet(self.clock, clock, self.actions)
        for fresh in met.kept:
            self._record_known(journal, fresh)
        if self.plan.emission.early:
            self._shadow(met.shadowed, output)
            self._schedule(met.kept, journal)
            self._emit_first(clock, output)
        if met.pairs is not None and met.pairs.entry.size:
            self._record(journal, met.pairs.entry, MET)
            self._emit_met(met.pairs, journal, output)

    def _shadow(self, duplicates: list[Fresh], output: JoinOutput) -> None:
        for fresh in duplicates:
            batch = fresh.batch.take(pa.array(fresh.rows))
            self._bury(output, Outcome.DUPLICATE, 0, fresh.source, batch)
            name = (fresh.source, fresh.begin)
            mask = self.shadowed.setdefault(name, np.zeros(fresh.batch.num_rows, np.bool_))
            mask[fresh.rows] = True

    def _schedule(self, kept: list[Fresh], journal: Journal) -> None:
        plan = self.plan
        window = max((action.window for action in plan.actions), default=0)
        for fresh in kept:
            batch = fresh.batch.take(pa.array(fresh.rows))
            key0, time = batch.column(KEY0).to_numpy(), batch.column(TIME).to_numpy()
            emit = plan.emission.first_emit(key0, time, fresh.known, window)
            order = np.argsort(emit, kind="stable")
            batch, emit = batch.take(pa.array(order)), emit[order]
            self.scheduled.push(batch, emit)
            if journal.durable:
                whole = batch.append_column(EMIT, pa.array(emit))
                data = batch_to_bytes(whole, journal.compressed)
                self.rings["scheduled"].append(journal, int(emit[-1]), data)

    def _emit_first(self, clock: int, output: JoinOutput) -> None:
        due = self.scheduled.pop_before(clock)
        if due is not None:
            batch, emit = due
            labels = self._labels_at(_names(batch), emit)
            self._emit_sampled(batch, labels, emit, self.plan.emission.first, output)

    def _emit_met(self, pairs: Pairs, journal: Journal, output: JoinOutput) -> None:
        plan, actions = self.plan, self.actions
        entry = pairs.entry
        names = Impressions(actions.key0[entry], actions.key1[entry], pairs.time, pairs.known)
        turns = np.zeros(entry.size, np.bool_)
        if plan.emission.early:
            window = max(action.window for action in plan.actions)
            first = plan.emission.first_emit(names.key0, names.time, names.known, window)
            in_time = actions.arrival[entry] < pairs.time + plan.settle_delay
            turns = pairs.first & (pairs.at > first) & in_time
        leaves = ~pairs.repeated if plan.joined else np.zeros(entry.size, np.bool_)
        wanted = np.flatnonzero(turns | leaves)
        if wanted.size == 0:
            return
        finder = Finder(self.queue, journal, self.retained)
        batch, where = finder.find(names.select(wanted), self.looked_up)
        row = np.full(entry.size, -1, np.int64)
        row[wanted] = where
        if batch is None:
            return
        for stream in range(len(plan.actions)):
            chosen = np.flatnonzero(leaves & (row >= 0) & (actions.stream[entry] == stream))
            if chosen.size:
                impressions = batch.take(pa.array(row[chosen]))
                output.joined.setdefault(stream, []).append(
                    joined_rows(plan, stream, impressions, pairs.select(chosen), actions)
                )
        chosen = np.flatnonzero(turns)
        if chosen.size:
            # Actions of several streams that become known together make one sample.
            order = np.lexsort((pairs.time, names.key1, names.key0, pairs.at))
            order = order[turns[order]]
            same = np.ones(order.size, np.bool_)
            same[0] = False
            for column in (pairs.at, names.key0, names.key1, pairs.time):
                same[1:] &= column[order[1:]] == column[order[:-1]]
            chosen = order[~same]
            emit = pairs.at[chosen]
            labels = self._labels_at(names.select(chosen), emit)
            impressions = batch.take(pa.array(row[chosen]))
            self._emit_sampled(impressions, labels, emit, "positive", output)

    def _labels_at(self, names: Impressions, at: Int64s) -> Labels:
        """Return the labels that impressions have by the time `at`, before they settle."""
        found = self.actions.met_by(names.key0, names.key1, names.time, at)
        streams = len(self.plan.actions)
        return label(at.size, found.row, found.entry, self.actions, streams)

    # --- settling -------------------------------------------------------------------------

    def _settle(self, runs: list[Run], journal: Journal, output: JoinOutput) -> None:
        plan = self.plan
        rows = gather(runs)
        if plan.emission.early:
            kept = ~self._take_shadowed(runs, rows)
        else:
            kept = self.remembered.keep_first(rows.key1, rows.time, rows.known)
            self._bury_duplicates(output, rows, np.flatnonzero(~kept))
        survivors = np.flatnonzero(kept)
        if survivors.size == 0:
            return
        columns = (rows.key0, rows.key1, rows.time, rows.known)
        if survivors.size < rows.time.size:
            columns = tuple(column[survivors] for column in columns)  # type: ignore[assignment]
        if plan.emission.early:
            self.remembered.keep_first(*columns[1:])
        time = columns[2]
        if journal.durable:
            arrays = [pa.array(column) for column in columns[1:]]
            keys = pa.RecordBatch.from_arrays(arrays, ["key1", "time", "known"])
            self.rings["keys"].append(journal, int(time[-1]), batch_to_bytes(keys))
        self.outcomes[0, Outcome.SETTLED] += survivors.size

        matches, seen = self.actions.match(*columns)
        self._record(journal, seen, SEEN)
        self._record(journal, matches.entry, DECIDED)
        late = self.actions.state[matches.entry] == LATE
        labels = label(
            survivors.size,
            matches.row[~late],
            matches.entry[~late],
            self.actions,
            len(plan.actions),
        )
        self._count_settled(output, labels)
        self._bury_actions(output, Outcome.LATE, matches.entry[late])
        if plan.retention:
            whole = pa.concat_batches(rows.take(survivors))
            self.retained.append(whole)
            for row, entry in zip(matches.row[late], matches.entry[late], strict=True):
                self._correct(output, whole.slice(int(row), 1), np.array([entry]))
        if plan.sampling.by_group:
            self._hold(rows, survivors, labels, journal)
        elif plan.emission.mode == "window":
            self._emit_settled(rows, survivors, labels, output)
        elif plan.emission.mode == "window_and_immediate":
            negative = ~labels.positive
            self._emit_settled(rows, survivors[negative], labels.select(negative), output)

    def _take_shadowed(self, runs: list[Run], rows: SettlingRows) -> Bools:
        pieces = []
        for run in runs:
            name = (run.source, run.begin)
            mask = self.shadowed.get(name)
            here = slice(run.first, run.first + run.batch.num_rows)
            pieces.append(np.zeros(run.batch.num_rows, np.bool_) if mask is None else mask[here])
            if name not in self.queue.waiting:
                self.shadowed.pop(name, None)
        shadowed = np.concatenate(pieces)
        return shadowed if rows.order is None else shadowed[rows.order]

    def _hold(
        self, rows: SettlingRows, survivors: Int64s, labels: Labels, journal: Journal
    ) -> None:
        plan = self.plan
        impressions = pa.concat_batches(rows.take(survivors))
        observed = np.full(survivors.size, plan.settle_delay)
        batch = labelled(plan, impressions, labels, self.actions, "window", observed)
        if journal.durable:
            latest = int(rows.time[survivors[-1]])
            data = batch_to_bytes(batch, journal.compressed)
            self.rings["held"].append(journal, latest, data)
        self.held.push(batch, NEVER)

    def _emit_settled(
        self, rows: SettlingRows, survivors: Int64s, labels: Labels, output: JoinOutput
    ) -> None:
        plan = self.plan
        if survivors.size == 0:
            return
        if plan.sampling.columns:
            whole = pa.concat_batches(
                [part.select(plan.sampling.columns) for part in rows.take(survivors)]
            )
            strata = plan.sampling.strata(whole)
        else:
            rates = np.full(survivors.size, plan.sampling.rate)
            strata = Strata(rates, np.zeros(survivors.size, np.bool_))
        selection = plan.sampling.select(rows.key0[survivors], labels.positive, strata)
        chosen = selection.kept
        if not chosen.all():
            self.dropped += int(chosen.size - np.count_nonzero(chosen))
            survivors, labels = survivors[chosen], labels.select(chosen)
            selection = selection.part(chosen)
        begin = 0
        for part in rows.take(survivors) if survivors.size else []:
            here = slice(begin, begin + part.num_rows)
            begin = here.stop
            observed = np.full(part.num_rows, plan.settle_delay)
            batch = labelled(plan, part, labels.select(here), self.actions, "window", observed)
            emit = rows.time[survivors[here]] + plan.settle_delay
            output.samples.append(weighted(plan, batch, emit, selection.part(here)))

    def _emit_sampled(
        self,
        batch: pa.RecordBatch,
        labels: Labels,
        emit: Int64s,
        emission: str,
        output: JoinOutput,
    ) -> None:
        """Emit impressions, in order of `emit`, before they settle."""
        plan = self.plan
        selection = plan.sampling.select(
            batch.column(KEY0).to_numpy(), labels.positive, plan.sampling.strata(batch)
        )
        chosen = selection.kept
        self.dropped += int(chosen.size - np.count_nonzero(chosen))
        if not chosen.any():
            return
        batch, labels, emit = batch.filter(pa.array(chosen)), labels.select(chosen), emit[chosen]
        observed = emit - batch.column(TIME).to_numpy()
        sample = labelled(plan, batch, labels, self.actions, emission, observed)
        output.samples.append(weighted(plan, sample, emit, selection.part(chosen)))

    def _release(self, batch: pa.RecordBatch, positive: Any, output: JoinOutput) -> None:
        plan = self.plan
        unit = batch.column(GROUP0).to_numpy()
        selection = plan.sampling.select(unit, positive, plan.sampling.strata(batch))
        chosen = selection.kept
        self.dropped += int(chosen.size - np.count_nonzero(chosen))
        if chosen.any():
            batch = batch.filter(pa.array(chosen))
            emit = event_times(batch) + plan.release_delay
            output.samples.append(weighted(plan, batch, emit, selection.part(chosen)))

    def _expire_actions(self, journal: Journal, output: JoinOutput) -> None:
        actions = self.actions
        entries = actions.expired(self.clock)
        if entries.size == 0:
            return
        self._record(journal, entries, DECIDED)
        actions.state[entries] = LATE
        seen = actions.seen[entries]
        self._bury_actions(output, Outcome.OUTSIDE_WINDOW, entries[seen])
        self._bury_actions(output, Outcome.ORPHAN, entries[~seen])

    # --- outcomes -------------------------------------------------------------------------

    def _bury(
        self, output: JoinOutput, outcome: Outcome, stream: int, source: int, batch: pa.RecordBatch
    ) -> None:
        self.outcomes[stream, outcome] += batch.num_rows
        output.dead.append(DeadRows(outcome, stream, source, batch))

    def _bury_actions(self, output: JoinOutput, outcome: Outcome, entries: Int64s) -> None:
        for stream, source, batch in self.actions.rows(entries):
            self._bury(output, outcome, stream + 1, source, batch)

    def _bury_duplicates(self, output: JoinOutput, rows: SettlingRows, duplicates: Int64s) -> None:
        if duplicates.size == 0:
            return
        for source in np.unique(rows.source[duplicates]):
            of_source = duplicates[rows.source[duplicates] == source]
            for part in rows.take(of_source):
                self._bury(output, Outcome.DUPLICATE, 0, int(source), part)

    def _count_settled(self, output: JoinOutput, labels: Labels) -> None:
        for stream, counts in enumerate(labels.count):
            settled = int(counts.sum())
            if settled:
                self.outcomes[stream + 1, Outcome.SETTLED] += settled
        self._bury_actions(output, Outcome.DUPLICATE, labels.duplicates)

    # --- corrections ----------------------------------------------------------------------

    def _find_retained(self, entry: int, time: int) -> pa.RecordBatch | None:
        key0, key1 = self.actions.key0[entry], self.actions.key1[entry]
        for batch in self.retained:
            same = (
                (batch.column(KEY0).to_numpy() == key0)
                & (batch.column(KEY1).to_numpy() == key1)
                & (batch.column(TIME).to_numpy() == time)
            )
            if same.any():
                return batch.slice(int(np.flatnonzero(same)[0]), 1)
        return None

    def _correct(self, output: JoinOutput, impression: pa.RecordBatch, entry: Int64s) -> None:
        plan = self.plan
        settle = int(impression.column(TIME)[0].as_py()) + plan.settle_delay
        arrival = int(self.actions.arrival[entry[0]])
        if arrival >= settle + plan.retention:
            return
        labels = label(1, np.zeros(1, np.int64), entry, self.actions, len(plan.actions))
        observed = np.array([arrival - (settle - plan.settle_delay)])
        batch = labelled(plan, impression, labels, self.actions, "correction", observed)
        one = np.ones(1)
        published = dict.fromkeys(plan.sampling.published, one)
        selection = Selection(one > 0, one, one, published)
        output.corrections.append(weighted(plan, batch, np.array([arrival]), selection))

    # --- the journal ----------------------------------------------------------------------

    def _record(self, journal: Journal, entries: Int64s, what: int) -> None:
        if entries.size == 0 or not journal.durable:
            return
        latest = int(self.actions.time[entries].max())
        self.rings["actions"].append(journal, latest, record_of(self.actions, entries, what))

    def _record_known(self, journal: Journal, fresh: Fresh) -> None:
        if not journal.durable:
            return
        names = [KEY0, KEY1, TIME, OFFSET]
        batch = fresh.batch.select(names).take(pa.array(fresh.rows))
        source = pa.array(np.full(fresh.rows.size, fresh.source))
        batch = batch.append_column("known", pa.array(fresh.known)).append_column("source", source)
        latest = int(batch.column(TIME).to_numpy().max())
        self.rings["known"].append(journal, latest, batch_to_bytes(batch))


def record_of(actions: PendingActions, entries: Int64s, what: int) -> bytes:
    """Return what the journal says of actions: `SEEN`, `DECIDED` or `MET`."""
    columns = {
        "source": actions.source[entries],
        "offset": actions.offset[entries],
        "what": np.full(entries.size, what, np.int8),
        "time": actions.joined[entries],
    }
    return batch_to_bytes(pa.RecordBatch.from_pydict(columns))


def _names(batch: pa.RecordBatch) -> Impressions:
    key0, key1, time, arrival = (
        batch.column(name).to_numpy() for name in (KEY0, KEY1, TIME, ARRIVAL)
    )
    return Impressions(key0, key1, time, np.maximum(time, arrival))


def ring_bounds(plan: JoinPlan, clock: int) -> dict[str, int]:
    """Return the event time up to which each ring of the journal is of no more use."""
    forgotten = clock - plan.settle_delay - plan.dedup_horizon
    return {
        "impressions": clock - plan.settle_delay - plan.retention,
        "segments": clock - plan.settle_delay,
        "keys": forgotten,
        "actions": clock - actions_kept(plan),
        "held": clock - plan.release_delay - plan.group_span,
        "known": forgotten,
        "scheduled": clock - 1,
    }


def ring_spans(plan: JoinPlan) -> dict[str, int]:
    """Return how long, in event time, each ring of the journal keeps what it holds."""
    spans = {
        "impressions": plan.settle_delay + plan.retention,
        "segments": plan.settle_delay,
        "keys": plan.dedup_horizon,
        "actions": actions_kept(plan),
        "held": plan.release_delay + plan.group_span,
        "known": plan.settle_delay + plan.dedup_horizon,
        "scheduled": plan.settle_delay,
    }
    return {name: spans[name] for name in RINGS}


def actions_kept(plan: JoinPlan) -> int:
    """Return how long after its event time an action may be asked for."""
    if not plan.meets:
        return plan.action_deadline
    # It met an impression at most `early` later, which is retained for a while.
    return max(plan.action_deadline, plan.early + plan.settle_delay + plan.retention)
