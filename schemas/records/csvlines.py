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
from headrace.schemas.records.linespans import (
    EMPTY,
    GOOD,
    NOT_UTF8,
    RETURN,
    UNBALANCED,
    faults,
    joined,
)
from headrace.schemas.records.notation import PLAIN, Notation
from headrace.schemas.records.spans import Spans
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
        # Texts are as they are to be; what other types are written as is for `parse_text` to say.
        self.types = {
            field.name: field.type if pa.types.is_string(field.type) else pa.binary()
            for field in schema
        }

    def decode(self, lines: Lines) -> Records:
        """Decode lines; one with a wrong number of fields or a mistyped value is a reject."""
        found = faults(lines.spans, self.quote)
        rejects = [
            lines.reject(int(at), Reason.UNDECODABLE, _FAULTS[found[at]])
            for at in np.flatnonzero(found != GOOD)
        ]
        good = np.flatnonzero(found == GOOD)
        rows = self._parse(lines.spans.take(good) if rejects else lines.spans)
        rejects += [
            lines.reject(int(good[row]), Reason.UNDECODABLE, detail) for row, detail in rows.invalid
        ]
        numbers = np.delete(good, [row for row, _ in rows.invalid])
        columns = [self._fitted(rows.table.column(field.name), field) for field in self.schema]

        def reject(row: int, detail: str) -> Reject:
            return lines.reject(int(numbers[row]), Reason.WRONG_TYPE, detail)

        records = as_records(self.schema, self.notation, lines.numbers_of(numbers), columns, reject)
        records.rejects = sorted([*rejects, *records.rejects], key=lambda reject: reject.number)
        return records

    def _fitted(self, column: pa.ChunkedArray, field: pa.Field) -> Fitted:
        text = column.combine_chunks()
        if pa.types.is_string(field.type):
            return Fitted(text, None, str)  # any text is one
        values, bad = parse_text(text, field.type, self.notation)
        return Fitted(values, bad, lambda row: text[row].as_py().decode("utf-8", "replace"))

    def _parse(self, lines: Spans) -> _Rows:
        """Parse lines; where the parser takes several for one, find out which."""
        count = lines.begins.size
        try:
            rows = self._parse_together(lines)
        except pa.ArrowInvalid:
            rows = None
        if rows is not None and rows.table.num_rows + len(rows.invalid) == count:
            return rows
        if count == 1:
            return _Rows(self._nothing(), [(0, "quotes that do not enclose a field")])
        middle = count // 2
        first, second = (self._parse(part) for part in lines.halves(middle))
        moved = [(row + middle, detail) for row, detail in second.invalid]
        table = pa.concat_tables([first.table, second.table])
        return _Rows(table, first.invalid + moved)

    def _parse_together(self, lines: Spans) -> _Rows:
        invalid: list[tuple[int, str]] = []

        def on_invalid(row: pa_csv.InvalidRow) -> str:
            detail = f"{row.actual_columns} fields where {row.expected_columns} are due"
            invalid.append((row.number - 1, detail))
            return "skip"

        if not lines.begins.size:
            return _Rows(self._nothing(), invalid)
        text = joined(lines)
        if text[: len(_MARK)].tobytes() == _MARK:
            # It is part of a field, since the file's own has been removed: the parser would
            # take it for one wherever a log is cut.
            text = np.append(np.frombuffer(_MARK, np.uint8), text)
        table = pa_csv.read_csv(
            pa.py_buffer(text),
            # One block, so that row numbers count from its start.
            pa_csv.ReadOptions(
                column_names=self.header, use_threads=False, block_size=text.size + 1
            ),
            pa_csv.ParseOptions(
                delimiter=self.delimiter,
                quote_char=self.quote or False,
                invalid_row_handler=on_invalid,
                ignore_empty_lines=False,
            ),
            pa_csv.ConvertOptions(
                check_utf8=False,  # all lines are UTF-8
                column_types=dict.fromkeys(self.header, pa.binary()) | self.types,
                include_columns=self.schema.names,
                include_missing_columns=True,
                null_values=["", *(self.notation.null_values or ())],
                strings_can_be_null=True,
            ),
        )
        return _Rows(table, invalid)

    def _nothing(self) -> pa.Table:
        return pa.table({name: pa.array([], kind) for name, kind in self.types.items()})


@dataclass(frozen=True)
class _Rows:
    table: pa.Table
    invalid: list[tuple[int, str]]


_MARK = codecs.BOM_UTF8
_FAULTS = {
    EMPTY: "empty line",
    UNBALANCED: "unbalanced quotes",
    RETURN: "carriage return within the line",
    NOT_UTF8: "not UTF-8",
}
