"""Models that only predict: a weight of 16 bits for each feature, and nothing to learn with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numba as nb
import numpy as np
import numpy.typing as npt

from headrace.learners.discount import NONE
from headrace.learners.features import FeatureRows
from headrace.learners.models.probit import ProbitParameters, log_odds
from headrace.schemas.config.models import Model
from headrace.schemas.errors import LearningError
from headrace.schemas.records.hashing import Int64s, UInt64s
from headrace.schemas.records.restored import exported, places

Floats = npt.NDArray[np.float64]
Int16s = npt.NDArray[np.int16]


class SmallModel:
    """Weights alone, as fixed-point numbers; a `headrace.learners.learner.Learner` that is done.

    Its margin is the sum of weights times values; of the probit the log-odds of the probit of
    that sum over ``beta``, as if variances were 0.

    Parameters
    ----------
    parameters
        Those of the learner that the weights are of.
    bits
        Indices of features are below ``2^bits``; with 64 they are the codes of an exact table.
    fraction_bits
        A weight is a whole number times ``2^-fraction_bits``.

    Attributes
    ----------
    weights
        Of each coordinate, int16, shape (2^bits,); of an exact table of each code, and a 0.
    codes
        Codes with a weight, uint64, ascending; of shape (0,) with a hashed table.
    """

    version: ClassVar[int] = 1
    weight: ClassVar[Literal["gradient", "repetition", "likelihood"]] = "gradient"

    def __init__(self, parameters: Model, bits: int, fraction_bits: int) -> None:
        self.parameters = parameters
        self.bits = bits
        self.fraction_bits = fraction_bits
        self.beta = parameters.beta if isinstance(parameters, ProbitParameters) else None
        self.codes: UInt64s = np.empty(0, np.uint64)
        self.weights: Int16s = np.zeros(1 if self.is_exact else 1 << bits, np.int16)

    @property
    def is_exact(self) -> bool:
        """Whether each feature has a coordinate of its own."""
        return self.bits > 32

    @property
    def state_bytes(self) -> int:
        """Two bytes a coordinate; of an exact table ten a feature with a weight."""
        return self.weights.nbytes + self.codes.nbytes

    def learn(
        self,
        rows: FeatureRows,
        order: Int64s,
        label: Floats,
        importance: Floats,
        offset: Floats,
        discount: Floats = NONE,
    ) -> Floats:
        """Refuse: what learning needs besides weights is not here.

        Raises
        ------
        LearningError
            Always.
        """
        raise LearningError(
            "a small snapshot has weights alone and cannot be learned from; "
            "take the one that it was exported from"
        )

    def predict(self, rows: FeatureRows) -> Floats:
        """Return the log-odds of each row, float64, shape (n,)."""
        sums = self.sums(rows)
        return sums if self.beta is None else _log_odds(sums / self.beta)

    def sums(self, rows: FeatureRows) -> Floats:
        """Return the sum of weights times values of each row, float64, shape (n,)."""
        sums = np.empty(rows.starts.size - 1)
        places = self._places(rows.indices) if self.is_exact else rows.indices
        _sum(self.weights, rows.starts, places, rows.values, sums)
        # A power of two, so that this rounds nothing.
        return np.ldexp(sums, -self.fraction_bits)

    def export(self) -> dict[str, npt.NDArray[Any]]:
        """Return weights that are not 0 (int16) by ``index`` (uint32) or ``code`` (uint64)."""
        if self.is_exact:
            return {"code": self.codes, "weight": self.weights[:-1]}
        touched = np.flatnonzero(self.weights).astype(np.uint32)
        return {"index": touched, "weight": self.weights[touched]}

    def restore(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Replace the weights by what `export` returned; others become 0.

        Raises
        ------
        DamagedError
            If it is not what `export` returns.
        """
        if self.is_exact:
            codes = places(arrays, "code", np.uint64, 1 << 64)
            weights = exported(arrays, "weight", np.int16, codes.size)
            self.codes, self.weights = codes, np.append(weights, np.int16(0))
        else:
            index = places(arrays, "index", np.uint32, 1 << self.bits)
            weights = exported(arrays, "weight", np.int16, index.size)
            self.weights = np.zeros(1 << self.bits, np.int16)
            self.weights[index] = weights

    def figures(self) -> dict[str, int]:
        """Count the weights that are not 0."""
        return {"coordinates": int(np.count_nonzero(self.weights))}

    def _places(self, codes: npt.NDArray[Any]) -> Int64s:
        """Return where the weight of each code is; what is not known has the last, which is 0."""
        places = np.searchsorted(self.codes, codes)
        known = places < self.codes.size
        known[known] = self.codes[places[known]] == codes[known]
        return np.where(known, places, self.codes.size)


@nb.njit(cache=True, nogil=True)
def _sum(weights, starts, places, values, sums):
    for i in range(sums.size):
        total = 0.0
        for k in range(starts[i], starts[i + 1]):
            weight = np.float64(weights[places[k]])
            total += weight * values[k] if values.size else weight
        sums[i] = total


@nb.vectorize(cache=True)
def _log_odds(t):
    return log_odds(t)
