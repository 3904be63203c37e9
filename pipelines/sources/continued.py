"""What an earlier run has read of a log that goes on, and which of its files are new.

The records of earlier files come before those of later ones: sources of the earlier run keep
their numbers, new ones follow.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from headrace.pipelines.sources.fileheads import FileHead
from headrace.pipelines.sources.files import ends_of
from headrace.pipelines.sources.locations import Location
from headrace.pipelines.sources.source import Chunk, Log, SourceState
from headrace.schemas.config.models import StreamConfig
from headrace.schemas.records.notation import Notation


@dataclass(frozen=True)
class PastLog:
    """A file that was read by an earlier run, as a `Log` that has no more records.

    Parameters
    ----------
    number, stream, name, format
        See `headrace.pipelines.sources.source.Log`.
    key, version
        What `identity` returned then.
    state
        How far it was read.
    schema
        The columns to read.
    """

    number: int
    stream: int
    name: str
    format: str
    key: str
    version: list[Any]
    state: SourceState
    schema: pa.Schema

    @property
    def start(self) -> int:
        """Position after its last record."""
        return self.state.position

    @property
    def size(self) -> int:
        """Nothing is left to read, so 0 bytes."""
        return 0

    def identity(self) -> tuple[str, list[Any]]:
        """Return its name and version as they were then; the file may be gone."""
        return self.key, self.version

    def chunks(self, rows: int, skip: int = 0) -> Iterator[Chunk]:
        """Read nothing."""
        return iter(())


@dataclass(frozen=True)
class PastFile:
    """What is kept of a file; see `PastLog`.

    The version is the one that was read: the file may have changed since.
    """

    number: int
    name: str
    key: str
    version: list[Any]
    state: SourceState

    def left(self, ended: bool) -> SourceState:
        """Return the state from which another run goes on, which counts what it reads itself."""
        return replace(
            self.state, records=0, rejected=0, bad_values={}, time_counts={}, ended=ended
        )

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON types."""
        return asdict(self)

    @classmethod
    def of_json(cls, kept: Mapping[str, Any]) -> PastFile:
        """Return that of which `as_json` returned `kept`."""
        return cls(**{**kept, "state": SourceState(**kept["state"])})


@dataclass(frozen=True)
class PastStream:
    """A stream as an earlier run has read it.

    Parameters
    ----------
    format
        How its records are written.
    found, nested
        Its columns, see `headrace.pipelines.sources.heads.Head`.
    read
        The columns that were read.
    told
        Event time until which it was taken as complete, microseconds; `NEVER` without an event.
    files
        What was read, by number.
    """

    format: str
    found: pa.Schema
    nested: frozenset[str]
    read: pa.Schema
    told: int
    files: tuple[PastFile, ...]

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON types."""
        return {
            "format": self.format,
            "found": _as_text(self.found),
            "nested": sorted(self.nested),
            "read": _as_text(self.read),
            "told": self.told,
            "files": [file.as_json() for file in self.files],
        }

    @classmethod
    def of_json(cls, kept: Mapping[str, Any]) -> PastStream:
        """Return that of which `as_json` returned `kept`."""
        found, read = (
            pa.ipc.read_schema(pa.py_buffer(base64.b64decode(kept[name])))
            for name in ("found", "read")
        )
        files = tuple(PastFile.of_json(file) for file in kept["files"])
        return cls(kept["format"], found, frozenset(kept["nested"]), read, kept["told"], files)


def _as_text(schema: pa.Schema) -> str:
    return base64.b64encode(schema.serialize().to_pybytes()).decode()


@dataclass(frozen=True)
class Past:
    """What a run continues.

    Parameters
    ----------
    folder
        The folder of the earlier run.
    streams
        Its streams by their tables in the configuration.
    clock
        Where its clock stopped, microseconds: what left before is in its outputs.
    samples
        How many samples it and the runs before it have written.
    carried
        Records that had no outcome, by name of the stream.
    checksum
        That of its state.
    """

    folder: Path
    streams: Mapping[str, PastStream]
    clock: int
    samples: int
    carried: Mapping[str, int]
    checksum: str


class ContinuedHead(FileHead):
    """The files of a stream of which an earlier run has read some: new ones, and those that grew.

    Columns and types are those of the earlier run.

    Parameters
    ----------
    file, key, stream
        See `headrace.pipelines.sources.heads.Head`.
    past
        What was read.

    Attributes
    ----------
    known
        How many files were read before.

    Raises
    ------
    ConfigError
        If a file has changed since, other than by more lines, or cannot be read with those types.
    """

    def __init__(self, file: str, key: str, stream: StreamConfig, past: PastStream) -> None:
        self.past, self.told, self.known = past, past.told, len(past.files)
        self.grown: dict[int, Location] = {}
        super().__init__(file, key, stream)

    def _inspect(self) -> tuple[dict[str, pa.DataType], set[str]]:
        self.format = self.past.format
        self.headers = {}
        self.files = self._unread(self._find())
        self.reread = len(self.grown)
        looked_at = [*self.files, *self.grown.values()]
        self.inside = {file: self._read_columns(file) for file in looked_at}
        found = {of.name: of.type for of in self.past.found}
        self._check_readable(found)
        return found, set(self.past.nested)

    def _unread(self, files: Sequence[Location]) -> list[Location]:
        """Return the new files; note those that grew."""
        past = {of.key: of for of in self.past.files}
        present = {file.key for file in files}
        gone = [of.version for of in self.past.files if of.key not in present]
        new = []
        for file in files:
            before = past.get(file.key)
            if before is None:
                # What was moved is known by its contents and its time.
                if not gone or self._version(file) not in gone:
                    new.append(file)
            elif before.version != self._version(file):
                self._check_grown(file, before)
                self.grown[before.number] = file
        return new

    def _version(self, file: Location) -> list[Any]:
        return ends_of(Path(file.inner)) if file.local else list(file.version)

    def _check_grown(self, file: Location, before: PastFile) -> None:
        size = before.version[0]
        hint = "write new records to new files, or replay all files again"
        if self.format == "parquet" or not file.local or file.size <= size:
            fact = "has changed since it was read by the run that is continued"
            if file.local and self._version(file)[2] == before.version[2]:
                fact += ", or its time of change has"
                hint = f"if its contents are the same, restore its time; else {hint}"
            raise self.error("path", fact, file.name, hint)
        if ends_of(Path(file.inner), size)[2] != before.version[2]:
            fact = "has other contents than when it was read by the run that is continued"
            raise self.error("path", fact, file.name, hint)
        if self.stream.order == "sort":
            fact = "has grown, and files that are sorted are read as a whole"
            raise self.error("path", fact, file.name, hint)
        if not file.path.lower().endswith((".gz", ".zst")) and not _ends_a_line(file, size):
            fact = "has grown, and its last line was not complete when it was read"
            raise self.error("path", fact, file.name, "replay all files again")

    def logs(self, first: int, stream: int, schema: pa.Schema, notation: Notation) -> list[Log]:
        """Return all files: those read before by their numbers then, new ones from `first` on.

        Raises
        ------
        ConfigError
            If other columns are to be read than before.
        """
        for name in schema.names:
            if name not in self.past.read.names:
                fact = "was not read by the run that is continued, so what is open lacks it"
                raise self.error("columns", fact, name, "replay all files again")
        logs = super().logs(first, stream, schema, notation)
        for of in self.past.files:
            file = self.grown.get(of.number)
            logs.append(
                PastLog(
                    of.number, stream, of.name, self.format, of.key, of.version, of.state, schema
                )
                if file is None
                else self._log_file(of.number, stream, file, schema, notation)
            )
        return logs


def _ends_a_line(file: Location, size: int) -> bool:
    with Path(file.inner).open("rb") as data:
        data.seek(max(size - 1, 0))
        return size == 0 or data.read(1) == b"\n"
