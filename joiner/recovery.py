"""The durable form of a shard's join, and the way back from it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from joiner.actions import PENDING, SETTLED
from joiner.join import DECIDED, SEEN, ShardJoin, ring_spans
from joiner.journal import AHEAD, Journal, Ring
from joiner.plan import JoinPlan
from schemas.envelope import EventEnvelope, batch_from_bytes
from schemas.errors import StateVersionError
from schemas.events import ARRIVAL, EMIT, KEY0, KEY1, NEVER, OFFSET, TIME, Outcome
from schemas.hashing import Int64s

LAYOUT_VERSION = 2
"""Of `describe_join` and of what `joiner.journal` says of the rings."""


def describe_join(join: ShardJoin) -> dict[str, Any]:
    """Return what the step's one value cell holds, as JSON types."""
    return {
        "layout": LAYOUT_VERSION,
        "clock": join.clock,
        "sequence": join.sequence,
        "told_epoch": join.told_epoch,
        "dropped": join.dropped,
        "position": join.position,
        "progress": join.progress,
        "rejected": join.rejected,
        "spans": join.spans,
        "looked_up": join.looked_up,
        "outcomes": [[s, o.value, n] for (s, o), n in sorted(join.outcomes.items())],
        "rings": {name: ring.latest for name, ring in join.rings.items()},
    }


def restore_join(
    plan: JoinPlan, shard: int, described: dict[str, Any], journal: Journal, cache_bytes: int
) -> ShardJoin:
    """Rebuild a join from what `describe_join` returned and from its journal.

    Raises
    ------
    StateVersionError
        If the state has another layout.
    """
    if described["layout"] != LAYOUT_VERSION:
        raise StateVersionError(
            f"join state has layout {described['layout']}, this version reads {LAYOUT_VERSION}; "
            "drain the job with the version that wrote it, then start anew"
        )
    join = ShardJoin(plan, shard, cache_bytes)
    for name in ("clock", "sequence", "told_epoch", "dropped", "position", "progress",
                 "rejected", "spans"):  # fmt: skip
        setattr(join, name, described[name])
    join.looked_up.update(described["looked_up"])
    join.outcomes.update({(s, Outcome(o)): n for s, o, n in described["outcomes"]})
    for name, span in ring_spans(plan).items():
        join.rings[name] = Ring(name, span, described["rings"][name])
    _restore_keys(join, journal)
    _restore_impressions(join, journal)
    _restore_actions(join, journal)
    if plan.meets:
        _restore_known(join, journal)
    for data in join.rings["scheduled"].read(journal):
        _restore_scheduled(join, batch_from_bytes(data))
    held = [batch_from_bytes(data) for data in join.rings["held"].read(journal)]
    for batch in sorted(held, key=lambda batch: batch.column("event_time")[0].as_py()):
        join.held.push(batch, join.clock - plan.release_delay)
    for data in journal.read(AHEAD, 0):
        envelope = EventEnvelope.decode(data)
        join.ahead[envelope.source, envelope.begin] = envelope
    return join


def _restore_keys(join: ShardJoin, journal: Journal) -> None:
    batches = [batch_from_bytes(data) for data in join.rings["keys"].read(journal)]
    if batches:
        # In order of time, so that the last kept impression of a key stays.
        keys = pa.concat_batches(batches).sort_by("time")
        key0, key1, time, known = (
            keys.column(name).to_numpy() for name in ("key0", "key1", "time", "known")
        )
        settled_up_to = join.clock - join.plan.settle_delay
        join.remembered.keep_first(key0, key1, time, known, settled_up_to)


def _restore_impressions(join: ShardJoin, journal: Journal) -> None:
    settled_up_to = join.clock - join.plan.settle_delay
    ring = join.rings["impressions"]
    for cell, latest in enumerate(ring.latest):
        if latest == NEVER:
            continue
        for data in journal.read(ring.name, cell):
            source, begin, batch = _rows(EventEnvelope.decode(data))
            time = batch.column(TIME).to_numpy()
            settled = int(np.searchsorted(time, settled_up_to, side="right"))
            join.queue.push(source, begin, batch, cell, settled)
            if join.plan.meets:
                join.arrivals.push(source, begin, batch, join.clock)
            if join.plan.retention and settled:
                _restore_retained(join, batch.slice(0, settled))


def _restore_retained(join: ShardJoin, batch: pa.RecordBatch) -> None:
    key0, key1, time = (batch.column(name).to_numpy() for name in (KEY0, KEY1, TIME))
    entry = join.remembered.find(key0, key1)
    kept = (entry >= 0) & (join.remembered.time[entry] == time)
    if kept.any():
        join.retained.append(batch.filter(pa.array(kept)))


def _restore_actions(join: ShardJoin, journal: Journal) -> None:
    plan, actions = join.plan, join.actions
    decided: set[tuple[int, int]] = set()
    seen: set[tuple[int, int]] = set()
    met: dict[tuple[int, int], int] = {}
    envelopes = []
    for data in join.rings["actions"].read(journal):
        if EventEnvelope.recognizes(data):
            envelopes.append(EventEnvelope.decode(data))
            continue
        batch = batch_from_bytes(data)
        columns = (batch.column(name).to_pylist() for name in batch.schema.names)
        for source, offset, what, time in zip(*columns, strict=True):
            place = (source, offset)
            if what == SEEN:
                seen.add(place)
            elif what == DECIDED:
                decided.add(place)
            else:
                met[place] = time
    # All that is older is decided.
    decided_up_to = join.clock - plan.action_deadline
    asked_for = plan.settle_delay + plan.retention
    for envelope in envelopes:
        source, _, batch = _rows(envelope)
        time = batch.column(TIME).to_numpy()
        known = np.maximum(time, batch.column(ARRIVAL).to_numpy())
        places = [(source, offset) for offset in batch.column(OFFSET).to_pylist()]
        joined = np.array([met.get(place, NEVER) for place in places], np.int64)
        pending = (time > decided_up_to) & np.array([place not in decided for place in places])
        wanted = pending.copy()
        if plan.meets:
            wanted |= known >= join.clock
            wanted |= (joined > NEVER) & (joined + asked_for > join.clock) & (plan.retention > 0)
        if not wanted.any():
            continue
        new = slice(actions.count, actions.count + int(np.count_nonzero(wanted)))
        actions.add(envelope.stream - 1, source, batch.filter(pa.array(wanted)), join.remembered)
        actions.joined[new] = joined[wanted]
        actions.seen[new] |= np.array([place in seen for place in places])[wanted]
        # What was decided as late must not be decided once more.
        actions.state[new] = np.where(pending[wanted], PENDING, SETTLED)
    live = np.arange(actions.count)
    actions.unmet = live[actions.known(live) >= join.clock] if plan.meets else live[:0]


def _restore_known(join: ShardJoin, journal: Journal) -> None:
    batches = [batch_from_bytes(data) for data in join.rings["known"].read(journal)]
    kept: dict[int, Int64s] = {}
    if batches:
        rows = pa.Table.from_batches(batches).sort_by(
            [(name, "ascending") for name in ("known", TIME, "source", OFFSET)]
        )
        key1, time, known, source, offset = (
            rows.column(name).to_numpy() for name in (KEY1, TIME, "known", "source", OFFSET)
        )
        join.arrivals.index.restore(key1, time, known, join.clock)
        kept = {int(number): offset[source == number] for number in np.unique(source)}
    if not join.plan.emission.early:
        return
    for name, segment in join.queue.waiting.items():
        batch = join.queue.payload(segment, journal)
        known = np.maximum(batch.column(TIME).to_numpy(), batch.column(ARRIVAL).to_numpy())
        alone = kept.get(segment.source, np.empty(0, np.int64))
        mask = (known < join.clock) & ~np.isin(batch.column(OFFSET).to_numpy(), alone)
        if mask.any():
            join.shadowed[name] = mask


def _restore_scheduled(join: ShardJoin, batch: pa.RecordBatch) -> None:
    emit = batch.column(EMIT).to_numpy()
    rest = int(np.searchsorted(emit, join.clock, side="left"))
    if rest < emit.size:
        join.scheduled.push(batch.slice(rest).drop_columns([EMIT]), emit[rest:])


def _rows(envelope: EventEnvelope) -> tuple[int, int, pa.RecordBatch]:
    assert envelope.batch is not None  # only envelopes with rows are journaled
    return envelope.source, envelope.begin, envelope.batch
