"""The source of a replay: all files of a job through one splittable step.

Its input is a single element, so that source, join and trainer fuse into one stage
and samples flow while files are read. The restriction counts blocks; since blocks
are a function of files and configuration, a number always means the same block.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
from apache_beam.io.restriction_trackers import OffsetRange, OffsetRestrictionTracker
from apache_beam.io.watermark_estimators import ManualWatermarkEstimator
from apache_beam.transforms.core import RestrictionProvider
from apache_beam.utils.timestamp import Duration

from headrace.pipelines.beam.joining import DEAD
from headrace.pipelines.beam.run import Run
from headrace.pipelines.sources.blocks import Wait

_MOST_BLOCKS = 2**40
_BUNDLE_ROWS = 1 << 20
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


@beam.DoFn.unbounded_per_element()
class ReadLogs(beam.DoFn):
    """Read blocks from a given number on; emit event envelopes keyed by shard, and dead letters.

    Parameters
    ----------
    run
        The run, which holds the blocks.
    """

    def __init__(self, run: Run) -> None:
        self.run = run

    def process(
        self,
        element: int,
        tracker: Any = beam.DoFn.RestrictionParam(_Blocks()),
        watermark: Any = beam.DoFn.WatermarkEstimatorParam(
            ManualWatermarkEstimator.default_provider()
        ),
    ) -> Iterator[Any]:
        """Emit one bundle of blocks, and defer the rest."""
        start = tracker.current_restriction().start
        run, blocks = self.run, self.run.blocks
        run.between()
        if blocks.complete:
            run.complete(blocks.states)
        # All blocks before have passed through every step, and their bundles are done. After
        # the last block the results are in memory alone: a checkpoint would not help.
        checkpoints = None if blocks.ended else run.checkpoints
        if checkpoints is not None and not checkpoints.offer(start, blocks.states):
            tracker.try_claim(_MOST_BLOCKS)  # beyond the end: the restriction is done
            return
        rows, began = 0, time.monotonic()
        # A bundle costs a commit, and at its end waits for all that is being learned, so it
        # takes several blocks.
        for position in range(start, start + _BUNDLE_BLOCKS):
            block = blocks.at(position)
            if block is None:
                tracker.try_claim(_MOST_BLOCKS)
                return
            if isinstance(block, Wait):
                break
            if not tracker.try_claim(position):
                return
            run.board.events += block.records
            yield from enumerate(block.envelopes)
            if block.letters is not None:
                yield beam.pvalue.TaggedOutput(DEAD, block.letters)
            rows += block.records
            late = blocks.bundle_s is not None and time.monotonic() - began > blocks.bundle_s
            if rows >= _BUNDLE_ROWS or late or block.complete:
                break
        tracker.defer_remainder(Duration(0))
