"""What the rows of a restored state must be like: what a join takes them to be."""

from __future__ import annotations

import pyarrow as pa

from headrace.joiner.plan.plans import JoinPlan
from headrace.schemas.records.events import (
    ARRIVAL,
    GROUP0,
    GROUP1,
    ID0,
    ID1,
    KEY0,
    KEY1,
    OFFSET,
    TIME,
)
from headrace.schemas.records.hashing import Int64s
from headrace.schemas.records.restored import (
    expect,
    expect_columns,
    expect_moments,
    expect_times,
    expect_within,
)

_EVENT = {
    TIME: pa.int64(), ARRIVAL: pa.int64(), OFFSET: pa.int64(), KEY0: pa.uint64(), KEY1: pa.uint64()
}  # fmt: skip
_GROUP = {GROUP0: pa.uint64(), GROUP1: pa.uint64()}
_ID = {ID0: pa.uint64(), ID1: pa.uint64()}
_MOST_OFFSETS = 1 << 43


def expect_impressions(
    batch: pa.RecordBatch, plan: JoinPlan, what: str = "impressions", ascending: bool = True
) -> None:
    """Go on if rows are events of the impression stream, in order of event time if asked for.

    Raises
    ------
    DamagedError
        If they are not.
    """
    _expect_events(batch, what, ascending)
    if plan.sampling.by_group:
        expect_columns(batch, _GROUP, what)
    _expect_carried(batch, plan.types, what)


def expect_actions(stream: int, source: int, batch: pa.RecordBatch, plan: JoinPlan) -> None:
    """Go on if rows are events of action stream ``1 + stream``.

    Raises
    ------
    DamagedError
        If they are not, or if there is no such stream or source.
    """
    expect(0 <= stream < len(plan.actions), "actions", f"there is no stream {stream}")
    expect(0 <= source < plan.sources, "actions", f"there is no source {source}")
    _expect_events(batch, "actions", ascending=False)
    if ID0 in batch.schema.names or ID1 in batch.schema.names:
        expect_columns(batch, _ID, "actions")
    _expect_carried(batch, plan.actions[stream].carried, "actions")


def expect_scheduled(batch: pa.RecordBatch, emit: Int64s, plan: JoinPlan) -> None:
    """Go on if rows are impressions, in order of their emit times, shape (n,).

    Raises
    ------
    DamagedError
        If they are not.
    """
    expect_impressions(batch, plan, "scheduled impressions", ascending=False)
    expect_moments(emit, "scheduled impressions")
    expect((emit[1:] >= emit[:-1]).all(), "scheduled impressions", "emit times are not in order")


def _expect_events(batch: pa.RecordBatch, what: str, ascending: bool) -> None:
    expect_columns(batch, _EVENT, what)
    expect(batch.num_rows, what, "a batch has no rows")
    expect_times(batch.column(TIME).to_numpy(), what, ascending)
    expect_within(batch.column(OFFSET).to_numpy(), 0, _MOST_OFFSETS, what)
    expect_moments(batch.column(ARRIVAL).to_numpy(), what)


def _expect_carried(batch: pa.RecordBatch, fields: pa.Schema, what: str) -> None:
    for field in fields:
        expect(field.name in batch.schema.names, what, f"has no column {field.name}")
        found = batch.schema.field(field.name).type
        expect(found == field.type, what, f"column {field.name} must be {field.type} (got {found})")
