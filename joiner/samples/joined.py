"""Joined actions: each with the columns of its impression, as soon as both are known."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numba as nb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headrace.joiner.journal.cells import Journal
from headrace.joiner.plan.plans import ActionPlan, JoinPlan
from headrace.joiner.samples.labels import TIMESTAMP, carried_columns, carried_fields
from headrace.joiner.samples.rows import impression_columns, impression_fields
from headrace.joiner.state.actions import PendingActions
from headrace.joiner.state.arrivals import Pairs
from headrace.joiner.state.hashqueue import HashQueue
from headrace.joiner.state.retained import Retained
from headrace.schemas.records.events import (
    ACTION_OFFSET,
    ACTION_SOURCE,
    ACTION_TIME,
    ARRIVAL,
    EMIT,
    KEY0,
    KEY1,
    TIME,
)
from headrace.schemas.records.hashing import Int64s, UInt64s


@nb.njit(cache=True, nogil=True)
def _locate(r_time, r_key0, r_key1, r_arrival, time, key0, key1, known, out):
    """Find each impression among rows ordered by event time and position: the first of equals."""
    for i in range(time.size):
        row = np.searchsorted(r_time, time[i])
        while row < r_time.size and r_time[row] == time[i]:
            if (
                r_key0[row] == key0[i]
                and r_key1[row] == key1[i]
                and max(r_time[row], r_arrival[row]) == known[i]
            ):
                out[i] = row
                break
            row += 1


def locate(batch: pa.RecordBatch, wanted: Impressions) -> Int64s:
    """Return the row of each impression in a batch, -1 where it is not there; shape (n,)."""
    out = np.full(wanted.time.size, -1, np.int64)
    columns = (batch.column(name).to_numpy() for name in (TIME, KEY0, KEY1, ARRIVAL))
    _locate(*columns, wanted.time, wanted.key0, wanted.key1, wanted.known, out)
    return out


@dataclass(frozen=True)
class Impressions:
    """Names of impressions; each column of shape (n,)."""

    key0: UInt64s
    key1: UInt64s
    time: Int64s
    known: Int64s

    def select(self, rows: npt.NDArray[np.bool_] | Int64s) -> Impressions:
        """Return some of them."""
        return Impressions(self.key0[rows], self.key1[rows], self.time[rows], self.known[rows])


class Finder:
    """Finds the columns of kept impressions, in the queue before they settle, then as retained.

    Of copies that are equal in key, event time and when they were known the one with
    the smallest (source, offset) is kept.

    Parameters
    ----------
    queue, journal
        Where the waiting ones are.
    retained
        The settled ones.
    settled_up_to
        Greatest event time of what has settled.
    """

    def __init__(
        self, queue: HashQueue, journal: Journal, retained: Retained, settled_up_to: int
    ) -> None:
        self.queue, self.journal, self.retained = queue, journal, retained
        self.settled_up_to = settled_up_to

    def find(self, wanted: Impressions, hits: Counter[str]) -> pa.RecordBatch:
        """Return all columns of impressions, a row each; count where they were found."""
        parts: list[pa.RecordBatch] = []
        where = np.full(wanted.time.size, -1, np.int64)
        found = 0

        def take(batch: pa.RecordBatch, places: Int64s, row: Int64s, hit: str) -> None:
            nonlocal found
            here = row >= 0
            if here.any():
                parts.append(batch.take(pa.array(row[here])))
                count = int(np.count_nonzero(here))
                where[places[here]] = found + np.arange(count)
                found += count
                hits[hit] += count

        settled = np.flatnonzero(wanted.time <= self.settled_up_to)
        if settled.size:
            old = wanted.select(settled)
            batch, row = self.retained.find(old.key0, old.key1, old.time)
            if batch is not None:
                take(batch, settled, row, "memory")
        times = np.sort(wanted.time[wanted.time > self.settled_up_to])
        segments = [
            segment
            for segment in self.queue.waiting.values()
            if np.searchsorted(times, segment.last_time, side="right")
            > np.searchsorted(times, segment.first_time)
        ]
        segments.sort(key=lambda segment: segment.name)
        batches, read_back = self.queue.look_up(segments, self.journal)
        for segment in segments:
            missing = np.flatnonzero((where < 0) & (wanted.time > self.settled_up_to))
            if missing.size == 0:
                break
            batch = batches[segment.name]
            hit = "journal" if segment.name in read_back else "memory"
            take(batch, missing, locate(batch, wanted.select(missing)), hit)
        return pa.concat_batches(parts).take(pa.array(where))


def joined_rows(
    plan: JoinPlan, stream: int, impressions: pa.RecordBatch, pairs: Pairs, actions: PendingActions
) -> pa.RecordBatch:
    """Put actions of one stream beside their impressions.

    Parameters
    ----------
    plan, stream
        The join, and the number of the action stream.
    impressions
        The impression of each pair, shape (n, ...).
    pairs, actions
        The actions.
    """
    action = plan.actions[stream]
    entry = pairs.entry
    columns = impression_columns(plan, impressions)
    columns.append((f"{action.name}_time", pa.array(actions.time[entry]).cast(TIMESTAMP)))
    columns += carried_columns(action, entry, actions)
    columns += [
        (EMIT, pa.array(pairs.at)),
        (KEY0, impressions.column(KEY0)),
        (KEY1, impressions.column(KEY1)),
        (ACTION_TIME, pa.array(actions.time[entry])),
        (ACTION_SOURCE, pa.array(actions.source[entry])),
        (ACTION_OFFSET, pa.array(actions.offset[entry])),
    ]
    names, arrays = zip(*columns, strict=True)
    batch = pa.RecordBatch.from_arrays(list(arrays), names=list(names))
    order = np.argsort(pairs.at, kind="stable")
    return batch.take(pa.array(order))


def joined_schema(plan: JoinPlan, action: ActionPlan, types: pa.Schema) -> pa.Schema:
    """Return the schema of a stream's joined actions as users see them."""
    return pa.schema(
        [
            *impression_fields(plan, types),
            pa.field(f"{action.name}_time", TIMESTAMP),
            *carried_fields(action),
        ]
    )
