"""The events of one log, as a join of it gets them, without the join."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pyarrow as pa

from headrace.pipelines.sources.inputs import Inputs
from headrace.pipelines.sources.source import Log, SourceState
from headrace.pipelines.sources.sourcereader import SourceReader


def read_events(inputs: Inputs, log: Log, rows: int, scratch: str) -> Iterator[pa.RecordBatch]:
    """Read the events of a log in its order, with arrival progress and digests.

    Of a job that continues another only those that it reads itself.

    Parameters
    ----------
    inputs
        The job.
    log
        One of its logs.
    rows
        About how many rows to read at a time.
    scratch
        Folder for sorting on disk.
    """
    whole = replace(inputs, join=replace(inputs.join, shards=1))
    reader = SourceReader(whole, log, scratch, _left(inputs, log))
    while True:
        block = reader.next(rows)
        if block.end == block.begin:
            return
        batch = block.envelopes[0].batch
        if batch is not None:
            yield batch


def _left(inputs: Inputs, log: Log) -> SourceState | None:
    """Return how far a job before has read a log that has grown since; None for the beginning."""
    if inputs.past is None:
        return None
    files = inputs.past.streams[inputs.streams[log.stream].table].files
    return next((file.left(ended=False) for file in files if file.number == log.number), None)
