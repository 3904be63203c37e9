"""The ports at which events come in.

A `Partition` is where records lie; a `Source` makes of them the events that a join reads.
Files are one kind of partition; `SourceReader` is what makes any partition a source.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from headrace.schemas.records.decoding import Records
from headrace.schemas.records.envelope import EventEnvelope


@dataclass(frozen=True)
class Chunk:
    """Consecutive records ``[begin, end)`` of a partition, decoded."""

    begin: int
    end: int
    records: Records


class Partition(Protocol):
    """Records of one stream in an order of their own: a file, a partition of a topic.

    Attributes
    ----------
    number
        Among all partitions of a job, in order of stream and name.
    stream
        Number of its stream.
    name
        What dead letters call it.
    """

    @property
    def number(self) -> int: ...  # noqa: D102

    @property
    def stream(self) -> int: ...  # noqa: D102

    @property
    def name(self) -> str: ...  # noqa: D102

    def chunks(self, rows: int, skip: int = 0) -> Iterator[Chunk]:
        """Read its records, the same ones at the same positions every time.

        Parameters
        ----------
        rows
            About how many records to decode at a time.
        skip
            How many records are of no interest: chunks of them alone may be left out.
        """


@dataclass(frozen=True)
class SourceState:
    """How far a source has been read.

    Parameters
    ----------
    position, rejected
        Records delivered, and those of them that were rejected.
    greatest, confirmed
        Greatest event time so far, `NEVER` without one, and the greatest that other
        rows confirm (`headrace.schemas.records.jumps`).
    progress
        The progress that the source tells.
    ended
        Whether its end has been told.
    """

    position: int
    rejected: int
    greatest: int
    confirmed: int
    progress: int
    ended: bool


@dataclass(frozen=True)
class Block:
    """Positions ``[begin, end)`` of one source: an envelope a shard, and dead letters.

    Parameters
    ----------
    source, stream
        Numbers of the source and of its stream.
    begin, end
        The positions; none if the block only tells progress, or the source's end.
    envelopes
        One for each shard.
    letters
        Records that are not valid, as `headrace.pipelines.sources.letters` writes them.
    state
        How far the source has been read with this block.
    """

    source: int
    stream: int
    begin: int
    end: int
    envelopes: list[EventEnvelope]
    letters: pa.RecordBatch | None
    state: SourceState


class Source(Protocol):
    """The events of one partition, a block at a time, with the progress that they imply.

    Attributes
    ----------
    number, stream
        As of its partition.
    position
        Records delivered so far.
    reached
        Event time up to which it has been read, less what may be out of order: the
        source for which this is least is read next. Microseconds, `NEVER` at first.
    progress
        What it tells the join: at most `reached`, and no more than is sure.
    state
        Where another source would go on.
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

    def next(self, rows: int) -> Block:
        """Read the next block, of about so many rows; one without positions ends the source."""

    def pause(self) -> None:
        """Let go of what is open: the next block is asked for much later."""

    def tell(self, progress: int, ended: bool = False) -> Block:
        """Make a block that tells progress, or the source's end, and nothing else."""
