"""Dead letters as they came, put in order when a run has ended."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from headrace.pipelines.sinks.parquet import LETTER_FILE_ROWS, ParquetFolder
from headrace.pipelines.sources.sorting import sort_rows
from headrace.schemas.records.events import DEAD_LETTER_SCHEMA, PLACE, without_reserved

DEAD_LETTERS = "dead_letters"


def sort_letters(written: Path, ordered: Path, memory_bytes: int) -> dict[str, dict[str, Any]]:
    """Write dead letters anew, by stream, source and position.

    Parameters
    ----------
    written
        Folder of them as they came.
    ordered
        Folder to write to.
    memory_bytes
        Past this, sorting uses the disk.

    Returns
    -------
    dict
        What is noted of each file, by its path from the folder above.
    """
    files = ParquetFolder(ordered, DEAD_LETTER_SCHEMA, ("record",), LETTER_FILE_ROWS)
    for batch in sort_rows(_read(written), (PLACE,), memory_bytes, str(written.parent)):
        files.append(pa.Table.from_batches([without_reserved(batch)]))
    files.close()
    return {f"{ordered.name}/{part}": noted for part, noted in files.ledger.items()}


def _read(folder: Path) -> Iterator[pa.RecordBatch]:
    for path in sorted(folder.glob("part-*.parquet")):
        with pq.ParquetFile(path) as file:
            yield from file.iter_batches()
