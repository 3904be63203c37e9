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
from headrace.schemas.records.decoding import TYPES
from headrace.schemas.records.eventing import EventPlan, TimePlan, parse_times
from headrace.schemas.records.events import RESERVED_PREFIX
from headrace.schemas.records.jsonlines import infer_json_schema

_FORMATS = {
    ".parquet": "parquet",
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
}
_HEAD_LINES = 1000
_INT64_DIGITS = 18


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
        self.empty: set[str] = set()
        self.columns = self._union({path: self._read_columns(path) for path in self.paths})

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

    def _read_columns(self, path: str) -> pa.Schema:
        """Return the columns of one file; none if it is empty."""
        try:
            if self.format == "parquet":
                with open_parquet(path) as parquet:
                    columns = [(f.name, plain_type(f.type)) for f in parquet.schema_arrow]
            elif self.format == "jsonl":
                columns = list(infer_json_schema(first_lines(path, _HEAD_LINES)))
            else:
                columns = [(name, pa.string()) for name in self._csv_header(path)]
        except UnicodeError as error:
            raise self.error("path", str(error), path, "save it as UTF-8") from error
        except (OSError, pa.ArrowInvalid, EOFError) as error:
            raise self.error("path", f"cannot be read ({error})", path) from error
        schema = pa.schema(columns)
        for name in schema.names:
            if schema.names.count(name) > 1:
                raise self.error("path", f"has two columns {name}", path, "rename one of them")
        return schema

    def _csv_header(self, path: str) -> tuple[str, ...]:
        head = first_lines(path, 1)
        text = head[0].decode("utf-8-sig", "replace") if head else ""
        try:
            (names,) = csv.reader([text], delimiter=self.stream.delimiter)
        except csv.Error as error:
            fact = f"has a header line that is not CSV ({error})"
            hint = "lines must end with \\n or \\r\\n"
            raise self.error("path", fact, self.names[path], hint) from error
        self.headers[path] = tuple(name.strip() for name in names)
        return self.headers[path]

    def _union(self, files: dict[str, pa.Schema]) -> dict[str, pa.DataType]:
        """Return the columns of all files together; types that differ widen."""
        declared = {name: TYPES[kind] for name, kind in self.stream.types.items()}
        found: dict[str, pa.DataType] = {}
        first: dict[str, str] = {}
        for path, schema in files.items():
            for field in schema:
                before = found.get(field.name, field.type)
                widened = _widened(before, field.type)
                if widened is None and field.name not in declared:
                    fact = (
                        f"column {field.name} is {before} in {self.names[first[field.name]]} and "
                        f"{field.type} in {self.names[path]}"
                    )
                    hint = f"declare its type in {self.key}.types"
                    if self.format == "parquet":
                        hint = "types must widen, such as int64 to double; rewrite one of the files"
                    raise self.error("path", fact, hint=hint)
                found[field.name] = before if widened is None else widened
                first.setdefault(field.name, path)
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
            if name not in found:
                raise self.error(f"types.{name}", "no such column", name, columns_hint(found))
            found[name] = kind
        self.empty = {name for name, kind in found.items() if pa.types.is_null(kind)}
        return {name: pa.string() if pa.types.is_null(kind) else kind
                for name, kind in found.items()}  # fmt: skip

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
            if name not in self.columns:
                raise self.error(use, "no such column", name, columns_hint(self.columns))
        for use, name in [*uses[: len(stream.key)], *(use for use in uses if use[0] == "id")]:
            kind = self.columns[name]
            if not (pa.types.is_integer(kind) or pa.types.is_string(kind)
                    or pa.types.is_binary(kind)):  # fmt: skip
                raise self.error(use, f"column {name} is {kind}, not text, bytes or integer")
        self._check_time(plan.time)

    def _check_time(self, time: TimePlan) -> None:
        kind = self.columns[time.column]
        if self.format != "parquet" and time.unit is None and time.format is None:
            raise self.error("time", "needs a unit (integers) or a format (text)", time.column,
                              'such as unit = "ms" or format = "%Y-%m-%d %H:%M:%S"')  # fmt: skip
        if time.format is not None and not pa.types.is_string(kind):
            raise self.error("time.format", f"column {time.column} is {kind}, not text",
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


def plain_type(kind: pa.DataType) -> pa.DataType:
    """Return the type in which a Parquet column is carried.

    Dictionaries become their values, extension types what they are stored as, large, view
    and fixed-size types plain ones; decimals become int64 if they are whole numbers that
    fit, else float64, as half floats do.
    """
    if isinstance(kind, pa.BaseExtensionType):
        return plain_type(kind.storage_type)
    if pa.types.is_dictionary(kind):
        return plain_type(kind.value_type)
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    if (pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind)
            or pa.types.is_fixed_size_binary(kind)):  # fmt: skip
        return pa.binary()
    if pa.types.is_decimal(kind) and kind.scale == 0 and kind.precision <= _INT64_DIGITS:
        return pa.int64()
    if pa.types.is_decimal(kind) or pa.types.is_float16(kind):
        return pa.float64()
    if (pa.types.is_large_list(kind) or pa.types.is_list(kind)
            or pa.types.is_fixed_size_list(kind)):  # fmt: skip
        return pa.list_(plain_type(kind.value_type))
    return kind


def _widened(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    """Return the type that holds the values of two, None if there is none."""
    if one == other:
        return one
    signed = {pa.types.is_signed_integer(kind) for kind in (one, other)}
    if pa.uint64() in (one, other) and True in signed:
        return None  # int64 does not hold all of both
    schemas = [pa.schema([("", kind)]) for kind in (one, other)]
    try:
        return plain_type(pa.unify_schemas(schemas, promote_options="permissive").field(0).type)
    except pa.ArrowTypeError:
        return None


def columns_hint(columns: dict[str, pa.DataType]) -> str:
    """Return a hint that lists the columns of a file."""
    return "use one of " + ", ".join(columns)
