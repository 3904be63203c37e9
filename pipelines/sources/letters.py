"""Dead letters: records that left no sample, each with its reason and its text."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from headrace.joiner.samples.output import DeadRows
from headrace.pipelines.sources.source import Partition
from headrace.schemas.records.decoding import Reject
from headrace.schemas.records.eventing import record_text, with_event_time
from headrace.schemas.records.events import DEAD_LETTER_SCHEMA, OFFSET, PLACE, RECORD

PLACED_LETTERS = pa.schema([*DEAD_LETTER_SCHEMA, (PLACE, pa.int64())])
"""Dead letters with the place by which they are sorted."""

_MOST_POSITIONS = 2**43


def rejected_letters(
    source: Partition, stream: str, rejects: list[Reject], positions: list[int]
) -> pa.RecordBatch:
    """Return invalid records as dead letters, in the schema `PLACED_LETTERS`.

    Parameters
    ----------
    source
        Where they are from.
    stream
        Name of the stream.
    rejects, positions
        The records, and the position of each in the source's order.
    """
    rows = {
        "stream": [stream] * len(rejects),
        "source": [source.name] * len(rejects),
        "offset": [reject.number for reject in rejects],
        "reason": [reject.reason.value for reject in rejects],
        "detail": [reject.detail for reject in rejects],
        "record": [reject.record for reject in rejects],
        PLACE: _places(source.number, pa.array(positions)),
    }
    return pa.RecordBatch.from_pydict(rows, PLACED_LETTERS)


def buried_letters(
    dead: DeadRows, streams: tuple[str, ...], sources: tuple[str, ...]
) -> pa.RecordBatch:
    """Return events that the join could not use as dead letters, in the schema `PLACED_LETTERS`.

    Parameters
    ----------
    dead
        Events of one source with one outcome.
    streams, sources
        Names by number.
    """
    batch = dead.batch
    names = batch.schema.names
    numbers = batch.column(RECORD if RECORD in names else OFFSET)
    plain = with_event_time(batch)
    rows = batch.num_rows
    columns = [
        pa.array([streams[dead.stream]] * rows),
        pa.array([sources[dead.source]] * rows),
        numbers.cast(pa.int64()),
        pa.array([dead.outcome.value] * rows),
        pa.array([""] * rows),
        pa.array([record_text(plain, row) for row in range(rows)]),
        _places(dead.source, batch.column(OFFSET)),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=PLACED_LETTERS)


def _places(source: int, positions: pa.Array) -> Any:
    return pc.add(positions, pa.scalar(source * _MOST_POSITIONS, pa.int64()))


def place_of_letter(place: int) -> tuple[int, int]:
    """Return the number of a letter's source, and its position there."""
    return divmod(place, _MOST_POSITIONS)
