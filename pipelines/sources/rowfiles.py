"""Files of rows for a model: read as the log was read from which it was learned."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from headrace.pipelines.sources.fileheads import FileHead
from headrace.pipelines.sources.files import LogFile
from headrace.schemas.config.models import ImpressionsConfig
from headrace.schemas.errors import ConfigError, TableError
from headrace.schemas.records.decoding import Lines, Records
from headrace.schemas.records.jsonhead import infer_columns
from headrace.schemas.records.jsonlines import JsonDecoder
from headrace.schemas.records.notation import Notation
from headrace.schemas.types import JSON, carried_type, parse_type, readable

_AS_WRITTEN = (
    "key", "time", "delimiter", "quote", "types", "decimal", "thousands", "bad_values",
    "null_values",
)  # fmt: skip
"""Settings of the log that say how values are written, and which columns a record needs."""


_ROWS, _SHOWN = 1 << 12, 80


@dataclass(frozen=True)
class Needed:
    """What a model needs of rows.

    Parameters
    ----------
    columns
        The columns, and the types that they have in its log; None where that is not known.
    log
        The table ``[impressions]`` of the log's configuration.
    also
        Columns that are of use if they are there, and the types to read them as.
    """

    columns: Mapping[str, pa.DataType | None]
    log: Mapping[str, Any]
    also: Mapping[str, pa.DataType] = field(default_factory=dict)

    @property
    def stream(self) -> ImpressionsConfig:
        """How the log's values are written; of no file."""
        return ImpressionsConfig.model_validate(
            {name: self.log[name] for name in _AS_WRITTEN if name in self.log}
        )

    def notation(
        self, columns: Mapping[str, Any], as_json: frozenset[str] = frozenset()
    ) -> Notation:
        """Return how values are written, and what becomes of those that do not fit.

        As in the log, a value that does not fit is null, unless it is of key or event time.
        """
        stream = self.stream
        strict = {*stream.key, stream.time.column}
        lenient = frozenset(columns) - strict if stream.bad_values == "null" else frozenset()
        return Notation(lenient, stream.null_values, stream.decimal, stream.thousands, as_json)


class RowsHead(FileHead):
    """Files, format and columns of rows, which need not have all that a log has.

    Parameters
    ----------
    pattern
        A path, a glob or a URI.
    form
        ``parquet``, ``csv`` or ``jsonl``; None goes by the name.
    needed
        What the model needs.

    Raises
    ------
    ConfigError
        If files or their columns cannot be determined.
    TableError
        If a column is missing that the model needs.
    """

    def __init__(self, pattern: str, form: str | None, needed: Needed) -> None:
        self.needed = needed
        stream = needed.stream.model_copy(update={"path": (pattern,), "format": form})
        super().__init__("", "", stream)
        for name in needed.columns:
            if name in self.clashes:
                raise self.clashes[name]
            if name not in self.columns:
                raise TableError.among(name, self.own, needed.columns)

    def files_with_rows(self) -> list[LogFile]:
        """Return the files in order of path, with all columns that they have by themselves."""
        inside = [name for name in self.needed.columns if name not in self.own]
        schema = pa.schema([(name, self.columns[name]) for name in (*self.own, *inside)])
        return self.log_files(0, 0, schema, self.needed.notation(self.columns, self.json))

    def error(self, key: str, fact: str, value: object = None, hint: str = "") -> ConfigError:
        """Return an error about the files: there is no table to name a key of."""
        (pattern,) = self.stream.path
        if hint.startswith("set format"):
            hint = "give --format parquet, csv or jsonl"
        return ConfigError(pattern, "", fact, None if value == pattern else value, hint)

    def _declared(self, found: dict[str, pa.DataType]) -> dict[str, pa.DataType]:
        if not found:
            (pattern,) = self.stream.path
            raise self.error("path", "has no rows from which its columns could be known", pattern)
        types = {
            name: parse_type(kind) for name, kind in self.stream.types.items() if name in found
        }
        types |= {name: kind for name, kind in self.needed.also.items() if name in found}
        if self.format != "parquet":  # text, or what JSON lets one guess
            for name, kind in self.needed.columns.items():
                # What is an object here was one there: both are its text.
                if name in found and kind is not None and found[name] != JSON:
                    types.setdefault(name, kind)
        for name, kind in types.items():
            if not readable(found[name], kind):
                fact = f"column {name} is {found[name]}, and must be {kind}, as in the log"
                raise self.error("path", fact, hint="convert it")
        return {**found, **types}


@dataclass(frozen=True)
class Row:
    """One row, and which of its values do not fit their column and count as null."""

    batch: pa.RecordBatch
    unfit: tuple[str, ...]


def row_at(pattern: str, number: int, form: str | None, needed: Needed) -> Row:
    """Return one row of a file.

    Parameters
    ----------
    pattern, form, needed
        See `RowsHead`.
    number
        Which row, counted from 0 as in dead letters; of several files from the first on.

    Raises
    ------
    TableError
        If there is no such row, or it cannot be read.
    """
    head, before = RowsHead(pattern, form, needed), 0
    for file in head.files_with_rows():
        wanted, end = number - before, 0
        for chunk in file.chunks(_ROWS):
            end = chunk.end
            if chunk.begin <= wanted < end:
                return _row(chunk.records, wanted, f"{pattern}:{number}")
        before += end
    raise TableError(f"{pattern}: has no row {number} (got {before:,} rows, counted from 0)")


def row_of_json(text: str, needed: Needed) -> Row:
    """Return a JSON object as a row.

    Raises
    ------
    TableError
        If it is no object, or has no value of a column, not even null.
    """
    found = infer_columns([text.encode()])
    try:
        given = json.loads(text)
    except ValueError:
        given = None
    if not isinstance(given, dict):
        raise TableError(f"the row is not a JSON object (got {text[:_SHOWN]})")
    kinds: dict[str, pa.DataType] = {}
    for name, kind in needed.columns.items():
        if name not in given and name.partition(".")[0] not in given:
            raise TableError(
                f"no column {name} in the row (got {', '.join(given)}); write null if it has none"
            )
        inferred = found.all.get(name, pa.null())
        kinds[name] = kind if kind is not None and inferred != JSON else carried_type(inferred)
    json_columns = frozenset(name for name, kind in kinds.items() if kind == JSON)
    schema = pa.schema([(name, pa.string() if name in json_columns or pa.types.is_null(kind)
                         else kind) for name, kind in kinds.items()])  # fmt: skip
    decoder = JsonDecoder(schema, needed.notation(kinds, json_columns))
    return _row(decoder.decode(Lines.of([text.encode()])), 0, "the row")


def _row(records: Records, number: int, where: str) -> Row:
    for reject in records.rejects:
        if reject.number == number:
            raise TableError(f"{where}: {reject.detail or reject.reason.value}; correct it")
    (at,) = np.flatnonzero(records.numbers == number)
    unfit = tuple(f"{bad.column} is {bad.cause}" for bad in records.bad if number in bad.numbers)
    return Row(records.batch.slice(int(at), 1), unfit)
