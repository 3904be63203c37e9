"""A published model, loaded for prediction."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import narwhals as nw
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headrace.joiner.plan.sampling import SamplingPlan
from headrace.learners.calibration import CalibrationMap
from headrace.learners.delays import Delay, corrected
from headrace.learners.features import FeatureEncoder, FeatureRows
from headrace.learners.learner import Learner, probability
from headrace.learners.position import as_log_theta, log_theta_of
from headrace.learners.registry import ALGORITHMS, Algorithms
from headrace.learners.snapshot import load_snapshot, model_folder
from headrace.learners.uncertainty import uncertainty_of
from headrace.pipelines.run.remote import Address, first_line, place_of
from headrace.pipelines.sources.plans import learned_features, sampling_plan
from headrace.pipelines.sources.rowfiles import Needed
from headrace.schemas.config.models import (
    PositionConfig,
    SamplingConfig,
)
from headrace.schemas.errors import DamagedError, SnapshotError, TableError
from headrace.schemas.records.restored import Text, checked, restoring
from headrace.schemas.records.signatures import Signer
from headrace.schemas.types import (
    JSON,
    carried_type,
    is_number,
    parse_type,
    type_name,
)


@dataclass(frozen=True)
class Prediction:
    """Rows as a model takes them, and what it predicts of them.

    Parameters
    ----------
    batch
        The model's columns, of the types that they have in the log, n rows.
    features
        Their features.
    own
        The learner's own log-odds, float64, shape (n,).
    offset, position, shift, delay, calibration
        What is added to them: the offset, log theta of the position if it is to count, the
        correction for sampling, that for delayed actions, and the calibration; each float64,
        shape (n,), or None if the model has none.
    margin
        The log-odds of the predictions, float64, shape (n,).
    """

    batch: pa.RecordBatch
    features: FeatureRows
    own: npt.NDArray[np.float64]
    offset: npt.NDArray[np.float64] | None
    position: npt.NDArray[np.float64] | None
    shift: npt.NDArray[np.float64] | None
    delay: npt.NDArray[np.float64] | None
    calibration: npt.NDArray[np.float64] | None
    margin: npt.NDArray[np.float64]

    @property
    def p(self) -> npt.NDArray[np.float64]:
        """The probabilities, as `Model.predict_proba` returns them, float64, shape (n,)."""
        return probability(self.margin)


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
        checked(dict[Text, Text], manifest["columns"], "columns")
        checked(dict[Text, Any], manifest["config"]["impressions"], "impressions")
        self.name: str = checked(Text, manifest["learner"], "learner")
        table = manifest["config"]["learners"][self.name]
        self.label: str = checked(Text, table["label"], "label")
        features = learned_features(manifest)
        self.encoder = FeatureEncoder(features, learner.bits)
        sampling = SamplingConfig.model_validate(manifest["config"]["sampling"])
        self.recalibrated: SamplingPlan | None = None
        if sampling.correction == "recalibrate":
            self.recalibrated = sampling_plan(sampling)
        needed = self.recalibrated.columns if self.recalibrated is not None else ()
        self.offset: str | None = checked(Text | None, table.get("offset"), "offset")
        self.position: PositionConfig | None = None
        if table.get("position") is not None:
            self.position = PositionConfig.model_validate(table["position"])
        self.delay: Delay | None = checked(Delay | None, table.get("delay"), "delay")
        self.calibration: CalibrationMap | None = None
        if "calibration" in manifest:
            self.calibration = CalibrationMap.from_json(manifest["calibration"])
        by = self.calibration.by if self.calibration is not None else None
        given = tuple(name for name in (self.offset, by) if name is not None)
        features_columns = features.columns
        if self.position is not None and self.position.method == "feature":
            features_columns = tuple(
                name for name in features_columns if name != self.position.column
            )
        self.columns: tuple[str, ...] = tuple(dict.fromkeys((*features_columns, *needed, *given)))

    @property
    def theta(self) -> tuple[float | None, ...]:
        """Probability that positions are examined, from 1 on, given or over that of position 1.

        None where it is not known; empty without a correction, or before anything is known.
        """
        if self.position is None:
            return ()
        return tuple(self.position.theta or self.manifest.get("theta") or ())

    @property
    def needed(self) -> Needed:
        """What it needs of files of rows, for `headrace.pipelines.sources.rowfiles`."""
        types = {name: _written_type(self.manifest["columns"].get(name, ""))
                 for name in self.columns}  # fmt: skip
        if self.offset is not None:
            types[self.offset] = types[self.offset] or pa.float64()
        also = {}
        if self.position is not None:
            written = _written_type(self.manifest["columns"].get(self.position.column, ""))
            also[self.position.column] = written or pa.float64()
        return Needed(types, self.manifest["config"]["impressions"], also)

    def predict_proba(self, table: Any, *, as_shown: bool = False) -> npt.NDArray[np.float64]:
        """Predict for the whole log, corrected for the negatives that sampling dropped.

        A model that is corrected for positions predicts for rows that are examined.

        Parameters
        ----------
        table
            A table of Arrow, pandas or polars; columns other than `columns` are ignored.
        as_shown
            Predict for the position of each row instead. Then its column is needed too.

        Returns
        -------
        array
            Probability that the label of each row is true, float64, shape (n,); NaN where the
            learner's offset is missing, or theta of its position if that counts.

        Raises
        ------
        TableError
            If a column is missing, or not of the type that it has in the log.
        """
        return self.prepare(table, as_shown=as_shown).p

    def prepare(self, table: Any, *, as_shown: bool = False) -> Prediction:
        """Predict like `predict_proba`, and keep what the predictions were made from."""
        of_rows = self._batch(table, as_shown)
        batch = of_rows if as_shown else self._moved(of_rows)
        features = self.encoder.encode(batch)
        offset, shift = self._offset(batch), self._shift(of_rows)
        position = self._log_theta(batch) if as_shown else None
        own = margin = self.learner.predict(features)
        for part in (offset, position, shift):
            margin = margin if part is None else margin + part
        shifted, margin = margin, corrected(self.delay, margin)
        delay = None if margin is shifted else margin - shifted
        calibration = None
        if self.calibration is not None:
            calibration = self.calibration.apply(margin, batch) - margin
            margin = margin + calibration
        return Prediction(batch, features, own, offset, position, shift, delay, calibration, margin)

    @property
    def tells_uncertainty(self) -> bool:
        """Whether the learner tells how uncertain it is of a row."""
        return uncertainty_of(self.learner) is not None

    def uncertainty(self, prediction: Prediction) -> npt.NDArray[np.float64] | None:
        """Return how uncertain the learner is of each row, (n,); None if it does not tell."""
        told = uncertainty_of(self.learner)
        return None if told is None else told(prediction.features)

    def _moved(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return rows as at the position for which a model with that feature predicts."""
        if self.position is None or self.position.method != "feature":
            return batch
        name = self.position.column
        kind = _type(self.manifest["columns"].get(name, "")) or pa.int64()
        at = pa.repeat(pa.scalar(self.position.at).cast(kind), batch.num_rows)
        place = batch.schema.get_field_index(name)
        if place < 0:
            return batch.append_column(name, at)
        return batch.set_column(place, name, at)

    def _log_theta(self, batch: pa.RecordBatch) -> npt.NDArray[np.float64] | None:
        if self.position is None or self.position.method == "feature":
            return None
        column = batch.column(self.position.column).cast(pa.float64(), safe=False)
        position = column.to_numpy(zero_copy_only=False)
        return log_theta_of(as_log_theta(self.theta), position)

    def _offset(self, batch: pa.RecordBatch) -> npt.NDArray[np.float64] | None:
        if self.offset is None:
            return None
        column = batch.column(self.offset)
        if not (is_number(column.type) or pa.types.is_null(column.type)):
            raise TableError(
                f"column {self.offset} must be a number, as it is the learner's offset (got "
                f"{column.type}); convert it"
            )
        offset: npt.NDArray[np.float64] = column.cast(pa.float64(), safe=False).to_numpy(
            zero_copy_only=False
        )
        return offset

    def _shift(self, batch: pa.RecordBatch) -> npt.NDArray[np.float64] | None:
        if self.recalibrated is None:
            return None
        try:
            # As progressive predictions are, see `headrace.learners.learning`.
            shift: npt.NDArray[np.float64] = np.log(self.recalibrated.strata(batch).rates)
        except ValueError as error:
            raise TableError(f"the sampling rate of rows is not known: {error}") from error
        return shift

    def _batch(self, table: Any, as_shown: bool) -> pa.RecordBatch:
        columns = self.columns
        if as_shown and self.position is not None:
            columns = tuple(dict.fromkeys((*columns, self.position.column)))
        if isinstance(table, pa.RecordBatch):
            table = pa.Table.from_batches([table])
        try:
            frame = nw.from_native(table, eager_only=True)
        except TypeError as error:
            kind = type(table).__name__
            raise TableError(f"expected a table of Arrow, pandas or polars (got {kind})") from error
        missing = [name for name in columns if name not in frame.columns]
        if missing:
            raise TableError.among(missing[0], frame.columns, columns)
        arrow = frame.select(list(columns)).to_arrow().combine_chunks()
        learned = self.manifest["columns"]
        arrays = [_as_learned(name, arrow.column(name), learned.get(name, "")) for name in columns]
        return pa.RecordBatch.from_arrays(arrays, list(columns))


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


def _written_type(name: str) -> pa.DataType | None:
    """Return the type of a table that text is read as; None if text is never read as such."""
    kind = _type(name)
    with contextlib.suppress(ValueError):
        parse_type(name)
        return kind
    return kind if kind is not None and is_number(kind) else None


def load_model(
    path: str | Path | Address, algorithms: Algorithms = ALGORITHMS, key: str | None = None
) -> Model:
    """Read a model that a replay published.

    Parameters
    ----------
    path
        Its folder, ``model/NAME/snapshot-N`` of a result, or a folder above with no other
        model in it; also of a result elsewhere, such as ``s3://bucket/result/model/click``.
    algorithms
        The algorithms that it may have.
    key
        The secret of ``state.key`` with which it must have been signed; None for any model.

    Raises
    ------
    SnapshotError
        If there is no model, or more than one; if it is damaged, of an unknown version, or
        not signed with the key.
    """
    place = place_of(path)
    if isinstance(place, Address):
        return _fetched(place, algorithms, key)
    folder = model_folder(place)
    sign = None if key is None else Signer(key.encode())
    learner, manifest = load_snapshot(folder, algorithms, sign=sign)
    try:
        # The checksum does not cover the description of the run.
        with restoring("manifest.json"):
            return Model(learner, manifest)
    except DamagedError as error:
        raise SnapshotError(
            f"{folder}: manifest.json does not say from which columns the model was learned "
            f"({first_line(error)}); use another snapshot"
        ) from error


def _fetched(place: Address, algorithms: Algorithms, key: str | None) -> Model:
    with tempfile.TemporaryDirectory(prefix="headrace-") as scratch:
        for name, source in place.files().items():
            # Of a whole result all but the models would be fetched in vain.
            if "manifest.json" in name or "arrays.arrow" in name:
                if ".." in PurePosixPath(name).parts or name.startswith("/"):
                    raise SnapshotError(f"{place}: names a file of another folder ({name})")
                path = Path(scratch, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                with source.open() as stream, path.open("wb") as file:
                    shutil.copyfileobj(stream, file)
        try:
            return load_model(scratch, algorithms, key)
        except SnapshotError as error:
            raise SnapshotError(str(error).replace(scratch, str(place))) from error
