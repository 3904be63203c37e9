"""Writing samples and dead letters, on threads of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from headrace.joiner.plan.plans import JoinPlan
from headrace.joiner.samples.joined import joined_schema
from headrace.joiner.samples.rows import sample_schema
from headrace.learners.learning import Learned
from headrace.pipelines.run import runtime
from headrace.pipelines.run.disk import describe, flush, writing
from headrace.pipelines.run.place import LETTERS
from headrace.pipelines.run.threads import Background
from headrace.pipelines.sources.letters import PLACED_LETTERS
from headrace.schemas.records.events import PLACE

FILE_ROWS = 262_144
"""Rows a file. A file is one row group, so that a replay that goes on after a crash need
not repair a half-written one; a row group is held in memory until it is whole."""

LETTER_FILE_ROWS = 16_384

# Dead letters come a few at a time, and each batch weighs more than its rows.
_MOST_PARTS = 1_000

Paused = dict[str, tuple[dict[str, dict[str, Any]], pa.Table | None]]
"""Per folder of outputs, its ledger and the rows held back for its next file."""


class ParquetFolder:
    """A folder of Parquet files, cut at fixed numbers of rows.

    Files end at multiples of `file_rows`, wherever the batches that come in do,
    so equal rows make equal files.

    Parameters
    ----------
    folder
        Created if need be.
    schema
        Of every file; a folder without rows gets one empty file.
    plain
        Columns to write without a dictionary, for nearly all values differ.
    file_rows
        Rows a file; so many are held in memory.

    Attributes
    ----------
    ledger
        ``bytes``, ``sha256`` and ``rows`` of each finished file by its name, in order.
    """

    def __init__(
        self,
        folder: Path,
        schema: pa.Schema,
        plain: tuple[str, ...] = (),
        file_rows: int = FILE_ROWS,
    ) -> None:
        self.folder, self.schema, self.file_rows = folder, schema, file_rows
        self.dictionary = [field.name for field in schema if field.name not in plain]
        self.ledger: dict[str, dict[str, Any]] = {}
        self.held: list[pa.Table] = []
        self.held_rows = 0
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)

    def resume(self, ledger: dict[str, dict[str, Any]], held: pa.Table | None) -> None:
        """Go on after these finished files, with the rows that were held then."""
        self.ledger = dict(ledger)
        if held is not None:
            self.write(held)

    def write(self, table: pa.Table) -> None:
        """Add rows."""
        self.held.append(table)
        self.held_rows += table.num_rows
        if len(self.held) > _MOST_PARTS:
            self.held = [pa.concat_tables(self.held).combine_chunks()]
        while self.held_rows >= self.file_rows:
            self._write_file(self.file_rows)

    def close(self) -> None:
        """Write what is held."""
        if self.held_rows or not self.ledger:
            self._write_file(self.held_rows)

    def rows_held(self) -> pa.Table:
        """Return the rows that wait for their file to be whole."""
        return pa.concat_tables([self.schema.empty_table(), *self.held])

    def _write_file(self, rows: int) -> None:
        table = self.rows_held()
        path = self.folder / f"part-{len(self.ledger):05d}.parquet"
        with writing(path):
            pq.write_table(
                table.slice(0, rows), path, compression="lz4", row_group_size=self.file_rows,
                use_dictionary=self.dictionary or False,
            )  # fmt: skip
            flush(path)
            self.ledger[path.name] = {**describe(path), "rows": rows}
        self.held = [table.slice(rows)]
        self.held_rows -= rows


class Sink:
    """Write batches to a `ParquetFolder` on a thread of its own."""

    def __init__(self, files: ParquetFolder) -> None:
        self.files = files
        self.background: Background[Learned | pa.RecordBatch] = Background(self._write)

    def put(self, item: Learned | pa.RecordBatch) -> None:
        """Hand over rows; `Learned` ones are put in canonical order on the way."""
        self.background.put(item)

    def _write(self, item: Learned | pa.RecordBatch) -> None:
        table = (
            item.epoch.in_order()
            if isinstance(item, Learned)
            else pa.Table.from_batches([item.select(self.files.schema.names)])
        )
        self.files.write(table)

    def pause(self) -> tuple[dict[str, dict[str, Any]], pa.Table]:
        """Write what is whole; return the ledger of it, and the rows held back."""
        self.background.flush()
        return dict(self.files.ledger), self.files.rows_held()

    def close(self) -> None:
        """Write everything and close the files."""
        self.background.close()
        self.files.close()


def open_sinks(
    run: runtime.Run,
    join: JoinPlan,
    types: pa.Schema,
    resumed: Paused | None = None,
) -> None:
    """Open the folders of a run.

    Parameters
    ----------
    run
        The run.
    join
        The join, whose outputs they are.
    types
        Type of each impression column.
    resumed
        Per folder, what was finished and what was held back by a run to go on from.
    """
    plain = (*join.columns[: join.keys], "event_time")
    samples = sample_schema(join, types)
    folders = {
        "samples": ParquetFolder(run.result / "samples", samples, plain),
        # As they come; they are sorted at the end.
        LETTERS: ParquetFolder(
            run.staging / LETTERS, PLACED_LETTERS, ("record", PLACE), LETTER_FILE_ROWS
        ),
    }
    if join.retention:
        folders["corrections"] = ParquetFolder(run.result / "corrections", samples, plain)
    for action in join.actions if join.joined else ():
        name = f"joined/{action.name}"
        schema = joined_schema(join, action, types)
        folders[name] = ParquetFolder(run.result / name, schema, plain)
    for name, files in folders.items():
        if resumed is not None:
            files.resume(*resumed[name])
        run.resources[name] = Sink(files)


def ledger_of(run: runtime.Run) -> dict[str, dict[str, Any]]:
    """Return what was noted of every file of a result when it was written."""
    return {
        f"{name}/{part}": noted
        for name, sink in run.resources.items()
        if isinstance(sink, Sink) and name != LETTERS
        for part, noted in sink.files.ledger.items()
    }
