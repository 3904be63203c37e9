"""Sorting rows, on disk beyond a memory budget."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from headrace.pipelines.run.disk import writing
from headrace.schemas.records.events import RECORD, TIME

_RUN_BATCH_ROWS = 16_384


BY_TIME = (TIME, RECORD)
"""Events by event time, then by their number in the file."""


def sort_rows(
    batches: Iterable[pa.RecordBatch], by: tuple[str, ...], memory_bytes: int, scratch: str
) -> Iterator[pa.RecordBatch]:
    """Sort rows by a merge sort, in memory if they fit.

    Parameters
    ----------
    batches
        Rows of one schema.
    by
        Integer columns to sort by; no two rows may be equal in all of them. Rows that
        are equal in the first, which has no null, are in memory together.
    memory_bytes
        Beyond this, sorted runs are written to disk and merged from there.
    scratch
        Folder for the runs, which are deleted at the end.

    Yields
    ------
    RecordBatch
        Rows in order, about `_RUN_BATCH_ROWS` at a time.
    """
    held: list[pa.RecordBatch] = []
    size = 0
    with tempfile.TemporaryDirectory(dir=scratch, prefix="sort-") as folder:
        runs: list[Path] = []
        for batch in batches:
            held.append(batch)
            size += batch.nbytes
            if size > memory_bytes:
                runs.append(_spill(held, by, Path(folder) / f"run-{len(runs)}.arrow"))
                held, size = [], 0
        rest = _sorted(held, by) if held else None
        held = []
        if not runs:
            if rest is not None:
                for begin in range(0, rest.num_rows, _RUN_BATCH_ROWS):
                    yield rest.slice(begin, _RUN_BATCH_ROWS)
            return
        cursors = [_Cursor(_read_run(run), by[0]) for run in runs]
        if rest is not None:
            cursors.append(_Cursor(iter([rest]), by[0]))
        yield from _merge(cursors, by)


def _sorted(batches: list[pa.RecordBatch], by: tuple[str, ...]) -> pa.RecordBatch:
    whole = pa.concat_batches(batches)
    order = np.lexsort([whole.column(name).fill_null(-1).to_numpy() for name in reversed(by)])
    return whole.take(pa.array(order))


def _spill(batches: list[pa.RecordBatch], by: tuple[str, ...], path: Path) -> Path:
    whole = _sorted(batches, by)
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    with writing(path), pa.ipc.new_file(str(path), whole.schema, options=options) as writer:
        for begin in range(0, whole.num_rows, _RUN_BATCH_ROWS):
            writer.write_batch(whole.slice(begin, _RUN_BATCH_ROWS))
    return path


def _read_run(path: Path) -> Iterator[pa.RecordBatch]:
    with pa.ipc.open_file(str(path)) as reader:
        for number in range(reader.num_record_batches):
            yield reader.get_batch(number)


class _Cursor:
    """The next rows of a run, ordered by the column `name`."""

    def __init__(self, batches: Iterator[pa.RecordBatch], name: str) -> None:
        self.batches, self.name = batches, name
        self.batch = next(batches, None)

    @property
    def last(self) -> int:
        assert self.batch is not None
        return int(self.batch.column(self.name)[-1].as_py())

    def take_until(self, bound: int) -> list[pa.RecordBatch]:
        """Return all rows up to and including `bound`, over as many batches as needed."""
        out = []
        while self.batch is not None:
            count = int(
                np.searchsorted(self.batch.column(self.name).to_numpy(), bound, side="right")
            )
            if count:
                out.append(self.batch.slice(0, count))
            if count < self.batch.num_rows:
                self.batch = self.batch.slice(count)
                break
            self.batch = next(self.batches, None)
        return out


def _merge(cursors: list[_Cursor], by: tuple[str, ...]) -> Iterator[pa.RecordBatch]:
    live = [cursor for cursor in cursors if cursor.batch is not None]
    while live:
        # Rows up to this are in the current batches, or equal to it in the next ones.
        bound = min(cursor.last for cursor in live)
        pieces = [piece for cursor in live for piece in cursor.take_until(bound)]
        yield _sorted(pieces, by)
        live = [cursor for cursor in live if cursor.batch is not None]
