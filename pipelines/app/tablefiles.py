"""Files that a command writes: Parquet, CSV or JSON lines, by the ending of their name."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv
import pyarrow.parquet as pq

from headrace.pipelines.kafka.jsonrows import json_rows
from headrace.pipelines.run.disk import aside
from headrace.pipelines.run.remote import Address
from headrace.pipelines.sources.textfiles import COMPRESSIONS
from headrace.schemas.errors import FolderError

Write = Callable[[pa.RecordBatch], None]
"""Writes rows at the end of a file."""


@contextmanager
def written_table(place: Path | Address, schema: pa.Schema) -> Iterator[Write]:
    """Write a table a batch at a time; it has its name when all of it is there.

    Parameters
    ----------
    place
        The file, from `check_table`.
    schema
        Columns and types of all batches. In text, lists are JSON, and bytes base64.

    Yields
    ------
    callable
        Writes a batch. If the block fails, nothing is left.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    compression, opened = _form(Path(place.name))
    with written_file(place) as path, opened(path, schema, compression) as write:
        yield write


@contextmanager
def written_file(place: Path | Address) -> Iterator[Path]:
    """Yield a path to write a file at, which gets its place when the block has ended.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    if isinstance(place, Path):
        with aside(place) as hidden:
            yield hidden
        return
    with tempfile.TemporaryDirectory(prefix="headrace-") as scratch:
        path = Path(scratch, "file")
        yield path
        with path.open("rb") as file:
            place.write(file)


def check_table(place: Path | Address) -> None:
    """Refuse a file whose name has no ending that is known, or that is there already.

    Raises
    ------
    FolderError
        Naming the file.
    """
    _form(Path(place.name))
    check_new(place)


def check_new(place: Path | Address) -> None:
    """Refuse a file that is there already, as `check_table` does."""
    if (place.size() is not None) if isinstance(place, Address) else place.exists():
        raise FolderError(str(place), "is there already", "name another file, or delete it")


def compression_of(path: Path) -> str | None:
    """Return how a text file is compressed, by the ending of its name."""
    return COMPRESSIONS.get(path.suffix.lower())


_Opened = Callable[[Path, pa.Schema, str | None], AbstractContextManager[Write]]


def _form(path: Path) -> tuple[str | None, _Opened]:
    suffixes, compression = path.suffixes, compression_of(path)
    name = "".join(suffixes[-2:-1] if compression else suffixes[-1:]).lower()
    if name not in _WRITERS or (compression and name == ".parquet"):
        hint = "name it .parquet, .csv or .jsonl; .gz or .zst may follow the last two"
        raise FolderError(str(path), "has a name that does not show its format", hint)
    return compression, _WRITERS[name]


@contextmanager
def _parquet(path: Path, schema: pa.Schema, compression: str | None) -> Iterator[Write]:
    with pq.ParquetWriter(str(path), schema, compression="zstd") as writer:
        yield lambda batch: writer.write_batch(batch)


@contextmanager
def _csv(path: Path, schema: pa.Schema, compression: str | None) -> Iterator[Write]:
    flat = pa.schema([(of.name, of.type if _is_flat(of.type) else pa.string()) for of in schema])
    # Texts within quotes and nulls without, so that an empty text is not a null.
    options = csv.WriteOptions(quoting_style="needed")

    def write(batch: pa.RecordBatch) -> None:
        columns = [column if _is_flat(column.type) else _as_json(column) for column in batch]
        writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=flat))

    with (
        pa.output_stream(str(path), compression=compression) as stream,
        csv.CSVWriter(stream, flat, write_options=options) as writer,
    ):
        yield write


@contextmanager
def _jsonl(path: Path, schema: pa.Schema, compression: str | None) -> Iterator[Write]:
    with pa.output_stream(str(path), compression=compression) as stream:

        def write(batch: pa.RecordBatch) -> None:
            lines = json_rows(pa.Table.from_batches([batch]))
            stream.write(b"".join(line + b"\n" for line in lines))

        yield write


_WRITERS: dict[str, _Opened] = {
    ".parquet": _parquet, ".csv": _csv, ".jsonl": _jsonl, ".ndjson": _jsonl, ".json": _jsonl,
}  # fmt: skip


def _is_flat(kind: pa.DataType) -> bool:
    return not (pa.types.is_nested(kind) or pa.types.is_binary(kind))


def _as_json(column: pa.Array) -> pa.Array:
    """Return lists as JSON texts, and bytes as base64; nulls stay nulls."""
    lines = json_rows(pa.table({"": column}))
    texts = pa.array([line[len('{"":') : -1].decode() for line in lines], pa.string())
    if pa.types.is_binary(column.type):
        texts = pc.utf8_trim(texts, '"')
    return pc.if_else(column.is_valid(), texts, pa.scalar(None, pa.string()))
