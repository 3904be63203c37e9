"""The replay source: all files of a job through one splittable step.

One element goes in, so that source, join and trainer fuse into one stage and
samples flow while files are read. The restriction counts blocks; since blocks
are a function of files and configuration, position n always means the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import apache_beam as beam
from apache_beam.io.restriction_trackers import OffsetRange, OffsetRestrictionTracker
from apache_beam.io.watermark_estimators import ManualWatermarkEstimator
from apache_beam.transforms.core import RestrictionProvider
from apache_beam.utils.timestamp import Duration

from headrace.pipelines.beam.joining import DEAD
from headrace.pipelines.run import runtime
from headrace.pipelines.run.threads import Prefetcher
from headrace.pipelines.sources.inputs import Inputs
from headrace.pipelines.sources.merge import read_blocks
from headrace.pipelines.sources.sourcereader import Block, ReaderState

_MOST_BLOCKS = 2**40
_BUNDLE_ROWS = 200_000
_BUNDLE_BLOCKS = 64


class _Blocks(RestrictionProvider):
    def initial_restriction(self, element: int) -> OffsetRange:
        return OffsetRange(element, _MOST_BLOCKS)

    def create_tracker(self, restriction: OffsetRange) -> OffsetRestrictionTracker:
        return OffsetRestrictionTracker(restriction)

    def restriction_size(self, element: int, restriction: OffsetRange) -> int:
        return restriction.size()

    def split(self, element: int, restriction: OffsetRange) -> Iterator[OffsetRange]:
        yield restriction


class _OpenBlocks:
    """The blocks of a job, being read ahead."""

    def __init__(
        self, inputs: Inputs, scratch: str, position: int, readers: dict[int, ReaderState]
    ) -> None:
        self.inputs, self.scratch = inputs, scratch
        self.start = position, readers
        self._open()

    def _open(self) -> None:
        self.position, readers = self.start
        self.readers = dict(readers)
        rows = self.inputs.config.batch_rows
        blocks = read_blocks(self.inputs, rows, self.scratch, self.readers)
        self.blocks: Prefetcher[Block] = Prefetcher(blocks)

    def at(self, position: int) -> Block | None:
        """Return block `position`, reading anew if it lies behind; None past the last."""
        if position < self.position:
            self.blocks.close()
            self._open()
        block = None
        while self.position <= position:
            block = next(self.blocks, None)
            self.position += 1
            if block is not None:
                self.readers[block.source.number] = block.reader
        return block

    @property
    def ended(self) -> bool:
        """Whether the last block has been returned."""
        states = self.readers.values()
        return len(states) == len(self.inputs.sources) and all(state.ended for state in states)

    def close(self) -> None:
        """Stop reading ahead."""
        self.blocks.close()


def open_source(
    run: runtime.Run, inputs: Inputs, position: int, readers: dict[int, ReaderState]
) -> None:
    """Start reading ahead, so that blocks lie ready when the job has started.

    Parameters
    ----------
    run, inputs
        The run.
    position, readers
        Number of the first block, and how far each source was read before it.
    """
    run.resources["source"] = _OpenBlocks(inputs, str(run.staging), position, readers)


@beam.DoFn.unbounded_per_element()
class ReadLogs(beam.DoFn):
    """Read all files from a block on; emit event envelopes keyed by shard, and dead letters.

    Parameters
    ----------
    inputs
        The job.
    run
        Name of the run, see `headrace.pipelines.run.runtime`.
    """

    def __init__(self, inputs: Inputs, run: str) -> None:
        self.inputs = inputs
        self.run = run

    def process(
        self,
        element: int,
        tracker: Any = beam.DoFn.RestrictionParam(_Blocks()),
        watermark: Any = beam.DoFn.WatermarkEstimatorParam(
            ManualWatermarkEstimator.default_provider()
        ),
    ) -> Iterator[Any]:
        """Emit some blocks, and come back for the next."""
        start = tracker.current_restriction().start
        run = runtime.lookup(self.run)
        source: _OpenBlocks = run.resources["source"]
        # All that was read before has passed through every step, and their bundles are done.
        # After the last block the result exists in memory alone: there is no going on.
        if not source.ended:
            run.resources["checkpoints"].offer(start, source.readers)
        rows = 0
        # Each bundle costs a commit and some ten milliseconds, so it takes several blocks.
        for position in range(start, start + _BUNDLE_BLOCKS):
            block = source.at(position)
            if block is None:
                tracker.try_claim(_MOST_BLOCKS)  # past the end: the restriction is done
                return
            if not tracker.try_claim(position):
                return
            run.board.events += block.end - block.begin
            yield from enumerate(block.envelopes)
            if block.letters is not None:
                yield beam.pvalue.TaggedOutput(DEAD, block.letters)
            rows += block.end - block.begin
            if rows >= _BUNDLE_ROWS:
                break
        tracker.defer_remainder(Duration(0))
