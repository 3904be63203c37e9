"""The durable form of a shard's join, and the way back from it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa

from headrace.joiner.join import ShardJoin
from headrace.joiner.journal.cells import Cells, Outlet
from headrace.joiner.journal.rings import Rings
from headrace.joiner.journal.segments import Segment
from headrace.joiner.journal.shardjournal import LAYOUT_VERSION, ShardJournal
from headrace.joiner.plan.plans import JoinPlan
from headrace.joiner.samples.labels import TIMESTAMP
from headrace.joiner.samples.rows import sample_schema
from headrace.joiner.state.columns import together
from headrace.joiner.state.expected import expect_actions, expect_impressions
from headrace.joiner.state.groups import event_times
from headrace.joiner.tally import Tally
from headrace.schemas.errors import StateVersionError
from headrace.schemas.records.envelope import EventEnvelope
from headrace.schemas.records.events import GROUP0, GROUP1, KEY0, KEY1, TIME
from headrace.schemas.records.restored import expect, expect_columns, expect_times, restoring


def describe_join(join: ShardJoin) -> dict[str, Any]:
    """Return what the step's one value cell holds, as JSON types."""
    return {
        "layout": LAYOUT_VERSION,
        "tally": join.tally.describe(),
        "rings": join.rings.describe(),
    }


def restore_join(
    plan: JoinPlan, shard: int, described: dict[str, Any], cells: Cells, cache_bytes: int
) -> ShardJoin:
    """Rebuild a join from what `describe_join` returned and from its journal.

    Raises
    ------
    StateVersionError
        If the state has another layout.
    DamagedError
        If it is not what is written.
    """
    if described["layout"] != LAYOUT_VERSION:
        raise StateVersionError(
            f"join state has layout {described['layout']}, this version reads {LAYOUT_VERSION}; "
            "drain the job with the version that wrote it, then start anew"
        )
    with restoring(f"shard {shard}"):
        return _restored(ShardJoin(plan, shard, cache_bytes), described, cells)


def _restored(join: ShardJoin, described: dict[str, Any], cells: Cells) -> ShardJoin:
    plan = join.plan
    join.tally = Tally.restore(described["tally"])
    join.tally.fits(plan)
    join.rings.restore(described["rings"])
    journal, clock = ShardJournal(join.rings, cells), join.clock
    join.queue.restore(_segments(journal, plan), clock - plan.settle_delay)
    join.remembered.restore(journal.read_kept())
    join.retained.restore(journal.read_retained())
    join.actions.restore(*journal.read_actions(), clock)
    held, positives = journal.read_held()
    for batch in held:
        _expect_held(batch, plan)
    join.held.restore(held, positives, clock)
    if plan.meets:
        join.meeting.restore(clock, journal)
    for envelope in journal.read_ahead():
        _expect_envelope(envelope, plan)
        join.ahead[envelope.source, envelope.begin] = envelope
    return join


def _segments(journal: ShardJournal, plan: JoinPlan) -> Iterator[Segment]:
    for segment in journal.read_segments():
        expect(segment.source < plan.sources, "segment", f"there is no source {segment.source}")
        yield segment


def _expect_envelope(envelope: EventEnvelope, plan: JoinPlan) -> None:
    stream, source, batch = envelope.stream, envelope.source, envelope.batch
    expect(stream < len(plan.stream_names), "envelope", f"there is no stream {stream}")
    expect(source < plan.sources, "envelope", f"there is no source {source}")
    expect(envelope.begin <= envelope.end, "envelope", "ends before it begins")
    if batch is not None and stream:
        expect_actions(stream - 1, source, batch, plan)
    elif batch is not None:
        expect_impressions(batch, plan, ascending=False)


def _expect_held(batch: pa.RecordBatch, plan: JoinPlan) -> None:
    """Go on if rows are samples without weights, in order of event time."""
    what = "rows that wait for their group"
    expect(plan.sampling.by_group, what, "are none of a join without groups")
    labels = dict.fromkeys((action.name for action in plan.actions), pa.bool_())
    digests = dict.fromkeys((KEY0, KEY1, GROUP0, GROUP1), pa.uint64())
    expect_columns(batch, {"event_time": TIMESTAMP, **labels, **digests}, what)
    expect(batch.num_rows, what, "a batch has no rows")
    if plan.types.names:
        weights = ("weight", "sampling_rate", *(f"weight_{of}" for of in plan.sampling.published))
        fields = [of for of in sample_schema(plan, plan.types) if of.name not in weights]
        schema = pa.schema([*fields, *(pa.field(name, kind) for name, kind in digests.items())])
        expect(batch.schema.equals(schema), what, f"have other columns ({batch.schema.names})")
    expect_times(event_times(batch), what, ascending=True)


def export_join(
    join: ShardJoin, cells: Cells, put: Callable[[str, int, bytes], None]
) -> dict[str, Any]:
    """Write down the whole state of a join, whether or not it keeps a journal.

    Parameters
    ----------
    join, cells
        The join, and where its journal lies.
    put
        Called with (ring, cell, bytes) for each piece.

    Returns
    -------
    dict
        What `restore_join` wants, given cells to which the pieces were appended.
    """
    rings, clock = Rings(join.plan), join.clock
    journal = ShardJournal(rings, Outlet(put))
    for segment, batch in join.queue.export(ShardJournal(join.rings, cells)):
        journal.waiting(segment, batch)
    journal.kept(join.remembered.export(clock - join.plan.remembered_for))
    for batch in together(join.retained.export(), TIME):
        journal.retained(batch)
    rows, marked = join.actions.export(clock)
    for stream, source, batch in rows:
        journal.acted(stream, source, batch)
    join.actions.write_marks(marked, journal)
    held, positives = join.held.export(clock)
    for batch in together(held, "event_time"):
        journal.held(batch)
    journal.released(positives)
    if join.plan.meets:
        join.meeting.export(clock, journal)
    for envelope in join.ahead.values():
        journal.ahead(envelope)
    return {**describe_join(join), "rings": rings.describe()}
