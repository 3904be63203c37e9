"""What is known of a stream before it is read: its columns and their types."""

from __future__ import annotations

import difflib
from abc import ABC, abstractmethod
from collections.abc import Sequence

import pyarrow as pa

from headrace.pipelines.sources.numbering import BY_RECORD, Numbering
from headrace.pipelines.sources.source import Log
from headrace.schemas.config.models import StreamConfig
from headrace.schemas.errors import ConfigError
from headrace.schemas.records.eventing import EventPlan, TimePlan, parse_times
from headrace.schemas.records.events import NEVER, RESERVED_PREFIX
from headrace.schemas.records.notation import Notation
from headrace.schemas.types import JSON, is_identifier, type_name

_MOST_HINTED = 40


class Head(ABC):
    """The columns of a stream.

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
    format
        How records are written.
    numbering
        How positions number records.
    known, reread
        How many of its logs an earlier run has read, and of how many of these more is to be read.
    told
        Event time until which an earlier run has taken the stream as complete, microseconds;
        `NEVER` without one.
    found, nested
        What `_inspect` returned.
    columns
        The types of all columns by name, those inside of others too.
    own
        The names of those that are not inside of others.
    json, empty
        The names of those of which any JSON value is kept as text, and of those without a
        type, since all values that were seen are null.
    clashes
        What is wrong with columns that cannot be used, by name.
    warnings
        What can be read but is probably a mistake, a sentence each.

    Raises
    ------
    ConfigError
        If the columns cannot be determined.
    """

    format: str
    numbering: Numbering = BY_RECORD
    told: int = NEVER
    known: int = 0
    reread: int = 0

    def __init__(self, file: str, key: str, stream: StreamConfig) -> None:
        self.file, self.key, self.stream = file, key, stream
        self.warnings: list[str] = []
        self.clashes: dict[str, ConfigError] = {}
        found, nested = self._inspect()
        self.found, self.nested = found, nested
        self.json = frozenset(name for name, kind in found.items() if kind == JSON)
        self.empty = frozenset(name for name, kind in found.items() if pa.types.is_null(kind))
        self.columns = {
            name: pa.string() if name in self.json or name in self.empty else kind
            for name, kind in found.items()
        }
        self.own = [name for name in found if name not in nested]

    @abstractmethod
    def _inspect(self) -> tuple[dict[str, pa.DataType], set[str]]:
        """Return the types of all columns, and which of them are only inside of others.

        Sets `format`.
        """

    @abstractmethod
    def logs(self, first: int, stream: int, schema: pa.Schema, notation: Notation) -> Sequence[Log]:
        """Return what there is to read.

        Parameters
        ----------
        first, stream
            Number of the first log, and number of the stream.
        schema, notation
            The columns to read, and how their values are written.
        """

    def check_columns(self, plan: EventPlan) -> None:
        """Check that the columns named in the stream's table exist and have usable types.

        Raises
        ------
        ConfigError
            For the first that does not.
        """
        stream = self.stream
        for name in plan.columns:
            if name.startswith(RESERVED_PREFIX):
                raise self.error("path", f"column {name} starts with {RESERVED_PREFIX}",
                                  hint="rename it: such names are reserved")  # fmt: skip
        uses = [("key", name) for name in stream.key] + [("time.column", stream.time.column)]
        if plan.trusted is not None:
            uses.append(("time.trusted.column", plan.trusted.time.column))
        if plan.id is not None:
            uses.append(("id", plan.id))
        uses += [("columns", name) for name in getattr(stream, "columns", None) or ()]
        for use, name in uses:
            if name in self.clashes:
                raise self.clashes[name]
            if name not in self.columns:
                raise self.error(use, "no such column", name, columns_hint(self.columns, name))
        for use, name in [*uses[: len(stream.key)], *(use for use in uses if use[0] == "id")]:
            kind = self.columns[name]
            if not is_identifier(kind):
                fact = f"column {name} is {type_name(kind)}, not text, bytes or integer"
                raise self.error(use, fact)
        self._check_time("time", plan.time)
        if plan.trusted is not None:
            self._check_time("time.trusted", plan.trusted.time)

    def _check_time(self, key: str, time: TimePlan) -> None:
        kind = self.columns[time.column]
        untimed = self.format != "parquet" and not pa.types.is_timestamp(kind)
        if untimed and time.unit is None and time.format is None:
            raise self.error(key, "needs a unit (integers) or a format (text)", time.column,
                              'such as unit = "ms" or format = "%Y-%m-%d %H:%M:%S"')  # fmt: skip
        if time.format is not None and not pa.types.is_string(kind):
            fact = f"column {time.column} is {type_name(kind)}, not text"
            hint = "leave format out, or give unit"
            raise self.error(f"{key}.format", fact, time.format, hint)
        try:
            parse_times(pa.array([], kind), time)
        except TypeError as error:
            raise self.error(key, str(error), time.column,
                              'such as unit = "us", or format for text') from error  # fmt: skip
        except (pa.ArrowInvalid, ValueError) as error:
            raise self.error(key, f"cannot be used ({error})", time.format) from error

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


def columns_hint(columns: dict[str, pa.DataType], name: str = "") -> str:
    """Return a hint that lists the columns of a file, or has the one that `name` is nearly."""
    near = difflib.get_close_matches(name, columns, n=1, cutoff=0.8)
    if near:
        return f"did you mean {near[0]}?"
    more = ", ..." if len(columns) > _MOST_HINTED else ""
    return "use one of " + ", ".join(list(columns)[:_MOST_HINTED]) + more
