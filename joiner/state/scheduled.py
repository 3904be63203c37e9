"""Impressions that wait for a first emission that comes after a part of the window."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from headrace.joiner.state.columns import in_one
from headrace.schemas.records.events import KEY0, TIME
from headrace.schemas.records.hashing import Int64s


class Scheduled:
    """Impressions and when they leave first, a part for each step of the clock."""

    def __init__(self) -> None:
        self.parts: list[tuple[pa.RecordBatch, Int64s]] = []
        """Impressions and their emit times, in each part in order of these."""

    def push(self, batch: pa.RecordBatch, emit: Int64s) -> None:
        """Add impressions in order of their emit times, shape (n,)."""
        self.parts.append((batch, emit))

    def pop_before(self, clock: int) -> tuple[pa.RecordBatch, Int64s] | None:
        """Take out those that leave before `clock`, in order of emit time, key, event time."""
        ready: list[tuple[pa.RecordBatch, Int64s]] = []
        rest: list[tuple[pa.RecordBatch, Int64s]] = []
        for batch, emit in self.parts:
            count = int(np.searchsorted(emit, clock, side="left"))
            if count:
                ready.append((batch.slice(0, count), emit[:count]))
            if count < emit.size:
                rest.append((batch.slice(count), emit[count:]))
        self.parts = rest
        if not ready:
            return None
        batch = in_one([batch for batch, _ in ready])
        emit = np.concatenate([emit for _, emit in ready])
        order = np.lexsort((batch.column(TIME).to_numpy(), batch.column(KEY0).to_numpy(), emit))
        return batch.take(pa.array(order)), emit[order]

    def export(self) -> list[tuple[pa.RecordBatch, Int64s]]:
        """Return the impressions and their emit times, in parts in order of these."""
        return self.parts

    def restore(self, parts: Iterable[tuple[pa.RecordBatch, Int64s]], clock: int) -> None:
        """Take over what `export` returned, but for what left before `clock`."""
        for batch, emit in parts:
            left = int(np.searchsorted(emit, clock, side="left"))
            if left < emit.size:
                self.push(batch.slice(left), emit[left:])
