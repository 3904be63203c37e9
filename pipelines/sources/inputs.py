"""From a configuration to the files it means: what each holds, and how it is read.

Everything that can be wrong with a configuration and does not show in the file
alone is found here, before anything is written.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from headrace.joiner.plan.emission import EmissionPlan
from headrace.joiner.plan.plans import ActionPlan, JoinPlan
from headrace.joiner.plan.sampling import SamplingPlan
from headrace.learners.learning import LearnerPlan, TrainPlan
from headrace.learners.registry import ALGORITHMS, Algorithms
from headrace.monitoring.ending import Ending
from headrace.pipelines.sources.textfiles import first_lines
from headrace.schemas.config.models import Config, FeaturesConfig, StreamConfig
from headrace.schemas.config.predicates import Predicate
from headrace.schemas.errors import ConfigError
from headrace.schemas.records.decoding import TYPES, infer_json_schema
from headrace.schemas.records.eventing import EventPlan, parse_times
from headrace.schemas.records.events import FOREVER, RESERVED_PREFIX

_FORMATS = {
    ".parquet": "parquet",
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
}
_HEAD_LINES = 1000


@dataclass(frozen=True)
class Source:
    """One file of a stream.

    Parameters
    ----------
    number
        Among all sources, in order of stream and path.
    stream
        Number of its stream.
    path, name, format
        The file, and how the configuration names it: relative to its own folder,
        unless it gives an absolute path.
    header
        All column names of a CSV file.
    delimiter
        Of a CSV file.
    schema
        The columns to read, with the types that they have from here on.
    size
        Bytes of the file.
    """

    number: int
    stream: int
    path: str
    name: str
    format: str
    header: tuple[str, ...]
    delimiter: str
    schema: pa.Schema
    size: int


@dataclass(frozen=True)
class Inputs:
    """A configuration resolved against its files."""

    config: Config
    file: str
    sources: tuple[Source, ...]
    event_plans: tuple[EventPlan, ...]
    join: JoinPlan
    train: TrainPlan

    @property
    def files(self) -> tuple[Path, ...]:
        """Everything that is read: the configuration file and the logs."""
        return (Path(self.file), *(Path(source.path) for source in self.sources))

    @property
    def stream_names(self) -> tuple[str, ...]:
        """Names of the streams by number."""
        return self.join.stream_names

    def complete_until(self, stream: int) -> int:
        """Return the event time up to which a stream can be complete, however far it reaches."""
        declared = list(self.config.streams.values())[stream].complete_until
        return FOREVER if declared is None else declared

    def final_progress(self, stream: int, greatest: int) -> int:
        """Return the progress of a stream whose sources have all ended.

        Parameters
        ----------
        stream
            Number of the stream.
        greatest
            The greatest progress of any of its sources, `NEVER` without an event.

        Returns
        -------
        int
            The time until which its log is complete: `FOREVER` if that is known of the
            whole log, else what is declared of the stream, else `greatest`.
        """
        if self.config.join.end_of_log == "close":
            return FOREVER
        declared = list(self.config.streams.values())[stream].complete_until
        return greatest if declared is None else declared

    def ending(self, progress: Sequence[int]) -> Ending:
        """Return the end of the log, by the progress that each source told last."""
        until = dict.fromkeys(self.stream_names, FOREVER)
        for source in self.sources:
            name = self.stream_names[source.stream]
            until[name] = min(until[name], progress[source.number])
        return Ending(until)


def resolve(config: Config, file: str | Path, algorithms: Algorithms = ALGORITHMS) -> Inputs:
    """Find and inspect the files of a configuration.

    Parameters
    ----------
    config
        From `load_config`.
    file
        Its file: paths are relative to the folder, errors name it.
    algorithms
        The learners that it may name.

    Raises
    ------
    ConfigError
        For the first thing wrong.
    """
    file = str(file)
    streams = list(config.streams.items())
    heads = [_Head(file, key, stream) for key, stream in streams]
    plans = []
    carried = _impression_columns(config, heads[0])
    for number, ((key, stream), head) in enumerate(zip(streams, heads, strict=True)):
        plan = _event_plan(config, number, stream, carried)
        head.check_columns(plan, key)
        plans.append(plan)
    _check_uses(config, file, heads[0], carried)
    sources: list[Source] = []
    for number, (plan, head) in enumerate(zip(plans, heads, strict=True)):
        schema = head.read_schema(plan, config)
        for path, name in head.names.items():
            sources.append(
                Source(
                    len(sources), number, path, name, head.format, head.header_of(path),
                    head.stream.delimiter, schema, Path(path).stat().st_size,
                )
            )  # fmt: skip
    join = _join_plan(config, plans, heads, carried, len(sources))
    _check_sample_names(file, join)
    _check_sampling(file, join.sampling, heads[0])
    return Inputs(config, file, tuple(sources), tuple(plans), join, _train_plan(config, algorithms))


class _Head:
    """What the heads of a stream's files tell."""

    def __init__(self, file: str, key: str, stream: StreamConfig) -> None:
        self.file, self.key, self.stream = file, key, stream
        self.names = self._expand()
        self.paths = list(self.names)
        self.format = stream.format or self._guess_format()
        self.headers: dict[str, tuple[str, ...]] = {}
        self.columns = self._read_columns(self._telling())

    def _expand(self) -> dict[str, str]:
        """Return the files by path, each with its name, in order of path."""
        folder = Path(self.file).parent
        names: dict[str, str] = {}
        for pattern in self.stream.path:
            full = str(folder / pattern)
            found = [full] if Path(full).is_file() else glob.glob(full, recursive=True)
            found = [path for path in found if Path(path).is_file()]
            if not found:
                raise self._error(
                    "path", "no such file", pattern, f"paths are relative to {folder.resolve()}"
                )
            absolute = Path(pattern).is_absolute()
            for path in found:
                names[path] = path if absolute else os.path.relpath(path, folder)
        # A file that has several names is one all the same, or its records would count twice.
        once: dict[str, str] = {}
        for path in sorted(names):
            once.setdefault(os.path.realpath(path), path)
        return {path: names[path] for path in once.values()}

    def _guess_format(self) -> str:
        suffixes = [s for s in Path(self.paths[0]).suffixes if s not in (".gz", ".zst")]
        name = suffixes[-1] if suffixes else ""
        if name not in _FORMATS:
            raise self._error(
                "path", "format not known by the file's name", self.paths[0],
                'set format = "parquet", "csv" or "jsonl"',
            )  # fmt: skip
        return _FORMATS[name]

    def _telling(self) -> str:
        """Return the first file that tells of its columns: one of JSON lines may be empty."""
        if self.format == "jsonl":
            return next((path for path in self.paths if first_lines(path, 1)), self.paths[0])
        return self.paths[0]

    def _read_columns(self, path: str) -> dict[str, pa.DataType]:
        try:
            if self.format == "parquet":
                return {field.name: plain_type(field.type) for field in pq.read_schema(path)}
            head = first_lines(path, _HEAD_LINES)
            if self.format == "jsonl":
                found = {field.name: field.type for field in infer_json_schema(head)}
                if not head:  # what is declared is all that is known
                    found = {name: TYPES[kind] for name, kind in self.stream.types.items()}
            else:
                found = {name: pa.string() for name in self._csv_header(path, head)}
        except (OSError, pa.ArrowInvalid, EOFError) as error:
            raise self._error("path", f"cannot be read ({error})", path) from error
        for name, kind in self.stream.types.items():
            if name not in found:
                raise self._error(f"types.{name}", "no such column", name, _known(found))
            found[name] = TYPES[kind]
        return found

    def _csv_header(self, path: str, head: list[bytes]) -> tuple[str, ...]:
        if not head:
            raise self._error("path", "is empty, without even a header line", path)
        text = head[0].decode("utf-8-sig", "replace")
        names = tuple(name.strip().strip('"') for name in text.split(self.stream.delimiter))
        self.headers[path] = names
        return names

    def header_of(self, path: str) -> tuple[str, ...]:
        """Return the column names of a CSV file; every file has a header of its own."""
        if self.format != "csv":
            return ()
        if path not in self.headers:
            self._read_columns(path)
        missing = [name for name in self.headers[self.paths[0]] if name not in self.headers[path]]
        if missing:
            raise self._error("path", f"has no column {missing[0]}", path, "all files need it")
        return self.headers[path]

    def check_columns(self, plan: EventPlan, key: str) -> None:
        """Check that what the stream's own keys name is there, and of a usable type."""
        stream = self.stream
        for name in self.columns:
            if name.startswith(RESERVED_PREFIX):
                raise self._error("path", f"column {name} starts with {RESERVED_PREFIX}",
                                  hint="such names are reserved; rename it")  # fmt: skip
        uses = [("key", name) for name in stream.key] + [("time.column", stream.time.column)]
        if plan.id is not None:
            uses.append(("id", plan.id))
        uses += [("columns", name) for name in getattr(stream, "columns", None) or ()]
        for use, name in uses:
            if name not in self.columns:
                raise self._error(use, "no such column", name, _known(self.columns))
        for name in stream.key:
            kind = self.columns[name]
            if not (pa.types.is_integer(kind) or pa.types.is_string(kind)
                    or pa.types.is_binary(kind)):  # fmt: skip
                raise self._error("key", f"column {name} is {kind}, not text, bytes or integer")
        self._check_time()

    def _check_time(self) -> None:
        config = self.stream.time
        kind = self._time_type()
        if self.format != "parquet" and config.unit is None and config.format is None:
            raise self._error("time", "needs a unit (integers) or a format (text)", config.column,
                              'such as unit = "ms" or format = "%Y-%m-%d %H:%M:%S"')  # fmt: skip
        if config.format is not None and not pa.types.is_string(kind):
            raise self._error("time.format", f"column {config.column} is {kind}, not text",
                              config.format, "leave format out, or give unit")  # fmt: skip
        try:
            parse_times(pa.array([], kind), config)
        except TypeError as error:
            raise self._error("time", str(error), config.column,
                              'such as unit = "us", or format for text') from error  # fmt: skip
        except (pa.ArrowInvalid, ValueError) as error:
            raise self._error("time", f"cannot be used ({error})", config.format) from error

    def _time_type(self) -> pa.DataType:
        config = self.stream.time
        kind = self.columns[config.column]
        if self.format == "csv" and config.unit is not None and config.column not in \
                self.stream.types:  # fmt: skip
            return pa.int64()
        return kind

    def read_schema(self, plan: EventPlan, config: Config) -> pa.Schema:
        """Decide the type with which each column is read."""
        types = {name: self.columns[name] for name in plan.columns}
        types[self.stream.time.column] = self._time_type()
        if self.format == "csv" and plan.stream == 0:
            for learner in config.named_learners.values():
                for name in learner.features.numeric:
                    if name not in self.stream.types:
                        types[name] = pa.float64()
        return pa.schema([(name, types[name]) for name in plan.columns])

    def _error(self, key: str, fact: str, value: object = None, hint: str = "") -> ConfigError:
        return ConfigError(self.file, f"{self.key}.{key}", fact, value, hint)


def plain_type(kind: pa.DataType) -> pa.DataType:
    """Return the type as which a Parquet column travels: text and bytes are short and plain."""
    if pa.types.is_dictionary(kind):
        return plain_type(kind.value_type)
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    if (pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind)
            or pa.types.is_fixed_size_binary(kind)):  # fmt: skip
        return pa.binary()
    if pa.types.is_decimal(kind) or pa.types.is_float16(kind):
        return pa.float64()
    if pa.types.is_large_list(kind) or pa.types.is_list(kind):
        return pa.list_(plain_type(kind.value_type))
    if pa.types.is_null(kind):
        return pa.string()
    return kind


def _known(columns: dict[str, pa.DataType]) -> str:
    return "the file has " + ", ".join(columns)


def _impression_columns(config: Config, head: _Head) -> tuple[str, ...]:
    """Columns of the impression that travel besides key and time."""
    stream = config.impressions
    apart = {*stream.key, stream.time.column}
    chosen = head.columns if stream.columns is None else stream.columns
    wanted = [name for name in chosen if name not in apart]
    for learner in config.named_learners.values():
        wanted += [name for name in learner.features.columns if name not in apart]
    if config.sampling.negative_rate.column is not None:
        wanted.append(config.sampling.negative_rate.column)
    if config.sampling.keep is not None:
        wanted += Predicate(config.sampling.keep).columns
    wanted += config.monitor.slices
    return tuple(name for name in dict.fromkeys(wanted) if name not in apart)


def _event_plan(
    config: Config, number: int, stream: StreamConfig, carried: tuple[str, ...]
) -> EventPlan:
    where = [config.impressions.key.index(name) for name in config.join.group]
    group = tuple(stream.key[i] for i in where)
    if number == 0:
        return EventPlan(0, stream.key, stream.time, carried, group)
    action = list(config.actions.values())[number - 1]
    return EventPlan(number, stream.key, stream.time, action.columns, group, action.id)


def _check_uses(config: Config, file: str, head: _Head, carried: tuple[str, ...]) -> None:
    """Check that what other tables say of impression columns holds."""
    uses: list[tuple[str, str]] = []
    learners = {
        f"{config.learner_table(name)}.features": learner.features
        for name, learner in config.named_learners.items()
    }
    for table, features in learners.items():
        uses += [(f"{table}.categorical", name) for name in features.categorical]
        uses += [(f"{table}.multi_valued", m.column) for m in features.multi_valued]
        uses += [(f"{table}.numeric.{name}", name) for name in features.numeric]
        uses += [(f"{table}.crosses", name) for c in features.crosses for name in c]
    if config.sampling.negative_rate.column is not None:
        uses.append(("sampling.negative_rate.column", config.sampling.negative_rate.column))
    keep = None if config.sampling.keep is None else Predicate(config.sampling.keep)
    uses += [("sampling.keep", name) for name in (keep.columns if keep else ())]
    uses += [("monitor.slices", name) for name in config.monitor.slices]
    available = {*carried, *config.impressions.key}
    for key, name in uses:
        if name not in head.columns:
            raise ConfigError(file, key, "no such impression column", name, _known(head.columns))
        if name not in available:
            raise ConfigError(file, key, "the time column cannot be used here", name)
        kind = head.columns[name]
        if pa.types.is_nested(kind) and not key.endswith(".features.multi_valued"):
            # Of a learner's own column it is its own table, else any will do.
            table = key.rpartition(".features")[0] or "learner"
            hint = f"lists of values go into {table}.features.multi_valued"
            raise ConfigError(file, key, f"column is {kind}, not one value a row", name, hint)
    for table, features in learners.items():
        _check_numeric(file, table, features, head)


def _check_numeric(file: str, table: str, features: FeaturesConfig, head: _Head) -> None:
    for name in features.numeric:
        kind = head.columns[name]
        if head.format != "csv" and not (
            pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
        ):
            raise ConfigError(
                file, f"{table}.numeric.{name}", f"column is {kind}, not a number",
                hint="make it categorical, or declare its type under impressions.types",
            )  # fmt: skip


def _check_sampling(file: str, sampling: SamplingPlan, head: _Head) -> None:
    """Choose among no rows at all, as the join chooses among its own."""
    nothing = [pa.array([], head.columns[name]) for name in sampling.columns]
    try:
        sampling.strata(pa.RecordBatch.from_arrays(nothing, list(sampling.columns)))
    except ValueError as error:
        fact, _, hint = str(error).partition("; ")
        value = sampling.keep.text if sampling.keep else sampling.column
        raise ConfigError(file, "sampling.keep", fact, value, hint) from error


def _join_plan(
    config: Config,
    plans: list[EventPlan],
    heads: list[_Head],
    carried: tuple[str, ...],
    sources: int,
) -> JoinPlan:
    actions = []
    for (name, action), head in zip(config.actions.items(), heads[1:], strict=True):
        fields = [(column, head.columns[column]) for column in action.columns]
        actions.append(ActionPlan(name, action.window, pa.schema(fields)))
    rate = config.sampling.negative_rate
    sampling = SamplingPlan(
        rate=rate.default,
        column=rate.column,
        rates=dict(rate.values),
        keep=None if config.sampling.keep is None else Predicate(config.sampling.keep),
        published=dict(config.sampling.publish),
        by_group=config.sampling.unit == "group",
        weighted=config.sampling.correction == "weight",
        seed=config.sampling.seed,
    )
    return JoinPlan(
        actions=tuple(actions),
        columns=(*config.impressions.key, *carried),
        keys=len(config.impressions.key),
        sources=sources,
        shards=config.join.shards,
        epoch=config.epoch,
        sampling=sampling,
        early=config.join.early,
        wait_for_impression=config.wait_for_impression,
        dedup_horizon=config.dedup_horizon,
        retention=config.join.retention,
        group_span=config.group_span,
        emission=EmissionPlan(
            config.join.emission, *config.join.elapsed, seed=config.sampling.seed
        ),
        joined=config.join.joined,
    )


def _check_sample_names(file: str, join: JoinPlan) -> None:
    published = [f"weight_{name}" for name in join.sampling.published]
    added = [*published, "event_time", "weight", "sampling_rate", "emission", "observed_for"]
    for action in join.actions:
        added += [action.name, *(f"{action.name}_{what}" for what in ("time", "count", "mature"))]
        added += [f"{action.name}_{name}" for name in action.carried.names]
    seen = set(join.columns)
    for name in added:
        if not re.fullmatch(r"[^_].*|_[^_].*", name):
            raise ConfigError(file, "actions", "a stream's name cannot start with __", name)
        if name in seen:
            raise ConfigError(
                file, "impressions.columns", "the sample would have two columns of one name", name,
                "list the impression columns to carry without it, or rename the action stream",
            )  # fmt: skip
        seen.add(name)


def _train_plan(config: Config, algorithms: Algorithms) -> TrainPlan:
    learners = {
        name: LearnerPlan(
            learner.label,
            learner.features,
            learner.bits,
            learner.algorithm,
            algorithms[learner.algorithm],
            learner.parameters,
        )
        for name, learner in config.named_learners.items()
    }
    return TrainPlan(learners, config.sampling.correction)
