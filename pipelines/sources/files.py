"""Log files as partitions: Parquet, CSV, JSON lines."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from headrace.pipelines.sources.source import Chunk
from headrace.pipelines.sources.textfiles import read_lines
from headrace.schemas.errors import UnreadableInputError
from headrace.schemas.records.columns import ColumnDecoder
from headrace.schemas.records.csvlines import CsvDecoder
from headrace.schemas.records.decoding import Lines
from headrace.schemas.records.jsonlines import JsonDecoder
from headrace.schemas.records.notation import PLAIN, Notation


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
    delimiter, quote
        Delimiter of a CSV file, and the character around fields, if any.
    schema
        The columns to read, with the types in which they are carried.
    size
        Size of the file, bytes.
    notation
        How values are written, and what becomes of those that do not fit their column.
    """

    number: int
    stream: int
    path: str
    name: str
    format: str
    header: tuple[str, ...]
    delimiter: str
    quote: str
    schema: pa.Schema
    size: int
    notation: Notation = PLAIN

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
        decoder = ColumnDecoder(self.schema, self.notation)
        position = 0
        with open_parquet(self.path) as file:
            # A reader over several row groups keeps what it has read of each until its end.
            for group in range(file.num_row_groups):
                end = position + file.metadata.row_group(group).num_rows
                if end <= skip:
                    position = end
                    continue
                for batch in file.iter_batches(
                    batch_size=rows, row_groups=[group], columns=self.schema.names
                ):
                    end = position + batch.num_rows
                    yield Chunk(position, end, decoder.decode(batch, position))
                    position = end

    def _read_text(self, rows: int, skip: int) -> Iterator[Chunk]:
        decoder: CsvDecoder | JsonDecoder
        if self.format == "csv":
            decoder = CsvDecoder(
                self.header, self.schema, self.delimiter, self.notation, self.quote
            )
        else:
            decoder = JsonDecoder(self.schema, self.notation)
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


def open_parquet(path: str) -> pq.ParquetFile:
    """Open a Parquet file; INT96 timestamps become microseconds, which any year fits."""
    return pq.ParquetFile(path, coerce_int96_timestamp_unit="us")
