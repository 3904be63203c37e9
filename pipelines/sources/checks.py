"""Checks of a configuration against the columns that there are."""

from __future__ import annotations

import re

import pyarrow as pa

from headrace.joiner.plan.plans import JoinPlan
from headrace.joiner.plan.sampling import SamplingPlan
from headrace.pipelines.sources.heads import Head, known_columns
from headrace.pipelines.sources.uses import Use
from headrace.schemas.errors import ConfigError


def check_uses(file: str, uses: list[Use], head: Head, available: set[str]) -> None:
    """Check that what other tables say of impression columns holds.

    Parameters
    ----------
    file
        The configuration file, for errors.
    uses
        From `headrace.pipelines.sources.uses.impression_uses`.
    head
        Of the impressions.
    available
        Columns that travel: all but the time column.

    Raises
    ------
    ConfigError
        For the first use of a column that is not there or of another kind.
    """
    for use in uses:
        if use.column not in head.columns:
            known = known_columns(head.columns)
            raise ConfigError(file, use.key, "no such impression column", use.column, known)
        if use.column not in available:
            fact = "the time column cannot be used here"
            raise ConfigError(file, use.key, fact, use.column)
        kind = head.columns[use.column]
        if pa.types.is_nested(kind) and not use.lists:
            # Of a learner's own column it is its own table, else any will do.
            table = use.key.rpartition(".features")[0] or "learner"
            hint = f"lists of values go into {table}.features.multi_valued"
            fact = f"column is {kind}, not one value a row"
            raise ConfigError(file, use.key, fact, use.column, hint)
    for use in uses:
        kind = head.columns[use.column]
        if (
            use.numeric
            and head.format != "csv"
            and not (
                pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
            )
        ):
            raise ConfigError(
                file, use.key, f"column is {kind}, not a number",
                hint="make it categorical, or declare its type under impressions.types",
            )  # fmt: skip


def check_sampling(file: str, sampling: SamplingPlan, head: Head) -> None:
    """Choose among no rows at all, as the join chooses among its own.

    Raises
    ------
    ConfigError
        If that cannot be done with columns of these types.
    """
    nothing = [pa.array([], head.columns[name]) for name in sampling.columns]
    try:
        sampling.strata(pa.RecordBatch.from_arrays(nothing, list(sampling.columns)))
    except ValueError as error:
        fact, _, hint = str(error).partition("; ")
        value = sampling.keep.text if sampling.keep else sampling.column
        raise ConfigError(file, "sampling.keep", fact, value, hint) from error


def check_sample_names(file: str, join: JoinPlan) -> None:
    """Check that no two columns of a sample have one name.

    Raises
    ------
    ConfigError
        For the first name that is taken, or reserved.
    """
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
