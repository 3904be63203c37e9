"""Logistic regression by stochastic gradient descent, with the learning rates of a paper.

References
----------
.. [1] He et al., Practical Lessons from Predicting Clicks on Ads at Facebook, ADKDD 2014,
   section 3.2 and Table 2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

import numba as nb
import numpy as np
import numpy.typing as npt
from pydantic import Field, ValidationInfo, field_validator

from headrace.learners.discount import NONE, weight_of
from headrace.learners.features import FeatureRows
from headrace.learners.learner import collisions
from headrace.learners.models.steps import furthest_step
from headrace.learners.prefetch import AHEAD, prefetch_row
from headrace.schemas.config.models import Model
from headrace.schemas.records.hashing import Int64s
from headrace.schemas.records.restored import exported, places

Floats = npt.NDArray[np.float64]
Rate = Literal["per-coordinate", "per-weight-sqrt", "per-weight", "global", "constant"]

LOWEST_RATE = 1e-5
"""No falling rate goes below this, so that a model never stops learning [1]_."""

_PER_COORDINATE, _PER_WEIGHT_SQRT, _PER_WEIGHT, _GLOBAL, _CONSTANT = range(5)
_SCHEMES: dict[Rate, int] = {
    "per-coordinate": _PER_COORDINATE,
    "per-weight-sqrt": _PER_WEIGHT_SQRT,
    "per-weight": _PER_WEIGHT,
    "global": _GLOBAL,
    "constant": _CONSTANT,
}
_PAST: dict[Rate, str] = {
    "per-coordinate": "squares",
    "per-weight-sqrt": "count",
    "per-weight": "count",
}
"""What is kept of each coordinate besides its weight, by the schemes that keep something."""

_GREATEST = float(np.finfo(np.float32).max)


class SgdParameters(Model):
    """Learning rates of Table 2 in [1]_."""

    rate: Rate = "per-coordinate"
    alpha: float = Field(default=0.1, gt=0)
    beta: float = Field(default=1.0, ge=0)

    @field_validator("beta")
    @classmethod
    def _used(cls, beta: float, info: ValidationInfo) -> float:
        rate = info.data.get("rate", "per-coordinate")
        # A snapshot has the default too, whatever the scheme.
        if rate != "per-coordinate" and beta != cls.model_fields["beta"].default:
            raise ValueError(f'has no effect with rate = "{rate}"; leave it out')
        return beta


@nb.njit(inline="always")
def _falling(alpha, divisor):
    """Divide; where the squares of all gradients are 0 in float32, take the lowest rate."""
    return max(alpha / divisor, LOWEST_RATE) if divisor > 0 else LOWEST_RATE


@nb.njit(inline="always")
def _margin(table, begin, end, indices, values):
    margin = np.float64(0)
    for k in range(begin, end):
        w = np.float64(table[indices[k], 0])
        margin += w * values[k] if values.size else w
    return margin


@nb.njit(cache=True, nogil=True)
def _learn(
    table, rows, starts, indices, values, order, label, importance, offset, discount, scheme,
    alpha, beta, margins,
):  # fmt: skip
    for at in range(order.size):
        if at + AHEAD < order.size:
            prefetch_row(table, starts, indices, order[at + AHEAD])
        i = order[at]
        begin, end = np.uint64(starts[i]), np.uint64(starts[i + 1])
        margin = _margin(table, begin, end, indices, values)
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
        rate = alpha
        if scheme == _GLOBAL:
            rows[0] += 1
            rate = _falling(alpha, np.sqrt(np.float64(rows[0])))
        for k in range(begin, end):
            j = indices[k]
            g = gradient * values[k] if values.size else gradient
            if scheme == _PER_COORDINATE:
                table[j, 1] = min(table[j, 1] + g * g, _GREATEST)
                rate = _falling(alpha, beta + np.sqrt(np.float64(table[j, 1])))
            elif scheme == _PER_WEIGHT_SQRT:
                table[j, 1] += 1
                rate = _falling(alpha, np.sqrt(np.float64(table[j, 1])))
            elif scheme == _PER_WEIGHT:
                table[j, 1] += 1
                rate = _falling(alpha, np.float64(table[j, 1]))
            table[j, 0] -= rate * g


@nb.njit(cache=True, nogil=True)
def _predict(table, starts, indices, values, margins):
    for i in range(margins.size):
        if i + AHEAD < margins.size:
            prefetch_row(table, starts, indices, i + AHEAD)
        begin, end = np.uint64(starts[i]), np.uint64(starts[i + 1])
        margins[i] = _margin(table, begin, end, indices, values)


class SgdModel:
    """State and kernels of stochastic gradient descent; a `headrace.learners.learner.Learner`.

    A row's weight multiplies its gradient, which is ``(p - y) * weight * x``.

    Parameters
    ----------
    parameters
        The scheme of learning rates, and its ``alpha`` and ``beta``.
    bits
        Size of the table, ``2^bits`` coordinates.

    Attributes
    ----------
    table
        Of each coordinate the weight and, if the scheme needs it, the sum of squared
        gradients or the number of its features so far; float32, shape (2^bits, 1 or 2).
    rows
        With the rate ``global``, how many rows were learned, without those of weight 0; int64,
        shape (1,).
    """

    version: ClassVar[int] = 1
    weight: ClassVar[Literal["gradient", "repetition", "likelihood"]] = "gradient"

    def __init__(self, parameters: SgdParameters, bits: int) -> None:
        self.parameters = parameters
        self.bits = bits
        self.table = self._empty()
        self.rows = np.zeros(1, np.int64)

    @property
    def state_bytes(self) -> int:
        """Four or eight bytes a coordinate, and the number of rows."""
        return self.table.nbytes + self.rows.nbytes

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
        parameters = self.parameters
        _learn(
            self.table, self.rows, rows.starts, rows.indices, rows.values, order, label, importance,
            offset, discount, _SCHEMES[parameters.rate], parameters.alpha, parameters.beta, margins,
        )  # fmt: skip
        return margins

    def predict(self, rows: FeatureRows) -> Floats:
        """Return the log-odds of each row without learning it, float64, shape (n,)."""
        margins = np.empty(rows.starts.size - 1)
        _predict(self.table, rows.starts, rows.indices, rows.values, margins)
        return margins

    @property
    def uncertainty(self) -> Callable[[FeatureRows], Floats] | None:
        """Tells how far one more example would move the log-odds of each row.

        See `headrace.learners.models.steps.furthest_step`. None unless the rate of a coordinate
        falls with the gradients that it has had.
        """
        return self._uncertainty if self.parameters.rate == "per-coordinate" else None

    def _uncertainty(self, rows: FeatureRows) -> Floats:
        alpha, beta = self.parameters.alpha, self.parameters.beta
        return furthest_step(self.table[:, 1], rows, alpha, beta, lowest=LOWEST_RATE)

    def export(self) -> dict[str, npt.NDArray[Any]]:
        """Return index (uint32) and weight (float32) of every touched coordinate, and the past.

        That is, by scheme: ``squares`` or ``count`` (float32) of these coordinates, or
        ``rows`` (int64, shape (1,)), or nothing.
        """
        touched = self._touched().astype(np.uint32)
        arrays = {"index": touched, "weight": self.table[touched, 0]}
        if self.parameters.rate in _PAST:
            arrays[_PAST[self.parameters.rate]] = self.table[touched, 1]
        elif self.parameters.rate == "global":
            arrays["rows"] = self.rows.copy()
        return arrays

    def restore(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Replace the state by what `export` returned; other coordinates become zero.

        Raises
        ------
        DamagedError
            If it is not what `export` returns.
        """
        index = places(arrays, "index", np.uint32, 1 << self.bits)
        weight = exported(arrays, "weight", np.float32, index.size)
        table = self._empty()
        table[index, 0] = weight
        if self.parameters.rate in _PAST:
            past = _PAST[self.parameters.rate]
            table[index, 1] = exported(arrays, past, np.float32, index.size, least=0)
        elif self.parameters.rate == "global":
            self.rows = exported(arrays, "rows", np.int64, 1, least=0).copy()
        self.table = table

    def rearranged(self, kept: Int64s, bits: int) -> SgdModel:
        """Return a model with other coordinates, for an exact table.

        See `headrace.learners.exact.GrowingLearner.rearranged`.
        """
        model = SgdModel(self.parameters, bits)
        model.table[: kept.size] = self.table[kept]
        model.rows = self.rows.copy()
        return model

    def figures(self) -> dict[str, int]:
        """Count touched coordinates, features and collisions."""
        touched = self._touched().size
        return {"coordinates": touched, **collisions(touched, self.bits)}

    def _empty(self) -> npt.NDArray[np.float32]:
        return np.zeros((1 << self.bits, 2 if self.parameters.rate in _PAST else 1), np.float32)

    def _touched(self) -> Int64s:
        return np.flatnonzero(self.table.any(axis=1))
