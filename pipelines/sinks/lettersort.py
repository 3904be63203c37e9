"""Sorting the dead letters at the end of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from headrace.pipelines.sinks.encoding import RECORDS
from headrace.pipelines.sinks.parquet import LETTER_FILE_ROWS, ParquetFolder
from headrace.pipelines.sources.sorting import sort_rows
from headrace.schemas.records.events import DEAD_LETTER_SCHEMA, LETTER_ORDER, without_reserved

DEAD_LETTERS = "dead_letters"


def sort_letters(
    written: Path,
    ordered: Path,
    memory_bytes: int,
    amended: Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]] = iter,
) -> dict[str, dict[str, Any]]:
    """Write dead letters sorted by stream, source and position.

    Parameters
    ----------
    written
        Folder of the unsorted dead letters.
    ordered
        Folder to write to.
    memory_bytes
        Beyond this, sorting uses the disk.
    amended
        Adds what is known of letters only when all are written; it gets them in order.

    Returns
    -------
    dict
        ``bytes``, ``sha256`` and ``rows`` of each file, by its path in the result.
    """
    files = ParquetFolder(ordered, DEAD_LETTER_SCHEMA, RECORDS, LETTER_FILE_ROWS)
    letters = read_letters(written)
    for batch in amended(sort_rows(letters, LETTER_ORDER, memory_bytes, str(written.parent))):
        files.append(pa.Table.from_batches([without_reserved(batch)]))
    files.close()
    return {f"{ordered.name}/{part}": noted for part, noted in files.inventory.items()}


def read_letters(folder: Path) -> Iterator[pa.RecordBatch]:
    """Read the dead letters in a folder, file by file."""
    for path in sorted(folder.glob("part-*.parquet")):
        with pq.ParquetFile(path) as file:
            yield from file.iter_batches()
