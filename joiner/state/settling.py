"""Rows of several segments that settle together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from headrace.joiner.state.hashqueue import Run
from headrace.joiner.state.known import known_times
from headrace.schemas.records.events import KEY0, KEY1, OFFSET, TIME
from headrace.schemas.records.hashing import Int64s, UInt64s

_FEW_ROWS = 1_024


@dataclass(frozen=True)
class SettlingRows:
    """Rows that settle together, in order of (event time, source, offset).

    Parameters
    ----------
    parts
        All columns, in one or more parts.
    order
        Where each row is in the parts together; None if they are in order.
    time, known, key0, key1, source
        Shape (n,); `known` is ``max(time, arrival progress)``.
    """

    parts: list[pa.RecordBatch]
    order: Int64s | None
    time: Int64s
    known: Int64s
    key0: UInt64s
    key1: UInt64s
    source: Int64s

    def take(self, rows: Int64s) -> list[pa.RecordBatch]:
        """Return all columns of some rows, by ascending row number, in one or more parts."""
        if self.order is not None:
            return [pa.concat_batches(self.parts).take(pa.array(self.order[rows]))]
        if rows.size < _FEW_ROWS * len(self.parts):
            # Many small parts cost more by their number than one copy by its size.
            whole = pa.concat_batches(self.parts)
            return [whole if rows.size == self.time.size else whole.take(pa.array(rows))]
        if rows.size == self.time.size:
            return self.parts
        ends = np.cumsum([part.num_rows for part in self.parts])
        pieces = np.split(rows, np.searchsorted(rows, ends[:-1]))
        return [
            part.take(pa.array(piece - (end - part.num_rows)))
            for part, piece, end in zip(self.parts, pieces, ends, strict=True)
            if piece.size
        ]


def gather(runs: list[Run]) -> SettlingRows:
    """Put runs together in order of (event time, source, offset)."""
    parts = [run.batch for run in runs]
    time = column(parts, TIME)
    source = np.repeat(np.array([run.source for run in runs]), [part.num_rows for part in parts])
    order = None
    if len(runs) > 1:
        ends = np.cumsum([part.num_rows for part in parts])
        firsts, lasts = time[ends[:-1]], time[ends[:-1] - 1]
        if (firsts <= lasts).any():
            order = np.lexsort((column(parts, OFFSET), source, time))

    def ordered(values: Any) -> Any:
        return values if order is None else values[order]

    return SettlingRows(
        parts,
        order,
        ordered(time),
        ordered(joined([known_times(part) for part in parts])),
        ordered(column(parts, KEY0)),
        ordered(column(parts, KEY1)),
        ordered(source),
    )


def column(parts: list[pa.RecordBatch], name: str) -> Any:
    """Return a column of several parts as one array."""
    return joined([part.column(name).to_numpy() for part in parts])


def joined(pieces: list[Any]) -> Any:
    """Return arrays as one, without a copy if it is one."""
    return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
