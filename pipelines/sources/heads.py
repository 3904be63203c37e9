"""What the first records of a stream are, before anything is run."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from headrace.pipelines.sources.inputs import Inputs
from headrace.pipelines.sources.readers import read_chunks
from headrace.schemas.config.durations import DAY
from headrace.schemas.errors import ConfigError
from headrace.schemas.records.eventing import EventBuilder
from headrace.schemas.records.events import TIME, Reason

YEAR = 365 * DAY
_HEAD_ROWS = 1_000


@dataclass(frozen=True)
class Head:
    """What the first records of a stream are, read with its configuration."""

    records: int
    reasons: dict[str, int]
    first_time: int | None
    last_time: int | None
    in_order: bool


def check_times(inputs: Inputs) -> None:
    """Refuse to read times whose unit cannot be right.

    Raises
    ------
    ConfigError
        If the first event times of a stream lie all in 1970, or nearly all after
        2099: a unit too small or too large was declared.
    """
    streams = [inputs.config.impressions, *inputs.config.actions.values()]
    for number, (name, stream) in enumerate(zip(inputs.stream_names, streams, strict=True)):
        head = inspect_head(inputs, number)
        table = name if number == 0 else f"actions.{name}"
        unit = stream.time.unit
        beyond = head.reasons.get(Reason.TIME_OUT_OF_RANGE.value, 0)
        if head.last_time is not None and head.last_time < YEAR and not stream.time.any_year:
            raise ConfigError(
                inputs.file, f"{table}.time.unit",
                f"the first {head.records:,} event times all lie in 1970", unit,
                f"are they {_LARGER.get(unit or '', 'of another unit')}? "
                "If they are right, set time.any_year = true",
            )  # fmt: skip
        if head.records and beyond > 0.9 * head.records:
            raise ConfigError(
                inputs.file, f"{table}.time.unit",
                f"{beyond:,} of the first {head.records:,} event times lie outside 1970 to 2099",
                unit, f"are they {_SMALLER.get(unit or '', 'of another unit')}?",
            )  # fmt: skip


_LARGER = {"us": 'milliseconds ("ms") or seconds ("s")', "ms": 'seconds ("s")'}
_SMALLER = {"s": 'milliseconds ("ms") or microseconds ("us")', "ms": 'microseconds ("us")'}


def inspect_head(inputs: Inputs, stream: int) -> Head:
    """Read the first records of a stream's first file as a replay would."""
    source = next(source for source in inputs.sources if source.stream == stream)
    builder = EventBuilder(inputs.event_plans[stream], 0)
    for chunk in read_chunks(source, _HEAD_ROWS):
        events = builder.check(chunk.records)
        time = events.batch.column(TIME).to_numpy()
        return Head(
            chunk.end - chunk.begin,
            dict(Counter(reject.reason.value for reject in events.rejects)),
            int(time.min()) if time.size else None,
            int(time.max()) if time.size else None,
            bool((time[1:] >= time[:-1]).all()),
        )
    return Head(0, {}, None, None, True)
