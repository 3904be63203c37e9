"""What the first records of a stream are, before anything is run."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from pipelines.inputs import Inputs
from pipelines.readers import read_chunks
from schemas.eventing import EventBuilder
from schemas.events import TIME

_HEAD_ROWS = 1_000


@dataclass(frozen=True)
class Head:
    """What the first records of a stream are, read with its configuration."""

    records: int
    reasons: dict[str, int]
    first_time: int | None
    last_time: int | None
    in_order: bool


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
