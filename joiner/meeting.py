"""What happens to impressions and actions before they settle, as they become known."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa

from headrace.joiner.journal.cells import Journal, Ring
from headrace.joiner.journal.layout import MET, record_of
from headrace.joiner.plan.emission import Scheduled
from headrace.joiner.plan.plans import JoinPlan
from headrace.joiner.plan.sampling import Bools
from headrace.joiner.samples.joined import Finder, Impressions, joined_rows
from headrace.joiner.samples.labels import Labels, label
from headrace.joiner.samples.output import JoinOutput
from headrace.joiner.samples.sampled import emit_early
from headrace.joiner.state.actions import PendingActions
from headrace.joiner.state.arrivals import Arrivals, Fresh, Pairs
from headrace.joiner.state.hashqueue import HashQueue, Name, Run
from headrace.joiner.state.known import known_times
from headrace.joiner.state.retained import Retained
from headrace.joiner.state.settling import SettlingRows
from headrace.schemas.records.envelope import batch_to_bytes
from headrace.schemas.records.events import EMIT, KEY0, KEY1, OFFSET, TIME, Outcome
from headrace.schemas.records.hashing import Int64s


class Meeting:
    """Joined actions, and samples that leave before they settle.

    Parameters
    ----------
    plan
        The join.
    queue, actions, retained, rings
        Those of the shard.
    """

    def __init__(
        self,
        plan: JoinPlan,
        queue: HashQueue,
        actions: PendingActions,
        retained: Retained,
        rings: dict[str, Ring],
    ) -> None:
        self.plan, self.queue, self.actions = plan, queue, actions
        self.retained, self.rings = retained, rings
        self.arrivals = Arrivals(plan)
        self.scheduled = Scheduled()
        self.shadowed: dict[Name, Bools] = {}
        """Rows of waiting segments that are duplicates already."""
        self.looked_up: Counter[str] = Counter()
        """Impressions found for actions that met them, by where: memory or journal."""

    def advance(self, since: int, clock: int, journal: Journal, output: JoinOutput) -> None:
        """Let everything that becomes known in ``[since, clock)`` have its consequences."""
        met = self.arrivals.meet(since, clock, self.actions)
        for fresh in met.kept:
            self._record_known(journal, fresh)
        self._shadow(met.shadowed, output)
        if self.plan.emission.early:
            self._schedule(met.kept, journal)
            self._emit_first(clock, output)
        if met.pairs is not None and met.pairs.entry.size:
            if journal.durable:
                entry = met.pairs.entry
                latest = int(self.actions.time[entry].max())
                record = record_of(self.actions, entry, MET)
                self.rings["actions"].append(journal, latest, record)
            self._emit_met(met.pairs, since, journal, output)

    def _shadow(self, duplicates: list[Fresh], output: JoinOutput) -> None:
        for fresh in duplicates:
            batch = fresh.batch.take(pa.array(fresh.rows))
            output.bury(Outcome.DUPLICATE, 0, fresh.source, batch)
            name = (fresh.source, fresh.begin)
            mask = self.shadowed.setdefault(name, np.zeros(fresh.batch.num_rows, np.bool_))
            mask[fresh.rows] = True

    def _schedule(self, kept: list[Fresh], journal: Journal) -> None:
        plan = self.plan
        for fresh in kept:
            batch = fresh.batch.take(pa.array(fresh.rows))
            key0, time = batch.column(KEY0).to_numpy(), batch.column(TIME).to_numpy()
            emit = plan.emission.first_emit(key0, time, fresh.known, plan.longest_window)
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
            emission = self.plan.emission.first
            emit_early(self.plan, batch, labels, emit, emission, self.actions, output)

    def _emit_met(self, pairs: Pairs, since: int, journal: Journal, output: JoinOutput) -> None:
        plan, actions = self.plan, self.actions
        entry = pairs.entry
        names = Impressions(actions.key0[entry], actions.key1[entry], pairs.time, pairs.known)
        turns = np.zeros(entry.size, np.bool_)
        if plan.emission.early:
            first = plan.emission.first_emit(
                names.key0, names.time, names.known, plan.longest_window
            )
            in_time = actions.arrival[entry] < pairs.time + plan.settle_delay
            turns = pairs.first & (pairs.at > first) & in_time
        leaves = ~pairs.repeated if plan.joined else np.zeros(entry.size, np.bool_)
        wanted = np.flatnonzero(turns | leaves)
        if wanted.size == 0:
            return
        finder = Finder(self.queue, journal, self.retained, since - plan.settle_delay)
        batch = finder.find(names.select(wanted), self.looked_up)
        row = np.full(entry.size, -1, np.int64)
        row[wanted] = np.arange(wanted.size)
        for stream in range(len(plan.actions)):
            chosen = np.flatnonzero(leaves & (actions.stream[entry] == stream))
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
            emit_early(plan, impressions, labels, emit, "positive", actions, output)

    def _labels_at(self, names: Impressions, at: Int64s) -> Labels:
        """Return the labels that impressions have by the time `at`, before they settle."""
        found = self.actions.met_by(names.key0, names.key1, names.time, at)
        streams = len(self.plan.actions)
        return label(at.size, found.row, found.entry, self.actions, streams)

    def take_shadowed(self, runs: list[Run], rows: SettlingRows) -> Bools:
        """Return which of the rows that settle are duplicates already, shape (n,)."""
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

    def _record_known(self, journal: Journal, fresh: Fresh) -> None:
        if not journal.durable:
            return
        names = [KEY0, KEY1, TIME, OFFSET]
        batch = fresh.batch.select(names).take(pa.array(fresh.rows))
        source = pa.array(np.full(fresh.rows.size, fresh.source))
        batch = batch.append_column("known", pa.array(fresh.known)).append_column("source", source)
        latest = int(batch.column(TIME).to_numpy().max())
        self.rings["known"].append(journal, latest, batch_to_bytes(batch))


def _names(batch: pa.RecordBatch) -> Impressions:
    key0, key1, time = (batch.column(name).to_numpy() for name in (KEY0, KEY1, TIME))
    return Impressions(key0, key1, time, known_times(batch))
