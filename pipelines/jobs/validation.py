"""What a replay would read and do, determined from the first records of every file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from headrace.monitoring.diagnosis import OF_FIRST_RECORDS, diagnose, invalid_records
from headrace.monitoring.results import LogResult
from headrace.pipelines.sources.inputs import Inputs
from headrace.pipelines.sources.preview import Preview, preview
from headrace.schemas.errors import ConfigError
from headrace.schemas.types import matched_as, type_name


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
    key: dict[str, pa.DataType]
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
    """Replay the first records of every file on trial, and say what is wrong with them.

    Raises
    ------
    ConfigError
        If a replay would refuse to start, if all first records of a stream are invalid, or
        if the trial fails.
    PathError
        If the trial cannot write to its temporary folder.
    """
    # Takes a second, for Beam; nothing else that validates needs it.
    from headrace.pipelines.jobs.trial import try_replay

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
        schema = inputs.schema_of(stream.number)
        key = {name: schema.field(name).type for name in events.key}
        size = sum(log.size for log in logs)
        streams.append(
            StreamValidation(
                stream.name, len(logs), logs[0].format, size, key, events.time.column,
                stream.sorts, first,
            )
        )  # fmt: skip
    log = try_replay(inputs)
    warnings = [
        *inputs.warnings, *_warnings(streams), *_invalid(streams, log),
        *diagnose(log, OF_FIRST_RECORDS),
    ]  # fmt: skip
    return Validation(tuple(streams), tuple(warnings))


def _invalid(streams: list[StreamValidation], log: LogResult) -> Iterator[str]:
    """Find what `invalid_records` does, with an example of the most frequent reason."""
    for validated, stream in zip(streams, log.streams, strict=True):
        for finding in invalid_records(stream, log):
            reason = max(stream.reasons, key=lambda name: stream.reasons[name])
            example = validated.first_records.examples.get(reason)
            yield finding if example is None else f"{finding} Such as {example}"


def _warnings(streams: list[StreamValidation]) -> Iterator[str]:
    impressions, *actions = streams
    theirs = [matched_as(kind) for kind in impressions.key.values()]
    for action in actions:
        if [matched_as(kind) for kind in action.key.values()] != theirs:
            own, other = ("/".join(map(type_name, stream.key.values()))
                          for stream in (action, impressions))  # fmt: skip
            yield (
                f"the key of {action.name} is {own}, that of impressions {other}: text and numbers "
                "never match; declare types"
            )
