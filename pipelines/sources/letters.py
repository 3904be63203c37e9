"""Dead letters: records that left no sample, each with its reason and its text."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headrace.joiner.plan.plans import JoinPlan
from headrace.joiner.samples.output import DeadRows
from headrace.pipelines.sources.letterwords import letter_details
from headrace.pipelines.sources.numbering import Numbering, Origin
from headrace.schemas.records.decoding import Reject
from headrace.schemas.records.eventing import record_text, with_event_time
from headrace.schemas.records.events import DEAD_LETTER_SCHEMA, OFFSET, PLACE, RECORD, Reason
from headrace.schemas.records.hashing import Int64s

PLACED_LETTERS = pa.schema([*DEAD_LETTER_SCHEMA, (PLACE, pa.int64())])
"""Dead letters with the place by which they are sorted."""

_MOST_POSITIONS = 2**43


def rejected_letters(
    source: int, origin: Origin, stream: str, rejects: list[Reject], positions: list[int]
) -> pa.RecordBatch:
    """Return invalid records as dead letters, in the schema `PLACED_LETTERS`.

    Parameters
    ----------
    source, origin
        Number of the source, and what it is.
    stream
        Name of the stream.
    rejects, positions
        The records, and the position of each in the source's order.
    """
    numbers = np.array([reject.number for reject in rejects], np.int64)
    # What cannot be decoded is no row, but all of its message.
    whole = np.array([reject.reason is Reason.UNDECODABLE for reject in rejects])
    rows = {
        "stream": [stream] * len(rejects),
        "source": [origin.name] * len(rejects),
        "offset": origin.numbering.message(numbers),
        "row": _rows(origin.numbering, numbers, whole),
        "reason": [reject.reason.value for reject in rejects],
        "detail": [reject.detail for reject in rejects],
        "record": [reject.record for reject in rejects],
        PLACE: _places(source, origin.numbering, np.array(positions, np.int64)),
    }
    return pa.RecordBatch.from_pydict(rows, PLACED_LETTERS)


def buried_letters(dead: DeadRows, plan: JoinPlan, sources: tuple[Origin, ...]) -> pa.RecordBatch:
    """Return events that the join could not use as dead letters, in the schema `PLACED_LETTERS`.

    Parameters
    ----------
    dead
        Events of one source with one outcome.
    plan
        The join.
    sources
        What the sources are, by number.
    """
    batch = dead.batch
    names = batch.schema.names
    numbers = batch.column(RECORD if RECORD in names else OFFSET).to_numpy()
    name, numbering = sources[dead.source]
    plain = with_event_time(batch)
    rows = batch.num_rows
    columns = [
        pa.array([plan.stream_names[dead.stream]] * rows),
        pa.array([name] * rows),
        pa.array(numbering.message(numbers)),
        _rows(numbering, numbers, np.zeros(rows, np.bool_)),
        pa.array([dead.outcome.value] * rows),
        letter_details(dead, plan, sources),
        pa.array([record_text(plain, row) for row in range(rows)]),
        _places(dead.source, numbering, batch.column(OFFSET).to_numpy()),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=PLACED_LETTERS)


def _rows(numbering: Numbering, numbers: Int64s, whole: npt.NDArray[np.bool_]) -> pa.Array:
    """Return the rows of records in their messages; null where messages have no rows."""
    if not numbering.row_bits:
        return pa.nulls(numbers.size, pa.int64())
    return pa.array(numbering.row(numbers), mask=whole)


def _places(source: int, numbering: Numbering, positions: Int64s) -> pa.Array:
    return pa.array(numbering.message(positions) + source * _MOST_POSITIONS)


def place_of_letter(place: int) -> tuple[int, int]:
    """Return the number of a letter's source, and the position or the message there."""
    return divmod(place, _MOST_POSITIONS)
