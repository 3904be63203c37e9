"""Lines of separated values, such as CSV, as columns."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv

from headrace.schemas.records.decoding import (
    Fitted,
    Lines,
    Records,
    Reject,
    as_records,
)
from headrace.schemas.records.events import Reason
from headrace.schemas.records.notation import PLAIN, Notation
from headrace.schemas.records.values import parse_text


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
    notation
        How values are written, and what becomes of those that do not fit.
    quote
        The character around a field that has a delimiter in it, empty if there is none.
    """

    def __init__(
        self,
        header: Sequence[str],
        schema: pa.Schema,
        delimiter: str = ",",
        notation: Notation = PLAIN,
        quote: str = '"',
    ) -> None:
        self.header = list(header)
        self.schema = schema
        self.delimiter = delimiter
        self.notation = notation
        self.quote = quote

    def decode(self, lines: Lines) -> Records:
        """Decode lines; one with a wrong number of fields or a mistyped value is a reject."""
        rejects = []
        good = []
        for at, line in enumerate(lines.lines):
            detail = _unsplittable(line, self.quote.encode())
            if detail is None:
                good.append(at)
            else:
                rejects.append(lines.reject(at, Reason.UNDECODABLE, detail))
        rows = self._parse([lines.lines[at] for at in good])
        rejects += [
            lines.reject(good[row], Reason.UNDECODABLE, detail) for row, detail in rows.invalid
        ]
        numbers = np.delete(np.array(good, np.int64), [row for row, _ in rows.invalid])
        columns = [self._fitted(rows.table.column(field.name), field) for field in self.schema]

        def reject(row: int, detail: str) -> Reject:
            return lines.reject(int(numbers[row]), Reason.WRONG_TYPE, detail)

        records = as_records(self.schema, self.notation, lines.numbers_of(numbers), columns, reject)
        records.rejects = sorted([*rejects, *records.rejects], key=lambda reject: reject.number)
        return records

    def _fitted(self, column: pa.ChunkedArray, field: pa.Field) -> Fitted:
        text = column.combine_chunks()
        values, bad = parse_text(text, field.type, self.notation)
        return Fitted(values, bad, lambda row: text[row].as_py().decode("utf-8", "replace"))

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
        if text.startswith(codecs.BOM_UTF8):
            # It is part of a field, since the file's own has been removed: the parser would
            # take it for one wherever a log is cut.
            text = codecs.BOM_UTF8 + text
        table = pa_csv.read_csv(
            pa.py_buffer(text),
            # One block, so that row numbers count from its start.
            pa_csv.ReadOptions(
                column_names=self.header, use_threads=False, block_size=len(text) + 1
            ),
            pa_csv.ParseOptions(
                delimiter=self.delimiter,
                quote_char=self.quote or False,
                invalid_row_handler=on_invalid,
                ignore_empty_lines=False,
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


def _unsplittable(line: bytes, quote: bytes) -> str | None:
    """Return why the parser could not read this as one line of text, None if it can."""
    if not line:
        return "empty line"
    if quote and line.count(quote) % 2:
        return "unbalanced quotes"
    if b"\r" in line:
        return "carriage return within the line"
    return None if line.isascii() or _is_utf8(line) else "not UTF-8"


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
