"""A field-aware factorisation machine over hashed features: each pair of features has an effect.

References
----------
.. [1] Juan et al., Field-aware Factorization Machines for CTR Prediction, RecSys 2016,
   equations 4 to 7 and section 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numba as nb
import numpy as np
import numpy.typing as npt
from pydantic import Field

from headrace.learners.discount import NONE, weight_of
from headrace.learners.features import FeatureRows
from headrace.schemas.config.models import Model
from headrace.schemas.records.hashing import Int64s, fmix64

Floats = npt.NDArray[np.float64]

SPREAD = 0.5
"""Factors begin within plus or minus this, over the square root of their number.

Those of the paper begin above 0: then each pair never seen would add to the log-odds."""

_GREATEST = float(np.finfo(np.float32).max)
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


class FfmParameters(Model):
    """Rate, regularisation and size of the factors in [1]_."""

    alpha: float = Field(default=0.2, gt=0)
    l2: float = Field(default=2e-5, ge=0)
    factors: int = Field(default=4, ge=1, le=64)


@nb.njit(inline="always")
def _slot(index, field, mask):
    """Return where the factors are that a feature has for a field."""
    return np.int64(fmix64(np.uint64(index) * _GOLDEN + np.uint64(field)) & mask)


@nb.njit(cache=True, nogil=True)
def _fill(factors, count):
    """Set all factors to where they begin: scattered around 0, the same on every machine."""
    for i in range(len(factors)):
        for k in range(count):
            bits = fmix64(np.uint64(i * count + k) * _GOLDEN + _GOLDEN)
            unit = np.float64(bits >> np.uint64(11)) / 9007199254740992.0
            factors[i, k] = SPREAD * (2 * unit - 1) / np.sqrt(count)


@nb.njit(inline="always")
def _margin(weights, factors, count, mask, begin, end, indices, values, fields):
    """Return the log-odds, and what the values of the row's pairs are multiplied by."""
    margin, pairs, square = 0.0, 0.0, 0.0
    for a in range(begin, end):
        xa = np.float64(values[a]) if values.size else 1.0
        margin += weights[indices[a], 0] * xa
        square += xa * xa
        for b in range(a + 1, end):
            xb = np.float64(values[b]) if values.size else 1.0
            i, j = _slot(indices[a], fields[b], mask), _slot(indices[b], fields[a], mask)
            product = 0.0
            for k in range(count):
                product += np.float64(factors[i, k]) * factors[j, k]
            pairs += product * xa * xb
    scale = 1 / square if square > 0 else 0.0
    return margin + scale * pairs, scale


@nb.njit(inline="always")
def _step(value, squares, g, alpha):
    """Return a parameter and its sum of squared gradients after a gradient."""
    grown = min(squares + g * g, _GREATEST)
    return value - alpha / np.sqrt(1 + grown) * g, grown


@nb.njit(cache=True, nogil=True)
def _learn(
    weights, factors, starts, indices, values, fields, order, label, importance, offset, discount,
    alpha, l2, margins,
):  # fmt: skip
    count, mask = factors.shape[1] // 2, np.uint64(len(factors) - 1)
    for at in range(order.size):
        begin, end = starts[order[at]], starts[order[at] + 1]
        margin, scale = _margin(weights, factors, count, mask, begin, end, indices, values, fields)
        p = 1.0 / (1.0 + np.exp(-(margin + offset[at])))
        weight = weight_of(at, label, importance, discount, margin)
        gradient = (p - label[at]) * weight
        if not (np.isfinite(margin) and np.isfinite(gradient)):
            # To go on would spread it: as yet only the coordinates at fault are not finite.
            margins[at:] = np.nan
            return
        margins[at] = margin
        if weight == 0:
            continue
        for a in range(begin, end):
            xa = np.float64(values[a]) if values.size else 1.0
            w = weights[indices[a]]
            w[0], w[1] = _step(w[0], w[1], l2 * w[0] + gradient * xa, alpha)
            for b in range(a + 1, end):
                xb = np.float64(values[b]) if values.size else 1.0
                i, j = _slot(indices[a], fields[b], mask), _slot(indices[b], fields[a], mask)
                both = gradient * scale * xa * xb
                for k in range(count):
                    one, other = factors[i, k], factors[j, k]
                    factors[i, k], factors[i, count + k] = _step(
                        one, factors[i, count + k], l2 * one + both * other, alpha
                    )
                    factors[j, k], factors[j, count + k] = _step(
                        factors[j, k], factors[j, count + k], l2 * other + both * one, alpha
                    )


@nb.njit(cache=True, nogil=True)
def _predict(weights, factors, starts, indices, values, fields, margins):
    count, mask = factors.shape[1] // 2, np.uint64(len(factors) - 1)
    for i in range(starts.size - 1):
        begin, end = starts[i], starts[i + 1]
        margins[i], _ = _margin(weights, factors, count, mask, begin, end, indices, values, fields)


class FfmModel:
    """State and kernels of a field-aware factorisation machine.

    It is a `headrace.learners.learner.Learner`. A row's weight multiplies its gradient.

    Parameters
    ----------
    parameters
        Rate, regularisation, and how many factors a feature has for each field.
    bits
        Size of both tables: ``2^bits`` weights, and as many slots for factors.

    Attributes
    ----------
    weights
        Weight and sum of squared gradients of each coordinate, float32, shape (2^bits, 2).
    factors
        The factors of each slot, then the sum of squared gradients of each factor; float32,
        shape (2^bits, 2 * factors).
    """

    version: ClassVar[int] = 1
    weight: ClassVar[Literal["gradient", "repetition", "likelihood"]] = "gradient"

    def __init__(self, parameters: FfmParameters, bits: int) -> None:
        self.parameters = parameters
        self.bits = bits
        self.weights = np.zeros((1 << bits, 2), np.float32)
        self.factors = self._first_factors()

    @property
    def state_bytes(self) -> int:
        """Eight bytes a coordinate, and eight for each factor of a slot."""
        return self.weights.nbytes + self.factors.nbytes

    def learn(
        self,
        rows: FeatureRows,
        order: Int64s,
        label: Floats,
        importance: Floats,
        offset: Floats,
        discount: Floats = NONE,
    ) -> Floats:
        """Predict, then learn, row after row; see `headrace.learners.learner.Learner.learn`."""
        margins = np.empty(order.size)
        _learn(
            self.weights, self.factors, rows.starts, rows.indices, rows.values, rows.fields(),
            order, label, importance, offset, discount, self.parameters.alpha, self.parameters.l2,
            margins,
        )  # fmt: skip
        return margins

    def predict(self, rows: FeatureRows) -> Floats:
        """Return the log-odds of each row without learning it, float64, shape (n,)."""
        margins = np.empty(rows.starts.size - 1)
        _predict(
            self.weights, self.factors, rows.starts, rows.indices, rows.values, rows.fields(),
            margins,
        )  # fmt: skip
        return margins

    def export(self) -> dict[str, npt.NDArray[Any]]:
        """Return what differs from the beginning.

        That is ``index`` (uint32), ``weight`` and ``squares`` (float32) of coordinates; and
        ``slot`` (uint32), ``factors`` and ``factor_squares`` (float32, as many values for
        each slot as there are factors) of slots.
        """
        index, slot = self._touched()
        count = self.parameters.factors
        return {
            "index": index.astype(np.uint32),
            "weight": self.weights[index, 0],
            "squares": self.weights[index, 1],
            "slot": slot.astype(np.uint32),
            "factors": self.factors[slot, :count].ravel(),
            "factor_squares": self.factors[slot, count:].ravel(),
        }

    def restore(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Replace the state by what `export` returned; all else is as in the beginning."""
        count = self.parameters.factors
        self.weights = np.zeros((1 << self.bits, 2), np.float32)
        self.weights[arrays["index"], 0] = arrays["weight"]
        self.weights[arrays["index"], 1] = arrays["squares"]
        self.factors = self._first_factors()
        self.factors[arrays["slot"], :count] = arrays["factors"].reshape(-1, count)
        self.factors[arrays["slot"], count:] = arrays["factor_squares"].reshape(-1, count)

    def figures(self) -> dict[str, int]:
        """Count touched coordinates and slots."""
        index, slot = self._touched()
        return {"coordinates": index.size, "slots": slot.size}

    def _first_factors(self) -> npt.NDArray[np.float32]:
        factors = np.zeros((1 << self.bits, 2 * self.parameters.factors), np.float32)
        _fill(factors, self.parameters.factors)
        return factors

    def _touched(self) -> tuple[Int64s, Int64s]:
        changed = (self.factors != self._first_factors()).any(axis=1)
        return np.flatnonzero(self.weights.any(axis=1)), np.flatnonzero(changed)
