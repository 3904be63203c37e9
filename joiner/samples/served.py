"""What leaves for predictions as they are served, and for what they let expect.

Impressions when they are known, to be predicted, and when settled, to be scored; and how many
actions became known when.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from headrace.joiner.plan.plans import JoinPlan
from headrace.joiner.plan.rules import known_times
from headrace.joiner.samples.labels import Labels
from headrace.joiner.samples.output import JoinOutput
from headrace.joiner.state.columns import in_one
from headrace.joiner.state.settling import SettlingRows
from headrace.schemas.records.events import (
    COUNT,
    EMIT,
    KEY0,
    KEY1,
    OFFSET,
    RATE,
    SOURCE,
    STREAM,
    TIME,
)
from headrace.schemas.records.hashing import Int64s


def emit_served(plan: JoinPlan, source: int, batch: pa.RecordBatch, output: JoinOutput) -> None:
    """Emit those of a source's new impressions that are of the sample, as they become known.

    Copies of a key are among them: which is kept shows when they settle.
    """
    chosen = np.flatnonzero(plan.served.chosen(batch.column(KEY0).to_numpy()))
    if chosen.size == 0:
        return
    known = known_times(batch)[chosen]
    order = np.argsort(known, kind="stable")
    own = (*plan.served.columns, KEY0, KEY1, TIME, OFFSET)
    needed = list(dict.fromkeys((*own, *plan.sampling.columns)))
    rows = batch.select(needed).take(pa.array(chosen[order]))
    columns = {name: rows.column(name) for name in own}
    columns[EMIT] = pa.array(known[order])
    columns[SOURCE] = pa.array(np.full(chosen.size, source, np.int32))
    columns[RATE] = pa.array(plan.sampling.strata(rows).rates)
    output.served.append(pa.RecordBatch.from_pydict(columns))


def emit_arrivals(plan: JoinPlan, stream: int, batch: pa.RecordBatch, output: JoinOutput) -> None:
    """Emit how many of a source's new actions become known in each step of time."""
    step, count = np.unique(known_times(batch) // plan.served.step, return_counts=True)
    columns = {
        EMIT: pa.array((step + 1) * plan.served.step - 1),
        STREAM: pa.array(np.full(step.size, stream, np.int32)),
        COUNT: pa.array(count.astype(np.int64)),
    }
    output.arrivals.append(pa.RecordBatch.from_pydict(columns))


def emit_mature(
    plan: JoinPlan, rows: SettlingRows, survivors: Int64s, labels: Labels, output: JoinOutput
) -> None:
    """Emit the final labels of impressions that settled, of those that are of the sample."""
    chosen = np.flatnonzero(plan.served.chosen(rows.impressions.key0[survivors]))
    if chosen.size == 0:
        return
    streams = {action.name: stream for stream, action in enumerate(plan.actions)}
    own = [name for name in plan.served.labelled if name not in streams]
    parts = rows.take(survivors[chosen], (*own, KEY0, KEY1, TIME))
    batch = in_one(parts)
    columns = {name: batch.column(name) for name in (*own, KEY0, KEY1, TIME)}
    for name in plan.served.labelled:
        if name in streams:
            columns[name] = pa.array(labels.first[streams[name], chosen] >= 0)
    columns[EMIT] = pa.array(batch.column(TIME).to_numpy() + plan.settle_delay)
    output.mature.append(pa.RecordBatch.from_pydict(columns))
