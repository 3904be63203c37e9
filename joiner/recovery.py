"""The durable form of a shard's join, and the way back from it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from headrace.joiner.join import ShardJoin
from headrace.joiner.journal.cells import Cells, Outlet
from headrace.joiner.journal.rings import Rings
from headrace.joiner.journal.shardjournal import LAYOUT_VERSION, ShardJournal
from headrace.joiner.plan.plans import JoinPlan
from headrace.joiner.state.columns import together
from headrace.joiner.tally import Tally
from headrace.schemas.errors import StateVersionError
from headrace.schemas.records.events import TIME


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
    """
    if described["layout"] != LAYOUT_VERSION:
        raise StateVersionError(
            f"join state has layout {described['layout']}, this version reads {LAYOUT_VERSION}; "
            "drain the job with the version that wrote it, then start anew"
        )
    join = ShardJoin(plan, shard, cache_bytes)
    join.tally = Tally.restore(described["tally"])
    join.rings.restore(described["rings"])
    journal, clock = ShardJournal(join.rings, cells), join.clock
    join.queue.restore(journal.read_segments(), clock - plan.settle_delay)
    join.remembered.restore(journal.read_kept())
    join.retained.restore(journal.read_retained())
    join.actions.restore(*journal.read_actions(), clock)
    join.held.restore(*journal.read_held(), clock)
    if plan.meets:
        join.meeting.restore(clock, journal)
    for envelope in journal.read_ahead():
        join.ahead[envelope.source, envelope.begin] = envelope
    return join


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
