"""The durable form of a shard's join, and the way back from it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from joiner.join import ShardJoin, ring_spans
from joiner.journal import AHEAD, Journal, Ring
from joiner.plan import JoinPlan
from schemas.envelope import EventEnvelope, batch_from_bytes
from schemas.errors import StateVersionError
from schemas.events import KEY0, KEY1, NEVER, OFFSET, TIME, Outcome

LAYOUT_VERSION = 1
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
        "held_back": join.held_back,
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
    join.outcomes.update({(s, Outcome(o)): n for s, o, n in described["outcomes"]})
    for name, span in ring_spans(plan).items():
        join.rings[name] = Ring(name, span, described["rings"][name])
    _restore_keys(join, journal)
    _restore_impressions(join, journal)
    _restore_actions(join, journal, {(s, o) for s, o, _ in described["held_back"]})
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
        key0, key1, time, arrival = (
            keys.column(name).to_numpy() for name in ("key0", "key1", "time", "arrival")
        )
        settled_up_to = join.clock - join.plan.settle_delay
        join.remembered.keep_first(key0, key1, time, arrival, settled_up_to)


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
            if join.plan.retention and settled:
                _restore_retained(join, batch.slice(0, settled))


def _restore_retained(join: ShardJoin, batch: pa.RecordBatch) -> None:
    key0, key1, time = (batch.column(name).to_numpy() for name in (KEY0, KEY1, TIME))
    entry = join.remembered.find(key0, key1)
    kept = (entry >= 0) & (join.remembered.time[entry] == time)
    if kept.any():
        join.retained.append(batch.filter(pa.array(kept)))


def _restore_actions(join: ShardJoin, journal: Journal, held_back: set[tuple[int, int]]) -> None:
    decided: set[tuple[int, int]] = set()
    seen: set[tuple[int, int]] = set()
    envelopes = []
    for data in join.rings["actions"].read(journal):
        if EventEnvelope.recognizes(data):
            envelopes.append(EventEnvelope.decode(data))
            continue
        for record in batch_from_bytes(data).to_pylist():
            place = (record["source"], record["offset"])
            (decided if record["decided"] else seen).add(place)
    # All that is older is decided, but for what was held back: of it not every
    # decision is in the ring still.
    decided_up_to = join.clock - join.plan.action_deadline
    for envelope in envelopes:
        source, _, batch = _rows(envelope)
        places = zip(batch.column(TIME).to_pylist(), batch.column(OFFSET).to_pylist(), strict=True)
        undecided = [
            (source, offset) in held_back
            or (time > decided_up_to and (source, offset) not in decided)
            for time, offset in places
        ]
        if any(undecided):
            rows = batch.filter(pa.array(undecided))
            join.actions.add(envelope.stream - 1, source, rows, join.remembered)
    join.actions.mark_seen(seen)
    expired = join.actions.expired(join.clock)
    join.held_back = join.actions.places(expired[~join.actions.seen[expired]])


def _rows(envelope: EventEnvelope) -> tuple[int, int, pa.RecordBatch]:
    assert envelope.batch is not None  # only envelopes with rows are journaled
    return envelope.source, envelope.begin, envelope.batch
