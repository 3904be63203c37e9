"""The last steps of a run on a cluster: whole files, and how far they are complete."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

import apache_beam as beam
import pyarrow as pa

from headrace.learners.learning import Learned
from headrace.pipelines.beam.durable import with_cells
from headrace.pipelines.run.signing import signed
from headrace.pipelines.run.store import Store
from headrace.pipelines.sinks.completion import COMPLETE, completion_of, read_completion
from headrace.pipelines.sinks.lettersort import DEAD_LETTERS
from headrace.pipelines.sinks.marks import Marks, Released
from headrace.pipelines.sinks.storedfiles import StoredEpochs, write_letters
from headrace.pipelines.training.job import Finished
from headrace.schemas.records.events import EARLIEST, LATEST, NEVER

FINISHED_FILE = ".headrace/finished.json"
"""The results of a run whose logs have ended."""


@beam.typehints.with_output_types(tuple[int, Any])
class WriteEpochs(beam.DoFn):
    """Write rows as one file an epoch; emit what is written, keyed by 0.

    Parameters
    ----------
    name
        Name of the rows where they left the training step.
    files
        Where to write.
    """

    def __init__(self, name: str, files: StoredEpochs) -> None:
        self.name, self.files = name, files

    def process(self, rows: Learned | pa.RecordBatch) -> Iterator[Any]:
        """Write the files of samples that were learned together, or of rows beside them."""
        if isinstance(rows, Learned):
            table = rows.epoch.in_order(self.files.columns)
        else:
            table = pa.Table.from_batches([rows])
        for time in self.files.write(table):
            yield 0, (self.name, time)


class WriteLetters(beam.DoFn):
    """Write dead letters of one source as a file.

    Parameters
    ----------
    store
        Where to write.
    """

    def __init__(self, store: Store) -> None:
        self.store = store

    def process(self, letters: pa.RecordBatch, timestamp: Any = beam.DoFn.TimestampParam) -> None:
        """Write a file, named by the event time of what buried them."""
        write_letters(self.store, letters, min(max(timestamp.micros, EARLIEST), LATEST - 1))


class PublishMarks(beam.DoFn):
    """Write ``complete.json`` when all files before a time are written.

    Parameters
    ----------
    store
        Where to write.
    outputs
        Names of the outputs.
    """

    def __init__(self, store: Store, outputs: tuple[str, ...]) -> None:
        self.store, self.outputs = store, outputs

    def start_bundle(self) -> None:
        """Begin with nothing to publish."""
        self.until: int | None = None

    @with_cells()
    def process(self, element: tuple[int, Any], *cells: Any) -> Iterable[Any]:
        """Note what was released, or written."""
        (cell,) = cells
        marks = Marks()
        if (data := cell.read()) is not None:
            marks.restore(json.loads(data))
        before = marks.until
        told = element[1]
        if isinstance(told, Released):
            marks.release(told)
        else:
            marks.wrote(told)
        cell.write(json.dumps(marks.export()).encode())
        if marks.until > before:
            self.until = marks.until
        return ()

    def finish_bundle(self) -> None:
        """Publish, unless a run before was further: what it wrote is still there."""
        if self.until is None:
            return
        until = self.until
        try:
            found = read_completion(self.store.root)
        except FileNotFoundError:
            found = {}
        if all(found.get(name, NEVER) < until for name in self.outputs):
            # Letters are written by steps beside the training step, which knows nothing of them.
            told = {**dict.fromkeys(self.outputs, until), DEAD_LETTERS: NEVER}
            self.store.write(COMPLETE, signed(completion_of(told)).encode())


class WriteResult(beam.DoFn):
    """Write the results of the training step when the logs have ended.

    Parameters
    ----------
    store
        Where to write.
    """

    def __init__(self, store: Store) -> None:
        self.store = store

    def process(self, finished: Finished) -> None:
        """Write counts and the checksums of the models."""
        models = {name: manifest["sha256"] for name, manifest in finished.manifests.items()}
        content = {
            "models": models, "snapshots": finished.snapshots, "totals": asdict(finished.totals),
        }  # fmt: skip
        self.store.write(FINISHED_FILE, signed(content).encode())
