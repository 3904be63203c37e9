"""One sequence of blocks from many sources, read by progress.

The source that is furthest behind is read next, so that a file takes memory only
when it is its turn. Before that the first event of every source is delivered, which
gives the source a progress; then it pauses until its turn.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from headrace.pipelines.sources.inputs import Inputs
from headrace.pipelines.sources.source import Block, Source, SourceState
from headrace.pipelines.sources.sourcereader import SourceReader
from headrace.schemas.records.events import FOREVER, IMPRESSIONS, NEVER

_MOST_STEPS = 4096


def read_blocks(
    inputs: Inputs, rows: int, scratch: str, states: Mapping[int, SourceState] | None = None
) -> Iterator[Block]:
    """Read all files of a job as one sequence of blocks.

    Parameters
    ----------
    inputs
        The job.
    rows
        Rows per block; no result depends on it.
    scratch
        Folder for sorting on disk.
    states
        Where to continue: by number of the source, the state of its last block.
    """
    states = states or {}
    readers = [SourceReader(inputs, log, scratch, states.get(log.number)) for log in inputs.logs]
    return merge_blocks(inputs, readers, rows)


def merge_blocks(inputs: Inputs, sources: Sequence[Source], rows: int) -> Iterator[Block]:
    """Read all sources of a job as one sequence of blocks.

    Parameters
    ----------
    inputs
        The job.
    sources
        Its sources, in order of their numbers; some may have been read in part.
    rows
        Rows per block; no result depends on it.

    Yields
    ------
    Block
        First a block of one event of every source not begun before, then blocks by
        progress. The last block of a source has no positions.
    """
    begun = {source.number for source in sources if source.state.records or source.state.ended}
    ends = Ends(inputs, sources, rows)
    waiting = [
        (source.reached, source.number)
        for source in sources
        if source.number in begun and not source.state.ended
    ]
    heapq.heapify(waiting)
    try:
        for source in sources:
            if source.number in begun:
                continue
            block = source.next(1)
            source.pause()
            if block.end > block.begin:
                yield block
                heapq.heappush(waiting, (source.reached, source.number))
            else:
                yield from ends.of(source)
        while waiting:
            _, number = heapq.heappop(waiting)
            source = sources[number]
            block = source.next(rows)
            if block.end > block.begin:
                yield block
                heapq.heappush(waiting, (source.reached, number))
            else:
                yield from ends.of(source)
    finally:
        for source in sources:
            source.pause()  # else who keeps an error would keep threads that read ahead


class Ends:
    """The last blocks of sources.

    Parameters
    ----------
    inputs, sources
        The job and all its sources.
    rows
        Rows per block.
    """

    def __init__(self, inputs: Inputs, sources: Sequence[Source], rows: int) -> None:
        self.inputs, self.sources, self.rows = inputs, sources, rows
        self.unfinished = Counter(source.stream for source in sources if not source.state.ended)

    def of(self, source: Source) -> Iterator[Block]:
        """Yield the last block of a source.

        The last source of a stream to end carries the stream's final progress. If something may
        follow it in another run, the last source of all tells its progress and its end in two
        blocks, and a run can keep its state between them.
        """
        stream, progress = source.stream, FOREVER
        self.unfinished[stream] -= 1
        if self.unfinished[stream] == 0:
            siblings = [other for other in self.sources if other.stream == stream]
            progress = self.inputs.final_progress(stream, max(one.progress for one in siblings))
        if self.unfinished.total() == 0:
            yield from self._closing(source, progress)
            if progress < FOREVER:
                yield replace(source.progress_block(progress), complete=True)
        yield source.progress_block(progress, ended=True)

    def _closing(self, last: Source, progress: int) -> Iterator[Block]:
        """Raise the clock to the final `progress` in steps of about `rows` impressions.

        In one step everything that waits would settle together, and all samples of the last
        window would be in memory at the same time.
        """
        begin = last.progress
        if begin == NEVER:
            return
        waiting = sum(
            source.state.records for source in self.sources if source.stream == IMPRESSIONS
        )
        steps = min(waiting // self.rows, _MOST_STEPS)
        inputs = self.inputs
        longest = inputs.config.join.out_of_orderness + inputs.join.release_delay
        way = min(progress - begin, longest)
        for step in range(1, steps + 1):
            yield last.progress_block(begin + way * step // steps)
