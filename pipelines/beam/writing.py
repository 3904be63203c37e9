"""The last steps of a replay: what they are given goes to the writers of the run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import apache_beam as beam
import pyarrow as pa

from headrace.learners.learning import Learned
from headrace.pipelines.run import runtime


class WriteSamples(beam.DoFn):
    """Write `Learned` samples in canonical order."""

    def __init__(self, run: str) -> None:
        self.run = run

    def process(self, learned: Learned) -> Iterator[Any]:
        """Hand samples to the writer."""
        run = runtime.lookup(self.run)
        run.board.samples += learned.epoch.order.size
        run.board.event_time = learned.epoch.parts[-1].column("event_time")[-1].value
        run.resources["samples"].put(learned)
        return iter(())


class WriteBatches(beam.DoFn):
    """Write batches to a folder of the run: dead letters, corrections."""

    def __init__(self, run: str, folder: str) -> None:
        self.run, self.folder = run, folder

    def process(self, batch: pa.RecordBatch) -> Iterator[Any]:
        """Hand a batch to the writer."""
        runtime.lookup(self.run).resources[self.folder].put(batch)
        return iter(())


class KeepResult(beam.DoFn):
    """Keep what the trainer finished with, for the job's owner."""

    def __init__(self, run: str) -> None:
        self.run = run

    def process(self, finished: Any) -> Iterator[Any]:
        """Keep it."""
        runtime.lookup(self.run).resources["result"] = _Kept(finished)
        return iter(())


class _Kept:
    def __init__(self, value: Any) -> None:
        self.value = value

    def close(self) -> None:
        """Nothing is open."""
