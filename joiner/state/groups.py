"""Settled rows that wait until their group can be judged."""

from __future__ import annotations

import numba as nb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from headrace.joiner.plan.plans import JoinPlan
from headrace.schemas.records.events import GROUP0, GROUP1
from headrace.schemas.records.hashing import Int64s, UInt64s


@nb.njit(inline="always")
def _before(a0, a1, at, b0, b1, bt):
    if a0 != b0:
        return a0 < b0
    if a1 != b1:
        return a1 < b1
    return at < bt


@nb.njit(cache=True, nogil=True)
def _near_positive(group0, group1, time, p_group0, p_group1, p_time, span, out):
    for i in range(time.size):
        low, high = 0, p_time.size
        earliest = time[i] - span
        while low < high:
            middle = (low + high) // 2
            if _before(
                p_group0[middle], p_group1[middle], p_time[middle], group0[i], group1[i], earliest
            ):
                low = middle + 1
            else:
                high = middle
        out[i] = (
            low < p_time.size
            and p_group0[low] == group0[i]
            and p_group1[low] == group1[i]
            and p_time[low] <= time[i] + span
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
        self.labels = tuple(action.name for action in plan.actions)
        self.keep = plan.sampling.keep
        self.batches: list[pa.RecordBatch] = []
        self.positives: tuple[UInt64s, UInt64s, Int64s] = (
            np.empty(0, np.uint64),
            np.empty(0, np.uint64),
            np.empty(0, np.int64),
        )

    def push(self, batch: pa.RecordBatch, released_up_to: int) -> None:
        """Add settled rows, ordered by event time; those released count as positives only."""
        time = event_times(batch)
        positive = self._positive(batch)
        group0, group1 = _groups(batch)
        self.remember_positives(group0[positive], group1[positive], time[positive])
        waiting = batch.filter(pa.array(time > released_up_to))
        if waiting.num_rows:
            self.batches.append(waiting)

    def remember_positives(self, group0: UInt64s, group1: UInt64s, time: Int64s) -> None:
        """Add positives whose rows have left."""
        new = (group0, group1, time)
        together = [np.concatenate(pair) for pair in zip(self.positives, new, strict=True)]
        order = np.lexsort((together[2], together[1], together[0]))
        self.positives = (together[0][order], together[1][order], together[2][order])

    def pop_until(self, bound: int) -> tuple[pa.RecordBatch, npt.NDArray[np.bool_]] | None:
        """Take out the rows with event time up to `bound`, and whether their unit is positive."""
        out, rest = [], []
        for batch in self.batches:
            ready = int(np.searchsorted(event_times(batch), bound, side="right"))
            if ready:
                out.append(batch.slice(0, ready))
            if ready < batch.num_rows:
                rest.append(batch.slice(ready))
        if not out:
            return None
        self.batches = rest
        rows = pa.concat_batches(out)
        group0, group1 = _groups(rows)
        positive = np.empty(rows.num_rows, np.bool_)
        _near_positive(group0, group1, event_times(rows), *self.positives, self.span, positive)
        near = self.positives[2] > bound - self.span
        self.positives = tuple(column[near] for column in self.positives)  # type: ignore[assignment]
        return rows, positive

    def _positive(self, batch: pa.RecordBatch) -> npt.NDArray[np.bool_]:
        positive = np.zeros(batch.num_rows, np.bool_)
        for name in self.labels:
            positive |= batch.column(name).to_numpy(zero_copy_only=False)
        return positive if self.keep is None else positive | self.keep.evaluate(batch)


def event_times(batch: pa.RecordBatch) -> Int64s:
    """Return the event times of samples as int64 microseconds, shape (n,)."""
    return pc.cast(batch.column("event_time"), pa.int64()).to_numpy()


def _groups(batch: pa.RecordBatch) -> tuple[UInt64s, UInt64s]:
    return batch.column(GROUP0).to_numpy(), batch.column(GROUP1).to_numpy()
