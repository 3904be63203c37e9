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
from joiner.groups import HeldRows, event_times
from joiner.hashqueue import HashQueue, sort_by_time
from joiner.journal import AHEAD, RINGS, Journal, Ring
from joiner.keytable import RememberedKeys
from joiner.labels import Labels, label
from joiner.plan import JoinPlan
from joiner.samples import labelled, weighted
from joiner.settling import SettlingRows, gather
from schemas.envelope import EventEnvelope, SampleEnvelope, batch_to_bytes
from schemas.events import ARRIVAL, FOREVER, GROUP0, KEY0, KEY1, NEVER, OFFSET, TIME, Outcome
from schemas.hashing import Int64s


@dataclass(frozen=True)
class DeadRows:
    """Records of one source that leave no sample, and why."""

    outcome: Outcome
    stream: int
    source: int
    batch: pa.RecordBatch


@dataclass
class JoinOutput:
    """What applying an envelope brought about."""

    samples: list[pa.RecordBatch] = field(default_factory=list)
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
        self.queue = HashQueue(cache_bytes)
        self.remembered = RememberedKeys(plan.dedup_horizon)
        self.actions = PendingActions(plan)
        self.held = HeldRows(plan.group_span, tuple(action.name for action in plan.actions))
        self.retained: list[pa.RecordBatch] = []
        self.held_back: list[tuple[int, int, int]] = []
        """Undecided actions past their deadline, as (source, offset, event time)."""
        self.ahead: dict[tuple[int, int], EventEnvelope] = {}
        self.rings = {name: Ring(name, span) for name, span in ring_spans(plan).items()}

    # --- one envelope ---------------------------------------------------------------------

    def apply(self, envelope: EventEnvelope, journal: Journal) -> JoinOutput:
        """Apply an envelope; a replayed one changes nothing."""
        output = JoinOutput()
        if envelope.begin > self.position[envelope.source]:
            self.ahead[envelope.source, envelope.begin] = envelope
            if journal.durable:
                journal.append(AHEAD, 0, envelope.encode())
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
        if not output.samples and epoch == self.told_epoch:
            return None
        self.told_epoch = epoch
        self.sequence += 1
        return SampleEnvelope(
            self.shard,
            self.plan.shards,
            self.sequence - 1,
            self.clock,
            [list(pair) for pair in zip(self.position, self.rejected, strict=True)],
            self.outcome_counts(),
            self.dropped,
            self.spans,
            output.samples,
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
                journal.append(AHEAD, 0, envelope.encode())

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
            cached = self.queue.push(source, envelope.begin, batch, ring.cell(latest))
            if journal.durable or not cached:
                ring.append(journal, latest, envelope.encode())
        else:
            if journal.durable:
                self.rings["actions"].append(journal, latest, envelope.encode())
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
        late, remembered, seen = self.actions.add(stream, source, batch, self.remembered)
        self._record(journal, late, decided=True)
        self._record(journal, seen, decided=False)
        self._bury_actions(output, Outcome.LATE, late)
        if self.plan.retention and late.size:
            time = self.remembered.time[remembered]
            for entry, impression_time in zip(late, time, strict=True):
                impression = self._find_retained(int(entry), int(impression_time))
                if impression is not None:
                    self._correct(output, impression, np.array([entry]))

    # --- the clock ------------------------------------------------------------------------

    def _advance(self, clock: int, journal: Journal, output: JoinOutput) -> None:
        plan = self.plan
        settled_before = self.clock - plan.settle_delay
        self.clock = clock
        runs = self.queue.pop_until(clock - plan.settle_delay)
        if runs:
            self._settle(gather(runs, self.queue, journal), settled_before, journal, output)
        if plan.sampling.by_group:
            released = self.held.pop_until(clock - plan.release_delay)
            if released is not None:
                self._release(*released, output)
        self._expire_actions(journal, output)
        decided_up_to = clock - plan.action_deadline
        if self.held_back:
            decided_up_to = min(decided_up_to, min(time for _, _, time in self.held_back) - 1)
        bounds = {
            "impressions": clock - plan.settle_delay - plan.retention,
            "keys": clock - plan.settle_delay - plan.dedup_horizon,
            "actions": decided_up_to,
            "held": clock - plan.release_delay - plan.group_span,
        }
        for name, ring in self.rings.items():
            ring.expire(journal, bounds[name])
        self.actions.compact()
        if plan.retention:
            self.retained = [
                batch
                for batch in self.retained
                if int(batch.column(TIME).to_numpy().max()) > bounds["impressions"]
            ]

    def _settle(
        self, rows: SettlingRows, settled_before: int, journal: Journal, output: JoinOutput
    ) -> None:
        kept = self.remembered.keep_first(
            rows.key0, rows.key1, rows.time, rows.arrival, settled_before
        )
        survivors = np.flatnonzero(kept)
        self._bury_duplicates(output, rows, np.flatnonzero(~kept))
        if survivors.size == 0:
            return
        if survivors.size == rows.time.size:
            columns = (rows.key0, rows.key1, rows.time, rows.arrival)
        else:
            columns = (
                rows.key0[survivors], rows.key1[survivors],
                rows.time[survivors], rows.arrival[survivors],
            )  # fmt: skip
        key0, _, time, _ = columns
        if journal.durable:
            names = ("key0", "key1", "time", "arrival")
            keys = pa.RecordBatch.from_arrays([pa.array(column) for column in columns], names)
            self.rings["keys"].append(journal, int(time[-1]), batch_to_bytes(keys))
        self.outcomes[0, Outcome.SETTLED] += survivors.size

        matches, seen = self.actions.match(*columns)
        self._record(journal, seen, decided=False)
        self._record(journal, matches.entry, decided=True)
        late = self.actions.state[matches.entry] == LATE
        labels = label(
            survivors.size,
            matches.row[~late],
            matches.entry[~late],
            self.actions,
            len(self.plan.actions),
        )
        self._count_settled(output, labels)
        self._bury_actions(output, Outcome.LATE, matches.entry[late])
        if self.plan.retention:
            whole = pa.concat_batches(rows.take(survivors))
            self.retained.append(whole)
            for row, entry in zip(matches.row[late], matches.entry[late], strict=True):
                self._correct(output, whole.slice(int(row), 1), np.array([entry]))

        plan = self.plan
        if plan.sampling.by_group:
            impressions = pa.concat_batches(rows.take(survivors))
            batch = labelled(plan, impressions, labels, self.actions)
            if journal.durable:
                self.rings["held"].append(journal, int(time[-1]), batch_to_bytes(batch))
            self.held.push(batch, NEVER)
            return
        if plan.sampling.keeps_all or plan.sampling.column is None:
            rates = np.full(survivors.size, plan.sampling.rate)
        else:
            rates = np.concatenate(
                [plan.sampling.negative_rates(part) for part in rows.take(survivors)]
            )
        chosen, inclusion = plan.sampling.select(key0, labels.positive, rates)
        if not chosen.all():
            self.dropped += int(chosen.size - np.count_nonzero(chosen))
            survivors, time = survivors[chosen], time[chosen]
            labels = labels.select(chosen)
            inclusion, rates = inclusion[chosen], rates[chosen]
        begin = 0
        for part in rows.take(survivors) if survivors.size else []:
            here = slice(begin, begin + part.num_rows)
            begin = here.stop
            batch = labelled(plan, part, labels.select(here), self.actions)
            emit = time[here] + plan.settle_delay
            output.samples.append(weighted(plan, batch, emit, inclusion[here], rates[here]))

    def _release(self, batch: pa.RecordBatch, positive: Any, output: JoinOutput) -> None:
        plan = self.plan
        rates = plan.sampling.negative_rates(batch)
        unit = batch.column(GROUP0).to_numpy()
        chosen, inclusion = plan.sampling.select(unit, positive, rates)
        self.dropped += int(chosen.size - np.count_nonzero(chosen))
        if chosen.any():
            batch = batch.filter(pa.array(chosen))
            emit = event_times(batch) + plan.release_delay
            output.samples.append(weighted(plan, batch, emit, inclusion[chosen], rates[chosen]))

    def _expire_actions(self, journal: Journal, output: JoinOutput) -> None:
        actions = self.actions
        entries = actions.expired(self.clock)
        self.held_back = []
        if entries.size == 0:
            return
        seen = actions.seen[entries]
        held = np.zeros(entries.size, np.bool_)
        held[~seen] = self._awaited(entries[~seen])
        self.held_back = actions.places(entries[held])
        self._record(journal, entries[~held], decided=True)
        actions.state[entries[~held]] = LATE
        self._bury_actions(output, Outcome.OUTSIDE_WINDOW, entries[seen])
        self._bury_actions(output, Outcome.ORPHAN, entries[~seen & ~held])

    def _awaited(self, entries: Int64s) -> Any:
        """Tell which actions may yet see an impression that waits.

        It lies too late for them to belong to it, but they are no orphans if
        it is kept, and that shows only when it settles.
        """
        awaited = np.zeros(entries.size, np.bool_)
        if entries.size == 0:
            return awaited
        actions, plan = self.actions, self.plan
        in_time_until = actions.time[entries] + plan.wait_for_impression
        for segment in self.queue.arrived_before(int(in_time_until.max())):
            near = np.isin(segment.key0[segment.head :], actions.key0[entries])
            for row in np.flatnonzero(near) + segment.head:
                time = int(segment.time[row])
                remembered = max(
                    time + plan.settle_delay + plan.retention, time + plan.dedup_horizon
                )
                awaited |= (
                    (actions.key0[entries] == segment.key0[row])
                    & (actions.key1[entries] == segment.key1[row])
                    & (segment.arrival[row] < in_time_until)
                    & (actions.arrival[entries] < remembered)
                )
        return awaited

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
        batch = labelled(plan, impression, labels, self.actions)
        one = np.ones(1)
        output.corrections.append(weighted(plan, batch, np.array([arrival]), one, one))

    def _record(self, journal: Journal, entries: Int64s, decided: bool) -> None:
        if entries.size == 0 or not journal.durable:
            return
        actions = self.actions
        columns = {
            "source": actions.source[entries],
            "offset": actions.offset[entries],
            "decided": np.full(entries.size, decided),
        }
        batch = pa.RecordBatch.from_pydict(columns)
        latest = int(actions.time[entries].max())
        self.rings["actions"].append(journal, latest, batch_to_bytes(batch))


def ring_spans(plan: JoinPlan) -> dict[str, int]:
    """Return how long, in event time, each ring of the journal keeps what it holds."""
    spans = {
        "impressions": plan.settle_delay + plan.retention,
        "keys": plan.dedup_horizon,
        "actions": plan.action_deadline,
        "held": plan.release_delay + plan.group_span,
    }
    return {name: spans[name] for name in RINGS}
