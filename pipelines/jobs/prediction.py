"""A published model, loaded for prediction."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from pathlib import Path
from typing import Any

import narwhals as nw
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headrace.joiner.plan.sampling import SamplingPlan
from headrace.learners.delays import corrected
from headrace.learners.features import FeatureEncoder
from headrace.learners.learner import Learner, probability
from headrace.learners.registry import ALGORITHMS, Algorithms
from headrace.learners.snapshot import load_snapshot
from headrace.pipelines.run.remote import Address, place_of
from headrace.pipelines.sources.plans import features_plan, sampling_plan
from headrace.schemas.config.models import Delay, FeaturesConfig, SamplingConfig
from headrace.schemas.errors import SnapshotError, TableError
from headrace.schemas.types import (
    JSON,
    carried_type,
    is_number,
    parse_type,
    type_name,
)


class Model:
    """A model that a run published, with the features that it was learned from.

    Made by `load_model`.

    Parameters
    ----------
    learner
        The learner.
    manifest
        The manifest of its snapshot.

    Attributes
    ----------
    name, label
        Name of the learner, and of the label that it predicts.
    columns
        Columns that a table must have.
    manifest
        Manifest of the snapshot: configuration, sources and their positions.
    """

    def __init__(self, learner: Learner, manifest: dict[str, Any]) -> None:
        self.learner, self.manifest = learner, manifest
        self.name: str = manifest["learner"]
        table = manifest["config"]["learners"][self.name]
        self.label: str = table["label"]
        features = features_plan(FeaturesConfig.model_validate(table["features"]))
        self.encoder = FeatureEncoder(features, learner.bits)
        sampling = SamplingConfig.model_validate(manifest["config"]["sampling"])
        self.recalibrated: SamplingPlan | None = None
        if sampling.correction == "recalibrate":
            self.recalibrated = sampling_plan(sampling)
        needed = self.recalibrated.columns if self.recalibrated is not None else ()
        self.offset: str | None = table.get("offset")
        self.delay: Delay | None = table.get("delay")
        given = () if self.offset is None else (self.offset,)
        self.columns: tuple[str, ...] = tuple(dict.fromkeys((*features.columns, *needed, *given)))

    def predict_proba(self, table: Any) -> npt.NDArray[np.float64]:
        """Predict for the whole log, corrected for the negatives that sampling dropped.

        Parameters
        ----------
        table
            A table of Arrow, pandas or polars; columns other than `columns` are ignored.

        Returns
        -------
        array
            Probability that the label of each row is true, float64, shape (n,); NaN where the
            learner's offset is missing.

        Raises
        ------
        TableError
            If a column is missing, or not of the type that it has in the log.
        """
        batch = self._batch(table)
        margin = self.learner.predict(self.encoder.encode(batch))
        if self.offset is not None:
            given = batch.column(self.offset).cast(pa.float64(), safe=False)
            margin = margin + given.to_numpy(zero_copy_only=False)
        if self.recalibrated is not None:
            # As progressive predictions are, see `headrace.learners.learning`.
            margin = margin + np.log(self.recalibrated.strata(batch).rates)
        return probability(corrected(self.delay, margin))

    def _batch(self, table: Any) -> pa.RecordBatch:
        if isinstance(table, pa.RecordBatch):
            table = pa.Table.from_batches([table])
        frame = nw.from_native(table, eager_only=True)
        missing = [name for name in self.columns if name not in frame.columns]
        if missing:
            raise TableError.among(missing[0], frame.columns, self.columns)
        arrow = frame.select(list(self.columns)).to_arrow().combine_chunks()
        learned = self.manifest["columns"]
        columns = [_as_learned(name, arrow.column(name), learned.get(name, ""))
                   for name in self.columns]  # fmt: skip
        return pa.RecordBatch.from_arrays(columns, list(self.columns))


def _as_learned(name: str, column: pa.ChunkedArray, learned: str) -> pa.Array:
    """Return a column as one array of the type of the log, for values hash by their type."""
    whole = column.combine_chunks()
    whole = whole.chunk(0) if isinstance(whole, pa.ChunkedArray) else whole
    if pa.types.is_dictionary(whole.type):
        whole = whole.dictionary_decode()
    kind = carried_type(whole.type)
    whole = whole.storage if kind == JSON else whole.cast(kind)
    expected = _type(learned)
    if kind == expected or type_name(kind) == learned or not learned:
        return whole
    if expected is not None:
        if pa.types.is_null(kind):
            return pa.nulls(len(whole), expected)
        with contextlib.suppress(pa.ArrowInvalid):
            # pandas has whole numbers beside nulls as fractions, and other widths are no
            # difference; nor is a fraction that is a decimal.
            if is_number(kind) and is_number(expected) and not pa.types.is_boolean(kind):
                fraction = pa.types.is_decimal(expected) and expected.scale > 0
                return whole.cast(pa.float64() if fraction else expected)
            if pa.types.is_timestamp(kind) and pa.types.is_timestamp(expected):
                return whole.cast(expected)
        if pa.types.is_list(kind) and pa.types.is_list(expected):
            return whole
    raise TableError(
        f"column {name} must be {learned}, as in the log (got {whole.type}); convert it"
    )


def _type(name: str) -> pa.DataType | None:
    """Return the type of a table that has what `type_name` named; None if no name is known."""
    for parse in (parse_type, pa.type_for_alias):
        with contextlib.suppress(ValueError):
            return carried_type(parse(name))
    return None


def load_model(path: str | Path | Address, algorithms: Algorithms = ALGORITHMS) -> Model:
    """Read a model that a replay published.

    Parameters
    ----------
    path
        Its folder, ``model/NAME/snapshot-N`` of a result, or a folder above with no other
        model in it; also of a result elsewhere, such as ``s3://bucket/result/model/click``.
    algorithms
        The algorithms that it may have.

    Raises
    ------
    SnapshotError
        If there is no model, or more than one; if it is damaged or of an unknown version.
    """
    folder = place_of(path)
    if isinstance(folder, Address):
        return _fetched(folder, algorithms)
    if not (folder / "manifest.json").exists():
        found = sorted(inner.parent for inner in folder.glob("**/manifest.json"))
        if len(found) != 1:
            names = ", ".join(str(inner.relative_to(folder)) for inner in found)
            raise SnapshotError(
                f"{folder}: expected one model (got {names or 'none'}); "
                "name the folder of one, such as result/model/click"
            )
        (folder,) = found
    learner, manifest = load_snapshot(folder, algorithms)
    return Model(learner, manifest)


def _fetched(place: Address, algorithms: Algorithms) -> Model:
    with tempfile.TemporaryDirectory(prefix="headrace-") as scratch:
        for name, source in place.files().items():
            # Of a whole result all but the models would be fetched in vain.
            if "manifest.json" in name or "arrays.arrow" in name:
                path = Path(scratch, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                with source.open() as stream, path.open("wb") as file:
                    shutil.copyfileobj(stream, file)
        try:
            return load_model(scratch, algorithms)
        except SnapshotError as error:
            raise SnapshotError(str(error).replace(scratch, str(place))) from error
