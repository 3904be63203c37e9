"""From lines of text to typed columns; lines that do not fit become rejects.

A record is a line, for CSV too: a line break inside quotes is not supported,
so that one broken line cannot swallow its neighbours.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from headrace.schemas.records.badvalues import BadValues
from headrace.schemas.records.events import Reason
from headrace.schemas.records.hashing import Int64s

TYPES = {
    "string": pa.string(),
    "bytes": pa.binary(),
    "int64": pa.int64(),
    "float64": pa.float64(),
    "bool": pa.bool_(),
}


NULL_VALUES = (
    "NA", "N/A", "n/a", "#N/A", "nan", "NaN", "NAN", "null", "NULL", "Null", "None", "\\N",
)  # fmt: skip
"""Texts that are null where a value is due that is not text."""


@dataclass(frozen=True)
class Reject:
    """A record that is not an event: its number in the source, why, and its text."""

    number: int
    reason: Reason
    detail: str
    record: str


@dataclass
class Records:
    """The valid records of a part of a source as columns, and the rejected ones.

    Parameters
    ----------
    batch
        The valid records, n rows.
    numbers
        Their numbers in the source, int64, shape (n,).
    rejects
        The other records.
    bad
        Values of the valid records that do not fit; they are null in `batch`.
    """

    batch: pa.RecordBatch
    numbers: Int64s
    rejects: list[Reject] = field(default_factory=list)
    bad: list[BadValues] = field(default_factory=list)


@dataclass(frozen=True)
class Lenience:
    """What becomes of values that do not fit their column.

    Parameters
    ----------
    columns
        Columns in which they are null. In the others they make the record a reject.
    null_values
        Texts that are null, in every column; None stands for `NULL_VALUES`, in columns
        that are not text.
    """

    columns: Collection[str] = ()
    null_values: tuple[str, ...] | None = None

    def nulls_of(self, kind: pa.DataType) -> tuple[str, ...]:
        """Return the texts that are null in a column of a type."""
        if self.null_values is not None:
            return self.null_values
        return () if pa.types.is_string(kind) or pa.types.is_binary(kind) else NULL_VALUES


STRICT = Lenience()


@dataclass(frozen=True)
class Lines:
    """Consecutive lines of a source, without their line ends.

    Parameters
    ----------
    first
        Record number of the first line.
    lines
        The lines in order; record numbers rise by one from line to line.
    """

    first: int
    lines: list[bytes]

    def reject(self, at: int, reason: Reason, detail: str) -> Reject:
        """Make a reject of the line with index `at`, counted from 0."""
        text = self.lines[at].decode("utf-8", "backslashreplace")
        return Reject(self.first + at, reason, detail, text)


class CsvDecoder:
    """Decode lines of separated values, such as CSV.

    Parameters
    ----------
    header
        Names of all columns of the file.
    schema
        The columns to decode, and their types. Empty fields are null.
    delimiter
        One character between fields.
    lenience
        What becomes of values that do not fit.
    """

    def __init__(
        self,
        header: Sequence[str],
        schema: pa.Schema,
        delimiter: str = ",",
        lenience: Lenience = STRICT,
    ) -> None:
        self.header = list(header)
        self.schema = schema
        self.delimiter = delimiter
        self.lenience = lenience

    def decode(self, lines: Lines) -> Records:
        """Decode lines; one with a wrong number of fields or a mistyped value is a reject."""
        rejects = []
        good = []
        for at, line in enumerate(lines.lines):
            detail = _unsplittable(line)
            if detail is None:
                good.append(at)
            else:
                rejects.append(lines.reject(at, Reason.UNDECODABLE, detail))
        rows = self._parse([lines.lines[at] for at in good])
        rejects += [
            lines.reject(good[row], Reason.UNDECODABLE, detail) for row, detail in rows.invalid
        ]
        numbers = np.delete(np.array(good, np.int64), [row for row, _ in rows.invalid])
        columns = []
        unfit = np.zeros(numbers.size, np.bool_)
        misfits: list[tuple[str, pa.Array, npt.NDArray[np.bool_]]] = []
        for fields in self.schema:
            text = rows.table.column(fields.name).combine_chunks()
            nulls = self.lenience.nulls_of(fields.type)
            column, bad = parse_text(text, fields.type, nulls)
            columns.append(column)
            if fields.name in self.lenience.columns:
                misfits.append((fields.name, text, bad))
                continue
            for row in np.flatnonzero(bad & ~unfit):
                detail = f"column {fields.name} is {_not_of(fields.type)}"
                rejects.append(lines.reject(int(numbers[row]), Reason.WRONG_TYPE, detail))
            unfit |= bad
        found = [
            self._bad_values(name, text, np.flatnonzero(bad & ~unfit), numbers + lines.first)
            for name, text, bad in misfits
            if (bad & ~unfit).any()
        ]
        batch = pa.RecordBatch.from_arrays(columns, schema=self.schema)
        if unfit.any():
            batch, numbers = batch.filter(pa.array(~unfit)), numbers[~unfit]
        rejects.sort(key=lambda reject: reject.number)
        return Records(batch, numbers + lines.first, rejects, found)

    def _bad_values(self, name: str, text: pa.Array, rows: Int64s, numbers: Int64s) -> BadValues:
        examples = (text[int(row)].as_py().decode("utf-8", "replace") for row in rows)
        return BadValues.of(name, _not_of(self.schema.field(name).type), numbers[rows], examples)

    def _parse(self, lines: list[bytes]) -> _Rows:
        """Parse lines; where the parser takes several for one, find out which."""
        try:
            rows = self._parse_together(lines)
        except pa.ArrowInvalid:
            rows = None
        if rows is not None and rows.table.num_rows + len(rows.invalid) == len(lines):
            return rows
        if len(lines) == 1:
            return _Rows(self._nothing(), [(0, "quotes that do not enclose a field")])
        middle = len(lines) // 2
        first, second = self._parse(lines[:middle]), self._parse(lines[middle:])
        moved = [(row + middle, detail) for row, detail in second.invalid]
        table = pa.concat_tables([first.table, second.table])
        return _Rows(table, first.invalid + moved)

    def _parse_together(self, lines: list[bytes]) -> _Rows:
        invalid: list[tuple[int, str]] = []

        def on_invalid(row: pa_csv.InvalidRow) -> str:
            detail = f"{row.actual_columns} fields where {row.expected_columns} are due"
            invalid.append((row.number - 1, detail))
            return "skip"

        if not lines:
            return _Rows(self._nothing(), invalid)
        text = b"\n".join(lines) + b"\n"
        table = pa_csv.read_csv(
            pa.py_buffer(text),
            # One block, so that row numbers count from its start.
            pa_csv.ReadOptions(
                column_names=self.header, use_threads=False, block_size=len(text) + 1
            ),
            pa_csv.ParseOptions(
                delimiter=self.delimiter, invalid_row_handler=on_invalid, ignore_empty_lines=False
            ),
            pa_csv.ConvertOptions(
                column_types=dict.fromkeys([*self.header, *self.schema.names], pa.binary()),
                include_columns=self.schema.names,
                include_missing_columns=True,
                strings_can_be_null=False,
            ),
        )
        return _Rows(table, invalid)

    def _nothing(self) -> pa.Table:
        return pa.table({name: pa.array([], pa.binary()) for name in self.schema.names})


@dataclass(frozen=True)
class _Rows:
    table: pa.Table
    invalid: list[tuple[int, str]]


def _unsplittable(line: bytes) -> str | None:
    """Return why the parser could not read this as one line of text, None if it can."""
    if not line:
        return "empty line"
    if line.count(b'"') % 2:
        return "unbalanced quotes"
    if b"\r" in line:
        return "carriage return within the line"
    return None if line.isascii() or _is_utf8(line) else "not UTF-8"


_INTEGER = r"^[+-]?[0-9]{1,19}$"
_FLOAT = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?$"
_BOOLEAN = {"true": True, "false": False, "1": True, "0": False}


def _not_of(kind: pa.DataType) -> str:
    """Say that a value is not of a type, which is named as in configurations."""
    return f"not {next((name for name, known in TYPES.items() if known == kind), kind)}"


def parse_text(
    column: pa.Array, kind: pa.DataType, nulls: Sequence[str] = ()
) -> tuple[pa.Array, npt.NDArray[np.bool_]]:
    """Convert a column of UTF-8 text, as bytes, to a type; empty text becomes null.

    Parameters
    ----------
    column, kind
        The texts, shape (n,), and the type. Blanks around a value that is not text do
        not count.
    nulls
        More texts that are null.

    Returns
    -------
    values, bad
        The converted column, null where bad; and where a value is not of the
        type, bool, shape (n,).
    """
    none_bad = np.zeros(len(column), np.bool_)
    if pa.types.is_binary(kind):
        null = [b"", *(text.encode() for text in nulls)]
        return _without(column, pa.array(null, pa.binary())), none_bad
    text = column.cast(pa.string())
    if not pa.types.is_string(kind):
        text = pc.utf8_trim_whitespace(text)
    return _convert(_without(text, pa.array(["", *nulls])), kind)


def _without(column: pa.Array, null: pa.Array) -> pa.Array:
    return pc.if_else(pc.is_in(column, value_set=null), None, column)


def _convert(text: pa.Array, kind: pa.DataType) -> tuple[pa.Array, npt.NDArray[np.bool_]]:
    none_bad = np.zeros(len(text), np.bool_)
    if pa.types.is_string(kind):
        return text, none_bad
    if pa.types.is_boolean(kind):
        index = pc.index_in(pc.utf8_lower(text), pa.array(list(_BOOLEAN)))
        values = pa.array(list(_BOOLEAN.values())).take(index)
        bad = pc.and_(text.is_valid(), index.is_null())
        return values, bad.to_numpy(zero_copy_only=False)
    pattern = _INTEGER if pa.types.is_integer(kind) else _FLOAT
    fits = pc.fill_null(pc.match_substring_regex(text, pattern), True)
    if pa.types.is_integer(kind):
        text = pc.replace_substring_regex(text, r"^\+", "")
    values = pc.if_else(fits, text, None)
    bad = ~fits.to_numpy(zero_copy_only=False)
    try:
        return values.cast(kind), bad
    except pa.ArrowInvalid:
        # Nineteen digits may exceed 64 bits.
        numbers = [None if value is None else int(value) for value in values.to_pylist()]
        over = np.array([n is not None and not -(2**63) <= n < 2**63 for n in numbers])
        kept = [None if o else n for n, o in zip(numbers, over, strict=True)]
        return pa.array(kept, kind), bad | over


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


class JsonDecoder:
    """Decode JSON objects, one a line.

    Parameters
    ----------
    schema
        The columns to decode. A missing key is null; a key that is not a
        column is ignored.
    lenience
        What becomes of values that do not fit.
    """

    def __init__(self, schema: pa.Schema, lenience: Lenience = STRICT) -> None:
        self.schema = schema
        self.lenience = lenience
        self.decoder = self._decoder(())
        self.lenient_decoder = self._decoder(lenience.columns)

    def _decoder(self, lenient: Collection[str]) -> Any:
        """Make a decoder of records, with any value in some columns."""
        fields = [
            (f"f{i}", Any if field.name in lenient else _json_type(field.type), None)
            for i, field in enumerate(self.schema)
        ]
        rename = {f"f{i}": field.name for i, field in enumerate(self.schema)}
        return msgspec.json.Decoder(msgspec.defstruct("Record", fields, rename=rename, gc=False))

    def decode(self, lines: Lines) -> Records:
        """Decode lines; one that is not an object or has a mistyped value is a reject."""
        records: list[Any] = []
        misfits: dict[str, list[tuple[int, Any]]] = {}
        rejects: list[Reject] = []
        numbers = np.arange(len(lines.lines), dtype=np.int64)
        try:
            if not all(lines.lines):
                raise msgspec.DecodeError("empty line")
            records = [self.decoder.decode(line) for line in lines.lines]
        except (msgspec.DecodeError, UnicodeDecodeError):
            # At least one line is broken: find out which.
            good = []
            records, misfits = [], {}
            for at, line in enumerate(lines.lines):
                try:
                    records.append(self._decode_line(line, lines.first + at, misfits))
                    good.append(at)
                except msgspec.ValidationError as error:
                    rejects.append(lines.reject(at, Reason.WRONG_TYPE, self._explain(error)))
                except (msgspec.DecodeError, UnicodeDecodeError) as error:
                    detail = str(error) if line else "empty line"
                    rejects.append(lines.reject(at, Reason.UNDECODABLE, detail))
            numbers = np.array(good, np.int64)
        columns = []
        for i, fields in enumerate(self.schema):
            name = f"f{i}"
            values = [getattr(record, name) for record in records]
            columns.append(pa.array(values, fields.type))
        batch = pa.RecordBatch.from_arrays(columns, schema=self.schema)
        bad = [self._bad_values(name, found) for name, found in misfits.items()]
        return Records(batch, numbers + lines.first, rejects, bad)

    def _decode_line(
        self, line: bytes, number: int, misfits: dict[str, list[tuple[int, Any]]]
    ) -> Any:
        """Decode one line, whatever is wrong with it that may be."""
        try:
            return self.decoder.decode(line)
        except msgspec.ValidationError as error:
            try:
                return self._fitted(line, number, misfits)
            except (msgspec.DecodeError, UnicodeDecodeError):
                raise error from None
        except msgspec.DecodeError:
            finite = _without_constants(line)
            if finite is None:
                raise
        return self._decode_line(finite, number, misfits)

    def _fitted(self, line: bytes, number: int, misfits: dict[str, list[tuple[int, Any]]]) -> Any:
        """Decode a line with values that do not fit, each of them as null if that may be.

        Raises
        ------
        ValidationError
            If one is in a column in which it may not.
        """
        record = self.lenient_decoder.decode(line)
        for i, fields in enumerate(self.schema):
            if fields.name in self.lenience.columns:
                value = getattr(record, f"f{i}")
                fitted, fits = fit(value, fields.type, self.lenience.nulls_of(fields.type))
                setattr(record, f"f{i}", fitted)
                if not fits:
                    misfits.setdefault(fields.name, []).append((number, value))
        return record

    def _bad_values(self, name: str, found: list[tuple[int, Any]]) -> BadValues:
        numbers = np.array([number for number, _ in found], np.int64)
        examples = (json.dumps(value, ensure_ascii=False) for _, value in found)
        return BadValues.of(name, _not_of(self.schema.field(name).type), numbers, examples)

    @staticmethod
    def _explain(error: msgspec.ValidationError) -> str:
        return str(error).replace(" - at `$.", " in `")


def _without_constants(line: bytes) -> bytes | None:
    """Return a line with null for ``NaN`` and ``Infinity``, None if that does not mend it."""
    if b"NaN" not in line and b"Infinity" not in line:
        return None
    try:
        return json.dumps(json.loads(line, parse_constant=lambda _: None)).encode()
    except ValueError:
        return None


def fit(value: Any, kind: pa.DataType, nulls: Sequence[str] = ()) -> tuple[Any, bool]:
    """Make a JSON value fit a column of a type, if nothing of it is lost.

    Parameters
    ----------
    value, kind
        The value, and the type.
    nulls
        Texts that are null.

    Returns
    -------
    value, fits
        The value as the type has it, None if it does not fit; and whether it does. Numbers
        may be written as text, whole ones with a fraction of zero, and booleans as 0 and 1.

    Examples
    --------
    >>> fit("2.5", pa.float64()), fit(3.0, pa.int64()), fit([1], pa.string())
    ((2.5, True), (3, True), (None, False))
    """
    if value is None or (isinstance(value, str) and value in nulls):
        return None, True
    if pa.types.is_list(kind):
        if not isinstance(value, list):
            return None, False
        items = [fit(item, kind.value_type) for item in value]
        return [item for item, _ in items], all(fits for _, fits in items)
    if isinstance(value, list | dict):
        return None, False
    if pa.types.is_string(kind):
        return (value, True) if isinstance(value, str) else (None, False)
    if pa.types.is_binary(kind):
        return None, False
    if isinstance(value, bool) or (pa.types.is_boolean(kind) and value in (0, 1)):
        return (bool(value), True) if pa.types.is_boolean(kind) else (None, False)
    text = value if isinstance(value, str) else repr(value)
    if isinstance(value, float) and value.is_integer() and pa.types.is_integer(kind):
        text = str(int(value))
    column, bad = parse_text(pa.array([text.encode()]), kind)
    return column[0].as_py(), not bad[0]


def _json_type(kind: pa.DataType) -> Any:
    if pa.types.is_list(kind):
        return list[_json_type(kind.value_type)] | None  # type: ignore[misc]
    if pa.types.is_boolean(kind):
        return bool | None
    if pa.types.is_integer(kind):
        from typing import Annotated

        return Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)] | None
    if pa.types.is_floating(kind):
        return float | None
    if pa.types.is_binary(kind):
        return bytes | None
    return str | None


def infer_json_schema(lines: Sequence[bytes]) -> pa.Schema:
    """Infer columns from the first lines of a file; broken lines are ignored.

    A column has the type of most of its values, because a log can have wrong
    lines at its head too. Numbers are int64 unless one has a fraction; a column
    of nulls is text; nested objects are left out.
    """
    kinds: dict[str, Counter[str]] = {}
    for line in lines:
        try:
            record = msgspec.json.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue
        if isinstance(record, dict):
            for name, value in record.items():
                counts = kinds.setdefault(name, Counter())
                if value is not None:
                    counts[_kind_of(value)] += 1
    fields = []
    for name, counts in kinds.items():
        if "float" in counts:
            counts["float"] += counts.pop("int", 0)
        if "list of float" in counts:
            counts["list of float"] += counts.pop("list of int", 0)
        if counts["list"] and len(counts) > 1:
            del counts["list"]  # empty ones go with the others
        most = counts.most_common(1)[0][0] if counts else "str"
        if most in _JSON_TYPES:
            fields.append(pa.field(name, _JSON_TYPES[most]))
    return pa.schema(fields)


def _kind_of(value: Any) -> str:
    """Name the type of a value, of a list that of its items."""
    if not isinstance(value, list):
        return type(value).__name__
    kinds = {type(item).__name__ for item in value if item is not None}
    if kinds == {"int", "float"}:
        kinds = {"float"}
    return f"list of {kinds.pop()}" if len(kinds) == 1 else "list"


_JSON_TYPES = {
    "list": pa.list_(pa.string()),
    "list of str": pa.list_(pa.string()),
    "list of int": pa.list_(pa.int64()),
    "list of float": pa.list_(pa.float64()),
    "list of bool": pa.list_(pa.bool_()),
    "bool": pa.bool_(),
    "int": pa.int64(),
    "float": pa.float64(),
    "str": pa.string(),
}
