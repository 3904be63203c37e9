"""Checks of a configuration against the columns of its logs."""

from __future__ import annotations

import pyarrow as pa

from headrace.joiner.plan.sampling import SamplingPlan
from headrace.learners.learning import TrainPlan
from headrace.monitoring.guard import HELD_FOR, HELD_WHY
from headrace.pipelines.sources.heads import Head, columns_hint
from headrace.pipelines.sources.uses import Use
from headrace.schemas.config.models import Config
from headrace.schemas.errors import ConfigError
from headrace.schemas.records.events import RESERVED_PREFIX
from headrace.schemas.types import is_number, type_name


def check_uses(file: str, uses: list[Use], head: Head, available: set[str]) -> None:
    """Check that impression columns suit their uses in other tables.

    Parameters
    ----------
    file
        The configuration file, for errors.
    uses
        From `headrace.pipelines.sources.uses.impression_uses`.
    head
        The head of the impressions.
    available
        Columns of the key, and those that are carried: all but the time column.

    Raises
    ------
    ConfigError
        For the first use of a column that is missing or has the wrong type.
    """
    for use in uses:
        if use.column in head.clashes:
            raise head.clashes[use.column]
        if use.column not in head.columns:
            hint = columns_hint(head.columns, use.column)
            raise ConfigError(file, use.key, "no such impression column", use.column, hint)
        if use.column not in available:
            fact = "the time column cannot be used here"
            raise ConfigError(file, use.key, fact, use.column)
        kind = head.columns[use.column]
        if use.flag and not pa.types.is_boolean(kind):
            fact = f"column is {type_name(kind)}, not true or false"
            hint = 'declare its type under impressions.types, as "bool"'
            raise ConfigError(file, use.key, fact, use.column, hint)
        items = kind.value_type if use.lists and pa.types.is_list(kind) else kind
        if use.text and pa.types.is_binary(items):
            hint = "write it as text, or as a number"
            raise ConfigError(file, use.key, "column is bytes, not text", use.column, hint)
        if use.lists and pa.types.is_nested(items):
            hint = "name a column of lists, or of text with a separator"
            raise ConfigError(file, use.key, f"column is {kind}, not lists", use.column, hint)
        if pa.types.is_nested(items):
            # For a feature the table of its learner, else any.
            table = use.key.rpartition(".features")[0] or "learner"
            hint = f"put lists of values into {table}.features.multi_valued"
            fact = f"column is {type_name(kind)}, not one value a row"
            raise ConfigError(file, use.key, fact, use.column, hint)
    for use in uses:
        kind = head.columns[use.column]
        if use.numeric and use.column in head.empty:
            fact = "column has no value in any file, so its type is not known"
            raise ConfigError(file, use.key, fact, hint="declare its type in impressions.types")
        if (
            use.numeric
            # What CSV does not declare is read as the number that it is to be.
            and (head.format != "csv" or use.column in head.stream.types)
            and not is_number(kind)
        ):
            raise ConfigError(
                file, use.key, f"column is {type_name(kind)}, not a number",
                hint="make it categorical, or declare its type under impressions.types",
            )  # fmt: skip


def check_sampling(file: str, sampling: SamplingPlan, types: pa.Schema) -> None:
    """Check that sampling works with the types of its columns, by sampling zero rows.

    Parameters
    ----------
    file
        The configuration file, for errors.
    sampling
        The plan.
    types
        The impression columns with the types in which they are read.

    Raises
    ------
    ConfigError
        If it does not, or if a value that has a rate is none of its column.
    """
    empty = [pa.array([], types.field(name).type) for name in sampling.columns]
    try:
        sampling.strata(pa.RecordBatch.from_arrays(empty, list(sampling.columns)))
    except ValueError as error:
        fact, _, hint = str(error).partition("; ")
        value = sampling.keep.text if sampling.keep else sampling.column
        raise ConfigError(file, "sampling.keep", fact, value, hint) from error
    if sampling.column is not None:
        for value in sampling.rates:
            _check_rate(file, sampling.column, value, types.field(sampling.column).type)


def check_filters(config: Config, train: TrainPlan, samples: pa.Schema) -> None:
    """Check that the filters of learners work with the types of the samples.

    Raises
    ------
    ConfigError
        If one does not.
    """
    for name, learner in train.learners.items():
        if learner.filter is None:
            continue
        try:
            learner.filter.evaluate(pa.RecordBatch.from_pylist([], samples))
        except ValueError as error:
            fact, _, hint = str(error).partition("; ")
            key = f"{config.learner_table(name)}.filter"
            raise ConfigError(config.file, key, fact, learner.filter.text, hint) from error


def check_tables(config: Config, train: TrainPlan) -> None:
    """Check that the algorithms of learners can have the tables that they are to have.

    Raises
    ------
    ConfigError
        If one cannot.
    """
    for name, learner in train.learners.items():
        if learner.table is not None and learner.kind.growing is None:
            key = f"{config.learner_table(name)}.table"
            fact = f"{learner.algorithm} can have no such table"
            raise ConfigError(config.file, key, fact, "exact", 'use "hashed"')


def _check_rate(file: str, column: str, value: str, kind: pa.DataType) -> None:
    """Check that a value that has a rate is written as the column's values are as text."""
    key = "sampling.negative_rate.values"
    try:
        written = pa.scalar(value).cast(kind).cast(pa.string()).as_py()
    except pa.ArrowNotImplementedError:
        return  # text of a type that Arrow does not read, such as a duration
    except pa.ArrowException as error:
        hint = f"name values of {column}, or declare its type in impressions.types"
        fact = f"{column} is {type_name(kind)}, and never this"
        raise ConfigError(file, key, fact, value, hint) from error
    if written != value:
        fact = f"{column} is {type_name(kind)}, and never written like this"
        hint = f'write "{written}"'
        raise ConfigError(file, key, fact, value, hint)


def added_columns(config: Config) -> tuple[str, ...]:
    """Return the columns that a sample has beside those of its impression, in order.

    Those of one that a guard holds back too.
    """
    join, sampling = config.join, config.sampling
    published = [f"weight_{name}" for name in sampling.publish]
    added = [*published, "event_time", "weight", "sampling_rate", "emission", "observed_for"]
    added += ["trigger"] * (join.emission != "window" or join.retention > 0)
    added += ["drawn_wait"] * (join.emission == "elapsed")
    added += [HELD_FOR, HELD_WHY] * bool(config.guard.action != "off" and config.named_learners)
    for name, action in config.actions.items():
        added += [name, *(f"{name}_{what}" for what in ("time", "count", "mature"))]
        added += [f"{name}_{column}" for column in action.columns]
    return tuple(added)


def check_sample_names(config: Config, columns: tuple[str, ...]) -> None:
    """Check that the columns of a sample, or of one that a guard holds back, have different names.

    Parameters
    ----------
    config
        The configuration.
    columns
        The columns of an impression.

    Raises
    ------
    ConfigError
        For the first name that occurs twice or is reserved.
    """
    carried = {
        f"{name}_{column}": f"actions.{name}.columns"
        for name, action in config.actions.items()
        for column in action.columns
    }
    taken = set(columns)
    for name in added_columns(config):
        if name.startswith(RESERVED_PREFIX):
            fact = f"a stream's name cannot start with {RESERVED_PREFIX}"
            raise ConfigError(config.file, "actions", fact, name)
        if name in taken:
            key = "impressions.columns"
            hint = "list the impression columns to carry without it, or rename the action stream"
            if name not in columns:
                key = carried.get(name, "actions")
                hint = "leave out the column that would have this name, or rename the action stream"
            fact = "the sample would have two columns of one name"
            raise ConfigError(config.file, key, fact, name, hint)
        taken.add(name)
