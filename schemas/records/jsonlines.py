"""Lines of JSON objects as columns."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headrace.schemas.records.decoding import Fitted, Lines, Records, Reject, as_records
from headrace.schemas.records.events import Reason
from headrace.schemas.records.hashing import Int64s
from headrace.schemas.records.jsonobjects import ObjectReader
from headrace.schemas.records.jsontypes import is_parsed, json_type
from headrace.schemas.records.notation import PLAIN, Notation
from headrace.schemas.records.paths import look_up
from headrace.schemas.records.spans import Spans
from headrace.schemas.records.values import fit_all, without_nulls

MOST_LEVELS = 200
"""A line that is nested deeper is not decodable: parsers go down a level by a call, and how many
calls there is room for depends on who called them."""


class TooDeepError(Exception):
    """A line is nested deeper than `MOST_LEVELS`."""


BROKEN = (msgspec.DecodeError, UnicodeDecodeError, TooDeepError)
"""What decoding a line may raise."""


class JsonDecoder:
    """Decode JSON objects, one a line.

    Parameters
    ----------
    schema
        The columns to decode. A missing key is null; a key that is not a column is
        ignored; a name with points may be a path (`headrace.schemas.records.paths`).
    notation
        How values are written, and what becomes of those that do not fit.
    """

    def __init__(self, schema: pa.Schema, notation: Notation = PLAIN) -> None:
        self.schema = schema
        self.notation = notation
        # Names that JSON has to escape msgspec does not know: then no line is of known types.
        plain = all(json.dumps(name, ensure_ascii=False) == f'"{name}"' for name in schema.names)
        self.levels = list(_levels(schema, notation.json)) if plain else []
        self.decoders = [msgspec.json.Decoder(level.record) for level in self.levels]
        takes = plain and ObjectReader.takes(schema, notation)
        self.reader = ObjectReader(schema, notation) if takes else None

    def decode(self, lines: Lines) -> Records:
        """Decode lines; one that is not an object or has a mistyped value is a reject."""
        return self.decode_values(lines.spans, lines.numbers_of(np.arange(len(lines))))

    def decode_values(self, values: Spans, numbers: Int64s) -> Records:
        """Decode values with these record numbers, ascending, as if each were a line."""
        if self.reader is None:
            return self._decode_any(values, np.arange(numbers.size), numbers)
        batch, rows = self.reader.read(values)
        read = Records(batch, numbers[rows])
        if rows.size == numbers.size:
            return read
        left = np.ones(numbers.size, np.bool_)
        left[rows] = False
        return read.beside(self._decode_any(values, np.flatnonzero(left), numbers))

    def _decode_any(self, values: Spans, rows: Int64s, numbers: Int64s) -> Records:
        """Decode some of the values, whatever they hold."""
        lines = Lines(0, values.take(rows), numbers[rows])
        texts = list(lines)
        try:
            if not self.decoders or not all(texts):
                return self._decode_each(lines)
            for line in texts:
                check_depth(line)
            typed = self._columns(texts)
        except BROKEN:
            return self._decode_each(lines)
        return self._as_records(lines, np.arange(len(lines)), typed, {}, [])

    def _columns(self, lines: list[bytes]) -> dict[str, list[Any]]:
        """Return the values of each column, if all are of its type."""
        columns: dict[str, list[Any]] = {name: [] for name in self.schema.names}
        for level, decoder in zip(self.levels, self.decoders, strict=True):
            columns |= level.columns([decoder.decode(line) for line in lines])
        return columns

    def _decode_each(self, lines: Lines) -> Records:
        """Decode lines of which one at least is broken, or has a value of another type."""
        typed: list[bytes] = []
        others: dict[int, dict[str, Any]] = {}
        good: list[int] = []
        rejects: list[Reject] = []
        for at, line in enumerate(lines):
            try:
                if self._is_typed(line):
                    typed.append(line)
                else:
                    others[at] = any_object(line)
                good.append(at)
            except NotAnObjectError:
                rejects.append(lines.reject(at, Reason.WRONG_TYPE, "not a JSON object"))
            except BROKEN as error:
                detail = str(error) if line else "empty line"
                rejects.append(lines.reject(at, Reason.UNDECODABLE, detail))
        numbers = np.array(good, np.int64)
        return self._as_records(lines, numbers, self._columns(typed), others, rejects)

    def _is_typed(self, line: bytes) -> bool:
        """Return whether a line is an object of which all values have the expected types."""
        check_depth(line)
        try:
            for decoder in self.decoders:
                decoder.decode(line)
        except BROKEN:
            return False
        return bool(self.decoders)

    def _as_records(
        self,
        lines: Lines,
        numbers: npt.NDArray[np.int64],
        typed: dict[str, list[Any]],
        others: dict[int, dict[str, Any]],
        rejects: list[Reject],
    ) -> Records:
        """Put together lines of the expected types and others, by index of the line.

        Parameters
        ----------
        numbers
            Indices of all lines that are objects, ascending, int64, shape (n,).
        typed
            The values of the lines that are not among `others`, in order, by column.
        others
            The objects in which a value is of another type than its column, by index.
        """
        odd = np.array([at in others for at in numbers.tolist()], np.bool_)
        # The lines of the expected types first, then the others; this puts them in order.
        places = np.argsort(np.argsort(odd, kind="stable"), kind="stable")
        columns = []
        for field in self.schema:
            found = [self._value_at(lines.spans.value(at), record, field.name)
                     for at, record in others.items()]  # fmt: skip
            columns.append(self._fitted(field, typed[field.name], found, places))

        def reject(row: int, detail: str) -> Reject:
            return lines.reject(int(numbers[row]), Reason.WRONG_TYPE, detail)

        records = as_records(self.schema, self.notation, lines.numbers_of(numbers), columns, reject)
        records.rejects = sorted([*rejects, *records.rejects], key=lambda reject: reject.number)
        return records

    def _value_at(self, line: bytes, record: dict[str, Any], name: str) -> Any:
        if name in self.notation.json:
            return _text_at(line, record, name)
        return look_up(record, name)

    def _fitted(
        self, field: pa.Field, typed: list[Any], others: list[Any], places: npt.NDArray[np.int64]
    ) -> Fitted:
        """Make a column of values of the expected type and of others.

        The value of a row is at its place among both.
        """
        column, bad = self._column(field, typed, fits=not is_parsed(field.type))
        if others:
            more, unfit = self._column(field, others, fits=False)
            column = pa.concat_arrays([column, more]).take(pa.array(places))
            bad = np.concatenate([bad, unfit])[places]
        values = [*typed, *others]
        return Fitted(column, bad, lambda row: json.dumps(values[places[row]], ensure_ascii=False))

    def _column(
        self, field: pa.Field, values: list[Any], fits: bool
    ) -> tuple[pa.Array, npt.NDArray[np.bool_]]:
        """Make a column of values, which all fit or are fitted each for itself.

        What becomes of a value must not depend on its neighbours.
        """
        if field.name in self.notation.json:
            column = pa.array([_text_of(value) for value in values], pa.string())
        elif not fits:
            return fit_all(values, field.type, self.notation)
        else:
            try:
                column = pa.array(values, field.type)
            except OverflowError:  # uint64 alone: msgspec knows no bound of it
                return fit_all(values, field.type, self.notation)
        nulls = self.notation.nulls_of(field.type)
        return without_nulls(column, nulls), np.zeros(len(values), np.bool_)


class _Level:
    """Columns that are in the same objects, or in objects inside of them.

    Parameters
    ----------
    columns
        By path inside these objects: the name and the type of each column.
    """

    def __init__(self, columns: Mapping[str, tuple[str, Any]]) -> None:
        self.own: dict[str, str] = {}
        self.inner: dict[str, _Level] = {}
        fields: list[tuple[str, Any, None]] = []
        keys: dict[str, str] = {}
        inside: dict[str, dict[str, tuple[str, Any]]] = {}
        for path, (name, kind) in columns.items():
            attribute = f"f{len(fields)}"
            fields.append((attribute, kind, None))
            keys[attribute], self.own[attribute] = path, name
            head, point, rest = path.partition(".")
            if point and head not in columns:
                inside.setdefault(head, {})[rest] = name, kind
        for head, more in inside.items():
            attribute = f"f{len(fields)}"
            self.inner[attribute] = level = _Level(more)
            fields.append((attribute, level.record | None, None))
            keys[attribute] = head
        self.record: Any = msgspec.defstruct("Record", fields, rename=keys, gc=False)
        self.nothing = self.record()

    def columns(self, records: Sequence[Any]) -> dict[str, list[Any]]:
        """Return the values of each column, by name."""
        found = {
            name: [getattr(record, attribute) for record in records]
            for attribute, name in self.own.items()
        }
        for attribute, level in self.inner.items():
            within = [getattr(record, attribute) or level.nothing for record in records]
            for name, values in level.columns(within).items():
                whole = found.get(name)
                if whole is not None:
                    pairs = zip(whole, values, strict=True)
                    values = [inner if own is None else own for own, inner in pairs]
                found[name] = values
        return found


def _levels(schema: pa.Schema, json_columns: Collection[str]) -> Iterator[_Level]:
    """Yield what to decode of every line, one after another.

    An object that is kept as text, and of which fields are columns too, is decoded twice.
    """
    left = schema.names
    while left:
        both = [name for name in left if name in json_columns
                and any(other.startswith(f"{name}.") for other in left)]  # fmt: skip
        now = [name for name in left if name not in both]
        kinds = (
            msgspec.Raw if name in json_columns else json_type(schema.field(name).type)
            for name in now
        )
        yield _Level({name: (name, kind) for name, kind in zip(now, kinds, strict=True)})
        left = both


class NotAnObjectError(Exception):
    """A line is JSON, but not an object."""


def check_depth(line: bytes) -> None:
    """Check how deep a line is nested, before a parser follows it.

    Raises
    ------
    TooDeepError
        If it is nested deeper than `MOST_LEVELS`. Brackets in text do not count.
    """
    if line.count(b"[") + line.count(b"{") > MOST_LEVELS:
        brackets = np.frombuffer(_TEXT.sub(b"", line), np.uint8) | 0x20
        # Setting a bit makes [ and ] equal to { and }.
        depth = np.cumsum((brackets == ord("{")).astype(np.int64) - (brackets == ord("}")))
        if depth.max(initial=0) > MOST_LEVELS:
            raise TooDeepError(f"nested deeper than {MOST_LEVELS} levels")


_TEXT = re.compile(rb'"(?:[^"\\]|\\.)*+"?', re.DOTALL)
"""Text in JSON, whole or without its end; found in linear time."""


def any_object(line: bytes) -> dict[str, Any]:
    """Decode a line whatever types it has, with null for numbers that are none or too large.

    Raises
    ------
    NotAnObjectError, or one of `BROKEN`
        If it is no object.
    """
    check_depth(line)
    try:
        value = msgspec.json.decode(line)
    except BROKEN:
        value = _finite(line)
        if value is None:
            raise
    if not isinstance(value, dict):
        raise NotAnObjectError
    return value


def _finite(line: bytes) -> Any:
    """Decode a line with null for numbers that are none or too large; None without any."""
    found = False

    def null(text: str) -> float | None:
        nonlocal found
        number = float(text)
        found |= not math.isfinite(number)
        return number if math.isfinite(number) else None

    try:
        value = json.loads(line, parse_constant=null, parse_float=null)
    except ValueError:
        return None
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return None
    return value if found else None


def _text_of(value: Any) -> str | None:
    """Return JSON as it is written."""
    text = bytes(value).decode("utf-8", "replace") if isinstance(value, msgspec.Raw) else value
    return None if text == "null" else text


def _text_at(line: bytes, record: dict[str, Any], name: str) -> str | None:
    """Return the JSON at a path of an object as it is written; None for null."""
    if look_up(record, name) is None:
        return None
    text = line.decode("utf-8", "replace")
    for part in [name] if record.get(name) is not None else name.split("."):
        text = _members(text)[part]
    return text


def _members(text: str) -> dict[str, str]:
    """Return the members of a JSON object as they are written."""
    members = {}
    at = _SPACE.match(text, text.index("{") + 1).end()  # type: ignore[union-attr]
    while text[at] != "}":
        name, end = _DECODER.raw_decode(text, at)
        begin = _SPACE.match(text, end).end()  # type: ignore[union-attr]
        _, end = _DECODER.raw_decode(text, begin)
        members[name] = text[begin:end]
        at = _SPACE.match(text, end).end()  # type: ignore[union-attr]
    return members


_DECODER = json.JSONDecoder()
_SPACE = re.compile(r"[\s,:]*")
