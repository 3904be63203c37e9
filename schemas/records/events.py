"""The columns that Headrace adds to an event on its way to the join.

Their names start with two underscores; names of input columns must not.
"""

from __future__ import annotations

from enum import StrEnum

import pyarrow as pa

from headrace.schemas.config.durations import DAY

TIME = "__time"
"""Event time, int64 microseconds since 1970-01-01 UTC."""
ARRIVAL = "__arrival"
"""Arrival progress: the source's progress just before this row, int64 microseconds."""
OFFSET = "__offset"
"""Position of the row in its source's order, int64."""
RECORD = "__record"
"""Number of the record in its file where that is not its position, int64."""
REPEATED = "__repeated"
"""How much later the second pass of a repeated hour is, 0 where there is none, int64
microseconds; only until an event's pass is chosen."""
FLOORED = "__floored"
"""Whether a part of a microsecond was cut off the event time, bool; as long as the former."""
SOURCE = "__source"
"""Number of the row's source, int32; only of impressions that are predicted when known."""
KEY0, KEY1 = "__key0", "__key1"
"""The two halves of the join key's digest, uint64."""
GROUP0, GROUP1 = "__group0", "__group1"
"""The two halves of the group's digest, uint64; only with a group."""
ID0, ID1 = "__id0", "__id1"
"""The two halves of an action id's digest, uint64; (0, 0) for a null id."""
EMIT = "__emit"
"""Emit time of a sample, int64 microseconds."""
ACTION_TIME = "__action_time"
"""Event time of the action for which a row left, int64 microseconds."""
ACTION_SOURCE, ACTION_OFFSET = "__action_source", "__action_offset"
"""Source of that action: its number, int32, and the action's position in it, int64."""
PLACE = "__place"
"""Place of a dead letter's record: number of the source times 2^43, and position, int64.
Records of one message have one place, and are told apart by their row."""
RATE = "__rate"
"""The negative rate of the sample's stratum, float64."""

STREAM, COUNT = "__stream", "__count"
"""Number of an action stream, from 0, int32, and how many of its actions became known, int64."""

RESERVED_PREFIX = "__"

IMPRESSIONS = 0
"""Number of the impression stream; those of action streams follow."""

NEVER = -(2**62)
"""A time before every event: the progress of a source without an event so far."""
FOREVER = 2**62
"""A time after every event: the progress of a source that has ended."""

EARLIEST = 0
LATEST = 47_482 * DAY
"""Event times in ``[EARLIEST, LATEST)``, the years 1970 to 2099, are in range."""


class Outcome(StrEnum):
    """What became of an input record; each has exactly one outcome."""

    SETTLED = "settled"
    DUPLICATE = "duplicate"
    LATE = "late"
    ORPHAN = "orphan"
    OUTSIDE_WINDOW = "outside_window"
    INVALID = "invalid"
    OPEN = "open"


class Reason(StrEnum):
    """Why a record is a dead letter: an outcome, or what is invalid about it."""

    DUPLICATE = "duplicate"
    LATE = "late"
    ORPHAN = "orphan"
    OUTSIDE_WINDOW = "outside_window"
    UNDECODABLE = "undecodable"
    WRONG_TYPE = "wrong_type"
    NULL_KEY = "null_key"
    NULL_TIME = "null_time"
    TIME_OUT_OF_RANGE = "time_out_of_range"
    TIME_JUMP = "time_jump"


INVALID = frozenset(Reason) - {
    Reason(outcome.value)
    for outcome in (Outcome.DUPLICATE, Outcome.LATE, Outcome.ORPHAN, Outcome.OUTSIDE_WINDOW)
}
"""The reasons that make a record invalid."""

DEAD_LETTER_SCHEMA = pa.schema(
    [
        ("stream", pa.string()),
        ("source", pa.string()),
        ("offset", pa.int64()),
        ("row", pa.int64()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("record", pa.string()),
    ]
)


LETTER_ORDER = (PLACE, "row")
"""The order of dead letters; total, because a record has one place."""

ACTION_ORDER = (EMIT, KEY0, KEY1, ACTION_TIME, ACTION_SOURCE, ACTION_OFFSET)
"""The order of joined actions and of corrections; total, because an action has one place."""

SERVED_ORDER = (EMIT, KEY0, KEY1, TIME, SOURCE, OFFSET)
"""The order of impressions that are predicted when known; total, for a record has one place."""

ARRIVALS_ORDER = (EMIT, STREAM, COUNT)
"""The order of counts of arrivals; equal ones are the same."""

MATURE_ORDER = (EMIT, KEY0, KEY1, TIME)
"""The order of final labels; total, because no two kept impressions have one key and event time."""


def without_reserved(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return the batch without internal columns, those whose names start with `RESERVED_PREFIX`."""
    names = [name for name in batch.schema.names if not name.startswith(RESERVED_PREFIX)]
    return batch.select(names)
