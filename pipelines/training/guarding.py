"""What guards decided, and the samples that they held back, as rows of a run's outputs."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from headrace.learners.learning import Learned
from headrace.monitoring.guard import GUARD_SCHEMA, HELD_FOR, HELD_WHY
from headrace.schemas.records.events import EMIT, without_reserved


def journal_of(learned: Learned) -> pa.RecordBatch | None:
    """Return what guards decided in an epoch, with `EMIT`; None for nothing."""
    if not learned.journal:
        return None
    emit = pa.array([row["decided"] for row in learned.journal], pa.int64())
    rows = pa.RecordBatch.from_pylist(
        [{name: row[name] for name in GUARD_SCHEMA.names} for row in learned.journal], GUARD_SCHEMA
    )
    return rows.append_column(EMIT, emit)


def quarantined(learned: Learned) -> pa.RecordBatch | None:
    """Return the samples of an epoch that were held back, with `EMIT`; None for none.

    They are in canonical order; one that was held back for several labels is there for each.
    """
    if not learned.held:
        return None
    epoch = learned.epoch
    rows = np.concatenate([held.rows for held in learned.held.values()])
    # Of rows that an earlier run has put out there is no place in the order, and none is held.
    rank = np.empty(sum(part.num_rows for part in epoch.parts), np.int64)
    rank[epoch.order] = np.arange(epoch.order.size)
    order = np.argsort(rank[rows], kind="stable")
    columns = without_reserved(epoch.parts[0]).schema.names
    parts = [part.select([*columns, EMIT]) for part in epoch.parts]
    table = pa.Table.from_batches(parts).take(pa.array(rows[order]))
    labels = pa.chunked_array(
        [pa.array([label] * held.rows.size, pa.string()) for label, held in learned.held.items()]
    )
    reasons = pa.chunked_array(
        [held.reasons.dictionary_decode().cast(pa.string()) for held in learned.held.values()]
    )
    for name, values in ((HELD_FOR, labels), (HELD_WHY, reasons)):
        table = table.append_column(name, values.take(pa.array(order)))
    return table.combine_chunks().to_batches()[0]
