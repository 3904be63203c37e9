"""The outputs of a replay, each a folder of Parquet files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from headrace.joiner.plan.plans import JoinPlan
from headrace.joiner.samples.joined import joined_schema
from headrace.joiner.samples.rows import sample_schema
from headrace.monitoring.guard import GUARD, GUARD_SCHEMA, QUARANTINE, quarantine_schema
from headrace.pipelines.run.place import LETTERS, Place
from headrace.pipelines.sinks.encoding import Distinct
from headrace.pipelines.sinks.parquet import LETTER_FILE_ROWS, ParquetFolder
from headrace.pipelines.sources.inputs import Inputs
from headrace.pipelines.sources.letters import PLACED_LETTERS
from headrace.schemas.records.envelope import CORRECTIONS, JOINED
from headrace.schemas.records.events import IMPRESSIONS, PLACE

SAMPLES = "samples"
"""Name and folder of the samples."""

Inventory = dict[str, dict[str, Any]]
"""``bytes``, ``sha256`` and ``rows`` of files, by their path in the result."""


def open_outputs(place: Place, inputs: Inputs) -> dict[str, ParquetFolder]:
    """Open the folders that a run writes, by name.

    Parameters
    ----------
    place
        The folder of the replay.
    inputs
        The job, which decides what outputs there are.
    """
    distinct = distinct_columns(inputs.join)
    folders = {
        name: ParquetFolder(place.result / name, schema, distinct)
        for name, schema in schemas_of(inputs).items()
    }
    # Unsorted; `sort_letters` writes them to the result at the end.
    folders[LETTERS] = ParquetFolder(
        place.partial / LETTERS, PLACED_LETTERS, Distinct(texts=("record", PLACE)), LETTER_FILE_ROWS
    )
    return folders


def distinct_columns(join: JoinPlan) -> Distinct:
    """Return the columns of samples of which nearly all values differ."""
    return Distinct(keys=join.columns[: join.keys], times=("event_time",))


def schemas_of(inputs: Inputs) -> dict[str, pa.Schema]:
    """Return the schemas of the outputs of samples and of what leaves beside, by folder."""
    join, types = inputs.join, inputs.schema_of(IMPRESSIONS)
    samples = sample_schema(join, types)
    others = {
        f"{JOINED}{stream}": joined_schema(join, action, types)
        for stream, action in enumerate(join.actions)
    }
    others |= {GUARD: GUARD_SCHEMA, QUARANTINE: quarantine_schema(samples)}
    beside = folders_beside(inputs).items()
    return {SAMPLES: samples, **{name: others.get(kind, samples) for kind, name in beside}}


def folders_beside(inputs: Inputs) -> dict[str, str]:
    """Return the folders of rows that leave beside samples, by the names of the outputs."""
    join = inputs.join
    folders = {CORRECTIONS: "corrections"} if join.retention else {}
    if join.joined:
        for stream, action in enumerate(join.actions):
            folders[f"{JOINED}{stream}"] = f"joined/{action.name}"
    if inputs.guard is not None:
        folders |= {GUARD: GUARD, QUARANTINE: QUARANTINE}
    return folders


def inventory_of(folders: Mapping[str, ParquetFolder]) -> Inventory:
    """Return the entries of every file of a result, from when it was written."""
    return {
        f"{name}/{part}": noted
        for name, files in folders.items()
        if name != LETTERS
        for part, noted in files.inventory.items()
    }
