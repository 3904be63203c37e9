"""The columns of a sample."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from joiner.actions import PendingActions
from joiner.labels import TIMESTAMP, Labels, label_columns
from joiner.plan import JoinPlan
from joiner.sampling import Floats
from schemas.events import EMIT, GROUP0, GROUP1, KEY0, KEY1, RATE, TIME
from schemas.hashing import Int64s


def labelled(
    plan: JoinPlan, impressions: pa.RecordBatch, labels: Labels, actions: PendingActions
) -> pa.RecordBatch:
    """Join labels to impressions: the sample without its weight, digests at the end.

    Parameters
    ----------
    plan
        The join.
    impressions
        Impressions as they came, shape (n, ...).
    labels
        Their labels.
    actions
        Where the labels' entries are.
    """
    columns = [(name, impressions.column(name)) for name in plan.columns[: plan.keys]]
    columns.append(("event_time", impressions.column(TIME).cast(TIMESTAMP)))
    columns += [(name, impressions.column(name)) for name in plan.columns[plan.keys :]]
    for stream, action in enumerate(plan.actions):
        columns += label_columns(action, stream, labels, actions)
    columns += [(name, impressions.column(name)) for name in (KEY0, KEY1)]
    if plan.sampling.by_group:
        columns += [(name, impressions.column(name)) for name in (GROUP0, GROUP1)]
    names, arrays = zip(*columns, strict=True)
    return pa.RecordBatch.from_arrays(list(arrays), names=list(names))


def weighted(
    plan: JoinPlan, batch: pa.RecordBatch, emit: Int64s, inclusion: Floats, rates: Floats
) -> pa.RecordBatch:
    """Complete samples with weight, sampling rate and what the trainer needs.

    Parameters
    ----------
    plan
        The join.
    batch
        From `labelled`, shape (n, ...).
    emit
        Emit times, microseconds, shape (n,).
    inclusion
        Probability with which each row was kept, shape (n,).
    rates
        Negative rate of each row's stratum, shape (n,).
    """
    weight = 1.0 / inclusion if plan.sampling.weighted else np.ones(batch.num_rows)
    visible = [
        (field.name, batch.column(i))
        for i, field in enumerate(batch.schema)
        if field.name not in (KEY0, KEY1, GROUP0, GROUP1)
    ]
    columns = [
        *visible,
        ("weight", pa.array(weight)),
        ("sampling_rate", pa.array(inclusion)),
        (EMIT, pa.array(emit)),
        (KEY0, batch.column(KEY0)),
        (KEY1, batch.column(KEY1)),
        (RATE, pa.array(rates)),
    ]
    names, arrays = zip(*columns, strict=True)
    return pa.RecordBatch.from_arrays(list(arrays), names=list(names))
