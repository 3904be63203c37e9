"""What a replay would read and do, determined without replaying anything."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from headrace.pipelines.sources.inputs import Inputs
from headrace.pipelines.sources.preview import Preview, preview
from headrace.schemas.errors import ConfigError


@dataclass(frozen=True)
class StreamValidation:
    """One stream as a replay would read it.

    Parameters
    ----------
    name
        ``impressions``, or the name of an action stream.
    files, format, size
        Number of files, their format, and their total size in bytes.
    key
        Type of each key column by its name, in order.
    time_column
        Name of the column that has the event time.
    sorts
        Whether files are sorted by event time on reading.
    first_records
        The first records, as a replay would read them.
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
    """What `validate` found in a configuration that a replay accepts.

    Parameters
    ----------
    streams
        The streams by number, the impressions first.
    warnings
        What can be replayed but is probably a mistake, a sentence each.
    """

    streams: tuple[StreamValidation, ...]
    warnings: tuple[str, ...]


def validate(inputs: Inputs) -> Validation:
    """Read the first records of every stream as a replay would.

    Raises
    ------
    ConfigError
        If a replay would refuse to start, or if all first records of a stream are invalid.
    """
    streams = []
    for stream, first in zip(inputs.streams, preview(inputs, every_file=True), strict=True):
        if first.records and first.invalid == first.records:
            reason, example = next(iter(first.examples.items()))
            raise ConfigError(
                inputs.config.file, stream.table,
                f"all of the first {first.records:,} records are invalid ({reason}: {example})",
                hint="is this the right file, key, time and format?",
            )  # fmt: skip
        logs, events = inputs.logs_of(stream.number), stream.events
        key = {name: str(logs[0].schema.field(name).type) for name in events.key}
        size = sum(log.location.size for log in logs)
        streams.append(
            StreamValidation(
                stream.name, len(logs), logs[0].format, size, key, events.time.column,
                stream.sorts, first,
            )
        )  # fmt: skip
    return Validation(tuple(streams), (*inputs.warnings, *_warnings(streams)))


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
