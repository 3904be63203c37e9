"""The last steps of a replay: their input goes to the sinks of the run."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import apache_beam as beam
import pyarrow as pa

from headrace.learners.learning import Learned
from headrace.pipelines.beam.run import Run
from headrace.pipelines.training.job import Finished


class WriteSamples(beam.DoFn):
    """Write `Learned` samples in canonical order to one sink of the run."""

    def __init__(self, run: Run, sink: str) -> None:
        self.run, self.sink = run, sink

    def process(self, learned: Learned) -> Iterator[Any]:
        """Pass samples to the sink, whose thread puts them in order."""
        self.run.board.samples += learned.epoch.order.size
        self.run.board.event_time = learned.epoch.parts[-1].column("event_time")[-1].value
        writer = self.run.sinks[self.sink]
        writer.put(partial(learned.epoch.in_order, writer.sink.schema.names))
        return iter(())


class WriteBatches(beam.DoFn):
    """Write batches in order of receipt: dead letters, corrections, joined actions."""

    def __init__(self, run: Run, sink: str) -> None:
        self.run, self.sink = run, sink

    def process(self, batch: pa.RecordBatch) -> Iterator[Any]:
        """Pass a batch to the sink."""
        self.run.sinks[self.sink].put(partial(pa.Table.from_batches, [batch]))
        return iter(())


class KeepResult(beam.DoFn):
    """Keep the results of the training step for the job's owner."""

    def __init__(self, run: Run) -> None:
        self.run = run

    def process(self, finished: Finished) -> Iterator[Any]:
        """Set ``run.finished``."""
        self.run.finished = finished
        return iter(())
