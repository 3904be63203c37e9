"""A folder of Parquet files by hour: their names, how they are written, merged and listed.

Below the folder of an output there are::

    _common_metadata                                  the schema
    2026-01-01/03/20260101T031540.000000Z.parquet     a file of the hour from 03:00 UTC on
    2026-01-01/04.parquet                             an hour whose files have been merged

A file gets its name when it is whole and on disk. To merge an hour, its file is written and
named; then the hour's folder is renamed to a hidden name and removed. So a reader finds each
row once at every instant if it looks for the file of an hour first, and into the folder only
if there is none (`open_dataset`).
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from pyarrow.fs import LocalFileSystem

from headrace.pipelines.run.disk import aside, flush, write_bytes, writing
from headrace.pipelines.sinks.encoding import NONE, Distinct
from headrace.pipelines.sinks.parquet import FILE_ROWS
from headrace.schemas.config.durations import HOUR
from headrace.schemas.errors import FolderError, OutputError

SCHEMA = "_common_metadata"
"""The schema of an output, under the name by which readers of Parquet folders know it."""

NOT_THE_RUN = "this run is not the one that wrote it: write to another folder"
"""What to do about a file that should not be there, or not as it is."""

_PARQUET = ds.ParquetFileFormat()
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_HOUR = "%Y-%m-%d/%H"
_STAMP = "%Y%m%dT%H%M%S.%fZ"
_DAY = re.compile(r"\d{4}-\d\d-\d\d")
_FILE = re.compile(r"\d{8}T\d{6}\.\d{6}Z(-[\da-f]+)*\.parquet")


def moment(time: int) -> datetime:
    """Return microseconds since 1970-01-01 UTC as a date and time."""
    return _EPOCH + timedelta(microseconds=time)


def microseconds(moment: datetime) -> int:
    """Return a date and time as microseconds since 1970-01-01 UTC."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def name_of(time: int, number: int | None = None) -> str:
    """Return the name of the file of a time; names sort as times do, and then as numbers.

    Examples
    --------
    >>> name_of(1_767_237_340_000_000)
    '20260101T031540.000000Z.parquet'
    >>> name_of(1_767_237_340_000_000, 7)
    '20260101T031540.000000Z-000000007.parquet'
    """
    numbered = "" if number is None else f"-{number:09d}"
    return f"{moment(time).strftime(_STAMP)}{numbered}.parquet"


def time_of(name: str) -> int:
    """Return the time in the name of a file, microseconds."""
    return microseconds(datetime.strptime(name[:23], _STAMP).replace(tzinfo=UTC))


def is_name(name: str) -> bool:
    """Return whether a file may have this name, which `name_of` returned.

    Examples
    --------
    >>> is_name("20260101T031540.000000Z.parquet"), is_name("../20260101T031540.000000Z.parquet")
    (True, False)
    """
    try:
        return _FILE.fullmatch(name) is not None and time_of(name) >= 0
    except ValueError:
        return False


def number_of(name: str) -> int:
    """Return the number in the name of a file."""
    return int(name[24:33])


def path_in_hour(name: str) -> str:
    """Return the path of the file with a name, in the folder of its output.

    Examples
    --------
    >>> path_in_hour("20260101T031540.000000Z.parquet")
    '2026-01-01/03/20260101T031540.000000Z.parquet'
    """
    return f"{moment(time_of(name)).strftime(_HOUR)}/{name}"


def encode(rows: pa.Table, options: dict[str, Any], group_rows: int = FILE_ROWS) -> bytes:
    """Return rows as the bytes of a Parquet file; they depend on the rows alone.

    `options` are those of `headrace.pipelines.sinks.encoding.Distinct`.
    """
    sink = pa.BufferOutputStream()
    # In one piece: where the writer ends a page depends on where a piece ends.
    pq.write_table(rows.combine_chunks(), sink, row_group_size=group_rows, **options)
    return bytes(sink.getvalue())


class HourFolder:
    """Writes and merges the files of one output.

    Opening it finishes the merges that a killed run left.

    Parameters
    ----------
    folder
        Created if it is missing.
    schema
        Schema of every file.
    distinct
        How columns are written.
    group_rows
        Rows of a row group.

    Raises
    ------
    FolderError
        If the folder has files of another schema.
    OutputError
        If it cannot be written to.

    Attributes
    ----------
    hours
        Beginning of each hour that has a folder, microseconds.
    """

    def __init__(
        self,
        folder: Path,
        schema: pa.Schema,
        distinct: Distinct = NONE,
        group_rows: int = FILE_ROWS,
    ) -> None:
        self.folder, self.schema, self.group_rows = folder, schema, group_rows
        self.options = distinct.options(schema)
        self.unflushed: set[Path] = set()
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._keep_schema()
            self.hours = {hour for hour, path in _hours(folder) if self._recover(path)}
        for hour in self.hours:  # whoever was killed may not have flushed them
            self._note(_folder_of(folder, hour))

    def _keep_schema(self) -> None:
        path = self.folder / SCHEMA
        if not path.exists():
            with aside(path) as hidden:
                pq.write_metadata(self.schema, hidden)
            self.unflushed.add(self.folder)
        elif not pq.read_schema(path).equals(self.schema):
            fact = "holds files with other columns or types"
            raise FolderError(self.folder, fact, "write to another folder")

    def _recover(self, folder: Path) -> bool:
        """Finish a merge that was killed; return whether the hour has a folder."""
        # A hidden file needs no care: it is written again under the same name.
        hidden = folder.with_name(f".{folder.name}")
        if hidden.exists():
            shutil.rmtree(hidden)
        if not folder.exists():
            return False
        if _merged(folder).exists():
            flush(folder.parent)
            self._withdraw(folder)
            return False
        return True

    def path_of(self, name: str) -> Path:
        """Return the path of the file with a name."""
        return _folder_of(self.folder, time_of(name)) / name

    def has(self, path: Path) -> bool:
        """Return whether a file, or the hour of which it is a part, is there."""
        return path.exists() or _merged(path.parent).exists()

    def merged_after(self, time: int) -> Path | None:
        """Return the file of a merged hour that ends after a time, None if there is none."""
        for hour, path in _hours(self.folder):
            if hour + HOUR > time and _merged(path).exists():
                return _merged(path)
        return None

    def files(self) -> list[Path]:
        """Return the files that are not merged, in order."""
        folders = (_folder_of(self.folder, hour) for hour in sorted(self.hours))
        return [path for folder in folders for path in _files_in(folder)]

    def encode(self, rows: pa.Table) -> bytes:
        """Return rows as the bytes of a file; they depend on the rows alone."""
        return encode(rows, self.options, self.group_rows)

    def write(self, path: Path, data: bytes) -> None:
        """Write a file."""
        self.make_folder(path.parent)
        with aside(path) as hidden:
            write_bytes(hidden, data)

    def make_folder(self, folder: Path) -> None:
        """Create the folder of an hour, to which a file is being added.

        Raises
        ------
        OutputError
            If the hour is merged.
        """
        if not folder.exists():
            if _merged(folder).exists():
                fact = "was merged by a run that was further than this one"
                raise OutputError(_merged(folder), fact, NOT_THE_RUN)
            with writing(folder):
                folder.mkdir(parents=True)
        self.hours.add(_hour_of(folder))
        self._note(folder)

    def _note(self, folder: Path) -> None:
        self.unflushed |= {folder, folder.parent, self.folder}

    def flush(self) -> None:
        """Wait until the names of all files are on disk."""
        # From the inside out: a folder that is there has its files.
        for folder in sorted(self.unflushed, reverse=True):
            flush(folder)
        self.unflushed.clear()

    def merge_until(self, time: int) -> None:
        """Merge every hour that ends at `time` or before."""
        for hour in sorted(hour for hour in self.hours if hour + HOUR <= time):
            self._merge(_folder_of(self.folder, hour))
            self.hours.discard(hour)

    def _merge(self, folder: Path) -> None:
        self.flush()
        files = _files_in(folder)
        if files:
            with aside(_merged(folder)) as hidden:
                self._write_merged(hidden, files)
            flush(folder.parent)
        self._withdraw(folder)

    def _write_merged(self, target: Path, files: list[Path]) -> None:
        with pq.ParquetWriter(target, self.schema, **self.options) as writer:
            held = self.schema.empty_table()
            for path in files:
                for batch in _batches(path, self.group_rows):
                    held = pa.concat_tables([held, pa.Table.from_batches([batch])])
                    while held.num_rows >= self.group_rows:
                        writer.write_table(held.slice(0, self.group_rows).combine_chunks())
                        held = held.slice(self.group_rows)
            if held.num_rows:
                writer.write_table(held.combine_chunks())

    def _withdraw(self, folder: Path) -> None:
        """Remove the folder of an hour; at no instant is only a part of it under its name."""
        hidden = folder.with_name(f".{folder.name}")
        with writing(folder):
            os.rename(folder, hidden)
            flush(folder.parent)
            shutil.rmtree(hidden)


def _batches(path: Path, rows: int) -> Iterator[pa.RecordBatch]:
    try:
        with pq.ParquetFile(path) as file:
            yield from file.iter_batches(rows, use_threads=False)
    except (OSError, pa.ArrowException) as error:
        fact = f"cannot be merged into its hour ({error})"
        hint = "another process changed it; restore it and resume the run"
        raise OutputError(path, fact, hint) from error


def _folder_of(folder: Path, time: int) -> Path:
    return folder / moment(time).strftime(_HOUR)


def _hour_of(folder: Path) -> int:
    named = f"{folder.parent.name}/{folder.name}"
    return microseconds(datetime.strptime(named, _HOUR).replace(tzinfo=UTC))


def _merged(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.parquet")


def _files_in(folder: Path) -> list[Path]:
    """Return the files in the folder of an hour, in order."""
    return [folder / name for name in sorted(os.listdir(folder)) if _FILE.fullmatch(name)]


def _hours(folder: Path) -> Iterator[tuple[int, Path]]:
    """Yield every hour of the days that have a folder, in order, and where its folder would be."""
    for day in sorted(path for path in folder.iterdir() if _DAY.fullmatch(path.name)):
        for hour in range(24):
            path = day / f"{hour:02d}"
            yield _hour_of(path), path


def open_dataset(folder: Path, until: int | None = None) -> ds.Dataset:
    """Return the rows of an output as a dataset, also while it is written and merged.

    Files that may be merged meanwhile are held open, so the dataset can be read at any time.

    Parameters
    ----------
    folder
        The folder of the output.
    until
        Only files of times before this one, microseconds; None for all.

    Raises
    ------
    FileNotFoundError
        If the folder is not that of an output.
    """
    schema = pq.read_schema(folder / SCHEMA)
    fragments = [
        fragment
        for hour, path in _hours(folder)
        if until is None or hour < until
        for fragment in _fragments(path, until)
    ]
    return ds.FileSystemDataset(fragments, schema, _PARQUET, LocalFileSystem())


def _fragments(folder: Path, until: int | None) -> list[ds.Fragment]:
    """Return the file of an hour, or else the files in its folder."""
    merged, files = _merged(folder), []
    if not merged.exists():
        with contextlib.suppress(FileNotFoundError):
            paths = _files_in(folder)
            wanted = [path for path in paths if until is None or time_of(path.name) < until]
            files = [pa.OSFile(str(path)) for path in wanted]
    # Looked for again: a folder is removed one file after another, so its list may be of a part.
    if merged.exists():
        return [_PARQUET.make_fragment(str(merged), LocalFileSystem())]
    return [_PARQUET.make_fragment(file) for file in files]
