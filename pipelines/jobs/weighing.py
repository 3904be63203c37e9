"""The largest weights of a model, with the names of the features that have them."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from headrace.learners.naming import feature_names
from headrace.learners.weights import touched_weights
from headrace.pipelines.jobs.prediction import Model
from headrace.pipelines.sources.rowfiles import RowsHead

_ROWS = 1 << 14


@dataclass(frozen=True)
class Weight:
    """A coordinate that was learned.

    Parameters
    ----------
    index
        Its number in the model.
    weight
        Of the probit the mean, of a factorisation machine the linear part.
    names
        The features that have this index, of the rows that were looked at: none if no row has
        one, several if their hashes collide.
    """

    index: int
    weight: float
    names: tuple[str, ...]


@dataclass(frozen=True)
class Weights:
    """The weights of a model.

    Parameters
    ----------
    largest
        Those of the greatest magnitude, the greatest first.
    coordinates, magnitude
        How many coordinates were learned, and the sum of the magnitudes of their weights.
    unnamed, unnamed_magnitude
        The same of those without a name.
    shared
        How many coordinates have several names.
    """

    largest: tuple[Weight, ...]
    coordinates: int
    magnitude: float
    unnamed: int
    unnamed_magnitude: float
    shared: int


def weigh(model: Model, rows: Iterable[pa.RecordBatch], top: int, like: str = "") -> Weights:
    """Return the largest weights of a model.

    Parameters
    ----------
    model
        The model.
    rows
        Rows from which names are taken, as `Model.predict_proba` takes them.
    top
        How many weights, 1 or more.
    like
        Only weights of which a name has this text in it.
    """
    parts = list(touched_weights(model.learner))
    index = np.concatenate([np.empty(0, np.uint32), *(part for part, _ in parts)])
    weight = np.concatenate([np.empty(0), *(part for _, part in parts)])
    order = np.argsort(index)
    index, weight = index[order], weight[order]
    names = _names(model, rows, index)
    place = names.column("place").to_numpy()
    counts = np.bincount(place, minlength=index.size)
    chosen = np.ones(index.size, np.bool_)
    if like:
        alike = pc.match_substring(names.column("name"), like).to_numpy(zero_copy_only=False)
        chosen = np.bincount(place[alike], minlength=index.size) > 0
    places = np.flatnonzero(chosen)
    # Of equal magnitudes the lower index comes first.
    largest = places[np.lexsort((places, -np.abs(weight[places])))][:top]
    magnitude = np.abs(weight)
    begins = np.cumsum(counts) - counts
    texts = names.column("name").combine_chunks()
    return Weights(
        tuple(
            Weight(
                int(index[at]),
                float(weight[at]),
                tuple(texts.slice(begins[at], counts[at]).to_pylist()),
            )
            for at in largest
        ),
        index.size,
        float(magnitude.sum()),
        int(np.count_nonzero(counts == 0)),
        float(magnitude[counts == 0].sum()),
        int(np.count_nonzero(counts > 1)),
    )


def _names(model: Model, rows: Iterable[pa.RecordBatch], index: npt.NDArray[np.uint32]) -> pa.Table:
    """Return each name once with the place of its index among those that were learned, sorted."""
    schema = pa.schema([("place", pa.int64()), ("name", pa.string())])
    known, news, fresh = schema.empty_table(), [], 0
    for batch in rows:
        # Of a position that is a feature all values were learned.
        shown = model.position is not None and model.position.column in batch.schema.names
        prepared = model.prepare(batch, as_shown=shown)
        found = prepared.features.indices
        place = np.searchsorted(index, found)
        learned = index.take(place, mode="clip") == found if index.size else place < 0
        names = feature_names(model.encoder.features, prepared.batch)
        mask = pa.array(learned)
        table = pa.table({"place": pa.array(place).filter(mask), "name": names.filter(mask)})
        news.append(_distinct(table))
        fresh += news[-1].num_rows
        # Not at every batch: it takes all that are known in hand.
        if fresh > known.num_rows:
            known, news, fresh = _distinct(pa.concat_tables([known, *news])), [], 0
    found = _distinct(pa.concat_tables([known, *news]))
    return found.sort_by([("place", "ascending"), ("name", "ascending")])


def _distinct(table: pa.Table) -> pa.Table:
    return table.group_by(["place", "name"], use_threads=False).aggregate([])


def rows_of(model: Model, pattern: str, form: str | None = None) -> Iterator[pa.RecordBatch]:
    """Read files of rows for their names; rows that cannot be read have none.

    Raises
    ------
    ConfigError, TableError
        See `headrace.pipelines.sources.rowfiles.RowsHead`.
    """
    head = RowsHead(pattern, form, model.needed)
    for file in head.files_with_rows():
        for chunk in file.chunks(_ROWS):
            yield chunk.records.batch


def samples_beside(folder: Path) -> str | None:
    """Return the samples of the result that has a model, as a pattern; None without any."""
    samples = Path(os.path.normpath(folder / "../../.."), "samples")
    pattern = f"{glob.escape(str(samples))}/**/*.parquet"
    return pattern if glob.glob(pattern, recursive=True) else None
