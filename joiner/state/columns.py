"""Columns of batches as arrays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from headrace.schemas.errors import DamagedError


def as_one(pieces: list[Any]) -> Any:
    """Return arrays as one, without a copy if there is only one."""
    return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)


def column(parts: list[pa.RecordBatch], name: str) -> Any:
    """Return a column of several parts as one array, shape (n,)."""
    return as_one([part.column(name).to_numpy() for part in parts])


def in_one(batches: Iterable[pa.RecordBatch]) -> pa.RecordBatch:
    """Return rows as one batch; some may come from a restored state.

    Raises
    ------
    DamagedError
        If they have not the same columns.
    """
    parts = list(batches)
    if len(parts) == 1:
        return parts[0]
    try:
        return pa.concat_batches(parts)
    except pa.ArrowInvalid as error:
        why = " ".join(str(error).split())[:200]
        fact = f"rows of a restored state have other columns than those of the log ({why})"
        raise DamagedError("join", fact) from error


_MOST_ROWS = 8_192


def together(batches: Iterable[pa.RecordBatch], time: str) -> Iterator[pa.RecordBatch]:
    """Put neighbouring small batches together where that keeps the order of a column of times."""
    parts: list[pa.RecordBatch] = []
    for batch in batches:
        if parts and (
            sum(part.num_rows for part in parts) + batch.num_rows > _MOST_ROWS
            or _at(batch, time, 0) < _at(parts[-1], time, -1)
        ):
            yield in_one(parts)
            parts = []
        parts.append(batch)
    if parts:
        yield in_one(parts)


def _at(batch: pa.RecordBatch, time: str, row: int) -> int:
    return int(batch.column(time).cast(pa.int64())[row].as_py())
