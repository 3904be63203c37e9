"""Which learners tell how little they know of a row."""

from __future__ import annotations

from collections.abc import Callable

from headrace.learners.exact import ExactLearner
from headrace.learners.features import FeatureRows
from headrace.learners.learner import Floats, Learner

Uncertainty = Callable[[FeatureRows], Floats]


def uncertainty_of(learner: Learner) -> Uncertainty | None:
    """Return what tells how uncertain a learner is of each row, float64, shape (n,).

    It is the learner's own ``uncertainty``; of an exact table that of its model, of the features
    that count. None if the learner has none.
    """
    if isinstance(learner, ExactLearner):
        inner = uncertainty_of(learner.model)
        return None if inner is None else lambda rows: inner(learner.located(rows))
    own: Uncertainty | None = getattr(learner, "uncertainty", None)
    return own
