"""From a configuration to its files: what each contains, and how it is read.

All errors in a configuration that the file alone does not show are found here,
before anything is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from headrace.joiner.plan.plans import JoinPlan
from headrace.joiner.samples.rows import sample_schema
from headrace.learners.learning import TrainPlan
from headrace.learners.registry import ALGORITHMS, Algorithms
from headrace.monitoring.ending import Ending
from headrace.monitoring.guard import GuardPlan
from headrace.monitoring.lead import LeadPlan
from headrace.pipelines.sources.checks import (
    added_columns,
    check_filters,
    check_sample_names,
    check_sampling,
    check_tables,
    check_uses,
)
from headrace.pipelines.sources.continued import ContinuedHead, Past, PastLog
from headrace.pipelines.sources.fileheads import FileHead
from headrace.pipelines.sources.files import LogFile
from headrace.pipelines.sources.heads import Head
from headrace.pipelines.sources.numbering import Origin
from headrace.pipelines.sources.plans import (
    StreamPlan,
    guard_plan,
    join_plan,
    lead_plans,
    stream_plans,
    train_plan,
)
from headrace.pipelines.sources.source import Log
from headrace.pipelines.sources.starts import with_starts
from headrace.pipelines.sources.uses import carried_columns, impression_uses
from headrace.schemas.config.models import Config
from headrace.schemas.records.events import FOREVER, IMPRESSIONS


@dataclass(frozen=True)
class Inputs:
    """A configuration resolved against its files.

    Parameters
    ----------
    config
        The configuration.
    streams
        How each stream is read, by number.
    logs
        All files, by number.
    join, train
        The plans of join and learners.
    heads, algorithms
        What it was planned from.
    past
        What it continues; None if it begins a log.
    left_out
        Says which columns of the impressions are not carried, as they cannot be; None if all are.
    """

    config: Config
    streams: tuple[StreamPlan, ...]
    logs: tuple[Log, ...]
    join: JoinPlan
    train: TrainPlan
    heads: tuple[Head, ...]
    algorithms: Algorithms
    past: Past | None = None
    left_out: str | None = None

    @property
    def guard(self) -> GuardPlan | None:
        """When learning is disconnected; None if nothing is guarded."""
        return guard_plan(self.config.guard) if self.train.learners else None

    @property
    def leads(self) -> dict[str, LeadPlan]:
        """By label, where the arrivals of its actions are, if they are guarded."""
        return lead_plans(self.join, self.train)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What can be read but is probably a mistake, a sentence each."""
        own = () if self.left_out is None else (self.left_out,)
        return tuple(warning for head in self.heads for warning in head.warnings) + own

    @property
    def origins(self) -> tuple[Origin, ...]:
        """What the logs are to dead letters, by number."""
        return tuple(Origin(log.name, self.streams[log.stream].numbering) for log in self.logs)

    def replanned(self, config: Config) -> Inputs:
        """Return another job on the same logs, whose streams have no other columns or places."""
        return assemble(config, self.heads, self.algorithms, self.past)

    @property
    def files(self) -> tuple[Path, ...]:
        """All paths of this machine that are read: configuration, models to start with, logs."""
        own = Path(self.config.file)  # a mapping is of no file
        logs = (
            Path(log.location.inner) for log in self.logs
            if isinstance(log, LogFile) and log.location.local
        )  # fmt: skip
        starts = (
            learner.start.folder / "manifest.json"
            for learner in self.train.learners.values() if learner.start is not None
        )  # fmt: skip
        past = [] if self.past is None else [self.past.folder]
        return (*([own] if own.exists() else []), *starts, *logs, *past)

    @property
    def own_logs(self) -> list[Log]:
        """The logs that are read by this job, by number; none that was read before."""
        return [log for log in self.logs if not isinstance(log, PastLog)]

    def logs_of(self, stream: int) -> list[Log]:
        """Return the logs of a stream, at least one, in order of name."""
        return [log for log in self.logs if log.stream == stream]

    def schema_of(self, stream: int) -> pa.Schema:
        """Return the columns to read of a stream, with the types in which they are carried."""
        return self.logs_of(stream)[0].schema

    def final_progress(self, stream: int, greatest: int) -> int:
        """Return the progress of a stream whose sources have all ended.

        Parameters
        ----------
        stream
            Number of the stream.
        greatest
            The greatest progress of any of its sources, `NEVER` without an event.

        Returns
        -------
        int
            The time until which its log is complete, microseconds: `FOREVER` if the whole
            log is declared complete, else `complete_until` of the stream, else `greatest`.
        """
        if self.config.join.end_of_log == "close":
            return FOREVER
        declared = self.streams[stream].complete_until
        return greatest if declared is None else declared

    def ending(self, progress: Sequence[int]) -> Ending:
        """Return the end of the log, from the last progress of each source, by number."""
        until = {stream.name: FOREVER for stream in self.streams}
        for log in self.logs:
            name = self.streams[log.stream].name
            until[name] = min(until[name], progress[log.number])
        return Ending(until)


def resolve(
    config: Config, algorithms: Algorithms = ALGORITHMS, past: Past | None = None
) -> Inputs:
    """Find and inspect the files of a configuration.

    Parameters
    ----------
    config
        From `load_config`; paths are relative to the folder of its file.
    algorithms
        The learners that it may name.
    past
        What it continues.

    Raises
    ------
    ConfigError
        For the first thing wrong.
    """
    file, streams = config.file, config.streams.items()
    heads: list[Head]
    if past is None:
        heads = [FileHead(file, name, stream) for name, stream in streams]
    else:
        heads = [ContinuedHead(file, name, stream, past.streams[name]) for name, stream in streams]
    return assemble(config, heads, algorithms, past)


def assemble(
    config: Config, heads: Sequence[Head], algorithms: Algorithms, past: Past | None = None
) -> Inputs:
    """Plan a job whose streams have been inspected.

    Parameters
    ----------
    config, algorithms, past
        See `resolve`.
    heads
        What is known of the streams, by number.

    Raises
    ------
    ConfigError
        For the first thing wrong.
    """
    file = config.file
    uses = impression_uses(config)
    carrying = carried_columns(config, heads[IMPRESSIONS], uses, set(added_columns(config)))
    carried = carrying.columns
    streams = stream_plans(config, heads, carried)
    for stream, head in zip(streams, heads, strict=True):
        head.check_columns(stream.events)
    check_uses(file, uses, heads[IMPRESSIONS], {*carried, *config.impressions.key})
    numeric = {use.column for use in uses if use.numeric}
    logs: list[Log] = []
    first = sum(head.known for head in heads)
    for stream, head in zip(streams, heads, strict=True):
        schema = head.read_schema(stream.events, numeric if stream.number == IMPRESSIONS else set())
        found = head.logs(first, stream.number, schema, stream.notation)
        first += len(found) - head.known
        logs += found
    logs.sort(key=lambda log: log.number)
    train = with_starts(config, train_plan(config, algorithms), algorithms)
    join = join_plan(config, heads, carried, logs, train)
    check_sample_names(config, join.columns)
    check_sampling(file, join.sampling, logs[0].schema)
    check_tables(config, train)
    check_filters(config, train, sample_schema(join, logs[0].schema))
    return Inputs(
        config, streams, tuple(logs), join, train, tuple(heads), algorithms, past, carrying.warning
    )
