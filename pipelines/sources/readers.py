"""Reading the records of one file, whatever its format."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from headrace.pipelines.sources.inputs import Source
from headrace.pipelines.sources.textfiles import read_lines
from headrace.schemas.errors import UnreadableInputError
from headrace.schemas.records.decoding import CsvDecoder, JsonDecoder, Lines, Records


@dataclass
class Chunk:
    """Consecutive records ``[begin, end)`` of a file, decoded."""

    begin: int
    end: int
    records: Records


def read_chunks(source: Source, rows: int, skip: int = 0) -> Iterator[Chunk]:
    """Read a file.

    Parameters
    ----------
    source
        The file.
    rows
        About how many records to decode at a time.
    skip
        How many records are of no interest: chunks of them alone may be left out.
        The other chunks are cut as if nothing were left out.

    Raises
    ------
    UnreadableInputError
        If the file breaks off, naming the record up to which it was good.
    """
    position = 0
    if source.format == "parquet":
        chunks = _read_parquet(source, rows, skip)
    else:
        chunks = _read_text(source, rows, skip)
    try:
        for chunk in chunks:
            position = chunk.end
            yield chunk
    except (OSError, EOFError, pa.ArrowInvalid) as error:
        raise UnreadableInputError.at(source.path, position, error) from error


def _read_parquet(source: Source, rows: int, skip: int) -> Iterator[Chunk]:
    position = 0
    with pq.ParquetFile(source.path) as file:
        # A reader over several row groups keeps what it has read of each until its end.
        for group in range(file.num_row_groups):
            end = position + file.metadata.row_group(group).num_rows
            if end <= skip:
                position = end
                continue
            for batch in file.iter_batches(
                batch_size=rows, row_groups=[group], columns=source.schema.names
            ):
                columns = [
                    _as_type(batch.column(field.name), field.type) for field in source.schema
                ]
                batch = pa.RecordBatch.from_arrays(columns, schema=source.schema)
                end = position + batch.num_rows
                numbers = np.arange(position, end, dtype=np.int64)
                yield Chunk(position, end, Records(batch, numbers))
                position = end


def _as_type(column: pa.Array, kind: pa.DataType) -> pa.Array:
    if column.type == kind:
        return column
    if pa.types.is_dictionary(column.type):
        column = pc.dictionary_decode(column)
    return column.cast(kind)


def _read_text(source: Source, rows: int, skip: int) -> Iterator[Chunk]:
    decoder: CsvDecoder | JsonDecoder
    if source.format == "csv":
        decoder = CsvDecoder(source.header, source.schema, source.delimiter)
    else:
        decoder = JsonDecoder(source.schema)
    headers = 1 if source.format == "csv" else 0
    # Lines are long as a rule: some hundred bytes make a row.
    for lines in read_lines(source.path, chunk=min(max(rows * 100, 1 << 16), 4 << 20)):
        first = lines.first - headers
        lines = Lines(0, lines.lines[headers:]) if first < 0 else Lines(first, lines.lines)
        if lines.lines:
            end = lines.first + len(lines.lines)
            if end <= skip:
                continue
            yield Chunk(lines.first, end, decoder.decode(lines))
