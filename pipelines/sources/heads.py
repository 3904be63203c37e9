"""What the first records of a stream's files show: format, columns and their types."""

from __future__ import annotations

import csv
import glob
import os
from pathlib import Path

import pyarrow as pa

from headrace.pipelines.sources.files import open_parquet
from headrace.pipelines.sources.textfiles import first_lines
from headrace.schemas.config.models import StreamConfig
from headrace.schemas.errors import ConfigError
from headrace.schemas.records.eventing import EventPlan, TimePlan, parse_times
from headrace.schemas.records.events import RESERVED_PREFIX
from headrace.schemas.records.jsonlines import infer_json_columns
from headrace.schemas.records.paths import Columns
from headrace.schemas.types import (
    JSON,
    carried_type,
    is_identifier,
    parse_type,
    readable,
    type_name,
    widened,
)

_FORMATS = {
    ".parquet": "parquet",
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
}
_HEAD_LINES = 1000
_MOST_HINTED = 40


class Head:
    """Files, format and columns of a stream, from the first records of its files.

    Parameters
    ----------
    file
        The configuration file: paths are relative to its folder, errors name it.
    key
        The stream's table in it, such as ``actions.click``.
    stream
        The contents of that table.

    Attributes
    ----------
    columns
        The types of all columns by name, those inside of others too.
    own
        The names of those that are not inside of others.
    json, empty
        The names of those of which any JSON value is kept as text, and of those that Parquet
        files have without a type, as all their values are null.

    Raises
    ------
    ConfigError
        If a path matches no file, or the format or the columns cannot be determined.
    """

    def __init__(self, file: str, key: str, stream: StreamConfig) -> None:
        self.file, self.key, self.stream = file, key, stream
        self.names = self._expand()
        self.paths = list(self.names)
        self.format = stream.format or self._guess_format()
        self.headers: dict[str, tuple[str, ...]] = {}
        self.clashes: dict[str, ConfigError] = {}
        files = {path: self._read_columns(path) for path in self.paths}
        found = self._declared(self._union(files), files)
        self.json = frozenset(name for name, kind in found.items() if kind == JSON)
        self.empty = frozenset(name for name, kind in found.items() if pa.types.is_null(kind))
        self.columns = {
            name: pa.string() if name in self.json or name in self.empty else kind
            for name, kind in found.items()
        }
        nested = {name for columns in files.values() for name in columns.nested}
        self.own = [name for name in found if name not in nested
                    or any(name in columns.own for columns in files.values())]  # fmt: skip

    def _expand(self) -> dict[str, str]:
        """Return the files by path, each with its name, in order of path."""
        folder = Path(self.file).parent
        names: dict[str, str] = {}
        for pattern in self.stream.path:
            full = str(folder / pattern)
            found = [full] if Path(full).is_file() else glob.glob(full, recursive=True)
            found = [path for path in found if Path(path).is_file()]
            if not found:
                raise self.error(
                    "path", "no such file", pattern, f"paths are relative to {folder.resolve()}"
                )
            absolute = Path(pattern).is_absolute()
            for path in found:
                names[path] = path if absolute else os.path.relpath(path, folder)
        # A file with several names is read once, or its records would count twice.
        once: dict[str, str] = {}
        for path in sorted(names):
            once.setdefault(os.path.realpath(path), path)
        return {path: names[path] for path in once.values()}

    def _guess_format(self) -> str:
        formats: dict[str, str] = {}
        for path in self.paths:
            suffixes = [s for s in Path(path.lower()).suffixes if s not in (".gz", ".zst")]
            name = suffixes[-1] if suffixes else ""
            if name not in _FORMATS:
                raise self.error(
                    "path", "the file's name does not show its format", path,
                    'set format = "parquet", "csv" or "jsonl"',
                )  # fmt: skip
            formats.setdefault(_FORMATS[name], self.names[path])
        if len(formats) > 1:
            found = " and ".join(f"{name} is {form}" for form, name in formats.items())
            hint = "name files of one format, or set format"
            raise self.error("path", f"matches files of several formats ({found})", hint=hint)
        return next(iter(formats))

    def _read_columns(self, path: str) -> Columns:
        """Return the columns of one file; none if it is empty."""
        try:
            if self.format == "jsonl":
                return infer_json_columns(first_lines(path, _HEAD_LINES))
            if self.format == "parquet":
                with open_parquet(path) as parquet:
                    schema = parquet.schema_arrow
            else:
                schema = pa.schema([(name, pa.string()) for name in self._csv_header(path)])
        except UnicodeError as error:
            raise self.error("path", str(error), path, "save it as UTF-8") from error
        except (OSError, pa.ArrowInvalid, EOFError) as error:
            raise self.error("path", f"cannot be read ({error})", path) from error
        for name in schema.names:
            if schema.names.count(name) > 1:
                raise self.error("path", f"has two columns {name}", path, "rename one of them")
        return Columns.of(schema)

    def _csv_header(self, path: str) -> tuple[str, ...]:
        head = first_lines(path, 1)
        text = head[0].decode("utf-8-sig", "replace") if head else ""
        try:
            (names,) = csv.reader(
                [text],
                delimiter=self.stream.delimiter,
                quotechar=self.stream.quote or None,
                quoting=csv.QUOTE_MINIMAL if self.stream.quote else csv.QUOTE_NONE,
            )
        except csv.Error as error:
            fact = f"has a header line that is not CSV ({error})"
            hint = "lines must end with \\n or \\r\\n"
            raise self.error("path", fact, self.names[path], hint) from error
        self.headers[path] = tuple(name.strip() for name in names)
        return self.headers[path]

    def _union(self, files: dict[str, Columns]) -> dict[str, pa.DataType]:
        """Return the columns of all files together; types that differ widen."""
        found: dict[str, pa.DataType] = {}
        first: dict[str, str] = {}
        for path, columns in files.items():
            for name, kind in columns.all.items():
                kind = carried_type(kind)
                before = found.setdefault(name, kind)
                first.setdefault(name, path)
                wide = widened(before, kind)
                if wide is not None:
                    found[name] = wide
                elif name not in self.stream.types:
                    clash = self._clash(name, {first[name]: before, path: kind})
                    if name in columns.own:
                        raise clash
                    self.clashes.setdefault(name, clash)
        return {name: kind for name, kind in found.items() if name not in self.clashes}

    def _clash(self, name: str, kinds: dict[str, pa.DataType]) -> ConfigError:
        (one, this), (other, that) = kinds.items()
        fact = (
            f"column {name} is {type_name(this)} in {self.names[one]} and {type_name(that)} in "
            f"{self.names[other]}"
        )
        return self.error("path", fact, hint=f"declare its type in {self.key}.types")

    def _declared(
        self, found: dict[str, pa.DataType], files: dict[str, Columns]
    ) -> dict[str, pa.DataType]:
        """Return the columns with the types that are declared."""
        declared = {name: parse_type(kind) for name, kind in self.stream.types.items()}
        needed = {*self.stream.key, self.stream.time.column}
        if not found and self.format == "jsonl" and needed <= declared.keys():
            return declared  # nothing else is left to go by
        if not found and self.format == "jsonl":
            fact = "has no line that is a JSON object, so its columns are not known"
            hint = f"declare key and time in {self.key}.types"
            raise self.error("path", fact, self.paths[0], hint)
        if not found:
            raise self.error("path", "is empty and has no header line", self.paths[0])
        for name, kind in declared.items():
            written = {path: carried_type(columns.all[name]) for path, columns in files.items()
                       if name in columns.all}  # fmt: skip
            unread = [path for path, found in written.items() if not readable(found, kind)]
            # A few values that are all wrong are a whole file of JSON, but no reason to stop.
            if unread and (self.format != "jsonl" or len(unread) == len(written)):
                path = unread[0]
                fact = f"column {name} is {type_name(written[path])} in {self.names[path]}"
                hint = f'that cannot be read as {type_name(kind)}; "json" keeps anything'
                raise self.error(f"types.{name}", fact, self.stream.types[name], hint)
        # A column that first lines of JSON do not have may come later.
        for name in () if self.format == "jsonl" else declared:
            if name not in found:
                raise self.error(f"types.{name}", "no such column", name, columns_hint(found))
        return {**found, **declared}

    def header_of(self, path: str) -> tuple[str, ...]:
        """Return the column names in the header line of a CSV file; none for other formats."""
        return self.headers.get(path, ())

    def check_columns(self, plan: EventPlan) -> None:
        """Check that the columns named in the stream's table exist and have usable types.

        Raises
        ------
        ConfigError
            For the first that does not.
        """
        stream = self.stream
        for name in self.columns:
            if name.startswith(RESERVED_PREFIX):
                raise self.error("path", f"column {name} starts with {RESERVED_PREFIX}",
                                  hint="rename it: such names are reserved")  # fmt: skip
        uses = [("key", name) for name in stream.key] + [("time.column", stream.time.column)]
        if plan.id is not None:
            uses.append(("id", plan.id))
        uses += [("columns", name) for name in getattr(stream, "columns", None) or ()]
        for use, name in uses:
            if name in self.clashes:
                raise self.clashes[name]
            if name not in self.columns:
                raise self.error(use, "no such column", name, columns_hint(self.columns))
        for use, name in [*uses[: len(stream.key)], *(use for use in uses if use[0] == "id")]:
            kind = self.columns[name]
            if not is_identifier(kind):
                fact = f"column {name} is {type_name(kind)}, not text, bytes or integer"
                raise self.error(use, fact)
        self._check_time(plan.time)

    def _check_time(self, time: TimePlan) -> None:
        kind = self.columns[time.column]
        untimed = self.format != "parquet" and not pa.types.is_timestamp(kind)
        if untimed and time.unit is None and time.format is None:
            raise self.error("time", "needs a unit (integers) or a format (text)", time.column,
                              'such as unit = "ms" or format = "%Y-%m-%d %H:%M:%S"')  # fmt: skip
        if time.format is not None and not pa.types.is_string(kind):
            raise self.error("time.format", f"column {time.column} is {type_name(kind)}, not text",
                              time.format, "leave format out, or give unit")  # fmt: skip
        try:
            parse_times(pa.array([], kind), time)
        except TypeError as error:
            raise self.error("time", str(error), time.column,
                              'such as unit = "us", or format for text') from error  # fmt: skip
        except (pa.ArrowInvalid, ValueError) as error:
            raise self.error("time", f"cannot be used ({error})", time.format) from error

    def read_schema(self, plan: EventPlan, numeric: set[str]) -> pa.Schema:
        """Return the columns to read and their types; CSV columns are text unless declared.

        Parameters
        ----------
        plan
            What becomes of the stream's records.
        numeric
            Columns that learners use as numbers: float64 in CSV unless declared.
        """
        types = {name: self.columns[name] for name in plan.columns}
        if self.format == "csv":
            for name in numeric - self.stream.types.keys():
                types[name] = pa.float64()
        return pa.schema([(name, types[name]) for name in plan.columns])

    def error(self, key: str, fact: str, value: object = None, hint: str = "") -> ConfigError:
        """Return an error about a key of the stream's table."""
        return ConfigError(self.file, f"{self.key}.{key}", fact, value, hint)


def columns_hint(columns: dict[str, pa.DataType]) -> str:
    """Return a hint that lists the columns of a file."""
    more = ", ..." if len(columns) > _MOST_HINTED else ""
    return "use one of " + ", ".join(list(columns)[:_MOST_HINTED]) + more
