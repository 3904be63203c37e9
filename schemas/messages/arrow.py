"""Messages that are Arrow IPC streams, of any number of rows each, as columns."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from headrace.schemas.messages.arrowlayouts import UnreadLayoutError, plain_type, shared_bytes
from headrace.schemas.messages.ipcstreams import (
    MOST_BYTES,
    TOO_LARGE,
    BrokenStreamError,
    check_stream,
)
from headrace.schemas.records.columns import ColumnDecoder
from headrace.schemas.records.decoding import Fitted, Records, Reject
from headrace.schemas.records.eventing import value_at
from headrace.schemas.records.events import Reason
from headrace.schemas.records.hashing import Int64s
from headrace.schemas.records.notation import Notation
from headrace.schemas.records.paths import column_at
from headrace.schemas.types import carried_type, readable

_OPTIONS = pa.ipc.IpcReadOptions(
    # Where buffers lie is the writer's choice; and a message is too small for several threads.
    ensure_alignment=pa.ipc.Alignment.DataTypeSpecific,
    use_threads=False,
)
_BYTES = 16 << 20
"""About so many bytes of values are decoded at a time, unless one row has more."""


class Part(NamedTuple):
    """Records of messages up to a position.

    Parameters
    ----------
    end
        Position of the next record, or of the first one that may come after these messages.
    records
        The records.
    """

    end: int
    records: Records


class ArrowDecoder:
    """Decode messages that are IPC streams.

    A message that is broken anywhere is one reject: nothing of it is read.

    Parameters
    ----------
    schema
        The columns to decode, see `headrace.schemas.records.columns.ColumnDecoder`.
    notation
        How values are written, and what becomes of those that do not fit.
    """

    def __init__(self, schema: pa.Schema, notation: Notation) -> None:
        self.columns = _Columns(schema, notation)

    def parts(
        self, values: pa.BinaryArray, numbers: Int64s, begin: int, end: int, rows: int
    ) -> Iterator[Part]:
        """Decode messages, some rows at a time.

        Parameters
        ----------
        values
            The messages.
        numbers
            Positions of their first rows, ascending, int64, shape (n,); those of the other rows
            follow.
        begin, end
            Rows before the first are left out; the second is the end of the last part.
        rows
            About how many rows a part has at most.
        """
        held = _Held()
        for value, first in zip(values, numbers.tolist(), strict=True):
            found = self._read(value)
            if isinstance(found, str):
                if first >= begin:
                    text = base64.b64encode(value.as_py() or b"").decode()
                    held.rejects.append(Reject(first, Reason.UNDECODABLE, found, text))
                continue
            for batch in found:
                skipped = min(max(begin - first, 0), batch.num_rows)
                position = first + skipped
                first += batch.num_rows
                batch = batch.slice(skipped)
                while batch.num_rows:
                    room = held.room(batch, rows)
                    if not room:
                        yield Part(position, held.decoded(self.columns))
                        held = _Held()
                        continue
                    held.add(batch.slice(0, room), position)
                    position += room
                    batch = batch.slice(room)
        yield Part(end, held.decoded(self.columns))

    def _read(self, value: pa.BinaryScalar) -> list[pa.RecordBatch] | str:
        """Return the rows of a message, with the columns that are read; or why it has none."""
        if not value.is_valid:
            return "null value"
        # A copy, which is aligned, and does not keep all messages of an answer in memory.
        stream = pa.py_buffer(value.as_py())
        if not stream.size:
            return "empty value"
        try:
            size = check_stream(stream)
            with pa.ipc.open_stream(stream, options=_OPTIONS) as reader:
                batches = list(reader)
            for batch in batches:
                batch.validate(full=True)
            return self.columns.plain(batches, size)
        except BrokenStreamError as error:
            return str(error)
        except MemoryError:  # which says nothing of the message
            raise
        except (pa.ArrowException, OSError, ValueError) as error:
            return f"is no Arrow IPC stream ({' '.join(str(error).split())[:200]})"


@dataclass
class _Held:
    """Rows that are decoded together: of one schema, and not too many."""

    rejects: list[Reject] = field(default_factory=list)
    batches: list[pa.RecordBatch] = field(default_factory=list)
    numbers: list[Int64s] = field(default_factory=list)
    rows: int = 0
    size: int = 0

    def room(self, batch: pa.RecordBatch, rows: int) -> int:
        """Return how many of the rows can be added, at least one if there are none yet."""
        if self.batches and not batch.schema.equals(self.batches[0].schema):
            return 0
        a_row = max(-(-batch.nbytes // batch.num_rows), 1)
        room = min(rows - self.rows, batch.num_rows, (_BYTES - self.size) // a_row)
        return max(room, 0 if self.batches else 1)

    def add(self, batch: pa.RecordBatch, position: int) -> None:
        """Add rows, of which the first has this position."""
        self.batches.append(batch)
        self.numbers.append(np.arange(position, position + batch.num_rows))
        self.rows += batch.num_rows
        self.size += batch.nbytes

    def decoded(self, columns: ColumnDecoder) -> Records:
        """Decode them."""
        if self.batches:
            whole, numbers = pa.concat_batches(self.batches), np.concatenate(self.numbers)
        else:
            whole = pa.RecordBatch.from_arrays([pa.nulls(0)], ["none"])
            numbers = np.zeros(0, np.int64)
        records = columns.decode_numbered(whole, numbers)
        rejects = [*self.rejects, *records.rejects]
        records.rejects = sorted(rejects, key=lambda reject: reject.number)
        return records


class _Read(NamedTuple):
    """A column that is read of messages: where it is, and its type if values are written out."""

    number: int
    name: str
    plain: pa.DataType | None


class _Columns(ColumnDecoder):
    """The columns of messages: values are written out, and types that do not fit are bad values."""

    def __init__(self, schema: pa.Schema, notation: Notation) -> None:
        super().__init__(schema, notation)
        self.found: tuple[pa.Schema, list[_Read]] = pa.schema([]), []

    def plain(self, batches: list[pa.RecordBatch], size: int) -> list[pa.RecordBatch]:
        """Return the columns that are read, with each value written out.

        Parameters
        ----------
        batches
            The rows of a message, valid.
        size
            How large they are, bytes, before shared values are written out.

        Raises
        ------
        BrokenStreamError
            If they are too large then, or a column is of a type that is not read.
        """
        if not batches:
            return []
        columns = self._read_of(batches[0].schema)
        shared = [of.number for of in columns if of.plain is not None]
        size += sum(shared_bytes(batch.column(number)) for batch in batches for number in shared)
        if size > MOST_BYTES:
            raise BrokenStreamError(TOO_LARGE)
        return [_written_out(batch, columns) for batch in batches]

    def _read_of(self, schema: pa.Schema) -> list[_Read]:
        """Return the columns to read of messages with a schema, mostly that of the last one."""
        if not schema.equals(self.found[0]):
            self.found = schema, self._find(schema)
        return self.found[1]

    def _find(self, schema: pa.Schema) -> list[_Read]:
        names = schema.names
        found: dict[str, _Read] = {}
        for path in self.schema.names:
            name = path if path in names else path.partition(".")[0]
            if name in found or name not in names:
                continue
            if names.count(name) > 1:
                raise BrokenStreamError(f"it has two columns {name}")
            number = names.index(name)
            kind = schema.field(number).type
            try:
                plain = plain_type(kind)
            except UnreadLayoutError as error:
                raise BrokenStreamError(f"column {name}: {error}") from error
            found[name] = _Read(number, name, None if plain.equals(kind) else plain)
        return list(found.values())

    def _fitted(self, rows: pa.RecordBatch, field: pa.Field) -> Fitted:
        found = column_at(rows, field.name)
        if (
            found is None
            or field.name in self.notation.json
            or readable(carried_type(found.type), field.type)
        ):
            return super()._fitted(rows, field)
        # Files with such a column are refused: a cast may give it another meaning.
        bad = found.is_valid().to_numpy(zero_copy_only=False)
        values = pa.nulls(rows.num_rows, field.type)
        return Fitted(values, bad, lambda row: str(value_at(found, row)))


def _written_out(batch: pa.RecordBatch, columns: list[_Read]) -> pa.RecordBatch:
    if not columns:  # a batch without columns would have no rows
        return pa.RecordBatch.from_arrays([pa.nulls(batch.num_rows)], ["none"])
    arrays = [
        batch.column(of.number) if of.plain is None else batch.column(of.number).cast(of.plain)
        for of in columns
    ]
    return pa.RecordBatch.from_arrays(arrays, [of.name for of in columns])
