"""Log files as partitions: Parquet, CSV, JSON lines."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from headrace.pipelines.run.remote import explain
from headrace.pipelines.sources.locations import Location
from headrace.pipelines.sources.parquetfiles import batches, open_parquet
from headrace.pipelines.sources.source import Chunk
from headrace.pipelines.sources.textfiles import LONGEST, read_lines_ahead
from headrace.schemas.errors import UnreadableInputError
from headrace.schemas.records.columns import ColumnDecoder
from headrace.schemas.records.csvlines import CsvDecoder
from headrace.schemas.records.jsonlines import JsonDecoder
from headrace.schemas.records.notation import PLAIN, Notation

_ENDS = 64 << 10
"""Bytes at the head and at the tail of a file that are compared."""


@dataclass(frozen=True)
class LogFile:
    """One file of a stream.

    Parameters
    ----------
    number
        Number among all files, in order of stream and path.
    stream
        Number of its stream.
    location
        Where it lies.
    format
        ``parquet``, ``csv`` or ``jsonl``.
    header
        All column names of a CSV file, else empty.
    delimiter, quote
        Delimiter of a CSV file, and the character around fields, if any.
    schema
        The columns to read, with the types in which they are carried.
    notation
        How values are written, and what becomes of those that do not fit their column.
    constants
        Columns that its folders give, of which each record has the same value.
    longest
        Bytes of the longest line that is read.
    """

    number: int
    stream: int
    location: Location
    format: str
    header: tuple[str, ...]
    delimiter: str
    quote: str
    schema: pa.Schema
    notation: Notation = PLAIN
    constants: Mapping[str, pa.Scalar] = field(default_factory=dict)
    longest: int = LONGEST

    @property
    def name(self) -> str:
        """Its name in dead letters."""
        return self.location.name

    @property
    def start(self) -> int:
        """Records of a file are counted from 0."""
        return 0

    @property
    def size(self) -> int:
        """Size of the file when it was found, bytes."""
        return self.location.size

    @property
    def path(self) -> str:
        """Path to open it by; of a file elsewhere its URI, as it may be shown."""
        return self.location.path

    @property
    def key(self) -> str:
        """What is equal for two names of the file."""
        return self.location.key

    def identity(self) -> tuple[str, list[Any]]:
        """Return its real path or its URI, and its version.

        Of a file of this machine that is size, time of change, and a checksum of its head and
        tail, because a copy that keeps times may have other contents of equal size. An object
        in a store has an ETag for that.
        """
        where = self.location
        return self.key, ends_of(Path(where.inner)) if where.local else list(where.version)

    def chunks(self, rows: int, skip: int = 0) -> Iterator[Chunk]:
        """Read the file; chunks are cut as if `skip` were 0.

        Raises
        ------
        UnreadableInputError
            If the file has changed, is truncated or corrupt, or cannot be reached any more;
            names the last record that could be read.
        """
        position = 0
        read = self._read_parquet if self.format == "parquet" else self._read_text
        try:
            for chunk in read(rows, skip):
                position = chunk.end
                yield self._completed(chunk)
            # Whatever was read since it was opened may be of another file under its name.
            self.location.check()
        except MemoryError as error:
            raise UnreadableInputError.too_large(self.path, position) from error
        except (OSError, EOFError, pa.ArrowInvalid) as error:
            with contextlib.suppress(OSError):
                self.location.check()
            raise self._unreadable(position, error) from error

    def _unreadable(self, position: int, error: Exception) -> UnreadableInputError:
        elsewhere = isinstance(error, OSError) and not self.location.local
        if elsewhere or isinstance(error, FileNotFoundError):
            return UnreadableInputError.lost(self.path, position, explain(error)[0])
        return UnreadableInputError.at(self.path, position, error)

    @property
    def _own(self) -> pa.Schema:
        """The columns to read from the file itself."""
        return pa.schema([field for field in self.schema if field.name not in self.constants])

    def _completed(self, chunk: Chunk) -> Chunk:
        """Add the columns that folders give."""
        if not self.constants:
            return chunk
        batch = chunk.records.batch
        columns = [
            pa.repeat(self.constants[name], batch.num_rows)
            if name in self.constants
            else batch.column(name)
            for name in self.schema.names
        ]
        whole = pa.RecordBatch.from_arrays(columns, schema=self.schema)
        return replace(chunk, records=replace(chunk.records, batch=whole))

    def _read_parquet(self, rows: int, skip: int) -> Iterator[Chunk]:
        decoder = ColumnDecoder(self._own, self.notation)
        position = 0
        with open_parquet(self.location) as file:
            # A reader over several row groups keeps what it has read of each until its end.
            for group in range(file.num_row_groups):
                end = position + file.metadata.row_group(group).num_rows
                if end <= skip:
                    position = end
                    continue
                columns = decoder.schema.names
                for batch in batches(self.location, file, group, rows, columns):
                    end = position + batch.num_rows
                    yield Chunk(position, end, decoder.decode(batch, position))
                    position = end

    def _read_text(self, rows: int, skip: int) -> Iterator[Chunk]:
        decoder: CsvDecoder | JsonDecoder
        if self.format == "csv":
            decoder = CsvDecoder(self.header, self._own, self.delimiter, self.notation, self.quote)
        else:
            decoder = JsonDecoder(self._own, self.notation)
        headers = 1 if self.format == "csv" else 0
        # A line has about a hundred bytes.
        chunk = min(max(rows * 100, 1 << 16), 2 << 20)
        with contextlib.closing(read_lines_ahead(self.location, chunk, self.longest)) as parts:
            for lines in parts:
                first = lines.first - headers
                lines = lines.after(headers) if first < 0 else replace(lines, first=first)
                end = lines.first + len(lines)
                if len(lines) and end > skip:
                    yield Chunk(lines.first, end, lines.decoded(decoder.decode, self.longest))


def ends_of(path: Path, size: int | None = None) -> list[Any]:
    """Return size and time of change of a file, and a checksum of its head and its tail.

    Parameters
    ----------
    path
        The file.
    size
        Look at its first bytes alone, as many as this; None for all.

    Raises
    ------
    UnreadableInputError
        If it cannot be read.
    """
    try:
        with path.open("rb") as file:
            stat = os.fstat(file.fileno())
            size = stat.st_size if size is None else size
            digest = hashlib.sha256(file.read(min(_ENDS, size)))
            file.seek(max(_ENDS, size - _ENDS))
            digest.update(file.read(max(0, size - file.tell())))
    except OSError as error:
        raise UnreadableInputError.at(str(path), 0, error) from error
    return [size, stat.st_mtime_ns, digest.hexdigest()]
