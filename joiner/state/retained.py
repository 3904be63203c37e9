"""Settled impressions that late actions may still correct."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa

from headrace.joiner.plan.plans import JoinPlan
from headrace.joiner.state.expected import expect_impressions
from headrace.joiner.state.gathered import Gathered
from headrace.schemas.records.events import TIME
from headrace.schemas.records.hashing import Bools


class Retained:
    """The kept impressions of the last `JoinPlan.retention`, with all their columns.

    Parameters
    ----------
    plan
        The join.
    """

    def __init__(self, plan: JoinPlan) -> None:
        self.plan = plan
        self.lifetime = plan.retained_for
        self.batches: list[pa.RecordBatch] = []
        """Each in order of event time; no two of their rows have one key and time."""

    def push(self, batch: pa.RecordBatch) -> None:
        """Add impressions, in order of event time."""
        self.batches.append(batch)

    def expire(self, clock: int) -> None:
        """Let go of batches in which all impressions are past their retention."""
        bound = clock - self.lifetime
        self.batches = [b for b in self.batches if b.column(TIME)[-1].as_py() > bound]

    def find(self, gathered: Gathered, among: Bools) -> int:
        """Take the columns of some of the sought impressions; return how many were found."""
        return sum(
            gathered.take_from(batch, gathered.missing(among), has_copies=False)
            for batch in self.batches
        )

    def export(self) -> list[pa.RecordBatch]:
        """Return the impressions, in each batch in order of event time."""
        return self.batches

    def restore(self, batches: Iterable[pa.RecordBatch]) -> None:
        """Take over what `export` returned, in any order.

        Raises
        ------
        DamagedError
            If it is not impressions of the plan.
        """
        parts = list(batches)
        for batch in parts:
            expect_impressions(batch, self.plan, "retained impressions")
        for batch in sorted(parts, key=lambda batch: batch.column(TIME)[0].as_py()):
            self.push(batch)
