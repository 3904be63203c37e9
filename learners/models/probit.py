"""Bayesian probit regression over hashed features: a mean and a variance for each weight.

References
----------
.. [1] Graepel et al., Web-Scale Bayesian Click-Through Rate Prediction for Sponsored
   Search Advertising in Microsoft's Bing Search Engine, ICML 2010, equations 1 to 9.
.. [2] He et al., Practical Lessons from Predicting Clicks on Ads at Facebook, ADKDD 2014,
   equations 3 to 7.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numba as nb
import numpy as np
import numpy.typing as npt
from pydantic import Field

from headrace.learners.discount import NONE, weight_of
from headrace.learners.features import FeatureRows
from headrace.learners.learner import collisions
from headrace.learners.prefetch import AHEAD, prefetch_row
from headrace.schemas.config.models import Model
from headrace.schemas.records.hashing import Int64s
from headrace.schemas.records.restored import exported, places

Floats = npt.NDArray[np.float64]

FARTHEST = 5.0
"""The ``t`` that v and w are taken of is clipped to plus or minus this.

A row of weight 1 moves no weight by more than v(-5) = 5.2 of its deviations, and w stays
below 0.97, so that a variance stays above 0.
"""

_LEAST = float(np.finfo(np.float32).tiny)


class ProbitParameters(Model):
    """The variance of each weight before it learns, and the deviation of the noise."""

    prior_variance: float = Field(default=0.05, ge=1e-6, le=1e6)
    beta: float = Field(default=1.0, ge=1e-6, le=1e6)


@nb.njit(inline="always")
def _cumulative(t):
    """Return Phi(t); exact to float64 as long as it is not 0, down to -37."""
    return 0.5 * math.erfc(-t * math.sqrt(0.5))


@nb.njit(inline="always")
def _density(t):
    return math.exp(-0.5 * t * t) / math.sqrt(2 * math.pi)


@nb.njit(cache=True, nogil=True)
def log_odds(t):
    """Return log(Phi(t) / Phi(-t)); far from 0 by the series of the tail."""
    if abs(t) < 30:
        return math.log(_cumulative(t)) - math.log(_cumulative(-t))
    # Here the greater of the two is 1 in float64. Two terms are exact to 3e-8.
    square = t * t
    tail = 0.5 * square + math.log(abs(t) * math.sqrt(2 * math.pi))
    tail -= math.log1p((3 / square - 1) / square)
    return tail if t > 0 else -tail


@nb.njit(cache=True, nogil=True)
def from_log_odds(odds):
    """Return the t that has these log-odds, clipped to ±`FARTHEST`.

    By Newton's method, from a point beyond the solution: above 0 `log_odds` is convex, and
    at least ``t * sqrt(8 / pi)`` and ``t^2 / 2``. It needs four or five steps.
    """
    above = abs(odds)
    if above >= log_odds(FARTHEST):
        return FARTHEST if odds > 0 else -FARTHEST
    t = min(above * math.sqrt(math.pi / 8), math.sqrt(2 * above))
    for _ in range(20):
        step = (log_odds(t) - above) * _cumulative(t) * _cumulative(-t) / _density(t)
        t -= step
        if step < 1e-9:
            break
    return t if odds > 0 else -t


@nb.njit(inline="always")
def _score(beliefs, begin, end, indices, values, variances):
    """Return mean and variance of the sum of weights times values; keep the variances."""
    mean, variance = 0.0, 0.0
    for k in range(begin, end):
        j = indices[k]
        variances[k - begin] = beliefs[j, 1]
        x = np.float64(values[k]) if values.size else 1.0
        mean += beliefs[j, 0] * x
        variance += beliefs[j, 1] * x * x
    return mean, variance


@nb.njit(inline="always")
def _widest(starts):
    widest = 0
    for i in range(starts.size - 1):
        widest = max(widest, starts[i + 1] - starts[i])
    return widest


@nb.njit(cache=True, nogil=True)
def _learn(
    beliefs, starts, indices, values, order, label, importance, offset, discount, beta, margins
):
    variances = np.empty(_widest(starts), np.float32)
    for at in range(order.size):
        if at + AHEAD < order.size:
            prefetch_row(beliefs, starts, indices, order[at + AHEAD])
        i = order[at]
        begin, end = np.uint64(starts[i]), np.uint64(starts[i + 1])
        mean, variance = _score(beliefs, begin, end, indices, values, variances)
        total = beta * beta + variance
        deviation = math.sqrt(total)
        t = mean / deviation
        margin = log_odds(t)
        y, s = label[at], weight_of(at, label, importance, discount, margin)
        if not np.isfinite(margin + offset[at] + y + s):
            # To go on would spread it to all coordinates of the row.
            margins[at:] = np.nan
            return
        margins[at] = margin
        if s == 0:
            continue
        if offset[at] != 0:
            t = from_log_odds(margin + offset[at])
        t = min(max(t, -FARTHEST), FARTHEST)
        up, down = _density(t) / _cumulative(t), _density(t) / _cumulative(-t)
        v = y * up - (1 - y) * down
        w = y * up * (up + t) + (1 - y) * down * (down - t)
        known = w * variance / total
        times = s / (1 - known + s * known)
        step, share = times * v / deviation, times * w / total
        for k in range(begin, end):
            j = indices[k]
            before = np.float64(variances[k - begin])
            x = np.float64(values[k]) if values.size else 1.0
            beliefs[j, 0] += step * x * before
            # With a huge weight 1 - share * x^2 * variance rounds to 0.
            beliefs[j, 1] = max(beliefs[j, 1] * (1 - share * x * x * before), _LEAST)


@nb.njit(cache=True, nogil=True)
def _predict(beliefs, starts, indices, values, beta, margins, deviations):
    variances = np.empty(_widest(starts), np.float32)
    for i in range(margins.size):
        if i + AHEAD < margins.size:
            prefetch_row(beliefs, starts, indices, i + AHEAD)
        begin, end = np.uint64(starts[i]), np.uint64(starts[i + 1])
        mean, variance = _score(beliefs, begin, end, indices, values, variances)
        margins[i] = log_odds(mean / math.sqrt(beta * beta + variance))
        deviations[i] = math.sqrt(variance)


class ProbitModel:
    """State and kernels of Bayesian probit regression; a `headrace.learners.learner.Learner`.

    The weight of a row is a power of its likelihood: see ``docs/learners/probit.md``.

    Parameters
    ----------
    parameters
        Variance of the prior, and noise.
    bits
        Size of the table, ``2^bits`` coordinates.

    Attributes
    ----------
    beliefs
        Mean and variance of the weight of each coordinate, float32, shape (2^bits, 2).
    """

    version: ClassVar[int] = 1
    weight: ClassVar[Literal["gradient", "repetition", "likelihood"]] = "likelihood"

    def __init__(self, parameters: ProbitParameters, bits: int) -> None:
        self.parameters = parameters
        self.bits = bits
        self.beliefs = self._prior()

    @property
    def state_bytes(self) -> int:
        """Eight bytes a coordinate."""
        return self.beliefs.nbytes

    def learn(
        self,
        rows: FeatureRows,
        order: Int64s,
        label: Floats,
        importance: Floats,
        offset: Floats,
        discount: Floats = NONE,
    ) -> Floats:
        """Predict, then learn, row after row; see `headrace.learners.learner.Learner.learn`.

        Log-odds are those of the probability of the probit. A row with an offset is learned
        as if the ``t`` of its probability were that of the probability after the offset.
        """
        margins = np.empty(order.size)
        _learn(
            self.beliefs, rows.starts, rows.indices, rows.values, order, label, importance, offset,
            discount, self.parameters.beta, margins,
        )  # fmt: skip
        return margins

    def predict(self, rows: FeatureRows) -> Floats:
        """Return the log-odds of each row without learning it, float64, shape (n,)."""
        return self._predicted(rows)[0]

    def uncertainty(self, rows: FeatureRows) -> Floats:
        """Return how uncertain the model is of each row, float64, shape (n,).

        It is the standard deviation of the sum of weights times values, in units in which
        that of the noise is ``beta``. It falls as the row's features are learned, to 0 in
        the limit. It ranks rows; as an interval it is too small, as it takes weights to be
        independent of each other.
        """
        return self._predicted(rows)[1]

    def export(self) -> dict[str, npt.NDArray[Any]]:
        """Return index (uint32), mean and variance (float32) of every touched coordinate."""
        touched = self._touched().astype(np.uint32)
        mean, variance = self.beliefs[touched].T
        return {"index": touched, "mean": mean.copy(), "variance": variance.copy()}

    def restore(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Replace the state by what `export` returned; other coordinates have the prior.

        Raises
        ------
        DamagedError
            If it is not what `export` returns.
        """
        index = places(arrays, "index", np.uint32, 1 << self.bits)
        mean = exported(arrays, "mean", np.float32, index.size)
        variance = exported(arrays, "variance", np.float32, index.size, least=0)
        self.beliefs = self._prior()
        self.beliefs[index, 0], self.beliefs[index, 1] = mean, variance

    def rearranged(self, kept: Int64s, bits: int) -> ProbitModel:
        """Return a model with other coordinates, for an exact table.

        See `headrace.learners.exact.GrowingLearner.rearranged`.
        """
        model = ProbitModel(self.parameters, bits)
        model.beliefs[: kept.size] = self.beliefs[kept]
        return model

    def figures(self) -> dict[str, int]:
        """Count touched coordinates, features and collisions."""
        touched = self._touched().size
        return {"coordinates": touched, **collisions(touched, self.bits)}

    def _predicted(self, rows: FeatureRows) -> tuple[Floats, Floats]:
        margins, deviations = np.empty((2, rows.starts.size - 1))
        _predict(
            self.beliefs, rows.starts, rows.indices, rows.values, self.parameters.beta,
            margins, deviations,
        )  # fmt: skip
        return margins, deviations

    def _prior(self) -> npt.NDArray[np.float32]:
        prior = np.zeros((1 << self.bits, 2), np.float32)
        prior[:, 1] = self.parameters.prior_variance
        return prior

    def _touched(self) -> Int64s:
        prior = np.float32(self.parameters.prior_variance)
        return np.flatnonzero((self.beliefs[:, 0] != 0) | (self.beliefs[:, 1] != prior))
