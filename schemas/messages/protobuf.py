"""Protobuf messages as columns."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from google.protobuf.json_format import MessageToDict, SerializeToJsonError

from headrace.schemas.messages import protokernel as kernel
from headrace.schemas.messages.decoding import (
    Found,
    MessageDecoder,
    Reader,
    as_text,
)
from headrace.schemas.messages.protoschemas import Program, ProtoSchema, Stored
from headrace.schemas.records.hashing import Int64s
from headrace.schemas.records.notation import PLAIN, Notation
from headrace.schemas.records.spans import Spans, gathered

_EARLIEST_S, _LATEST_S = -62_135_596_800, 253_402_300_799
"""The seconds that a time may have, of the years 1 to 9999."""

_SECOND_NS = 1_000_000_000

Bools = npt.NDArray[np.bool_]


class ProtoDecoder(MessageDecoder):
    """Decode Protobuf messages.

    Parameters
    ----------
    message
        What they are.
    schema, notation
        See `MessageDecoder`.
    header
        Whether messages have a header: the number of a schema, which need not be known as
        fields have numbers, and the place of the message in its file.
    """

    def __init__(
        self,
        message: ProtoSchema,
        schema: pa.Schema,
        notation: Notation = PLAIN,
        header: bool = False,
    ) -> None:
        super().__init__(schema, notation, header)
        types = message.columns().all
        wanted = {name: types[name] for name in schema.names if name in types}
        self._reader = ProtoReader(message, wanted, header)

    def reader(self, number: int | None) -> Reader:
        """Return what reads messages, the same one for all schemas."""
        return self._reader


class ProtoReader:
    """Reads messages.

    Parameters
    ----------
    message
        What they are.
    wanted
        The columns to read, by path, with their types.
    placed
        Whether the place of the message in its file is before each.
    """

    def __init__(
        self, message: ProtoSchema, wanted: Mapping[str, pa.DataType], placed: bool
    ) -> None:
        self.wanted, self.placed = wanted, placed
        self.program = Program(message, wanted)
        self.others = [path for path in wanted if path not in self.program.stored]
        self.parse = message.parser().FromString
        self.place = message.index()

    def read(self, messages: Spans) -> Found:
        """Return messages as columns."""
        program = self.program
        broken: dict[int, str] = {}
        if self.placed:
            messages = self._after_place(messages, broken)
        count = messages.begins.size
        results = np.empty(count, np.int64)
        none = np.empty((2, 0), np.int64), np.empty((0, 0), np.int64)
        words, valid = self._room(count)
        tables = program.nodes, program.fields, program.known
        kernel.read_messages(*messages, *tables, words, valid, *none, results)
        results[list(broken)] = -1
        broken = {int(row): kernel.ERRORS[-results[row]]
                  for row in np.flatnonzero(results)} | broken  # fmt: skip
        rows = np.flatnonzero(results == 0)
        messages = messages.take(rows)
        columns = _Columns(messages, words[:, rows], valid[:, rows])
        lists = [stored.slot for stored in program.stored.values() if stored.repeated]
        if lists:
            items, bases = columns.room_for_items(lists)
            words, valid = self._room(rows.size)
            if items.shape[1]:
                results = np.empty(rows.size, np.int64)
                kernel.read_messages(*messages, *tables, words, valid, items, bases, results)
            columns.items, columns.bases = items, bases
        found = {path: columns.of(stored) for path, stored in program.stored.items()}
        if self.others:
            found |= self._by_library(messages, columns.broken)
        arrays = [found[path] for path in self.wanted]
        batch = pa.RecordBatch.from_arrays(arrays, list(self.wanted))
        if columns.broken:
            broken |= {int(rows[row]): why for row, why in columns.broken.items()}
            good = np.ones(rows.size, np.bool_)
            good[list(columns.broken)] = False
            batch, rows = batch.filter(pa.array(good)), rows[good]
        return Found(batch, rows, broken)

    def _room(self, count: int) -> tuple[npt.NDArray[np.int64], Bools]:
        shape = self.program.slots, count
        return np.zeros(shape, np.int64), np.zeros(shape, np.bool_)

    def _after_place(self, messages: Spans, broken: dict[int, str]) -> Spans:
        """Return messages without the place of their type, which must be that of this one.

        It is how many numbers there are, and the numbers, each with its sign in the last bit.
        A single zero stands for the first message of a file.
        """
        data, begins, ends = messages
        written = [_variable(2 * number) for number in (len(self.place), *self.place)]
        forms = [b"".join(written)] + ([b"\0"] if self.place == [0] else [])
        after = begins.copy()
        found = np.zeros(begins.size, np.bool_)
        for form in forms:
            equal = ~found & (ends - begins >= len(form))
            for place, byte in enumerate(form):
                equal[equal] &= data[begins[equal] + place] == byte
            after[equal] += len(form)
            found |= equal
        why = f"it is not the message {self.place} of its file, as its header says"
        broken |= dict.fromkeys(np.flatnonzero(~found).tolist(), why)
        return Spans(data, after, ends)

    def _by_library(self, messages: Spans, broken: dict[int, str]) -> dict[str, pa.Array]:
        """Return the columns that are JSON, as Protobuf's own form of it."""
        texts: dict[str, list[str | None]] = {path: [] for path in self.others}
        for row in range(messages.begins.size):
            message = self.parse(messages.value(row))
            for path in self.others:
                try:
                    texts[path].append(_json_at(message, path))
                except (SerializeToJsonError, TypeError, ValueError) as error:
                    broken[row] = f"{path} has no form as JSON ({' '.join(str(error).split())})"
                    texts[path].append(None)
        return {path: pa.array(found, pa.string()) for path, found in texts.items()}


def _json_at(message: Any, path: str) -> str | None:
    """Return the value at a path as JSON, None without one."""
    *outer, name = path.split(".")
    for part in outer:
        if not message.HasField(part):
            return None
        message = getattr(message, part)
    alone = type(message)()
    if message.DESCRIPTOR.fields_by_name[name].is_repeated:
        getattr(alone, name).MergeFrom(getattr(message, name))
    elif message.HasField(name):
        getattr(alone, name).CopyFrom(getattr(message, name))
    value = MessageToDict(alone, preserving_proto_field_name=True).get(name)
    # Maps are in no order.
    return None if value is None else json.dumps(value, sort_keys=True, ensure_ascii=False)


def _variable(number: int) -> bytes:
    written = bytearray()
    while number > 127:
        written.append(number & 127 | 128)
        number >>= 7
    return bytes([*written, number])


class _Columns:
    """Makes columns of what the kernel has stored.

    Attributes
    ----------
    broken
        Why messages cannot be read, although their form is right, by index.
    items, bases
        Those of lists, see `protokernel.read_messages`.
    """

    items: npt.NDArray[np.int64]
    bases: npt.NDArray[np.int64]

    def __init__(self, messages: Spans, words: npt.NDArray[np.int64], valid: Bools) -> None:
        self.messages, self.words, self.valid = messages, words, valid
        self.broken: dict[int, str] = {}

    def room_for_items(
        self, lists: list[int]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return room for the items of lists, by their slots, and where each list begins."""
        bases = np.zeros(self.words.shape, np.int64)
        total = 0
        for slot in lists:
            ends = total + np.cumsum(self.words[slot])
            bases[slot] = ends - self.words[slot]
            total = int(ends[-1]) if ends.size else total
        return np.empty((2, total), np.int64), bases

    def of(self, stored: Stored) -> pa.Array:
        """Return a column."""
        count = self.messages.begins.size
        around = np.ones(count, np.bool_) if stored.around < 0 else self.valid[stored.around]
        if pa.types.is_timestamp(stored.type):
            return self._times(stored.slot, stored.type)
        rows = np.arange(count)
        if stored.repeated:
            sizes = self.words[stored.slot]
            begin = int(self.bases[stored.slot, 0]) if count else 0
            items = self.items[:, begin : begin + int(sizes.sum())]
            there = np.ones(items.shape[1], np.bool_)
            values = self._values(stored, items, there, np.repeat(rows, sizes))
            offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
            return pa.ListArray.from_arrays(pa.array(offsets), values, mask=pa.array(~around))
        there = around if stored.implicit else self.valid[stored.slot]
        return self._values(stored, self.words[stored.slot : stored.slot + 2], there, rows)

    def _values(
        self, stored: Stored, words: npt.NDArray[np.int64], there: Bools, rows: Int64s
    ) -> pa.Array:
        """Return a column of values; `rows` has the message of each."""
        first, kind = np.ascontiguousarray(words[0]), stored.type
        if stored.enum is not None:
            return _names(stored, first, there)
        if pa.types.is_string(kind) or pa.types.is_binary(kind):
            column = gathered(self.messages.data, first, words[1], there)
            if pa.types.is_binary(kind):
                return column
            text, wrong = as_text(column)
            self.broken |= dict.fromkeys(rows[wrong].tolist(), "a text is not UTF-8")
            return text
        if pa.types.is_float32(kind):
            values: npt.NDArray[Any] = first.astype(np.uint32).view(np.float32)
        elif pa.types.is_float64(kind):
            values = first.view(np.float64)
        else:
            values = first.astype(kind.to_pandas_dtype())
        return pa.array(values, kind, mask=None if there.all() else ~there)

    def _times(self, slot: int, kind: pa.DataType) -> pa.Array:
        there, seconds, rest = self.valid[slot], self.words[slot + 1], self.words[slot + 2]
        fits = (seconds >= _EARLIEST_S) & (seconds <= _LATEST_S) & (rest >= 0)
        fits &= rest < _SECOND_NS
        wrong = np.flatnonzero(there & ~fits).tolist()
        self.broken |= dict.fromkeys(wrong, "a time is before the year 1 or after 9999")
        there = there & fits
        times = np.where(there, seconds, 0) * 1_000_000 + np.where(there, rest, 0) // 1_000
        return pa.array(times, mask=None if there.all() else ~there).cast(kind)


def _names(stored: Stored, numbers: Int64s, there: Bools) -> pa.Array:
    """Return the names of an enum's numbers; a number without one is itself."""
    assert stored.enum is not None
    known, index = np.unique(numbers, return_inverse=True)
    named = stored.enum.values_by_number
    names = [named[number].name if number in named else str(number) for number in known.tolist()]
    mask = None if there.all() else ~there
    return pa.array(names, pa.string()).take(pa.array(index, mask=mask))
