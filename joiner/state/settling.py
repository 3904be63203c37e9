"""Rows of several segments that settle together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from headrace.joiner.plan.rules import known_times
from headrace.joiner.state.columns import as_one, column, in_one
from headrace.joiner.state.hashqueue import SettlingSlice
from headrace.joiner.state.impressions import Impressions
from headrace.schemas.records.events import KEY0, KEY1, OFFSET, TIME
from headrace.schemas.records.hashing import Int64s

_FEW_ROWS = 1_024


@dataclass(frozen=True)
class SettlingRows:
    """Rows that settle together, in order of (event time, source, offset).

    Parameters
    ----------
    parts
        All columns, in one or more parts.
    order
        Where each row is in the parts together, shape (n,); None if they are in order.
    impressions
        Keys and times of the rows, shape (n,).
    source
        Number of the source of each, int64, shape (n,).
    """

    parts: list[pa.RecordBatch]
    order: Int64s | None
    impressions: Impressions
    source: Int64s

    @property
    def size(self) -> int:
        """Number of rows."""
        return self.source.size

    def ordered(self, values: Any) -> Any:
        """Put what was said of the rows of the slices, shape (n,), into the order of these."""
        return values if self.order is None else values[self.order]

    def take(self, rows: Int64s, columns: tuple[str, ...] | None = None) -> list[pa.RecordBatch]:
        """Return some rows, by ascending row number, in one or more parts.

        With all columns, or those named.
        """
        parts = self.parts
        if columns is not None:
            parts = [part.select(list(columns)) for part in parts]
        if self.order is not None:
            return [in_one(parts).take(pa.array(self.order[rows]))]
        if rows.size < _FEW_ROWS * len(parts):
            # Many small parts cost more by their number than one copy by its size.
            whole = in_one(parts)
            return [whole if rows.size == self.size else whole.take(pa.array(rows))]
        if rows.size == self.size:
            return parts
        ends = np.cumsum([part.num_rows for part in parts])
        pieces = np.split(rows, np.searchsorted(rows, ends[:-1]))
        return [
            part.take(pa.array(piece - (end - part.num_rows)))
            for part, piece, end in zip(parts, pieces, ends, strict=True)
            if piece.size
        ]

    def columns(self, rows: Int64s, names: tuple[str, ...]) -> pa.RecordBatch:
        """Return some columns of some rows, by ascending number, perhaps some more than once."""
        if self.order is not None:
            once, place = np.unique(rows, return_inverse=True)
            return self.take(once, names)[0].take(pa.array(place))
        ends = np.cumsum([part.num_rows for part in self.parts])
        pieces = np.split(rows, np.searchsorted(rows, ends[:-1]))
        parts = []
        for part, piece, end in zip(self.parts, pieces, ends, strict=True):
            if piece.size:
                at = pa.array(piece - (end - part.num_rows))
                parts.append([part.column(name).take(at) for name in names])
        columns = [pa.concat_arrays(pieces) for pieces in zip(*parts, strict=True)]
        return pa.RecordBatch.from_arrays(columns, names=list(names))


def gather(slices: list[SettlingSlice]) -> SettlingRows:
    """Put slices together in order of (event time, source, offset)."""
    parts = [part.batch for part in slices]
    sizes = [batch.num_rows for batch in parts]
    key0, key1, time = (column(parts, name) for name in (KEY0, KEY1, TIME))
    known = as_one([known_times(batch) for batch in parts])
    impressions = Impressions(key0, key1, time, known)
    source = np.repeat(np.array([part.name[0] for part in slices]), sizes)
    ends = np.cumsum(sizes)[:-1]
    if (time[ends] > time[ends - 1]).all():
        return SettlingRows(parts, None, impressions, source)
    order = np.lexsort((column(parts, OFFSET), source, time))
    return SettlingRows(parts, order, impressions.select(order), source[order])
