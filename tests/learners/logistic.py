"""Samples of a logistic model whose probabilities are known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from headrace.learners.features import FeatureRows
from headrace.learners.learner import probability

FIELDS, VALUES = 4, 25
BITS = 7
ONES = np.empty(0, np.float32)


@dataclass(frozen=True)
class Samples:
    """Rows of an intercept and a value of each field, drawn with probability `p`."""

    rows: FeatureRows
    p: np.ndarray
    label: np.ndarray

    def log_loss(self, margin: np.ndarray) -> float:
        """Return that of the second half, above that of the truth."""

        def loss(margin):
            return np.logaddexp(0.0, np.where(self.label == 1, -margin, margin))

        truth = np.log(self.p / (1 - self.p))
        return float((loss(margin) - loss(truth))[self.p.size // 2 :].mean())


def logistic(count: int, seed: int, intercept: float = -1.5) -> Samples:
    random = np.random.default_rng(seed)
    value = random.integers(0, VALUES, (count, FIELDS))
    effect = random.normal(0, 0.7, (FIELDS, VALUES))
    p = probability(intercept + effect[np.arange(FIELDS), value].sum(axis=1))
    index = 1 + np.arange(FIELDS) * VALUES + value
    indices = np.column_stack([np.zeros(count), index]).astype(np.uint32).ravel()
    starts = np.arange(count + 1, dtype=np.int64) * (FIELDS + 1)
    label = (random.random(count) < p).astype(float)
    return Samples(FeatureRows(starts, indices, ONES), p, label)


def taught(learner, samples: Samples, importance=1.0, offset=0.0) -> np.ndarray:
    """Have a learner learn all samples in order, with one weight and one offset."""
    count = samples.label.size
    return learner.learn(
        samples.rows,
        np.arange(count),
        samples.label,
        np.full(count, importance),
        np.full(count, offset),
    )
