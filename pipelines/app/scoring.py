"""Rows of files, predicted by a model: ``headrace score``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from headrace.learners.registry import ALGORITHMS, Algorithms
from headrace.pipelines.app.api import MOST_INVALID
from headrace.pipelines.app.tablefiles import check_table, written_table
from headrace.pipelines.jobs.explaining import top_contributions
from headrace.pipelines.jobs.prediction import Model, load_model
from headrace.pipelines.run.remote import Address, place_of
from headrace.pipelines.sources.rowfiles import RowsHead
from headrace.schemas.errors import ArgumentError, ConfigError
from headrace.schemas.records.badvalues import Counts, counted

ROWS = 1 << 15
"""About how many rows are read, predicted and written at a time; no prediction depends on it."""

ROWS_EXPLAINED = 1 << 11
"""As many with explanations: a row has a contribution for each pair of its features."""

_SHOWN = 120


@dataclass
class Scored:
    """What became of the rows of a file.

    Parameters
    ----------
    out
        The file that was written.
    rows
        How many rows were read.
    invalid
        Rows that could not be read, and are not in the file, by reason.
    examples
        The first of them of each reason.
    unknown
        Rows without a prediction, because the learner's offset is missing.
    bad_values
        Values that do not fit their column and count as null, by column and cause.
    """

    out: Path | Address
    rows: int = 0
    invalid: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    unknown: int = 0
    bad_values: Counts = field(default_factory=dict)

    @property
    def scored(self) -> int:
        """How many rows have a prediction."""
        return self.rows - self.invalid.total() - self.unknown

    @property
    def mostly_invalid(self) -> bool:
        """Whether more than a fifth of the rows is invalid."""
        return self.invalid.total() > MOST_INVALID * self.rows

    @property
    def findings(self) -> list[str]:
        """What needs attention, a sentence each."""
        found = [
            f"{count:,} of {self.rows:,} rows are {reason}, and left out (such as "
            f"{self.examples[reason]})"
            for reason, count in self.invalid.items()
        ]
        for column, causes in self.bad_values.items():
            for cause, values in causes.items():
                texts = ", ".join(values["examples"])
                found.append(
                    f"{values['count']:,} values of {column} are {cause} (such as {texts}), and "
                    "count as null"
                )
        if self.unknown:
            found.append(f"{self.unknown:,} rows have no score: the learner's offset is missing")
        return found


def score(
    model: str | Path | Address | Model,
    rows: str | Path,
    out: str | Path | Address,
    *,
    explain: int = 0,
    form: str | None = None,
    algorithms: Algorithms = ALGORITHMS,
    key: str | None = None,
) -> Scored:
    """Predict the rows of files, and write them with their predictions, in their order.

    Memory is bounded, however many rows there are. Rows that cannot be read are counted and
    left out.

    Parameters
    ----------
    model
        A model, or where `load_model` finds one.
    rows
        Files of Parquet, CSV or JSON lines: a path, a glob or a URI. Values are read as in the
        log that the model was learned from.
    out
        The file to write; its name ends in ``.parquet``, ``.csv`` or ``.jsonl``, of text also
        with ``.gz`` or ``.zst``. It has all columns of the rows; ``p``, the probability;
        ``margin``, its log-odds; and ``uncertainty``, if the learner tells it.
    explain
        Add a column ``why``, a list of the so many features that move the margin most, such as
        ``site=a:+0.31``. The intercept is not among them.
    form
        ``parquet``, ``csv`` or ``jsonl``, if the names of the files do not show it.
    algorithms, key
        See `load_model`.

    Raises
    ------
    ArgumentError
        If `explain` is less than 0.
    SnapshotError, TableError
        If there is no such model, or a column is missing or of another type.
    FolderError, OutputError
        If there is such a file already, or it cannot be written.
    ConfigError
        If the rows are not found, or their columns cannot be determined.
    UnreadableInputError
        If they can be read only in part; then nothing is written.
    """
    if explain < 0:
        raise ArgumentError("explain", explain, "must be 0 or more", "5 is usual")
    place = place_of(out)
    check_table(place)
    loaded = model if isinstance(model, Model) else load_model(model, algorithms, key)
    head = RowsHead(str(rows), form, loaded.needed)
    added = _added(loaded, explain)
    for name in added.names:
        if name in head.own:
            fact = f"has a column {name}, where the prediction would be"
            raise ConfigError(str(rows), "", fact, hint="rename it")
    columns = [(name, head.columns[name]) for name in head.own]
    schema = pa.schema([*columns, *added])
    found = Scored(place)
    with written_table(place, schema) as write:
        for batch in _batches(head, found, ROWS_EXPLAINED if explain else ROWS):
            prediction = loaded.prepare(batch)
            found.unknown += int(np.count_nonzero(np.isnan(prediction.margin)))
            more = {
                "p": prediction.p,
                "margin": prediction.margin,
                "uncertainty": loaded.uncertainty(prediction),
            }
            if explain:
                more["why"] = top_contributions(loaded, prediction, explain)
            arrays = [batch.column(name) for name in head.own]
            arrays += [pa.array(more[name], added.field(name).type, from_pandas=True)
                       for name in added.names]  # fmt: skip
            write(pa.RecordBatch.from_arrays(arrays, schema=schema))
    return found


def _added(model: Model, explain: int) -> pa.Schema:
    names = ["p", "margin"] + ["uncertainty"] * model.tells_uncertainty
    why = [("why", pa.list_(pa.string()))] if explain else []
    return pa.schema([*((name, pa.float64()) for name in names), *why])


def _batches(head: RowsHead, found: Scored, rows: int) -> Iterator[pa.RecordBatch]:
    """Read all files, and count what cannot be read."""
    for file in head.files_with_rows():
        for chunk in file.chunks(rows):
            records = chunk.records
            found.rows += len(records)
            found.bad_values = counted(found.bad_values, records.bad)
            for reject in records.rejects:
                found.invalid[reject.reason.value] += 1
                where = f"row {reject.number} of {file.name}, {reject.detail}"
                found.examples.setdefault(reject.reason.value, f"{where}: {reject.record[:_SHOWN]}")
            yield records.batch
