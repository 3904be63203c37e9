"""What the first records of a stream's files show: format, columns and their types."""

from __future__ import annotations

import csv
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from headrace.pipelines.run.remote import explain, first_line, scheme_of
from headrace.pipelines.sources.locations import Location, find
from headrace.pipelines.sources.textfiles import first_lines
from headrace.schemas.config.models import StreamConfig
from headrace.schemas.errors import ConfigError, without_secrets
from headrace.schemas.records.decoding import TYPES, Lenience, misfit
from headrace.schemas.records.eventing import EventPlan, TimePlan, parse_times
from headrace.schemas.records.events import RESERVED_PREFIX
from headrace.schemas.records.jsonlines import infer_json_schema
from headrace.schemas.records.values import parse_text

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
        self.warnings: list[str] = []
        self.files = self._find()
        self.format = stream.format or self._guess_format()
        self.headers: dict[Location, tuple[str, ...]] = {}
        self.own = {file: self._read_columns(file) for file in self.files}
        self.columns = self._union()

    def _find(self) -> list[Location]:
        """Return the files in order of path, each once, or its records would count twice."""
        found = [
            (file, pattern)
            for pattern in dict.fromkeys(self.stream.path)
            for file in self._find_one(pattern)
        ]
        once: dict[tuple[str, str], tuple[Location, str]] = {}
        repeated = []
        for file, pattern in sorted(found, key=lambda pair: pair[0].path):
            first, of = once.setdefault((file.home, file.key), (file, pattern))
            if first.name != file.name:
                repeated.append(f"{first.name} and {file.name} are one file")
            elif of != pattern:
                repeated.append(f"{of} and {pattern} both name {file.name}")
        if repeated:
            more = f" (and {len(repeated) - 1:,} more are like this)" if repeated[1:] else ""
            fact = f"{self.key}.path: {repeated[0]}, which is read once{more}"
            self.warnings.append(without_secrets(fact))
        return [file for file, _ in once.values()]

    def _find_one(self, pattern: str) -> list[Location]:
        folder = Path(self.file).parent
        try:
            found = find(pattern, folder)
        except (OSError, ValueError) as error:
            fact, hint = explain(error)
            raise self.error("path", fact, pattern, hint) from error
        if not found:
            hint = "to read a folder, write folder/*"
            if scheme_of(pattern) is None:
                hint = f"paths are relative to {folder.resolve()}"
            raise self.error("path", "no such file", pattern, hint)
        return found

    def _guess_format(self) -> str:
        formats: dict[str, str] = {}
        for file in self.files:
            suffixes = [s for s in Path(file.path.lower()).suffixes if s not in (".gz", ".zst")]
            name = suffixes[-1] if suffixes else ""
            if name not in _FORMATS:
                raise self.error(
                    "path", "the file's name does not show its format", file.path,
                    'set format = "parquet", "csv" or "jsonl"',
                )  # fmt: skip
            formats.setdefault(_FORMATS[name], file.name)
        if len(formats) > 1:
            found = " and ".join(f"{name} is {form}" for form, name in formats.items())
            hint = "name files of one format, or set format"
            raise self.error("path", f"matches files of several formats ({found})", hint=hint)
        return next(iter(formats))

    def _read_columns(self, file: Location) -> pa.Schema:
        """Return the columns that one file has itself; none if it is empty."""
        try:
            if self.format == "parquet":
                with file.open() as source:
                    schema = pq.read_schema(source)
                columns = [(field.name, plain_type(field.type)) for field in schema]
            elif self.format == "jsonl":
                columns = list(infer_json_schema(first_lines(file, _HEAD_LINES)))
            else:
                columns = [(name, pa.string()) for name in self._csv_header(file)]
        except (OSError, pa.ArrowInvalid, EOFError) as error:
            fact = f"cannot be read ({first_line(error)})"
            raise self.error("path", fact, file.path) from error
        schema = pa.schema(columns)
        for name in schema.names:
            if schema.names.count(name) > 1:
                raise self.error("path", f"has two columns {name}", file.path, "rename one of them")
        return schema

    def _csv_header(self, file: Location) -> tuple[str, ...]:
        head = first_lines(file, 1)
        text = head[0].decode("utf-8-sig", "replace") if head else ""
        try:
            (names,) = csv.reader([text], delimiter=self.stream.delimiter)
        except csv.Error as error:
            fact = f"has a header line that is not CSV ({error})"
            hint = "lines must end with \\n or \\r\\n"
            raise self.error("path", fact, file.name, hint) from error
        self.headers[file] = tuple(name.strip() for name in names)
        return self.headers[file]

    def _union(self) -> dict[str, pa.DataType]:
        """Return the columns of all files together; types that differ widen."""
        declared = {name: TYPES[kind] for name, kind in self.stream.types.items()}
        found: dict[str, pa.DataType] = {}
        first: dict[str, Location] = {}
        for file, schema in self.own.items():
            # What a folder says is text, until a type is declared.
            folders = [pa.field(name, pa.string()) for name, _ in self.partitions_of(file)]
            for field in [*schema, *folders]:
                before = found.get(field.name, field.type)
                widened = _widened(before, field.type)
                if widened is None and field.name not in declared:
                    fact = (
                        f"column {field.name} is {before} in {first[field.name].name} and "
                        f"{field.type} in {file.name}"
                    )
                    hint = f"declare its type in {self.key}.types"
                    if self.format == "parquet":
                        hint = "types must widen, such as int64 to double; rewrite one of the files"
                    raise self.error("path", fact, hint=hint)
                found[field.name] = before if widened is None else widened
                first.setdefault(field.name, file)
        needed = {*self.stream.key, self.stream.time.column}
        if not found and self.format == "jsonl" and needed <= declared.keys():
            return declared  # nothing else is left to go by
        if not found and self.format == "jsonl":
            fact = "has no line that is a JSON object, so its columns are not known"
            hint = f"declare key and time in {self.key}.types"
            raise self.error("path", fact, self.files[0].path, hint)
        if not found:
            raise self.error("path", "is empty and has no header line", self.files[0].path)
        for name, kind in declared.items():
            if name not in found:
                raise self.error(f"types.{name}", "no such column", name, columns_hint(found))
            found[name] = kind
        return {name: pa.string() if pa.types.is_null(kind) else kind
                for name, kind in found.items()}  # fmt: skip

    def header_of(self, file: Location) -> tuple[str, ...]:
        """Return the column names in the header line of a CSV file; none for other formats."""
        return self.headers.get(file, ())

    def partitions_of(self, file: Location) -> list[tuple[str, str | None]]:
        """Return the columns that a file has from its folders, since it has none of that name."""
        return [item for item in file.partitions if item[0] not in self.own[file].names]

    def constants_of(
        self, file: Location, schema: pa.Schema, lenience: Lenience
    ) -> dict[str, pa.Scalar]:
        """Return the values of these columns, with the types of a schema that has some of them.

        Raises
        ------
        ConfigError
            If a value is not of its type.
        """
        constants = {}
        for name, text in self.partitions_of(file):
            if name not in schema.names:
                continue
            kind = schema.field(name).type
            column = pa.array([text if text is None else text.encode()], pa.binary())
            values, bad = parse_text(column, kind, lenience.nulls_of(kind))
            if bad.any():
                fact = f"the folder {name}={text} is {misfit(kind)}, of {file.name}"
                hint = f"declare another type in {self.key}.types"
                raise self.error(f"types.{name}", fact, text, hint)
            constants[name] = values[0]
        return constants

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
        kind = self._time_type()
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

    def _time_type(self) -> pa.DataType:
        config = self.stream.time
        kind = self.columns[config.column]
        if self.format == "csv" and config.unit is not None and config.column not in \
                self.stream.types:  # fmt: skip
            return pa.int64()
        return kind

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
        types[self.stream.time.column] = self._time_type()
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
