"""What a learner has learned of single features: their weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from headrace.learners.exact import CODE_BITS, ExactLearner
from headrace.learners.features import FeatureRows
from headrace.learners.learner import Floats, Learner
from headrace.learners.models.probit import ProbitModel
from headrace.learners.models.small import SmallModel
from headrace.schemas.records.hashing import Int64s

_PART = 1 << 20

Indices = npt.NDArray[np.unsignedinteger[Any]]
"""uint32, or the uint64 codes of an exact table."""


def feature_weights(learner: Learner, indices: Indices) -> Floats:
    """Return the weights of features by their indices, float64, shape (n,).

    It is the log-odds of the feature alone, with the value 1: of a linear learner its weight,
    of a factorisation machine the linear part. Of the probit it is the mean of the weight. In
    an exact table indices are codes; one that is not admitted has the weight 0.
    """
    return feature_effects(learner, _alone(indices, np.empty(0, np.float32)))


def feature_effects(learner: Learner, rows: FeatureRows) -> Floats:
    """Return weight times value of each feature, as the learner rounds it, shape (starts[n],)."""
    if isinstance(learner, ExactLearner):
        located, places = counting_features(learner, rows)
        effects = np.zeros(rows.indices.size)
        effects[places] = feature_effects(learner.model, located)
        return effects
    if isinstance(learner, SmallModel):
        return learner.sums(_alone(rows.indices, rows.values))
    if isinstance(learner, ProbitModel):
        means = learner.beliefs[rows.indices, 0].astype(np.float64)
        return means * rows.values if rows.values.size else means
    return learner.predict(_alone(rows.indices, rows.values))


def counting_features(learner: ExactLearner, rows: FeatureRows) -> tuple[FeatureRows, Int64s]:
    """Return rows of coordinates, of the features that count, and the place of each in `rows`."""
    located = learner.located(rows)
    assert located.source is not None, "rows of an exact table are taken from others"
    return located, located.source[1]


def touched_weights(learner: Learner) -> Iterator[tuple[Indices, Floats]]:
    """Yield index and weight of the coordinates that were ever learned, a part at a time.

    Of an exact table the codes of admitted features, ascending. Of a learner that does not export
    an ``index`` those whose weight is not 0.
    """
    exported = learner.export()
    touched: Indices | None = exported.get("index")
    if learner.bits == CODE_BITS:
        touched = np.sort(exported["code"])
    indices = np.arange(1 << learner.bits, dtype=np.uint32) if touched is None else touched
    for begin in range(0, indices.size, _PART):
        part = indices[begin : begin + _PART]
        weights = feature_weights(learner, part)
        kept = slice(None) if touched is not None else weights != 0
        yield part[kept], weights[kept]


def _alone(indices: Indices, values: npt.NDArray[np.float32]) -> FeatureRows:
    return FeatureRows(np.arange(indices.size + 1, dtype=np.int64), indices, values)
