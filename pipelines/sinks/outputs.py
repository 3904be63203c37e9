"""The outputs of a replay, each a folder of Parquet files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from headrace.joiner.plan.plans import JoinPlan
from headrace.joiner.samples.joined import joined_schema
from headrace.joiner.samples.rows import sample_schema
from headrace.pipelines.run.place import LETTERS, Place
from headrace.pipelines.sinks.parquet import LETTER_FILE_ROWS, ParquetFolder
from headrace.pipelines.sources.letters import PLACED_LETTERS
from headrace.schemas.records.envelope import CORRECTIONS, JOINED
from headrace.schemas.records.events import PLACE

SAMPLES = "samples"
"""Name and folder of the samples."""

Ledger = dict[str, dict[str, Any]]
"""``bytes``, ``sha256`` and ``rows`` of files, by their path in the result."""


def open_outputs(place: Place, join: JoinPlan, types: pa.Schema) -> dict[str, ParquetFolder]:
    """Open the folders of a run, by name.

    Parameters
    ----------
    place
        The folder of the run.
    join
        The join, whose outputs they are.
    types
        Type of each impression column.
    """
    plain = (*join.columns[: join.keys], "event_time")
    samples = sample_schema(join, types)
    folders = {
        SAMPLES: ParquetFolder(place.result / SAMPLES, samples, plain),
        # As they come; they are sorted at the end.
        LETTERS: ParquetFolder(
            place.partial / LETTERS, PLACED_LETTERS, ("record", PLACE), LETTER_FILE_ROWS
        ),
    }
    schemas = {
        JOINED + str(stream): joined_schema(join, action, types)
        for stream, action in enumerate(join.actions)
    }
    for beside, name in folders_beside(join).items():
        schema = schemas.get(beside, samples)
        folders[name] = ParquetFolder(place.result / name, schema, plain)
    return folders


def folders_beside(join: JoinPlan) -> dict[str, str]:
    """Return the folder of what leaves beside samples, by its name in a `SampleEnvelope`."""
    folders = {CORRECTIONS: "corrections"} if join.retention else {}
    if join.joined:
        for stream, action in enumerate(join.actions):
            folders[f"{JOINED}{stream}"] = f"joined/{action.name}"
    return folders


def ledger_of(folders: Mapping[str, ParquetFolder]) -> Ledger:
    """Return what was noted of every file of a result when it was written."""
    return {
        f"{name}/{part}": noted
        for name, files in folders.items()
        if name != LETTERS
        for part, noted in files.ledger.items()
    }
