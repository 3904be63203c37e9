"""What the first records of a stream's files show: format, columns and their types."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa

from headrace.pipelines.run.remote import explain, first_line, scheme_of
from headrace.pipelines.sources.files import LogFile
from headrace.pipelines.sources.heads import Head, columns_hint
from headrace.pipelines.sources.locations import Location, find
from headrace.pipelines.sources.parquetfiles import open_parquet
from headrace.pipelines.sources.source import Log
from headrace.pipelines.sources.textfiles import MOST_HEAD, first_lines
from headrace.schemas.errors import ConfigError, without_secrets
from headrace.schemas.records.decoding import misfit
from headrace.schemas.records.jsonhead import infer_columns
from headrace.schemas.records.notation import Notation
from headrace.schemas.records.paths import Columns
from headrace.schemas.records.values import parse_text
from headrace.schemas.types import carried_type, parse_type, readable, type_name, widened

_FORMATS = {
    ".parquet": "parquet",
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
}
_HEAD_LINES = 1000


class FileHead(Head):
    """Files, format and columns of a stream, from the first records of its files."""

    def _inspect(self) -> tuple[dict[str, pa.DataType], set[str]]:
        self.files = self._find()
        self.format = self.stream.format or self._guess_format()
        self.headers: dict[Location, tuple[str, ...]] = {}
        self.inside = {file: self._read_columns(file) for file in self.files}
        if self.format == "jsonl" and self.stream.time.unit is not None:
            self._settle_times()
        nested = {name for columns in self.inside.values() for name in columns.nested}
        own = {name for columns in self.inside.values() for name in columns.own}
        return self._declared(self._union()), nested - own

    def logs(self, first: int, stream: int, schema: pa.Schema, notation: Notation) -> list[Log]:
        """Return the files, in order of path."""
        return list(self.log_files(first, stream, schema, notation))

    def log_files(
        self, first: int, stream: int, schema: pa.Schema, notation: Notation
    ) -> list[LogFile]:
        """Return what `logs` does, which are files."""
        return [
            self._log_file(first + at, stream, file, schema, notation)
            for at, file in enumerate(self.files)
        ]

    def _log_file(
        self, number: int, stream: int, file: Location, schema: pa.Schema, notation: Notation
    ) -> LogFile:
        return LogFile(
            number, stream, file, self.format, self.headers.get(file, ()),
            self.stream.delimiter, self.stream.quote, schema, notation,
            self._constants_of(file, schema, notation), self.stream.max_line,
        )  # fmt: skip

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

    def _read_columns(self, file: Location) -> Columns:
        """Return the columns that one file has itself; none if it is empty."""
        try:
            if self.format == "jsonl":
                identifiers = (*self.stream.key, getattr(self.stream, "id", None) or "")
                lines = first_lines(file, _HEAD_LINES, self.stream.max_line)
                columns = infer_columns(lines, identifiers)
            elif self.format == "parquet":
                with open_parquet(file) as parquet:
                    columns = self._of_schema(file, parquet.schema_arrow)
            else:
                header = [(name, pa.string()) for name in self._csv_header(file)]
                columns = self._of_schema(file, pa.schema(header))
        except UnicodeError as error:
            raise self.error("path", str(error), file.path, "save it as UTF-8") from error
        except (OSError, pa.ArrowInvalid, EOFError) as error:
            fact = f"cannot be read ({first_line(error)})"
            raise self.error("path", fact, file.path) from error
        return columns

    def _of_schema(self, file: Location, schema: pa.Schema) -> Columns:
        for name in schema.names:
            if schema.names.count(name) > 1:
                raise self.error("path", f"has two columns {name}", file.path, "rename one of them")
        return Columns.of(schema)

    def _csv_header(self, file: Location) -> tuple[str, ...]:
        head = first_lines(file, 1, MOST_HEAD)
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
            raise self.error("path", fact, file.name, hint) from error
        self.headers[file] = tuple(name.strip() for name in names)
        return self.headers[file]

    def _settle_times(self) -> None:
        """Read event times as text unless first lines of all files have numbers.

        Text has any number exactly; else some wrong lines at a head would decide the type, or
        refuse the log.
        """
        name = self.stream.time.column
        found = [
            of for columns in self.inside.values()
            for of in (columns.own, columns.nested) if name in of and of[name] != pa.null()
        ]  # fmt: skip
        if not all(pa.types.is_integer(of[name]) or pa.types.is_floating(of[name]) for of in found):
            for of in found:
                of[name] = pa.string()

    def _union(self) -> dict[str, pa.DataType]:
        """Return the columns of all files together; types that differ widen."""
        found: dict[str, pa.DataType] = {}
        first: dict[str, Location] = {}
        for file, columns in self.inside.items():
            # What a folder says is text, until a type is declared.
            folders = {name: pa.string() for name, _ in self._partitions_of(file)}
            for name, kind in {**columns.all, **folders}.items():
                kind = carried_type(kind)
                before = found.setdefault(name, kind)
                first.setdefault(name, file)
                wide = widened(before, kind)
                if wide is not None:
                    found[name] = wide
                elif name not in self.stream.types:
                    clash = self._clash(name, {first[name]: before, file: kind})
                    # Of JSON a single record may have made it so.
                    if name not in columns.nested and self.format != "jsonl":
                        raise clash
                    self.clashes.setdefault(name, clash)
        return {name: kind for name, kind in found.items() if name not in self.clashes}

    def _clash(self, name: str, kinds: dict[Location, pa.DataType]) -> ConfigError:
        (one, this), (other, that) = kinds.items()
        fact = (
            f"column {name} is {type_name(this)} in {one.name} and {type_name(that)} in "
            f"{other.name}"
        )
        return self.error("path", fact, hint=f"declare its type in {self.key}.types")

    def _declared(self, found: dict[str, pa.DataType]) -> dict[str, pa.DataType]:
        """Return the columns with the types that are declared."""
        declared = {name: parse_type(kind) for name, kind in self.stream.types.items()}
        needed = {*self.stream.key, self.stream.time.column}
        if not found and self.format == "jsonl" and needed <= declared.keys():
            return declared  # nothing else is left to go by
        if not found and self.format == "jsonl":
            fact = "has no line that is a JSON object, so its columns are not known"
            hint = f"declare key and time in {self.key}.types"
            raise self.error("path", fact, self.files[0].path, hint)
        if not found:
            raise self.error("path", "is empty and has no header line", self.files[0].path)
        self._check_readable(declared)
        # A column that first lines of JSON do not have may come later.
        for name in () if self.format == "jsonl" else declared:
            if name not in found:
                raise self.error(f"types.{name}", "no such column", name, columns_hint(found))
        return {**found, **declared}

    def _check_readable(self, kinds: Mapping[str, pa.DataType]) -> None:
        """Check that the columns of the files can be read as these types."""
        for name, kind in kinds.items():
            written = {
                file: carried_type(columns.all[name])
                for file, columns in self.inside.items()
                if name in columns.all
            }
            unread = [file for file, own in written.items() if not readable(own, kind)]
            # A few values that are all wrong are a whole file of JSON, but no reason to stop.
            if unread and (self.format != "jsonl" or len(unread) == len(written)):
                file = unread[0]
                fact = f"column {name} is {type_name(written[file])} in {file.name}"
                hint = f'that cannot be read as {type_name(kind)}; "json" keeps anything'
                raise self.error(f"types.{name}", fact, type_name(kind), hint)

    def _partitions_of(self, file: Location) -> list[tuple[str, str | None]]:
        """Return the columns that a file has from its folders, since it has none of that name."""
        return [item for item in file.partitions if item[0] not in self.inside[file].own]

    def _constants_of(
        self, file: Location, schema: pa.Schema, notation: Notation
    ) -> dict[str, pa.Scalar]:
        """Return the values of these columns, with the types of a schema that has some of them.

        Raises
        ------
        ConfigError
            If a value is not of its type.
        """
        constants = {}
        for name, text in self._partitions_of(file):
            if name not in schema.names:
                continue
            kind = schema.field(name).type
            column = pa.array([text if text is None else text.encode()], pa.binary())
            values, bad = parse_text(column, kind, notation)
            if bad.any():
                fact = f"the folder {name}={text} is {misfit(kind)}, of {file.name}"
                hint = f"declare another type in {self.key}.types"
                raise self.error(f"types.{name}", fact, text, hint)
            constants[name] = values[0]
        return constants
