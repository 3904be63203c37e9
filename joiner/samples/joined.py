"""Joined actions: each with the columns of its impression, as soon as both are known."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from headrace.joiner.plan.plans import ActionPlan, JoinPlan
from headrace.joiner.samples.labels import TIMESTAMP, carried_columns, carried_fields
from headrace.joiner.samples.rows import impression_columns, impression_fields
from headrace.joiner.state.actions import PendingActions
from headrace.joiner.state.encounters import Encounters
from headrace.schemas.records.events import (
    ACTION_OFFSET,
    ACTION_SOURCE,
    ACTION_TIME,
    EMIT,
    KEY0,
    KEY1,
)


def joined_rows(
    plan: JoinPlan,
    stream: int,
    impressions: pa.RecordBatch,
    encounters: Encounters,
    actions: PendingActions,
) -> pa.RecordBatch:
    """Put actions of one stream beside their impressions.

    Parameters
    ----------
    plan, stream
        The join, and the number of the action stream.
    impressions
        The impression of each encounter, shape (n, ...).
    encounters, actions
        Which actions met them, shape (n,), and where those are.
    """
    action = plan.actions[stream]
    entry = encounters.entry
    columns = impression_columns(plan, impressions)
    columns.append((f"{action.name}_time", pa.array(actions.time[entry]).cast(TIMESTAMP)))
    columns += carried_columns(action, entry, actions)
    columns += [
        (EMIT, pa.array(encounters.at)),
        (KEY0, impressions.column(KEY0)),
        (KEY1, impressions.column(KEY1)),
        (ACTION_TIME, pa.array(actions.time[entry])),
        (ACTION_SOURCE, pa.array(actions.source[entry])),
        (ACTION_OFFSET, pa.array(actions.offset[entry])),
    ]
    names, arrays = zip(*columns, strict=True)
    batch = pa.RecordBatch.from_arrays(list(arrays), names=list(names))
    order = np.argsort(encounters.at, kind="stable")
    return batch.take(pa.array(order))


def joined_schema(plan: JoinPlan, action: ActionPlan, types: pa.Schema) -> pa.Schema:
    """Return the schema of a stream's joined actions as users see them."""
    return pa.schema(
        [
            *impression_fields(plan, types),
            pa.field(f"{action.name}_time", TIMESTAMP),
            *carried_fields(action),
        ]
    )
