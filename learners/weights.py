"""What a learner has learned of single features: their weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from headrace.learners.features import FeatureRows
from headrace.learners.learner import Floats, Learner
from headrace.learners.models.probit import ProbitModel

_PART = 1 << 20

Indices = npt.NDArray[np.uint32]


def feature_weights(learner: Learner, indices: Indices) -> Floats:
    """Return the weights of features by their indices, float64, shape (n,).

    It is the log-odds of the feature alone, with the value 1: of a linear learner its weight,
    of a factorisation machine the linear part. Of the probit it is the mean of the weight.
    """
    if isinstance(learner, ProbitModel):
        return learner.beliefs[indices, 0].astype(np.float64)
    return learner.predict(_alone(indices, np.empty(0, np.float32)))


def feature_effects(learner: Learner, rows: FeatureRows) -> Floats:
    """Return weight times value of each feature, as the learner rounds it, shape (starts[n],)."""
    if isinstance(learner, ProbitModel):
        values = rows.values if rows.values.size else np.ones(rows.indices.size, np.float32)
        return feature_weights(learner, rows.indices) * values
    return learner.predict(_alone(rows.indices, rows.values))


def touched_weights(learner: Learner) -> Iterator[tuple[Indices, Floats]]:
    """Yield index and weight of the coordinates that were ever learned, a part at a time.

    Of a learner that does not export an ``index`` those whose weight is not 0.
    """
    exported = learner.export().get("index")
    touched: npt.NDArray[Any] = (
        np.arange(1 << learner.bits, dtype=np.uint32) if exported is None else exported
    )
    for begin in range(0, touched.size, _PART):
        part = touched[begin : begin + _PART].astype(np.uint32)
        weights = feature_weights(learner, part)
        kept = slice(None) if exported is not None else weights != 0
        yield part[kept], weights[kept]


def _alone(indices: Indices, values: npt.NDArray[np.float32]) -> FeatureRows:
    return FeatureRows(np.arange(indices.size + 1, dtype=np.int64), indices, values)
