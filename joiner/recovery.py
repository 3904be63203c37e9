"""The durable form of a shard's join, and the way back from it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headrace.joiner.join import ShardJoin
from headrace.joiner.journal.cells import AHEAD, Journal
from headrace.joiner.journal.layout import DECIDED, MET, SEEN, new_rings, record_of, ring_bounds
from headrace.joiner.plan.plans import JoinPlan
from headrace.joiner.plan.rules import is_late
from headrace.joiner.state.actions import PENDING, RESTORED
from headrace.joiner.state.groups import event_times
from headrace.joiner.state.hashqueue import Segment
from headrace.joiner.state.known import known_times
from headrace.schemas.errors import StateVersionError
from headrace.schemas.records.envelope import EventEnvelope, batch_from_bytes, batch_to_bytes
from headrace.schemas.records.events import EMIT, KEY1, NEVER, OFFSET, TIME, Outcome
from headrace.schemas.records.hashing import Int64s

LAYOUT_VERSION = 3
"""Of `describe_join` and of what `headrace.joiner.journal.cells` says of the rings."""

_KEYS = ["key1", "time", "known"]
_POSITIVES = ["group0", "group1", "time"]
_ENTRIES = ["tag", "time", "known"]
_KEPT = ["source", OFFSET]
"""Columns of the batches that only `export_join` writes."""


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
        "ended": join.ended,
        "received": join.received,
        "spans": join.spans,
        "looked_up": join.meeting.looked_up,
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
                 "rejected", "ended", "received", "spans"):  # fmt: skip
        setattr(join, name, described[name])
    join.meeting.looked_up.update(described["looked_up"])
    join.outcomes.update({(s, Outcome(o)): n for s, o, n in described["outcomes"]})
    for name, ring in join.rings.items():
        ring.latest = list(described["rings"][name])
    _restore_keys(join, journal)
    _restore_impressions(join, journal)
    _restore_actions(join, journal)
    if plan.meets:
        _restore_known(join, journal)
    for data in join.rings["scheduled"].read(journal):
        _restore_scheduled(join, batch_from_bytes(data))
    held = [batch_from_bytes(data) for data in join.rings["held"].read(journal)]
    rows = [batch for batch in held if batch.schema.names != _POSITIVES]
    for batch in sorted(rows, key=lambda batch: batch.column("event_time")[0].as_py()):
        join.held.push(batch, join.clock - plan.release_delay)
    for batch in held:
        if batch.schema.names == _POSITIVES:
            join.held.remember_positives(*(batch.column(name).to_numpy() for name in _POSITIVES))
    for data in journal.read(AHEAD, 0):
        envelope = EventEnvelope.decode(data)
        join.ahead[envelope.source, envelope.begin] = envelope
    return join


def export_join(
    join: ShardJoin, journal: Journal
) -> tuple[dict[str, Any], Iterator[tuple[str, int, bytes]]]:
    """Write down the whole state of a join, whether or not it keeps a journal.

    Returns
    -------
    described, pieces
        What `restore_join` wants, given a journal to which the pieces, each
        (ring, cell, bytes), were appended. The join must not change while they
        are taken.
    """
    plan = join.plan
    rings = new_rings(plan)
    pieces: list[tuple[str, int, Callable[[], bytes]]] = []
    waiting: dict[int, list[Segment]] = {}

    def put(ring: str, latest: int, write: Callable[[], bytes]) -> None:
        pieces.append((ring, rings[ring].note(latest), write))

    for segment in join.queue.waiting.values():
        put("segments", segment.last_time, segment.encode)
        waiting.setdefault(segment.cell, []).append(segment)
        for ring in ("impressions", "known") if plan.meets else ("impressions",):
            rings[ring].note(segment.last_time)
    for batch in join.retained.batches:
        put("retained", batch.column(TIME)[-1].as_py(), partial(batch_to_bytes, batch))
    bounds = ring_bounds(plan, join.clock)
    keys = join.remembered.entries(bounds["keys"])
    if keys[0].size:
        batch = pa.RecordBatch.from_arrays([pa.array(column) for column in keys], _KEYS)
        put("keys", int(keys[1][-1]), partial(batch_to_bytes, batch))
    _export_actions(join, put)
    for batch in join.held.batches:
        latest = int(event_times(batch).max())
        put("held", latest, partial(batch_to_bytes, batch))
    near = join.held.positives[2] > bounds["held"]
    if near.any():
        columns = [pa.array(column[near]) for column in join.held.positives]
        batch = pa.RecordBatch.from_arrays(columns, _POSITIVES)
        put("held", int(join.held.positives[2][near].max()), partial(batch_to_bytes, batch))
    index = join.meeting.arrivals.index
    used = (index.tags != 0) & (index.times > bounds["known"])
    if used.any():
        columns = [pa.array(column[used]) for column in (index.tags, index.times, index.knowns)]
        batch = pa.RecordBatch.from_arrays(columns, _ENTRIES)
        put("known", int(index.times[used].max()), partial(batch_to_bytes, batch))
    for batch, emit in join.meeting.scheduled.parts:
        whole = batch.append_column(EMIT, pa.array(emit))
        put("scheduled", int(emit[-1]), partial(batch_to_bytes, whole))
    pieces += [(AHEAD, 0, envelope.encode) for envelope in join.ahead.values()]
    described = {
        **describe_join(join),
        "rings": {name: ring.latest for name, ring in rings.items()},
    }
    in_memory = ((ring, cell, write()) for ring, cell, write in pieces)
    # A cell may lie on disk, and is read as a whole: once for all its segments.
    from_cells = (_export_waiting(join, segments, journal) for segments in waiting.values())
    return described, chain(in_memory, chain.from_iterable(from_cells))


def _export_waiting(
    join: ShardJoin, segments: list[Segment], journal: Journal
) -> Iterator[tuple[str, int, bytes]]:
    found, _ = join.queue.look_up(segments, journal)
    for segment in segments:
        rows = found[segment.name]
        place = (segment.source, join.plan.sources, segment.begin, segment.begin + segment.rows)
        yield "impressions", segment.cell, EventEnvelope(0, *place, NEVER, 0, rows).encode()
        if join.plan.meets:
            cell = join.rings["known"].cell(segment.last_time)
            yield "known", cell, _export_kept(join, segment, rows)


def _export_kept(join: ShardJoin, segment: Segment, rows: pa.RecordBatch) -> bytes:
    """Write which of a segment's rows are no duplicates, as far as they are known."""
    kept = known_times(rows) < join.clock
    if segment.name in join.meeting.shadowed:
        kept &= ~join.meeting.shadowed[segment.name]
    offset = rows.column(OFFSET).to_numpy()[kept]
    columns = [pa.array(np.full(offset.size, segment.source)), pa.array(offset)]
    return batch_to_bytes(pa.RecordBatch.from_arrays(columns, _KEPT))


def _export_actions(join: ShardJoin, put: Callable[[str, int, Callable[[], bytes]], None]) -> None:
    actions = join.actions
    entries = actions.wanted(join.clock)
    if entries.size == 0:
        return
    for stream, source, batch in actions.rows(entries):
        begin = batch.column(OFFSET)[0].as_py()
        place = (1 + stream, source, join.plan.sources, begin, begin)
        whole = EventEnvelope(*place, NEVER, 0, batch)
        put("actions", int(batch.column(TIME).to_numpy().max()), whole.encode)
    for what, mask in (
        (SEEN, actions.seen[entries]),
        (DECIDED, actions.state[entries] != PENDING),
        (MET, actions.met[entries] != NEVER),
    ):
        if mask.any():
            chosen = entries[mask]
            latest = int(actions.time[chosen].max())
            put("actions", latest, partial(record_of, actions, chosen, what))


def _restore_keys(join: ShardJoin, journal: Journal) -> None:
    batches = [batch_from_bytes(data) for data in join.rings["keys"].read(journal)]
    if batches:
        # In order of time, so that the last kept impression of a key stays.
        keys = pa.concat_batches(batches).sort_by("time")
        key1, time, known = (keys.column(name).to_numpy() for name in _KEYS)
        join.remembered.load(key1, time, known)


def _restore_impressions(join: ShardJoin, journal: Journal) -> None:
    settled_up_to = join.clock - join.plan.settle_delay
    for data in join.rings["segments"].read(journal):
        segment = Segment.decode(data)
        if segment.last_time > settled_up_to:
            segment.first_time = max(segment.first_time, settled_up_to + 1)
            join.queue.expect(segment)
    retained = [batch_from_bytes(data) for data in join.rings["retained"].read(journal)]
    for batch in sorted(retained, key=lambda batch: batch.column(TIME)[0].as_py()):
        join.retained.push(batch)
    if join.plan.meets:
        fresh = [s for s in join.queue.waiting.values() if s.last_known >= join.clock]
        for (source, begin), batch in join.queue.look_up(fresh, journal)[0].items():
            join.meeting.arrivals.push(source, begin, batch, join.clock)


def _restore_actions(join: ShardJoin, journal: Journal) -> None:
    actions = join.actions
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
            if time > NEVER:
                met[place] = time
    # All that is older is decided.
    decided_up_to = join.clock - join.plan.action_deadline
    for envelope in envelopes:
        source, batch = envelope.source, envelope.batch
        assert batch is not None  # only envelopes with rows are journaled
        time = batch.column(TIME).to_numpy()
        places = [(source, offset) for offset in batch.column(OFFSET).to_pylist()]
        own = np.array([met.get(place, NEVER) for place in places], np.int64)
        pending = (time > decided_up_to) & np.array([place not in decided for place in places])
        wanted = actions.asked_for(pending, known_times(batch), own, join.clock)
        if not wanted.any():
            continue
        new = slice(actions.count, actions.count + int(np.count_nonzero(wanted)))
        actions.add(envelope.stream - 1, source, batch.filter(pa.array(wanted)), join.remembered)
        actions.met[new] = own[wanted]
        actions.seen[new] |= np.array([place in seen for place in places])[wanted]
        # What was decided as late must not be decided once more.
        actions.state[new] = np.where(pending[wanted], PENDING, RESTORED)
    live = np.arange(actions.count)
    fresh = live[actions.known(live) >= join.clock]
    actions.unmet = fresh if actions.meets else live[:0]
    decided_now = (actions.state[fresh] != PENDING) & (actions.met[fresh] > NEVER)
    late = is_late.py_func(actions.met[fresh], actions.arrival[fresh], actions.times)
    actions.note_late(fresh[decided_now & late])


def _restore_known(join: ShardJoin, journal: Journal) -> None:
    rows = []
    places: list[tuple[Int64s, Int64s]] = []
    for data in join.rings["known"].read(journal):
        batch = batch_from_bytes(data)
        if batch.schema.names == _ENTRIES:
            tags, times, knowns = (batch.column(name).to_numpy() for name in _ENTRIES)
            join.meeting.arrivals.index.load(tags, times, knowns, join.clock)
            continue
        places.append((batch.column("source").to_numpy(), batch.column(OFFSET).to_numpy()))
        if batch.schema.names != _KEPT:
            rows.append(batch)
    if rows:
        table = pa.Table.from_batches(rows).sort_by(
            [(name, "ascending") for name in ("known", TIME, "source", OFFSET)]
        )
        key1, time, known = (table.column(name).to_numpy() for name in (KEY1, TIME, "known"))
        join.meeting.arrivals.index.restore(key1, time, known, join.clock)
    source, offset = (
        np.concatenate([np.empty(0, np.int64), *column])
        for column in (zip(*places, strict=True) if places else ((), ()))
    )
    kept = {int(number): np.sort(offset[source == number]) for number in np.unique(source)}
    found, _ = join.queue.look_up(list(join.queue.waiting.values()), journal)
    for name, batch in found.items():
        alone = kept.get(name[0], np.empty(0, np.int64))
        mask = (known_times(batch) < join.clock) & ~_among(batch.column(OFFSET).to_numpy(), alone)
        if mask.any():
            join.meeting.shadowed[name] = mask


def _among(values: Int64s, ordered: Int64s) -> npt.NDArray[np.bool_]:
    """Tell which values are among others, which are sorted."""
    if ordered.size == 0:
        return np.zeros(values.size, np.bool_)
    at = np.minimum(np.searchsorted(ordered, values), ordered.size - 1)
    found: npt.NDArray[np.bool_] = ordered[at] == values
    return found


def _restore_scheduled(join: ShardJoin, batch: pa.RecordBatch) -> None:
    emit = batch.column(EMIT).to_numpy()
    rest = int(np.searchsorted(emit, join.clock, side="left"))
    if rest < emit.size:
        join.meeting.scheduled.push(batch.slice(rest).drop_columns([EMIT]), emit[rest:])
