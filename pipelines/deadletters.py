"""Dead letters: what leaves no sample, with its reason and what it said."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from joiner.output import DeadRows
from schemas.decoding import Reject
from schemas.eventing import record_text, with_event_time
from schemas.events import DEAD_LETTER_SCHEMA, EMIT, OFFSET, RECORD, SOURCE, STREAM
from schemas.hashing import Int64s

_SCHEMA = pa.schema(
    [
        *DEAD_LETTER_SCHEMA,
        (EMIT, pa.int64()),
        (STREAM, pa.int32()),
        (SOURCE, pa.int32()),
        (OFFSET, pa.int64()),
    ]
)


def rejected_letters(
    stream: tuple[int, str], source: tuple[int, str], rejects: list[Reject],
    positions: list[int], arrival: Int64s,
) -> pa.RecordBatch:  # fmt: skip
    """Write invalid records as dead letters.

    Parameters
    ----------
    stream, source
        Number and name of each.
    rejects, positions, arrival
        The records, their positions in the source, and its progress before each, shape (n,).
    """
    count = len(rejects)
    columns: list[Any] = [
        [stream[1]] * count,
        [source[1]] * count,
        [reject.number for reject in rejects],
        [reject.reason.value for reject in rejects],
        [reject.detail for reject in rejects],
        [reject.record for reject in rejects],
        arrival,
        np.full(count, stream[0], np.int32),
        np.full(count, source[0], np.int32),
        positions,
    ]
    return _letters(columns)


def buried_letters(
    dead: DeadRows, streams: tuple[str, ...], paths: tuple[str, ...]
) -> pa.RecordBatch:
    """Write events that the join could not use as dead letters."""
    batch = dead.batch
    names = batch.schema.names
    numbers = batch.column(RECORD if RECORD in names else OFFSET)
    plain = with_event_time(batch)
    rows = batch.num_rows
    columns: list[Any] = [
        [streams[dead.stream]] * rows,
        [paths[dead.source]] * rows,
        numbers.cast(pa.int64()),
        [dead.outcome.value] * rows,
        [""] * rows,
        [record_text(plain, row) for row in range(rows)],
        dead.emit,
        np.full(rows, dead.stream, np.int32),
        np.full(rows, dead.source, np.int32),
        batch.column(OFFSET),
    ]
    return _letters(columns)


def _letters(columns: list[Any]) -> pa.RecordBatch:
    arrays = [
        column if isinstance(column, pa.Array) else pa.array(column, field.type)
        for column, field in zip(columns, _SCHEMA, strict=True)
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=_SCHEMA)
