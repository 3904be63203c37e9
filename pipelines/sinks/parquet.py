"""A folder of Parquet files as a sink."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from headrace.pipelines.run.disk import describe, flush, writing
from headrace.pipelines.sinks.encoding import NONE, Distinct
from headrace.pipelines.sinks.sink import Mark, Noted, expect_held
from headrace.schemas.records.restored import Text, checked, expect

FILE_ROWS = 262_144
"""Rows per file. A file is one row group, held in memory until it is complete, so a resumed
replay never has to repair a half-written file."""

LETTER_FILE_ROWS = 16_384

# Dead letters come a few at a time, and a small batch takes more memory than its rows.
_MOST_PARTS = 1_000


class ParquetFolder:
    """A folder of Parquet files, each of a fixed number of rows.

    Files end at multiples of `file_rows`, however rows are split over calls, so equal
    rows make equal files.

    Parameters
    ----------
    folder
        Created if it is missing.
    schema
        Schema of every file; a folder without rows gets one empty file.
    distinct
        How columns are written.
    file_rows
        Rows per file; up to as many are held in memory.

    Attributes
    ----------
    inventory
        ``bytes``, ``sha256`` and ``rows`` of each finished file by its name, in order.
    """

    def __init__(
        self,
        folder: Path,
        schema: pa.Schema,
        distinct: Distinct = NONE,
        file_rows: int = FILE_ROWS,
    ) -> None:
        self.folder, self.schema, self.file_rows = folder, schema, file_rows
        self.options = distinct.options(schema)
        self.inventory: dict[str, dict[str, Any]] = {}
        self.held: list[pa.Table] = []
        self.held_rows = 0
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)

    def resume(self, mark: Mark) -> None:
        """Continue from a mark: after its finished files, with the rows that were held back.

        Raises
        ------
        DamagedError
            If it is not one of such a folder.
        """
        checked(dict[Text, Noted], mark.committed, "files")
        names = [f"part-{number:05d}.parquet" for number in range(len(mark.committed))]
        expect(list(mark.committed) == names, "files", "have other names than those of a folder")
        self.inventory = dict(mark.committed)
        expect_held(mark, self.schema)
        if mark.held.num_rows:
            self.append(mark.held)

    def append(self, rows: pa.Table) -> None:
        """Add rows, and write files as they become full."""
        self.held.append(rows)
        self.held_rows += rows.num_rows
        if len(self.held) > _MOST_PARTS:
            self.held = [pa.concat_tables(self.held).combine_chunks()]
        while self.held_rows >= self.file_rows:
            self._write_file(self.file_rows)

    def close(self) -> None:
        """Write the last file, of the rows held back."""
        if self.held_rows or not self.inventory:
            self._write_file(self.held_rows)

    def commit(self) -> Mark:
        """Flush the names of finished files to disk; return their inventory and the held rows."""
        flush(self.folder)
        return Mark(dict(self.inventory), self._rows_held())

    def _rows_held(self) -> pa.Table:
        return pa.concat_tables([self.schema.empty_table(), *self.held])

    def _write_file(self, rows: int) -> None:
        table = self._rows_held()
        path = self.folder / f"part-{len(self.inventory):05d}.parquet"
        # In one piece: where the writer ends a page depends on where a piece ends.
        whole = table.slice(0, rows).combine_chunks()
        with writing(path):
            pq.write_table(whole, path, row_group_size=self.file_rows, **self.options)
            flush(path)
            self.inventory[path.name] = {**describe(path), "rows": rows}
        self.held = [table.slice(rows)]
        self.held_rows -= rows
