"""The outputs of a run that does not end, each a folder of Parquet files by epoch and hour."""

from __future__ import annotations

from pathlib import Path

from headrace.monitoring.statistics import STATISTICS_SCHEMA
from headrace.pipelines.run.place import LETTERS
from headrace.pipelines.sinks.completion import Completion
from headrace.pipelines.sinks.encoding import RECORDS
from headrace.pipelines.sinks.epochs import EpochFolder
from headrace.pipelines.sinks.hours import HourFolder
from headrace.pipelines.sinks.lettersort import DEAD_LETTERS
from headrace.pipelines.sinks.liveletters import LetterFolder
from headrace.pipelines.sinks.outputs import distinct_columns, schemas_of
from headrace.pipelines.sinks.sink import LiveSink
from headrace.pipelines.sources.inputs import Inputs
from headrace.schemas.records.events import DEAD_LETTER_SCHEMA

STATISTICS = "statistics"
"""Name and folder of the statistics of closed windows."""


def open_live_outputs(out: Path, inputs: Inputs, window: int) -> dict[str, LiveSink]:
    """Open the folders that a run writes, by name.

    Parameters
    ----------
    out
        The folder of the run; it must exist.
    inputs
        The job, which decides what outputs there are.
    window
        Length of a window of the statistics, microseconds.

    Raises
    ------
    FolderError, OutputError
        If one of them cannot be written to, or has files of another run.
    """
    schemas, distinct = schemas_of(inputs), distinct_columns(inputs.join)
    completion = Completion(out, outputs=[*schemas, STATISTICS, DEAD_LETTERS])
    sinks: dict[str, LiveSink] = {
        name: EpochFolder(
            HourFolder(out / name, schema, distinct), inputs.join.epoch, completion, name
        )
        for name, schema in schemas.items()
    }
    files = HourFolder(out / STATISTICS, STATISTICS_SCHEMA)
    sinks[STATISTICS] = EpochFolder(files, window, completion, STATISTICS)
    files = HourFolder(out / DEAD_LETTERS, DEAD_LETTER_SCHEMA, RECORDS)
    sinks[LETTERS] = LetterFolder(files, completion, DEAD_LETTERS)
    return sinks
