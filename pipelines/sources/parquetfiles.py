"""Parquet files in batches of bounded size, whatever they unfold to.

A value that repeats takes some bits in a file and its whole length in a batch: 100 kB may be 63 GB.
What a batch takes is bounded before it is read, by the longest value of each dictionary and by the
sizes that the file states.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from headrace.pipelines.sources.locations import Location
from headrace.schemas.errors import UnreadableInputError

BATCH_BYTES = 64 << 20
"""About what the values of a batch take at most; a batch has one row at least."""

_LONGEST = 64 << 20
"""Bytes of the longest value that is read."""

_MOST_CHUNK, _MOST_RATIO = 1 << 30, 100
"""A column of a row group that takes more bytes than this, unless it is compressed so well, is
read: honest text of a gigabyte is not compressed a hundredfold."""

_MOST_ITEMS = 1 << 28
"""Items of all lists of a column in a row group: a row may have all of them."""

_WIDTHS = {"BOOLEAN": 1, "INT32": 4, "INT64": 8, "INT96": 12, "FLOAT": 4, "DOUBLE": 8}
_DICTIONARY = {"PLAIN_DICTIONARY", "RLE_DICTIONARY"}
_PAGE = 64 << 10


@contextlib.contextmanager
def open_parquet(location: Location) -> Iterator[pq.ParquetFile]:
    """Open a Parquet file; INT96 timestamps become microseconds, which any year fits."""
    with (
        location.open() as source,
        # Columns that lie side by side come with one request.
        pq.ParquetFile(
            source, pre_buffer=not location.local, coerce_int96_timestamp_unit="us"
        ) as file,
    ):
        yield file


def batches(
    location: Location, file: pq.ParquetFile, group: int, rows: int, columns: list[str]
) -> Iterator[pa.RecordBatch]:
    """Read columns of a row group, at most `rows` rows at a time.

    Raises
    ------
    UnreadableInputError
        If the row group, or a value, unfolds to more than can be meant.
    """
    leaves = [leaf for leaf in _leaves(file, group) if leaf.is_of(columns)]
    for leaf in leaves:
        leaf.check(location, group)
    longest = _longest(location, group, leaves, rows)
    for path, size in longest.items():
        if size > _LONGEST:
            fact = f"has a value of {size:,} bytes, more than {_LONGEST:,}"
            raise UnreadableInputError.unfolding(location.path, group, path, fact)
    per_row = sum(leaf.per_row(longest.get(leaf.path, 0)) for leaf in leaves)
    most = max(1, int(min(rows, BATCH_BYTES // max(per_row, 1))))
    yield from file.iter_batches(batch_size=most, row_groups=[group], columns=columns)


@dataclass(frozen=True)
class _Leaf:
    """A column of a row group, of values that are no structs or lists.

    Parameters
    ----------
    path
        Its name, after those of the columns in which it is.
    width
        Bytes of a value; 0 if each has a length of its own.
    nested
        Whether a row may have several values.
    coded
        Whether values are in a dictionary.
    rows, values, size, compressed
        Rows of the row group, values of the column in it, and bytes of these before and after
        compression, as the file states.
    """

    path: str
    width: int
    nested: bool
    coded: bool
    rows: int
    values: int
    size: int
    compressed: int

    def is_of(self, columns: Collection[str]) -> bool:
        """Return whether it is one of some columns, or inside of one."""
        return any(self.path == name or self.path.startswith(f"{name}.") for name in columns)

    def check(self, location: Location, group: int) -> None:
        """Raise `UnreadableInputError` if it takes more than can be meant."""
        if self.size > _MOST_CHUNK and self.size > _MOST_RATIO * self.compressed:
            fact = f"unfolds from {self.compressed:,} bytes to {self.size:,}"
        elif self.nested and self.values > _MOST_ITEMS:
            fact = f"has lists of {self.values:,} items together"
        else:
            return
        raise UnreadableInputError.unfolding(location.path, group, self.path, fact)

    def per_row(self, longest: int) -> float:
        """Return about how many bytes a row takes, if the longest value of a dictionary is this."""
        items = self.values / max(self.rows, 1) if self.nested else 1.0
        return items * (self.width or longest) + self.size / max(self.rows, 1)


def _leaves(file: pq.ParquetFile, group: int) -> Iterator[_Leaf]:
    metadata = file.metadata.row_group(group)
    for at in range(metadata.num_columns):
        chunk, kind = metadata.column(at), file.schema.column(at)
        width = kind.length if kind.physical_type == "FIXED_LEN_BYTE_ARRAY" else 0
        yield _Leaf(
            chunk.path_in_schema, _WIDTHS.get(kind.physical_type, width),
            kind.max_repetition_level > 0, bool(_DICTIONARY & {*chunk.encodings}),
            metadata.num_rows, chunk.num_values, chunk.total_uncompressed_size,
            chunk.total_compressed_size,
        )  # fmt: skip


def _longest(location: Location, group: int, leaves: list[_Leaf], rows: int) -> dict[str, int]:
    """Return the bytes of the longest value in the dictionary of each column that matters.

    With the first row of a column Arrow reads its whole dictionary, and nothing else.
    """
    asked = [
        leaf.path
        for leaf in leaves
        if leaf.coded and not leaf.width and leaf.size * min(rows, leaf.rows) > BATCH_BYTES
    ]
    if not asked:
        return {}
    with (
        location.open() as source,
        pq.ParquetFile(source, read_dictionary=asked, buffer_size=_PAGE) as file,
    ):
        return {path: _longest_of(file, group, path) for path in asked}


def _longest_of(file: pq.ParquetFile, group: int, path: str) -> int:
    for batch in file.iter_batches(batch_size=1, row_groups=[group], columns=[path]):
        column = batch.column(0)
        while not pa.types.is_dictionary(column.type):
            if pa.types.is_struct(column.type):
                column = column.field(0)
            elif pa.types.is_nested(column.type):
                column = column.values
            else:
                return 0
        return pc.max(pc.binary_length(column.dictionary)).as_py() or 0
    return 0
