"""Log files as partitions: Parquet, CSV, JSON lines."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from headrace.pipelines.sources.source import Chunk
from headrace.pipelines.sources.textfiles import read_lines
from headrace.schemas.errors import UnreadableInputError
from headrace.schemas.records.csvlines import CsvDecoder
from headrace.schemas.records.decoding import STRICT, Lenience, Lines, Records
from headrace.schemas.records.jsonlines import JsonDecoder
from headrace.schemas.records.values import without_nulls


@dataclass(frozen=True)
class LogFile:
    """One file of a stream.

    Parameters
    ----------
    number
        Number among all files, in order of stream and path.
    stream
        Number of its stream.
    path
        Path to open it by.
    name
        Its path relative to the folder of the configuration, or absolute if the
        configuration gives an absolute path.
    format
        ``parquet``, ``csv`` or ``jsonl``.
    header
        All column names of a CSV file, else empty.
    delimiter
        Delimiter of a CSV file.
    schema
        The columns to read, with the types in which they are carried.
    size
        Size of the file, bytes.
    lenience
        What becomes of values that do not fit their column.
    """

    number: int
    stream: int
    path: str
    name: str
    format: str
    header: tuple[str, ...]
    delimiter: str
    schema: pa.Schema
    size: int
    lenience: Lenience = STRICT

    def chunks(self, rows: int, skip: int = 0) -> Iterator[Chunk]:
        """Read the file; chunks are cut as if `skip` were 0.

        Raises
        ------
        UnreadableInputError
            If the file is truncated or corrupt; names the last record that could be read.
        """
        position = 0
        read = self._read_parquet if self.format == "parquet" else self._read_text
        try:
            for chunk in read(rows, skip):
                position = chunk.end
                yield chunk
        except (OSError, EOFError, pa.ArrowInvalid) as error:
            raise UnreadableInputError.at(self.path, position, error) from error

    def _read_parquet(self, rows: int, skip: int) -> Iterator[Chunk]:
        position = 0
        with pq.ParquetFile(self.path) as file:
            # A reader over several row groups would keep all of them in memory.
            for group in range(file.num_row_groups):
                end = position + file.metadata.row_group(group).num_rows
                if end <= skip:
                    position = end
                    continue
                for batch in file.iter_batches(
                    batch_size=rows, row_groups=[group], columns=self.schema.names
                ):
                    columns = [
                        without_nulls(_column_as(batch, field), self.lenience.nulls_of(field.type))
                        for field in self.schema
                    ]
                    batch = pa.RecordBatch.from_arrays(columns, schema=self.schema)
                    end = position + batch.num_rows
                    numbers = np.arange(position, end, dtype=np.int64)
                    yield Chunk(position, end, Records(batch, numbers))
                    position = end

    def _read_text(self, rows: int, skip: int) -> Iterator[Chunk]:
        decoder: CsvDecoder | JsonDecoder
        if self.format == "csv":
            decoder = CsvDecoder(self.header, self.schema, self.delimiter, self.lenience)
        else:
            decoder = JsonDecoder(self.schema, self.lenience)
        headers = 1 if self.format == "csv" else 0
        # A line has about a hundred bytes.
        for lines in read_lines(self.path, chunk=min(max(rows * 100, 1 << 16), 4 << 20)):
            first = lines.first - headers
            lines = Lines(0, lines.lines[headers:]) if first < 0 else Lines(first, lines.lines)
            if lines.lines:
                end = lines.first + len(lines.lines)
                if end <= skip:
                    continue
                yield Chunk(lines.first, end, decoder.decode(lines))


def _column_as(batch: pa.RecordBatch, field: pa.Field) -> pa.Array:
    """Return a column with the type that it has in the stream; nulls if the file lacks it."""
    where = batch.schema.get_field_index(field.name)
    if where < 0:
        return pa.nulls(batch.num_rows, field.type)
    column = batch.column(where)
    if isinstance(column.type, pa.BaseExtensionType):
        column = column.storage
    if column.type == field.type:
        return column
    if pa.types.is_dictionary(column.type):
        column = pc.dictionary_decode(column)
    # A whole number too large for a fraction to hold is rounded, as in any conversion.
    rounded = pa.types.is_integer(column.type) and pa.types.is_floating(field.type)
    return column.cast(field.type, safe=not rounded)
