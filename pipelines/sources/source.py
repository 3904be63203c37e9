"""The ports for inputs.

A `Partition` holds records; a `Source` turns them into the events that a join reads.
Files are one kind of partition; `SourceReader` makes a source of any partition.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import pyarrow as pa

from headrace.schemas.records.badvalues import Counts
from headrace.schemas.records.decoding import Records
from headrace.schemas.records.envelope import EventEnvelope
from headrace.schemas.records.events import NEVER


@dataclass(frozen=True)
class Chunk:
    """Consecutive records ``[begin, end)`` of a partition, decoded."""

    begin: int
    end: int
    records: Records


class Partition(Protocol):
    """Records of one stream in a fixed order: a file, a partition of a topic.

    Attributes
    ----------
    number
        Number among all partitions of a job, in order of stream and name.
    stream
        Number of its stream.
    name
        Its name in dead letters.
    """

    @property
    def number(self) -> int: ...  # noqa: D102

    @property
    def stream(self) -> int: ...  # noqa: D102

    @property
    def name(self) -> str: ...  # noqa: D102

    def chunks(self, rows: int, skip: int = 0) -> Iterator[Chunk | None]:
        """Read its records, the same ones at the same positions every time.

        A partition that grows yields None where no record has come yet, and goes on.

        Parameters
        ----------
        rows
            About how many records to decode at a time.
        skip
            How many records at the beginning are not needed: chunks that end at or before
            this position may be left out.
        """


class Log(Partition, Protocol):
    """A partition that a job reads: its types, and what its contents are known by.

    Attributes
    ----------
    schema
        The columns to read, with the types in which they are carried.
    format
        How its records are written.
    size
        How large it is, bytes; 0 if that is not known.
    start
        Position of its first record.
    """

    def chunks(self, rows: int, skip: int = 0) -> Iterator[Chunk]:
        """Read its records: a log has an end, and is not waited for."""

    @property
    def start(self) -> int: ...  # noqa: D102

    @property
    def schema(self) -> pa.Schema: ...  # noqa: D102

    @property
    def format(self) -> str: ...  # noqa: D102

    @property
    def size(self) -> int: ...  # noqa: D102

    def identity(self) -> tuple[str, list[Any]]:
        """Return its name, the same however it is spelled, and what tells its contents apart.

        Both are JSON types. A run that resumes must find them equal.

        Raises
        ------
        UnreadableInputError
            If it cannot be read any more.
        """


class Growing(Protocol):
    """The logs of a job that goes on, with the records that are still to come.

    Attributes
    ----------
    partitions
        One for each log, in order of their numbers. They are read by one thread.
    """

    @property
    def partitions(self) -> Sequence[Partition]: ...  # noqa: D102

    def identity(self) -> dict[str, list[Any]]:
        """Return what tells the logs from others, by their names, as JSON types."""

    def starts(self) -> list[int]:
        """Return the positions at which a run begins, by number of the partition."""

    def ends(self, numbers: Collection[int]) -> Mapping[int, int] | None:
        """Return the positions after the last records by now, by number of the partition.

        Positions of records that cannot be read yet count too. None if it is not known.
        """

    def verify(self) -> bool:
        """Make sure that all records so far are of these logs, before anything is made durable.

        Returns
        -------
        bool
            Whether that is known; if not, nothing is.

        Raises
        ------
        HeadraceError
            If they are not.
        """


@dataclass(frozen=True)
class SourceState:
    """How far a source has been read.

    Parameters
    ----------
    position
        Position of the next record to deliver.
    records, rejected
        How many records were delivered, and how many of them were rejected. Positions may
        have gaps.
    greatest, confirmed
        Greatest event time so far, `NEVER` without one, and the greatest that other
        rows confirm (`headrace.schemas.records.jumps`); microseconds.
    level
        The time that its rows vouch for, see `headrace.schemas.records.jumps.Standing`, with times
        in repeated hours at their first pass: jumps are judged before passes are chosen.
    anchored
        Whether a row so far tells the pass of a repeated hour
        (`headrace.schemas.records.repeated`).
    progress
        The source's progress, see `Source`; microseconds.
    ended
        Whether a block has marked its end.
    bad_values
        Values that did not fit their column, see `headrace.schemas.records.badvalues`.
    time_counts
        Event times that needed a choice, see `headrace.schemas.summary.TimeCounts`.
    spent, recent
        What else `headrace.schemas.records.jumps.Standing` has.
    """

    position: int
    records: int
    rejected: int
    greatest: int
    confirmed: int
    level: int
    anchored: bool
    progress: int
    ended: bool
    bad_values: Counts = field(default_factory=dict)
    time_counts: Mapping[str, int] = field(default_factory=dict)
    spent: int = 0
    recent: list[list[int]] = field(default_factory=lambda: [[], []])

    @classmethod
    def at(cls, position: int) -> SourceState:
        """Return that of a source of which nothing was read."""
        return cls(position, 0, 0, NEVER, NEVER, NEVER, False, NEVER, False)


@dataclass(frozen=True)
class Block:
    """Positions ``[begin, end)`` of one source: an envelope for each shard, and dead letters.

    Parameters
    ----------
    source, stream
        Numbers of the source and of its stream.
    begin, end
        The positions; equal if the block carries only progress, or marks the source's end.
    envelopes
        One for each shard, by number.
    letters
        The invalid records, from `headrace.pipelines.sources.letters`; None without any.
    state
        How far the source has been read, including this block.
    records
        How many records are in it; positions may have gaps.
    complete
        Whether all records of the job have been delivered, and the clock is where it stops: only
        the end itself is still to be told.
    """

    source: int
    stream: int
    begin: int
    end: int
    envelopes: list[EventEnvelope]
    letters: pa.RecordBatch | None
    state: SourceState
    records: int = 0
    complete: bool = False


class Source(Protocol):
    """The events of one partition, a block at a time, with the source's progress.

    Attributes
    ----------
    number, stream
        Those of its partition.
    position
        Position of the next record to deliver.
    reached
        Greatest event time read, less `out_of_orderness`: the source with the least is
        read next. Microseconds, `NEVER` at first.
    progress
        The progress that its envelopes carry: at most `reached`, and only as far as the
        event times are confirmed.
    state
        State from which another source of this partition can continue.
    exhausted
        Whether `next` has come to the end of the partition.
    """

    @property
    def number(self) -> int: ...  # noqa: D102

    @property
    def stream(self) -> int: ...  # noqa: D102

    @property
    def position(self) -> int: ...  # noqa: D102

    @property
    def reached(self) -> int: ...  # noqa: D102

    @property
    def progress(self) -> int: ...  # noqa: D102

    @property
    def state(self) -> SourceState: ...  # noqa: D102

    @property
    def exhausted(self) -> bool: ...  # noqa: D102

    def next(self, rows: int) -> Block:
        """Read the next block, of about `rows` rows; one without positions if there are none.

        None are left if the source is exhausted; else none have come yet.
        """

    def pause(self) -> None:
        """Release open files: the next block will be read much later."""

    def progress_block(self, progress: int, ended: bool = False) -> Block:
        """Return a block without positions that carries progress, and marks the end if `ended`."""
