"""Statistics by window in the folder of a run: written by a replay, read of any run."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from headrace.monitoring.figures import logit_bins
from headrace.monitoring.guard import GUARD, GUARD_SCHEMA
from headrace.monitoring.statistics import STATISTICS_SCHEMA, Floats
from headrace.pipelines.jobs.status import read_status
from headrace.pipelines.run.disk import describe, writing
from headrace.pipelines.run.place import STATISTICS_FILE
from headrace.pipelines.run.seal import SUMMARY
from headrace.pipelines.sinks.liveoutputs import STATISTICS
from headrace.pipelines.training.job import Finished
from headrace.schemas.config.durations import SECOND
from headrace.schemas.errors import FolderError

_BINS = b"headrace.logit_bins"
"""Name of the counts by log-odds among the metadata of the file: they are not kept by window."""


def write_statistics(path: Path, finished: Finished) -> dict[str, Any]:
    """Write the statistics of a replay in the order in which a live run does; return their entry.

    That is for the inventory of a result, see `headrace.pipelines.sinks.outputs.Inventory`.
    """
    kinds = {
        "learned": finished.statistics, "served": finished.served,
        "calibrated": finished.calibrated,
    }  # fmt: skip
    parts = [
        statistics.table(learner, predicted)
        for predicted, by_learner in kinds.items()
        for learner, statistics in by_learner.items()
    ]
    rows = pa.concat_tables([STATISTICS_SCHEMA.empty_table(), *parts])
    order = pc.sort_indices(rows, [("window", "ascending")])  # stable
    bins = [
        [learner, predicted, logit_bins(statistics.bins).tolist()]
        for predicted, by_learner in kinds.items()
        for learner, statistics in by_learner.items()
    ]
    rows = rows.replace_schema_metadata({_BINS: json.dumps(bins)})
    with writing(path):
        pq.write_table(rows.take(order).combine_chunks(), path, compression="lz4")
    return {**describe(path), "rows": rows.num_rows}


@dataclass(frozen=True)
class Recorded:
    """What a run has recorded by window.

    Parameters
    ----------
    rows
        In `STATISTICS_SCHEMA`; of a run that goes on, the windows that are complete.
    window
        Length of a window, microseconds.
    labels
        The action stream that each learner predicts.
    outcomes
        Records by stream and outcome.
    samples
        Samples that were put in order.
    bins
        Weight of negatives and of positives by log-odds, by learner and kind of prediction, see
        `headrace.monitoring.figures.Predictions`.
    journal
        What guards decided, in order; empty if nothing is guarded.
    """

    rows: pa.Table
    window: int
    labels: dict[str, str]
    outcomes: dict[str, dict[str, int]]
    samples: int
    bins: dict[tuple[str, str], Floats]
    journal: pa.Table


def read_recorded(folder: Path) -> Recorded:
    """Return what a replay, or a run that goes on, has recorded by window.

    Raises
    ------
    FolderError
        If there is neither in the folder, or one of another version.
    """
    try:
        return _of_replay(folder) if (folder / SUMMARY).exists() else _of_live(folder)
    except FileNotFoundError as error:
        fact = f"has no {STATISTICS_FILE}"
        raise FolderError(folder, fact, "replay the log again with this version") from error
    except (OSError, pa.ArrowException, ValueError, KeyError) as error:
        fact = f"cannot be read ({str(error).splitlines()[0]})"
        raise FolderError(folder, fact, "replay the log again") from error


def _of_replay(folder: Path) -> Recorded:
    summary: dict[str, Any] = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
    rows = pq.read_table(folder / STATISTICS_FILE)
    metadata = rows.schema.metadata or {}
    if rows.schema.names != STATISTICS_SCHEMA.names or _BINS not in metadata:
        hint = "replay the log again with this version"
        raise FolderError(folder / STATISTICS_FILE, "is of another version", hint)
    return Recorded(
        rows,
        round(summary["window_s"] * SECOND),
        {name: learner["label"] for name, learner in summary["learners"].items()},
        summary["outcomes"],
        summary["samples"]["rows"],
        {(of, kind): np.array(bins) for of, kind, bins in json.loads(metadata[_BINS])},
        _journal(folder),
    )


def _of_live(folder: Path) -> Recorded:
    figures = read_status(folder)["figures"]
    if figures is None:
        raise FolderError(folder, "has no figures yet", "wait until the run has read something")
    return Recorded(
        ds.dataset(folder / STATISTICS, schema=STATISTICS_SCHEMA, format="parquet").to_table(),
        figures["window"],
        {of["learner"]: of["label"] for of in figures["predictions"]},
        figures["outcomes"],
        figures["samples"],
        {(of["learner"], of["predicted"]): np.array(of["bins"]) for of in figures["predictions"]},
        _journal(folder),
    )


def _journal(folder: Path) -> pa.Table:
    if not (folder / GUARD).exists():
        return GUARD_SCHEMA.empty_table()
    return ds.dataset(folder / GUARD, schema=GUARD_SCHEMA, format="parquet").to_table()
