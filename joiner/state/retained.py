"""Settled impressions that late actions may still correct."""

from __future__ import annotations

import numba as nb
import numpy as np
import pyarrow as pa

from headrace.joiner.plan.plans import JoinPlan
from headrace.joiner.plan.sampling import Selection
from headrace.joiner.samples.labels import label
from headrace.joiner.samples.output import JoinOutput
from headrace.joiner.samples.rows import labelled, weighted
from headrace.joiner.state.actions import PendingActions
from headrace.schemas.records.events import (
    ACTION_OFFSET,
    ACTION_SOURCE,
    ACTION_TIME,
    KEY0,
    KEY1,
    TIME,
)
from headrace.schemas.records.hashing import Int64s, UInt64s


@nb.njit(cache=True, nogil=True)
def _locate(r_time, r_key0, r_key1, time, key0, key1, out):
    for i in range(time.size):
        row = np.searchsorted(r_time, time[i])
        while row < r_time.size and r_time[row] == time[i]:
            if r_key0[row] == key0[i] and r_key1[row] == key1[i]:
                out[i] = row
                break
            row += 1


class Retained:
    """The kept impressions of the last `JoinPlan.retention`, with all their columns.

    Parameters
    ----------
    plan
        The join.
    """

    def __init__(self, plan: JoinPlan) -> None:
        self.plan = plan
        self.batches: list[pa.RecordBatch] = []
        """Each in order of event time; no two of their rows have one key and time."""

    def push(self, batch: pa.RecordBatch) -> None:
        """Add impressions, in order of event time."""
        self.batches.append(batch)

    def expire(self, bound: int) -> None:
        """Let go of batches in which all event times are up to `bound`."""
        self.batches = [b for b in self.batches if b.column(TIME)[-1].as_py() > bound]

    def find(
        self, key0: UInt64s, key1: UInt64s, time: Int64s
    ) -> tuple[pa.RecordBatch | None, Int64s]:
        """Look impressions up.

        Returns
        -------
        batch, where
            All columns of those that are retained, None if none is, and the row of
            each, -1 if it is not; int64, shape (n,).
        """
        where = np.full(time.size, -1, np.int64)
        parts: list[pa.RecordBatch] = []
        found = 0
        for batch in self.batches:
            r_time = batch.column(TIME).to_numpy()
            wanted = np.flatnonzero((time >= r_time[0]) & (time <= r_time[-1]))
            row = np.full(wanted.size, -1, np.int64)
            keys = (batch.column(name).to_numpy() for name in (KEY0, KEY1))
            _locate(r_time, *keys, time[wanted], key0[wanted], key1[wanted], row)
            here = row >= 0
            if here.any():
                parts.append(batch.take(pa.array(row[here])))
                where[wanted[here]] = found + np.arange(np.count_nonzero(here))
                found += int(np.count_nonzero(here))
        return (pa.concat_batches(parts) if parts else None), where

    def correct(self, output: JoinOutput, actions: PendingActions, clock: int) -> None:
        """Emit a correction for each late action known before `clock` that would have counted.

        A correction is the sample as it stands then: with all that counted, and with
        all corrections before this one. An action whose id did so leaves none.
        """
        late = actions.take_uncorrected(clock)
        if late.size == 0:
            return
        plan = self.plan
        matches, repeated = actions.counted_up_to(late)
        labels = label(late.size, matches.row, matches.entry, actions, len(plan.actions))
        rows = np.flatnonzero(~repeated)
        if rows.size == 0:
            return
        rows = rows[np.argsort(actions.arrival[late[rows]], kind="stable")]
        late = late[rows]
        emit = actions.arrival[late]
        batch, where = self.find(actions.key0[late], actions.key1[late], actions.met[late])
        assert batch is not None  # what is known before it is forgotten is retained until then
        impressions = batch.take(pa.array(where))
        observed = emit - actions.met[late]
        sample = labelled(plan, impressions, labels.select(rows), actions, "correction", observed)
        one = np.ones(rows.size)
        selection = Selection(one > 0, one, one, dict.fromkeys(plan.sampling.published, one))
        whole = weighted(plan, sample, emit, selection)
        for name, column in (
            (ACTION_TIME, actions.time[late]),
            (ACTION_SOURCE, actions.source[late]),
            (ACTION_OFFSET, actions.offset[late]),
        ):
            whole = whole.append_column(name, pa.array(column))
        output.corrections.append(whole)
