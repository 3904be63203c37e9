"""What a replay would read and do, found out without replaying anything."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from headrace.pipelines.sources.inputs import Inputs
from headrace.pipelines.sources.preview import Preview, preview


@dataclass(frozen=True)
class StreamValidation:
    """One stream as a replay would read it.

    Parameters
    ----------
    name
        ``impressions``, or the name of an action stream.
    files, format, size
        How many files, of which format, of how many bytes together.
    key
        Type of each key column by its name, in order.
    time_column
        Name of the column that holds the event time.
    sorts
        Whether files are sorted by event time on reading.
    first_records
        What the first records are.
    """

    name: str
    files: int
    format: str
    size: int
    key: dict[str, str]
    time_column: str
    sorts: bool
    first_records: Preview


@dataclass(frozen=True)
class Validation:
    """What `validate` found: a configuration that a replay would accept.

    Parameters
    ----------
    streams
        By number.
    warnings
        What can be replayed and yet is hardly meant.
    """

    streams: tuple[StreamValidation, ...]
    warnings: tuple[str, ...]


def validate(inputs: Inputs) -> Validation:
    """Read the first records of every stream as a replay would.

    Raises
    ------
    ConfigError
        For what would keep a replay from starting.
    """
    streams = []
    for stream, first in zip(inputs.streams, preview(inputs), strict=True):
        logs, events = inputs.logs_of(stream.number), stream.events
        key = {name: str(logs[0].schema.field(name).type) for name in events.key}
        size = sum(log.size for log in logs)
        streams.append(
            StreamValidation(
                stream.name, len(logs), logs[0].format, size, key, events.time.column,
                stream.sorts, first,
            )
        )  # fmt: skip
    return Validation(tuple(streams), tuple(_warnings(streams)))


def _warnings(streams: list[StreamValidation]) -> Iterator[str]:
    impressions, *actions = streams
    theirs = "/".join(impressions.key.values())
    for action in actions:
        own = "/".join(action.key.values())
        if own != theirs:
            yield (
                f"the key of {action.name} is {own}, that of impressions {theirs}: values of "
                "different types never match; declare types"
            )
