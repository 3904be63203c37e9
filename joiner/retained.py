"""Settled impressions that late actions may still correct."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from joiner.actions import PendingActions
from joiner.labels import label
from joiner.output import JoinOutput
from joiner.plan import JoinPlan
from joiner.samples import labelled, weighted
from joiner.sampling import Selection
from schemas.events import KEY0, KEY1, TIME
from schemas.hashing import Int64s


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

    def push(self, batch: pa.RecordBatch) -> None:
        """Add impressions, in order of event time."""
        self.batches.append(batch)

    def expire(self, bound: int) -> None:
        """Let go of batches in which all event times are up to `bound`."""
        self.batches = [b for b in self.batches if b.column(TIME)[-1].as_py() > bound]

    def correct(
        self, output: JoinOutput, actions: PendingActions, late: Int64s, time: Int64s
    ) -> None:
        """Emit a correction for each late action whose impression is retained.

        Parameters
        ----------
        output
            Where to.
        actions, late, time
            The actions, and event times of their impressions, shape (n,).
        """
        if not self.batches:
            return
        for entry, impression_time in zip(late.tolist(), time.tolist(), strict=True):
            impression = self._find(actions, entry, impression_time)
            if impression is not None:
                self._emit(output, impression, np.array([entry]), impression_time, actions)

    def _find(self, actions: PendingActions, entry: int, time: int) -> pa.RecordBatch | None:
        for batch in self.batches:
            same = (
                (batch.column(KEY0).to_numpy() == actions.key0[entry])
                & (batch.column(KEY1).to_numpy() == actions.key1[entry])
                & (batch.column(TIME).to_numpy() == time)
            )
            if same.any():
                return batch.slice(int(np.flatnonzero(same)[0]), 1)
        return None

    def _emit(
        self,
        output: JoinOutput,
        impression: pa.RecordBatch,
        entry: Int64s,
        time: int,
        actions: PendingActions,
    ) -> None:
        plan = self.plan
        arrival = int(actions.arrival[entry[0]])
        if arrival >= time + plan.settle_delay + plan.retention:
            return
        labels = label(1, np.zeros(1, np.int64), entry, actions, len(plan.actions))
        observed = np.array([arrival - time])
        batch = labelled(plan, impression, labels, actions, "correction", observed)
        one = np.ones(1)
        selection = Selection(one > 0, one, one, dict.fromkeys(plan.sampling.published, one))
        output.corrections.append(weighted(plan, batch, np.array([arrival]), selection))
