"""What the folder of a run has of one key: samples, joined actions, corrections, dead letters."""

from __future__ import annotations

import functools
import json
import operator
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from headrace.pipelines.jobs.keyjoin import has_key, text_in_record
from headrace.pipelines.jobs.runfolder import RunFolder
from headrace.pipelines.sinks.lettersort import DEAD_LETTERS
from headrace.schemas.errors import ArgumentError
from headrace.schemas.records.eventing import record_text
from headrace.schemas.types import type_name


def rows_of_key(run: RunFolder, output: str, key: Mapping[str, str]) -> pa.Table | None:
    """Return the rows of an output that have a key, in their order; None without such an output.

    Only row groups whose statistics admit the key are read.

    Parameters
    ----------
    run
        The folder.
    output
        Name of the output.
    key
        Values as texts, by key column.

    Raises
    ------
    ArgumentError
        If a value is not of the type of its column.
    FolderError
        If the output cannot be read.
    """
    rows = run.output(output)
    if rows is None:
        return None
    equal = [pc.field(name) == _value(rows.schema, name, text) for name, text in key.items()]
    with run.reading(run.folder / output):
        return rows.to_table(filter=functools.reduce(operator.and_, equal))


def _value(schema: pa.Schema, name: str, text: str) -> pa.Scalar:
    kind = schema.field(name).type
    try:
        return pa.scalar(text).cast(kind)
    except pa.ArrowException as error:
        fact = f"must be {type_name(kind)}, as {name} is"
        raise ArgumentError("KEY", text, fact, "give another value") from error


def letters_of_key(
    run: RunFolder, keys: Mapping[str, tuple[str, ...]], values: tuple[str, ...]
) -> list[dict[str, Any]]:
    """Return the dead letters whose record shows a key.

    Parameters
    ----------
    run
        The folder.
    keys
        The key columns of each stream, by its name; of streams that it lacks those of
        impressions.
    values
        The values as texts.
    """
    folder = run.folder / DEAD_LETTERS
    if not folder.is_dir():
        return []
    near = pc.match_substring(pc.field("record"), text_in_record(values[0]))
    with run.reading(folder):
        found = ds.dataset(folder, format="parquet").to_table(filter=near).to_pylist()
    return [
        row for row in found
        if has_key(row["record"], keys.get(row["stream"], keys["impressions"]), values)
    ]  # fmt: skip


def as_rows(table: pa.Table | None) -> list[dict[str, Any]]:
    """Return rows as JSON types."""
    return [
        json.loads(record_text(batch, row))
        for batch in ([] if table is None else table.to_batches())
        for row in range(batch.num_rows)
    ]


def emit_times(samples: pa.Table) -> list[int]:
    """Return the emit times of samples, microseconds."""
    shown = samples.column("event_time").cast(pa.int64())
    times: list[int] = pc.add(shown, samples.column("observed_for").cast(pa.int64())).to_pylist()
    return times
