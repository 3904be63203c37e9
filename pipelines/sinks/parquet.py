"""A folder of Parquet files as a sink."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from headrace.pipelines.run.disk import describe, flush, writing
from headrace.pipelines.sinks.sink import Mark

FILE_ROWS = 262_144
"""Rows a file. A file is one row group, so that a replay that goes on after a crash need
not repair a half-written one; a row group is held in memory until it is whole."""

LETTER_FILE_ROWS = 16_384

# Dead letters come a few at a time, and each batch weighs more than its rows.
_MOST_PARTS = 1_000


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

    def resume(self, mark: Mark) -> None:
        """Go on after the files that were finished then, with the rows that were held."""
        self.ledger = dict(mark.committed)
        if mark.held.num_rows:
            self.append(mark.held)

    def append(self, rows: pa.Table) -> None:
        """Add rows."""
        self.held.append(rows)
        self.held_rows += rows.num_rows
        if len(self.held) > _MOST_PARTS:
            self.held = [pa.concat_tables(self.held).combine_chunks()]
        while self.held_rows >= self.file_rows:
            self._write_file(self.file_rows)

    def close(self) -> None:
        """Write what is held."""
        if self.held_rows or not self.ledger:
            self._write_file(self.held_rows)

    def commit(self) -> Mark:
        """Put the names of finished files on disk; return their ledger, and the rows held back."""
        flush(self.folder)
        return Mark(dict(self.ledger), self._rows_held())

    def _rows_held(self) -> pa.Table:
        return pa.concat_tables([self.schema.empty_table(), *self.held])

    def _write_file(self, rows: int) -> None:
        table = self._rows_held()
        path = self.folder / f"part-{len(self.ledger):05d}.parquet"
        # In one piece: where the writer ends a page depends on where a piece ends.
        whole = table.slice(0, rows).combine_chunks()
        with writing(path):
            pq.write_table(
                whole, path, compression="lz4", row_group_size=self.file_rows,
                use_dictionary=self.dictionary or False,
            )  # fmt: skip
            flush(path)
            self.ledger[path.name] = {**describe(path), "rows": rows}
        self.held = [table.slice(rows)]
        self.held_rows -= rows
