"""The names of records, as people find them: the line of a file, the offset of a topic."""

from __future__ import annotations

from pathlib import PurePosixPath

import pyarrow as pa
import pyarrow.compute as pc

from headrace.pipelines.sources.textfiles import COMPRESSIONS
from headrace.schemas.records.hashing import Int64s
from headrace.schemas.records.texts import sentences

_TEXT = {".csv": 2, ".tsv": 2, ".jsonl": 1, ".ndjson": 1}
"""The line of the first record, by the ending of a file's name; the header of CSV is line 1."""


def record_names(
    source: str, offset: Int64s, row: pa.Array | None = None, form: str | None = None
) -> pa.Array:
    """Name records of a source by their offsets, as dead letters have them.

    Parameters
    ----------
    source
        Name of the source.
    offset, row
        Those columns of dead letters, shape (n,); no row for None or null.
    form
        How the source is written, ``csv``, ``jsonl`` or other; None if its name shows it.

    Returns
    -------
    pyarrow.Array
        Texts, shape (n,).
    """
    name = PurePosixPath(source.partition("?")[0])
    suffix = name.with_suffix("").suffix if name.suffix in COMPRESSIONS else name.suffix
    first = _TEXT.get(suffix.lower() if form is None else f".{form}")
    word = "line" if first else "offset" if source.endswith("]") else "record"
    names = sentences(f"{source} {word} ", pa.array(offset + (first or 0)).cast(pa.string()))
    if row is None:
        return names
    rows = pc.fill_null(sentences(", row ", row.cast(pa.string())), "")
    return sentences(names, rows)


def record_name(source: str, offset: int, row: int | None = None, form: str | None = None) -> str:
    """Name one record, see `record_names`.

    Examples
    --------
    >>> record_name("clicks.csv.gz", 15), record_name("clicks", 15, form="jsonl")
    ('clicks.csv.gz line 17', 'clicks line 16')
    >>> record_name("clicks.parquet", 15), record_name("clicks[0]", 15, 3)
    ('clicks.parquet record 15', 'clicks[0] offset 15, row 3')
    """
    offsets, rows = pa.array([offset], pa.int64()).to_numpy(), pa.array([row], pa.int64())
    text: str = record_names(source, offsets, rows, form)[0].as_py()
    return text
