"""Sorting the events of a file by time, on disk past a memory budget."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipelines.disk import writing
from schemas.events import RECORD, TIME

_RUN_BATCH_ROWS = 16_384


def sort_events(
    batches: Iterable[pa.RecordBatch], memory_bytes: int, scratch: str
) -> Iterator[pa.RecordBatch]:
    """Order events by (event time, record number).

    Parameters
    ----------
    batches
        Events with `TIME` and `RECORD`.
    memory_bytes
        Past this, sorted runs are written to disk and merged from there.
    scratch
        Folder for them; they are deleted at the end.

    Yields
    ------
    RecordBatch
        Events in order, about `_RUN_BATCH_ROWS` at a time.
    """
    held: list[pa.RecordBatch] = []
    size = 0
    with tempfile.TemporaryDirectory(dir=scratch, prefix="sort-") as folder:
        runs: list[Path] = []
        for batch in batches:
            held.append(batch)
            size += batch.nbytes
            if size > memory_bytes:
                runs.append(_spill(held, Path(folder) / f"run-{len(runs)}.arrow"))
                held, size = [], 0
        rest = _sorted(held) if held else None
        held = []
        if not runs:
            if rest is not None:
                for begin in range(0, rest.num_rows, _RUN_BATCH_ROWS):
                    yield rest.slice(begin, _RUN_BATCH_ROWS)
            return
        cursors = [_Cursor(_read_run(run)) for run in runs]
        if rest is not None:
            cursors.append(_Cursor(iter([rest])))
        yield from _merge(cursors)


def _sorted(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    whole = pa.concat_batches(batches)
    order = np.lexsort((whole.column(RECORD).to_numpy(), whole.column(TIME).to_numpy()))
    return whole.take(pa.array(order))


def _spill(batches: list[pa.RecordBatch], path: Path) -> Path:
    whole = _sorted(batches)
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
    """The next rows of a run."""

    def __init__(self, batches: Iterator[pa.RecordBatch]) -> None:
        self.batches = batches
        self.batch = next(batches, None)

    @property
    def last_time(self) -> int:
        assert self.batch is not None
        return int(self.batch.column(TIME)[-1].as_py())

    def take_until(self, bound: int) -> list[pa.RecordBatch]:
        """Take all rows with time up to `bound`, reading on where a batch ends there."""
        out = []
        while self.batch is not None:
            count = int(np.searchsorted(self.batch.column(TIME).to_numpy(), bound, side="right"))
            if count:
                out.append(self.batch.slice(0, count))
            if count < self.batch.num_rows:
                self.batch = self.batch.slice(count)
                break
            self.batch = next(self.batches, None)
        return out


def _merge(cursors: list[_Cursor]) -> Iterator[pa.RecordBatch]:
    live = [cursor for cursor in cursors if cursor.batch is not None]
    while live:
        # Everything up to the least last time is in memory.
        bound = min(cursor.last_time for cursor in live)
        pieces = [piece for cursor in live for piece in cursor.take_until(bound)]
        yield _sorted(pieces)
        live = [cursor for cursor in live if cursor.batch is not None]
