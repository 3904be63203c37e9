"""Lines of JSON objects as columns."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from headrace.schemas.records.badvalues import BadValues
from headrace.schemas.records.decoding import STRICT, Lenience, Lines, Records, Reject, misfit
from headrace.schemas.records.events import Reason
from headrace.schemas.records.values import fit, without_nulls

_BROKEN = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding a line may raise; the last if it is nested deeply."""


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
        except _BROKEN:
            # At least one line is broken: find out which.
            good = []
            records, misfits = [], {}
            for at, line in enumerate(lines.lines):
                try:
                    records.append(self._decode_line(line, lines.first + at, misfits))
                    good.append(at)
                except msgspec.ValidationError as error:
                    rejects.append(lines.reject(at, Reason.WRONG_TYPE, self._explain(error)))
                except _BROKEN as error:
                    detail = str(error) if line else "empty line"
                    rejects.append(lines.reject(at, Reason.UNDECODABLE, detail))
            numbers = np.array(good, np.int64)
        columns = []
        for i, fields in enumerate(self.schema):
            name = f"f{i}"
            values = [getattr(record, name) for record in records]
            nulls = self.lenience.nulls_of(fields.type)
            columns.append(without_nulls(pa.array(values, fields.type), nulls))
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
            except _BROKEN:
                finite = _finite(line)
                if finite is None:
                    raise error from None
        except msgspec.DecodeError:
            finite = _finite(line)
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
        return BadValues.of(name, misfit(self.schema.field(name).type), numbers, examples)

    @staticmethod
    def _explain(error: msgspec.ValidationError) -> str:
        return str(error).replace(" - at `$.", " in `")


def _finite(line: bytes) -> bytes | None:
    """Return a line with null for numbers that are none or too large, None without any."""
    found = False

    def null(text: str) -> float | None:
        nonlocal found
        number = float(text)
        found |= not math.isfinite(number)
        return number if math.isfinite(number) else None

    try:
        record = json.loads(line, parse_constant=null, parse_float=null)
    except (ValueError, RecursionError):
        return None
    return json.dumps(record).encode() if found else None


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
        except _BROKEN:
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
