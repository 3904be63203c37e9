"""A look at the first records of a stream, before a job starts; and a job that reads no more."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from headrace.pipelines.sources.inputs import Inputs
from headrace.pipelines.sources.plans import StreamPlan
from headrace.pipelines.sources.source import Chunk, Log
from headrace.schemas.config.durations import DAY
from headrace.schemas.errors import ConfigError
from headrace.schemas.records.badvalues import Counts, counted, together
from headrace.schemas.records.eventing import EventBuilder, not_as_written
from headrace.schemas.records.events import TIME, Reason

YEAR = 365 * DAY
_HEAD_ROWS = 1_000
_SHOWN = 120


class _Beginning:
    """The first records of a log: 1,000, and the rest of those that are decoded with them."""

    def __init__(self, whole: Log) -> None:
        self.whole = whole
        self.number, self.stream, self.name = whole.number, whole.stream, whole.name
        self.schema, self.format, self.size = whole.schema, whole.format, whole.size
        self.start = whole.start

    def identity(self) -> tuple[str, list[Any]]:
        """Return that of the whole log."""
        return self.whole.identity()

    def chunks(self, rows: int, skip: int = 0) -> Iterator[Chunk]:
        """Read them, always in the same parts: where they end must not depend on `rows`."""
        records = 0
        for chunk in self.whole.chunks(_HEAD_ROWS):
            yield chunk
            records += len(chunk.records)
            if records >= _HEAD_ROWS:
                return


def beginning_of(inputs: Inputs) -> Inputs:
    """Return the job that reads no more than the first records of every log."""
    return replace(inputs, logs=tuple(_Beginning(log) for log in inputs.logs))


@dataclass(frozen=True)
class Preview:
    """The first records of a stream, read as a replay would.

    Parameters
    ----------
    records
        How many were read.
    reasons
        Invalid records by reason.
    examples
        What is wrong with the first invalid record of each reason.
    first_time, last_time
        Least and greatest event time, microseconds; None without a valid one.
    in_order
        Whether event times never fall within a file.
    bad_values
        Values that do not fit their column, by column and cause.
    """

    records: int
    reasons: dict[str, int]
    examples: dict[str, str]
    first_time: int | None
    last_time: int | None
    in_order: bool
    bad_values: Counts = field(default_factory=dict)

    @property
    def invalid(self) -> int:
        """How many of the records are invalid."""
        return sum(self.reasons.values())


def preview(inputs: Inputs, every_file: bool = False) -> tuple[Preview, ...]:
    """Read the first records of every stream, and refuse times whose unit cannot be right.

    Parameters
    ----------
    inputs
        The job.
    every_file
        Whether to read the first records of every file, or of the first file that has any.

    Returns
    -------
    tuple
        One entry for each stream, by number.

    Raises
    ------
    ConfigError
        If the first event times of a stream all lie in 1970, or none is right and more than nine
        in ten are outside 1970 to 2099: the declared unit is too small or too large. Or if none
        is and more than nine in ten are text in another notation. Only the first file that has
        any decides.
    """
    found = []
    for stream in inputs.streams:
        parts = _beginnings(inputs, stream.number)
        first = next(parts, _NOTHING)
        _check_times(inputs, stream, first)
        found.append(functools.reduce(_together, parts, first) if every_file else first)
    return tuple(found)


def _check_times(inputs: Inputs, stream: StreamPlan, first: Preview) -> None:
    table = f"{stream.table}.time"
    time, written = inputs.config.streams[stream.table].time, stream.events.time
    unit = time.unit
    if first.last_time is not None and first.last_time < YEAR and not time.any_year:
        raise ConfigError(
            inputs.config.file, f"{table}.unit",
            f"the first {first.records:,} event times all lie in 1970", unit,
            f"are they {_LARGER.get(unit or '', 'of another unit')}? "
            "If they are right, set time.any_year = true",
        )  # fmt: skip
    unfit = first.reasons.get(Reason.WRONG_TYPE.value, 0)
    example = first.examples.get(Reason.WRONG_TYPE.value, "")
    # One time that is right shows that strangers wrote the others.
    none = first.first_time is None
    if none and unfit > 0.9 * first.records and example.startswith(not_as_written(written)):
        count = f"{unfit:,} of the first {first.records:,} event times are"
        if unit is not None:
            hint = 'give format in place of unit, such as "iso8601"'
            fact = f"{count} text that is no number"
            raise ConfigError(inputs.config.file, f"{table}.unit", fact, unit, hint)
        text = example.removeprefix(f"{not_as_written(written)}: ")
        fact = f"{count} not written like this"
        hint = f"such as {text}"
        raise ConfigError(inputs.config.file, f"{table}.format", fact, written.format, hint)
    beyond = first.reasons.get(Reason.TIME_OUT_OF_RANGE.value, 0)
    if none and beyond > 0.9 * first.records:
        raise ConfigError(
            inputs.config.file, f"{table}.unit",
            f"{beyond:,} of the first {first.records:,} event times lie outside 1970 to 2099",
            unit, f"are they {_SMALLER.get(unit or '', 'of another unit')}?",
        )  # fmt: skip


_LARGER = {"us": 'milliseconds ("ms") or seconds ("s")', "ms": 'seconds ("s")'}
_SMALLER = {"s": 'milliseconds ("ms") or microseconds ("us")', "ms": 'microseconds ("us")'}


_NOTHING = Preview(0, {}, {}, None, None, True)


def _beginnings(inputs: Inputs, stream: int) -> Iterator[Preview]:
    """Read the first records of each file of a stream that has any, as a replay would."""
    plan = inputs.streams[stream]
    for log in beginning_of(inputs).logs_of(stream):
        builder = EventBuilder(plan.events, 0, in_order=not plan.sorts)
        parts = (_of_chunk(chunk, builder) for chunk in log.chunks(_HEAD_ROWS))
        found = functools.reduce(_together, parts, _NOTHING)
        if found.records:
            yield found


def _of_chunk(chunk: Chunk, builder: EventBuilder) -> Preview:
    events = builder.check(chunk.records)
    time = builder.finish(events.batch).column(TIME).to_numpy()
    examples: dict[str, str] = {}
    for reject in events.rejects:
        examples.setdefault(reject.reason.value, f"{reject.detail}: {reject.record[:_SHOWN]}")
    return Preview(
        len(chunk.records),
        dict(Counter(reject.reason.value for reject in events.rejects)),
        examples,
        int(time.min()) if time.size else None,
        int(time.max()) if time.size else None,
        bool((time[1:] >= time[:-1]).all()),
        counted({}, events.bad),
    )


def _together(one: Preview, other: Preview) -> Preview:
    """Return what two parts of a stream are together."""
    first = [time for time in (one.first_time, other.first_time) if time is not None]
    last = [time for time in (one.last_time, other.last_time) if time is not None]
    return Preview(
        one.records + other.records,
        dict(Counter(one.reasons) + Counter(other.reasons)),
        {**other.examples, **one.examples},
        min(first, default=None),
        max(last, default=None),
        one.in_order and other.in_order,
        together([one.bad_values, other.bad_values]),
    )
