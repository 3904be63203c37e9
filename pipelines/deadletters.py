"""Dead letters: what leaves no sample, with its reason and what it said."""

from __future__ import annotations

import pyarrow as pa

from joiner.output import DeadRows
from pipelines.inputs import Source
from schemas.decoding import Reject
from schemas.eventing import record_text, with_event_time
from schemas.events import DEAD_LETTER_SCHEMA, OFFSET, RECORD


def rejected_letters(source: Source, stream: str, rejects: list[Reject]) -> pa.RecordBatch:
    """Write invalid records as dead letters."""
    rows = {
        "stream": [stream] * len(rejects),
        "source": [source.path] * len(rejects),
        "offset": [reject.number for reject in rejects],
        "reason": [reject.reason.value for reject in rejects],
        "detail": [reject.detail for reject in rejects],
        "record": [reject.record for reject in rejects],
    }
    return pa.RecordBatch.from_pydict(rows, DEAD_LETTER_SCHEMA)


def buried_letters(
    dead: DeadRows, streams: tuple[str, ...], paths: tuple[str, ...]
) -> pa.RecordBatch:
    """Write events that the join could not use as dead letters."""
    batch = dead.batch
    names = batch.schema.names
    numbers = batch.column(RECORD if RECORD in names else OFFSET)
    plain = with_event_time(batch)
    rows = batch.num_rows
    columns = [
        pa.array([streams[dead.stream]] * rows),
        pa.array([paths[dead.source]] * rows),
        numbers.cast(pa.int64()),
        pa.array([dead.outcome.value] * rows),
        pa.array([""] * rows),
        pa.array([record_text(plain, row) for row in range(rows)]),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=DEAD_LETTER_SCHEMA)
