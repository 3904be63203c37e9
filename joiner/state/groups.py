"""Settled rows that wait until their group can be judged."""

from __future__ import annotations

from collections.abc import Iterable

import numba as nb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headrace.joiner.journal.pieces import Positives
from headrace.joiner.plan.plans import JoinPlan
from headrace.joiner.state.columns import in_one
from headrace.schemas.records.events import GROUP0, GROUP1
from headrace.schemas.records.hashing import Bools, Int64s, UInt64s


@nb.njit(inline="always")
def _before(a0, a1, at, b0, b1, bt):
    if a0 != b0:
        return a0 < b0
    if a1 != b1:
        return a1 < b1
    return at < bt


@nb.njit(cache=True, nogil=True)
def _near_positive(group0, group1, time, positives, span, out):
    for i in range(time.size):
        low, high = 0, positives.time.size
        earliest = time[i] - span
        while low < high:
            middle = (low + high) // 2
            if _before(
                positives.group0[middle], positives.group1[middle], positives.time[middle],
                group0[i], group1[i], earliest,
            ):  # fmt: skip
                low = middle + 1
            else:
                high = middle
        out[i] = (
            low < positives.time.size
            and positives.group0[low] == group0[i]
            and positives.group1[low] == group1[i]
            and positives.time[low] <= time[i] + span
        )


class HeldRows:
    """Labelled rows by event time, with the positives near them.

    Parameters
    ----------
    plan
        The join. Members of a group count together up to its `group_span` apart,
        closed at both ends; a row is positive if any of its labels is, or if
        sampling keeps it anyway.
    """

    def __init__(self, plan: JoinPlan) -> None:
        self.span = plan.group_span
        self.release_delay, self.lifetime = plan.release_delay, plan.held_for
        self.labels = tuple(action.name for action in plan.actions)
        self.keep = plan.sampling.keep
        self.batches: list[pa.RecordBatch] = []
        self.positives = Positives.none()
        """Of the rows that wait and of those that have left, in order of group and time."""

    def push(self, batch: pa.RecordBatch) -> None:
        """Add settled rows, in order of event time."""
        positive = self._positive(batch)
        group0, group1 = _groups(batch)
        new = Positives(group0, group1, event_times(batch)).select(positive)
        self.positives = self.positives.ordered_with(new)
        self.batches.append(batch)

    def release(self, clock: int) -> tuple[pa.RecordBatch, Bools] | None:
        """Take out the rows whose group can be judged, and whether their unit is positive."""
        out, rest = [], []
        released_until = clock - self.release_delay
        for batch in self.batches:
            ready = int(np.searchsorted(event_times(batch), released_until, side="right"))
            if ready:
                out.append(batch.slice(0, ready))
            if ready < batch.num_rows:
                rest.append(batch.slice(ready))
        if not out:
            return None
        self.batches = rest
        rows = in_one(out)
        group0, group1 = _groups(rows)
        positive = np.empty(rows.num_rows, np.bool_)
        _near_positive(group0, group1, event_times(rows), self.positives, self.span, positive)
        near = self.positives.time > released_until - self.span
        self.positives = self.positives.select(near)
        return rows, positive

    def export(self, clock: int) -> tuple[list[pa.RecordBatch], Positives]:
        """Return the rows that wait, and the positives for which others may still ask."""
        near = self.positives.time > clock - self.lifetime
        return self.batches, self.positives.select(near)

    def restore(
        self, batches: Iterable[pa.RecordBatch], positives: Iterable[Positives], clock: int
    ) -> None:
        """Take over what `export` returned, in any order, and rows that have left by `clock`."""
        for batch in sorted(batches, key=lambda batch: batch.column("event_time")[0].as_py()):
            self.push(batch)
        for part in positives:
            self.positives = self.positives.ordered_with(part)
        # What has left counts for its group alone.
        released_until = clock - self.release_delay
        waiting = (b.filter(pa.array(event_times(b) > released_until)) for b in self.batches)
        self.batches = [batch for batch in waiting if batch.num_rows]

    def _positive(self, batch: pa.RecordBatch) -> Bools:
        positive = np.zeros(batch.num_rows, np.bool_)
        for name in self.labels:
            positive |= batch.column(name).to_numpy(zero_copy_only=False)
        return positive if self.keep is None else positive | self.keep.evaluate(batch)


def event_times(batch: pa.RecordBatch) -> Int64s:
    """Return the event times of samples as int64 microseconds, shape (n,)."""
    return pc.cast(batch.column("event_time"), pa.int64()).to_numpy()


def _groups(batch: pa.RecordBatch) -> tuple[UInt64s, UInt64s]:
    return batch.column(GROUP0).to_numpy(), batch.column(GROUP1).to_numpy()
