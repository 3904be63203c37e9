"""The names of records, as people find them: the line of a file, the offset of a topic."""

from __future__ import annotations

from pathlib import PurePosixPath

from headrace.pipelines.sources.textfiles import COMPRESSIONS

_FIRST_LINES = {".csv": 2, ".tsv": 2, ".jsonl": 1, ".ndjson": 1, ".json": 1}
"""The line of the first record, by the ending of a file's name; the header of CSV is line 1."""


def record_name(source: str, offset: int, row: int | None = None, form: str | None = None) -> str:
    """Name a record by its source and offset, as dead letters have them.

    Parameters
    ----------
    source, offset, row
        The columns of a dead letter.
    form
        How the source is written, ``csv``, ``jsonl`` or other; None if its name shows it.

    Examples
    --------
    >>> record_name("clicks.csv.gz", 15), record_name("clicks", 15, form="jsonl")
    ('clicks.csv.gz line 17', 'clicks line 16')
    >>> record_name("clicks.parquet", 15), record_name("clicks/0", 15, 3)
    ('clicks.parquet record 15', 'clicks/0 offset 15, row 3')
    """
    name = PurePosixPath(source.partition("?")[0])
    suffix = name.with_suffix("").suffix if name.suffix in COMPRESSIONS else name.suffix
    first = _FIRST_LINES.get(suffix.lower() if form is None else f".{form}")
    if first is not None:
        return f"{source} line {offset + first}"
    if row is not None:
        return f"{source} offset {offset}, row {row}"
    is_file = suffix or form == "parquet"
    return f"{source} {'record' if is_file else 'offset'} {offset}"
