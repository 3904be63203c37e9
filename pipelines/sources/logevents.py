"""The events of one log, as a join of it gets them, without the join."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pyarrow as pa

from headrace.pipelines.sources.inputs import Inputs
from headrace.pipelines.sources.source import Log
from headrace.pipelines.sources.sourcereader import SourceReader


def read_events(inputs: Inputs, log: Log, rows: int, scratch: str) -> Iterator[pa.RecordBatch]:
    """Read the events of a log in its order, with arrival progress and digests.

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
    reader = SourceReader(whole, log, scratch)
    while True:
        block = reader.next(rows)
        if block.end == block.begin:
            return
        batch = block.envelopes[0].batch
        if batch is not None:
            yield batch
