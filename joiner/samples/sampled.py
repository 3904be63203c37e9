"""From labelled impressions to the samples that sampling keeps of them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from headrace.joiner.plan.plans import JoinPlan
from headrace.joiner.plan.sampling import Strata
from headrace.joiner.samples.labels import Labels
from headrace.joiner.samples.output import JoinOutput
from headrace.joiner.samples.rows import labelled, weighted
from headrace.joiner.state.actions import PendingActions
from headrace.joiner.state.columns import in_one
from headrace.joiner.state.groups import event_times
from headrace.joiner.state.settling import SettlingRows
from headrace.schemas.records.events import GROUP0, KEY0, TIME
from headrace.schemas.records.hashing import Bools, Int64s


def emit_settled(
    plan: JoinPlan,
    rows: SettlingRows,
    survivors: Int64s,
    labels: Labels,
    actions: PendingActions,
    output: JoinOutput,
) -> None:
    """Emit impressions that settled, given by their row numbers."""
    if survivors.size == 0:
        return
    if plan.sampling.columns:
        whole = in_one([part.select(plan.sampling.columns) for part in rows.take(survivors)])
        strata = plan.sampling.strata(whole)
    else:
        rates = np.full(survivors.size, plan.sampling.rate)
        strata = Strata(rates, np.zeros(survivors.size, np.bool_))
    selection = plan.sampling.select(rows.impressions.key0[survivors], labels.positive, strata)
    chosen = selection.kept
    if not chosen.all():
        output.dropped += int(chosen.size - np.count_nonzero(chosen))
        survivors, labels = survivors[chosen], labels.select(chosen)
        selection = selection.part(chosen)
    begin = 0
    for part in rows.take(survivors) if survivors.size else []:
        here = slice(begin, begin + part.num_rows)
        begin = here.stop
        observed = np.full(part.num_rows, plan.settle_delay)
        batch = labelled(plan, part, labels.select(here), actions, "window", observed)
        emit = rows.impressions.time[survivors[here]] + plan.settle_delay
        output.samples.append(weighted(plan, batch, emit, selection.part(here)))


def emit_early(
    plan: JoinPlan,
    batch: pa.RecordBatch,
    labels: Labels,
    emit: Int64s,
    emission: str,
    actions: PendingActions,
    output: JoinOutput,
    trigger: npt.NDArray[np.int32] | None = None,
) -> None:
    """Emit impressions before they settle, in order of their emit times; see `labelled`."""
    selection = plan.sampling.select(
        batch.column(KEY0).to_numpy(), labels.positive, plan.sampling.strata(batch)
    )
    chosen = selection.kept
    output.dropped += int(chosen.size - np.count_nonzero(chosen))
    if not chosen.any():
        return
    batch, labels, emit = batch.filter(pa.array(chosen)), labels.select(chosen), emit[chosen]
    observed = emit - batch.column(TIME).to_numpy()
    trigger = None if trigger is None else trigger[chosen]
    sample = labelled(plan, batch, labels, actions, emission, observed, trigger)
    output.samples.append(weighted(plan, sample, emit, selection.part(chosen)))


def emit_held(plan: JoinPlan, batch: pa.RecordBatch, positive: Bools, output: JoinOutput) -> None:
    """Emit labelled rows whose groups have been judged.

    Parameters
    ----------
    plan
        The join.
    batch, positive
        The rows, and whether the unit of each is positive.
    output
        Where to.
    """
    output.settle(0, batch.num_rows)
    for stream, action in enumerate(plan.actions, start=1):
        output.settle(stream, pc.sum(batch.column(f"{action.name}_count")).as_py())
    unit = batch.column(GROUP0).to_numpy()
    selection = plan.sampling.select(unit, positive, plan.sampling.strata(batch))
    chosen = selection.kept
    output.dropped += int(chosen.size - np.count_nonzero(chosen))
    if chosen.any():
        batch = batch.filter(pa.array(chosen))
        emit = event_times(batch) + plan.release_delay
        output.samples.append(weighted(plan, batch, emit, selection.part(chosen)))
