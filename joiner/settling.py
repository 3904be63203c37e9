"""Rows of several segments that settle together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from joiner.hashqueue import HashQueue, Run
from joiner.journal import Journal
from schemas.events import OFFSET
from schemas.hashing import Int64s, UInt64s


@dataclass(frozen=True)
class SettlingRows:
    """Rows that settle together, in order of (event time, source, offset)."""

    parts: list[pa.RecordBatch]
    order: Int64s | None
    time: Int64s
    arrival: Int64s
    key0: UInt64s
    key1: UInt64s
    source: Int64s

    def take(self, rows: Int64s) -> list[pa.RecordBatch]:
        """Return all columns of some rows, by ascending row number, in one or more parts."""
        if self.order is not None:
            return [pa.concat_batches(self.parts).take(pa.array(self.order[rows]))]
        if rows.size == self.time.size:
            return self.parts
        ends = np.cumsum([part.num_rows for part in self.parts])
        pieces = np.split(rows, np.searchsorted(rows, ends[:-1]))
        return [
            part.take(pa.array(piece - (end - part.num_rows)))
            for part, piece, end in zip(self.parts, pieces, ends, strict=True)
            if piece.size
        ]


def gather(runs: list[Run], queue: HashQueue, journal: Journal) -> SettlingRows:
    """Put runs together in order of (event time, source, offset)."""
    parts = [queue.payload(run, journal) for run in runs]

    def column(name: str) -> Any:
        pieces = [getattr(run.segment, name)[run.begin : run.end] for run in runs]
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

    time = column("time")
    source = np.repeat(
        np.array([run.segment.source for run in runs]), [run.end - run.begin for run in runs]
    )
    order = None
    if len(runs) > 1:
        firsts = np.array([run.segment.time[run.begin] for run in runs])
        lasts = np.array([run.segment.time[run.end - 1] for run in runs])
        if (firsts[1:] <= lasts[:-1]).any():
            offset = np.concatenate([part.column(OFFSET).to_numpy() for part in parts])
            order = np.lexsort((offset, source, time))

    def ordered(values: Any) -> Any:
        return values if order is None else values[order]

    return SettlingRows(
        parts,
        order,
        ordered(time),
        ordered(column("arrival")),
        ordered(column("key0")),
        ordered(column("key1")),
        ordered(source),
    )
