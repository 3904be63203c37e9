"""The columns of a sample."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headrace.joiner.plan.emission import EMISSIONS
from headrace.joiner.plan.plans import JoinPlan
from headrace.joiner.plan.sampling import Selection
from headrace.joiner.samples.labels import TIMESTAMP, Labels, label_columns, label_fields
from headrace.joiner.state.actions import PendingActions
from headrace.schemas.records.events import EMIT, GROUP0, GROUP1, KEY0, KEY1, RATE, TIME
from headrace.schemas.records.hashing import Int64s

_NAMES = pa.array(EMISSIONS)

EMISSION = pa.dictionary(pa.int8(), pa.string())
OBSERVED_FOR = pa.duration("us")


def labelled(
    plan: JoinPlan,
    impressions: pa.RecordBatch,
    labels: Labels,
    actions: PendingActions,
    emission: str,
    observed_for: Int64s,
    trigger: npt.NDArray[np.int32] | None = None,
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
    emission
        One of `headrace.joiner.plan.emission.EMISSIONS`.
    observed_for
        How long after each impression its labels were as they are, microseconds,
        shape (n,).
    trigger
        The action stream for which each sample leaves, counted from 0, int32, shape (n,); None if
        it leaves for no action.
    """
    columns = impression_columns(plan, impressions)
    final = observed_for >= plan.settle_delay
    for stream, action in enumerate(plan.actions):
        columns += label_columns(action, stream, labels, actions, final)
    code = np.full(impressions.num_rows, EMISSIONS.index(emission), np.int8)
    columns.append(("emission", pa.DictionaryArray.from_arrays(code, _NAMES)))
    columns.append(("observed_for", pa.array(observed_for).cast(OBSERVED_FOR)))
    if plan.triggers:
        streams = pa.nulls(code.size, pa.int8()) if trigger is None else trigger.astype(np.int8)
        names = pa.array(plan.stream_names[1:], pa.string())
        columns.append(("trigger", pa.DictionaryArray.from_arrays(streams, names)))
    if plan.emission.mode == "elapsed":
        wait = plan.emission.wait(impressions.column(KEY0).to_numpy(), plan.longest_window)
        columns.append(("drawn_wait", pa.array(wait).cast(OBSERVED_FOR)))
    columns += [(name, impressions.column(name)) for name in (KEY0, KEY1)]
    if plan.sampling.by_group:
        columns += [(name, impressions.column(name)) for name in (GROUP0, GROUP1)]
    return _batch(columns)


def impression_columns(plan: JoinPlan, impressions: pa.RecordBatch) -> list[tuple[str, pa.Array]]:
    """Return what a sample shows of its impression: key, event time, columns."""
    columns = [(name, impressions.column(name)) for name in plan.columns[: plan.keys]]
    columns.append(("event_time", impressions.column(TIME).cast(TIMESTAMP)))
    return columns + [(name, impressions.column(name)) for name in plan.columns[plan.keys :]]


def sample_schema(plan: JoinPlan, types: pa.Schema) -> pa.Schema:
    """Return the schema of the samples that users see.

    Parameters
    ----------
    plan
        The join.
    types
        Type of each impression column.
    """
    return pa.schema(
        [
            *impression_fields(plan, types),
            *label_fields(plan),
            pa.field("emission", EMISSION),
            pa.field("observed_for", OBSERVED_FOR),
            *([pa.field("trigger", EMISSION)] if plan.triggers else []),
            *([pa.field("drawn_wait", OBSERVED_FOR)] if plan.emission.mode == "elapsed" else []),
            pa.field("weight", pa.float64()),
            pa.field("sampling_rate", pa.float64()),
            *(pa.field(f"weight_{name}", pa.float64()) for name in plan.sampling.published),
        ]
    )


def impression_fields(plan: JoinPlan, types: pa.Schema) -> list[pa.Field]:
    """Name and type of the columns of `impression_columns`."""
    fields = [pa.field(name, types.field(name).type) for name in plan.columns]
    return [*fields[: plan.keys], pa.field("event_time", TIMESTAMP), *fields[plan.keys :]]


def weighted(
    plan: JoinPlan, batch: pa.RecordBatch, emit: Int64s, selection: Selection
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
    selection
        How each row was chosen, shape (n,).
    """
    inclusion = selection.inclusion
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
        *((f"weight_{name}", pa.array(other)) for name, other in selection.published.items()),
        (EMIT, pa.array(emit)),
        (KEY0, batch.column(KEY0)),
        (KEY1, batch.column(KEY1)),
        (RATE, pa.array(selection.rates)),
    ]
    return _batch(columns)


def _batch(columns: list[tuple[str, pa.Array]]) -> pa.RecordBatch:
    names, arrays = zip(*columns, strict=True)
    return pa.RecordBatch.from_arrays(list(arrays), names=list(names))
