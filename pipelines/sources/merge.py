"""One stream of blocks out of many files, read by progress.

The source that is furthest behind is read next, so that no more of a file is
in memory than its turn needs. Before anything else the first event of every
file is delivered: with it the file's progress is known, and the file is
closed again until its turn.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator

from headrace.pipelines.sources.inputs import Inputs
from headrace.pipelines.sources.sourcereader import Block, ReaderState, SourceReader
from headrace.schemas.records.events import FOREVER, NEVER

_MOST_STEPS = 4096


def read_blocks(
    inputs: Inputs, rows: int, scratch: str, states: dict[int, ReaderState] | None = None
) -> Iterator[Block]:
    """Read all sources of a job as one stream of blocks.

    Parameters
    ----------
    inputs
        The job.
    rows
        Rows a block; no result depends on it.
    scratch
        Folder for sorting on disk.
    states
        Where to go on, by number of the source: those of the last block of each.

    Yields
    ------
    Block
        For every source a first one, then by progress, and a last one without
        positions when it has ended.
    """
    states = states or {}
    readers = [
        SourceReader(inputs, source, rows, scratch, states.get(source.number))
        for source in inputs.sources
    ]
    ended = {number for number, state in states.items() if state.ended}
    waiting = [(readers[n].builder.progress, n) for n in states if n not in ended]
    heapq.heapify(waiting)
    going_on = Counter(
        reader.source.stream for reader in readers if reader.source.number not in ended
    )

    def end(reader: SourceReader) -> Iterator[Block]:
        """Tell that a source has ended; the last of a stream tells how far that is complete."""
        stream, progress = reader.source.stream, FOREVER
        going_on[stream] -= 1
        if going_on[stream] == 0:
            siblings = [other for other in readers if other.source.stream == stream]
            progress = inputs.final_progress(stream, max(other.progress for other in siblings))
        if going_on.total() == 0:
            yield from _closing(inputs, readers, reader, progress, rows)
        yield reader.told(progress, ended=True)

    for reader in readers:
        if reader.source.number in states:
            continue
        block = reader.head()
        if block.end > block.begin:
            yield block
            heapq.heappush(waiting, (reader.builder.progress, reader.source.number))
        else:
            yield from end(reader)
    while waiting:
        _, number = heapq.heappop(waiting)
        reader = readers[number]
        block = reader.next()
        if block.end > block.begin:
            yield block
            heapq.heappush(waiting, (reader.builder.progress, number))
        else:
            yield from end(reader)


def _closing(
    inputs: Inputs, readers: list[SourceReader], last: SourceReader, progress: int, rows: int
) -> Iterator[Block]:
    """Let the clock run up to the last `progress`, about `rows` impressions at a time.

    When the last source ends everything that waits may settle at once, and all
    samples of the last window would be in memory together.
    """
    begin = last.progress
    if begin == NEVER:
        return
    waiting = sum(reader.position for reader in readers if reader.source.stream == 0)
    steps = min(waiting // rows, _MOST_STEPS)
    way = min(progress - begin, last.builder.out_of_orderness + inputs.join.release_delay)
    for step in range(1, steps + 1):
        yield last.told(begin + way * step // steps)
