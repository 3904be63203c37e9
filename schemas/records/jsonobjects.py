"""JSON objects whose values are as their columns want them, as columns."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headrace.schemas.records import jsonkernel as kernel
from headrace.schemas.records.hashing import Int64s
from headrace.schemas.records.jsontypes import json_type
from headrace.schemas.records.notation import Notation
from headrace.schemas.records.spans import Spans, gathered, validity
from headrace.schemas.records.values import without_nulls


class ObjectReader:
    """Reads what nearly all objects of a log are, see `headrace.schemas.records.jsonkernel`.

    Parameters
    ----------
    schema, notation
        See `headrace.schemas.records.jsonlines.JsonDecoder`; `takes` says whether these columns
        can be read.
    """

    def __init__(self, schema: pa.Schema, notation: Notation) -> None:
        self.schema, self.notation = schema, notation
        names = [name.encode() for name in schema.names]
        self.names = np.frombuffer(b"".join(names), np.uint8)
        self.bounds = np.cumsum([0, *map(len, names)])
        self.kinds = np.array([_kind(kind) for kind in schema.types], np.int64)
        self.lists = {
            field.name: msgspec.json.Decoder(list[json_type(field.type)])  # type: ignore[misc]
            for field in schema
            if pa.types.is_list(field.type)
        }

    @staticmethod
    def takes(schema: pa.Schema, notation: Notation) -> bool:
        """Return whether the columns are fields of the objects themselves, of plain types."""
        return len(schema) > 0 and all(
            "." not in field.name and field.name not in notation.json and _kind(field.type) >= 0
            for field in schema
        )

    def read(self, objects: Spans) -> tuple[pa.RecordBatch, Int64s]:
        """Return the objects that could be read as columns, and which these are, ascending."""
        columns, rows = len(self.schema), objects.begins.size
        words, stops = np.empty((2, columns, rows), np.int64)
        states = np.zeros((columns, rows), np.uint8)
        good = np.empty(rows, np.bool_)
        kernel.read_objects(
            *objects, self.names, self.bounds, self.kinds, words, stops, states, good
        )
        if not good.all():
            words, stops, states = words[:, good], stops[:, good], states[:, good]
        found = []
        left = np.zeros(words.shape[1], np.bool_)
        for at, field in enumerate(self.schema):
            values = Spans(objects.data, words[at], stops[at])
            column, unread = self._column(field, self.kinds[at], values, states[at])
            left[unread] = True
            nulls = self.notation.nulls_of(field.type)
            found.append(without_nulls(column, nulls))
        batch = pa.RecordBatch.from_arrays(found, schema=self.schema)
        numbers = np.flatnonzero(good)
        if left.any():
            batch, numbers = batch.filter(pa.array(~left)), numbers[~left]
        return batch, numbers

    def _column(
        self, field: pa.Field, kind: int, values: Spans, states: npt.NDArray[np.uint8]
    ) -> tuple[pa.Array, Int64s]:
        """Make a column; of what has no value in it after all, the indices are returned too."""
        words, there = values.begins, states != kernel.NULL
        none = np.empty(0, np.int64)
        if kind == kernel.TEXT:
            return self._texts(values, states, there), none
        if kind == kernel.LIST:
            return self._lists(field, values, there)
        if kind == kernel.BOOL:
            bits = np.packbits((words != 0) & there, bitorder="little")
            buffers = [validity(there), pa.py_buffer(bits)]
            return pa.Array.from_buffers(field.type, words.size, buffers), none
        if kind == kernel.FLOAT:
            long = states == kernel.WRITTEN
            if long.any():
                texts = gathered(values.data, words, values.ends - words, long)
                numbers = texts.filter(pa.array(long)).cast(pa.string()).cast(pa.float64())
                words = words.copy()
                words[long] = numbers.to_numpy().view(np.int64)
        buffers = [validity(there), pa.py_buffer(np.ascontiguousarray(words))]
        return pa.Array.from_buffers(field.type, words.size, buffers), none

    def _texts(
        self, values: Spans, states: npt.NDArray[np.uint8], there: npt.NDArray[np.bool_]
    ) -> pa.Array:
        """Make a column of text, of which some has escapes."""
        plain = states == kernel.VALUE
        column = gathered(values.data, values.begins, values.ends - values.begins, plain)
        escaped = np.flatnonzero(states == kernel.WRITTEN)
        if escaped.size:
            texts = _as_array(values, escaped)
            found = pa.array(_TEXTS.decode(texts), pa.string()).cast(pa.binary())
            column = pa.compute.replace_with_mask(column, pa.array(there & ~plain), found)
        return column.cast(pa.string(), safe=False)  # the kernel has seen that it is UTF-8

    def _lists(
        self, field: pa.Field, values: Spans, there: npt.NDArray[np.bool_]
    ) -> tuple[pa.Array, Int64s]:
        decoder = self.lists[field.name]
        rows = np.flatnonzero(there)
        unread: list[int] = []
        try:
            found = decoder.decode(_as_array(values, rows))
        except _UNFIT:
            found = []
            for row in rows.tolist():
                try:
                    found += decoder.decode(b"[%b]" % values.value(row))
                except _UNFIT:
                    found.append(None)
                    unread.append(row)
        lists: list[Any] = [None] * there.size
        for row, items in zip(rows.tolist(), found, strict=True):
            lists[row] = items
        return pa.array(lists, field.type), np.array(unread, np.int64)


_TEXTS = msgspec.json.Decoder(list[str])
_UNFIT = (msgspec.DecodeError, RecursionError)


def _as_array(values: Spans, rows: Int64s) -> bytes:
    """Return values as one JSON array."""
    return b"[%b]" % b",".join([values.value(row) for row in rows.tolist()])


def _kind(kind: pa.DataType) -> int:
    """Return the kernel's kind of a column; -1 if it has none."""
    if pa.types.is_list(kind):
        return kernel.LIST if kind.value_type in _ITEMS else -1
    return _KINDS.get(kind, -1)


_ITEMS = (pa.string(), pa.int64(), pa.float64(), pa.bool_())
_KINDS = {
    pa.string(): kernel.TEXT,
    pa.int64(): kernel.INT,
    pa.uint64(): kernel.UINT,
    pa.float64(): kernel.FLOAT,
    pa.bool_(): kernel.BOOL,
}
