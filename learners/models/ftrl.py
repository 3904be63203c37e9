"""FTRL-Proximal with per-coordinate learning rates, over hashed features.

References
----------
.. [1] McMahan et al., Ad Click Prediction: a View from the Trenches, KDD 2013,
   Algorithm 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import numba as nb
import numpy as np
import numpy.typing as npt
from pydantic import AfterValidator, Field

from headrace.learners.discount import NONE, weight_of
from headrace.learners.features import FeatureRows
from headrace.learners.learner import collisions
from headrace.learners.models.steps import furthest_step
from headrace.learners.prefetch import AHEAD, prefetch_row
from headrace.schemas.config.models import Model
from headrace.schemas.records.hashing import Int64s
from headrace.schemas.records.restored import exported, places

Floats = npt.NDArray[np.float64]


def _not_zero(alpha: float) -> float:
    if np.float32(alpha) == 0:
        raise ValueError("is 0 as a number of 32 bits; 0.1 is usual")
    return alpha


class FtrlParameters(Model):
    """Parameters of Algorithm 1 in [1]_."""

    alpha: Annotated[float, AfterValidator(_not_zero)] = Field(default=0.1, gt=0)
    beta: float = Field(default=1.0, ge=0)
    l1: float = Field(default=0.0, ge=0)
    l2: float = Field(default=1.0, ge=0)

    def as_array(self) -> npt.NDArray[np.float32]:
        """Return (alpha, beta, l1, l2) as float32, shape (4,)."""
        return np.array([self.alpha, self.beta, self.l1, self.l2], np.float32)


@nb.njit(inline="always")
def _weight(z, root, alpha, beta, l1, l2):
    """Solve for the weight of one coordinate; exactly 0 where ``|z| <= l1``.

    `root` is that of its n. Also 0 where nothing divides: without `beta` and `l2` the square
    of a small gradient may be 0. A `z` that is not a number gives such a weight, so that it
    cannot pass unnoticed.
    """
    if abs(z) <= l1:
        return np.float32(0)
    divisor = (beta + root) / alpha + l2
    if divisor == 0:
        return np.float32(0)
    return -(z - l1) / divisor if z > 0 else -(z + l1) / divisor


@nb.njit(inline="always")
def _margin(zn, begin, end, indices, values, known, alpha, beta, l1, l2):
    """Return the log-odds; keep the weight, the root of n and n of each feature."""
    margin = np.float64(0)
    for k in range(begin, end):
        j = indices[k]
        n = zn[j, 1]
        root = np.sqrt(n)
        w = _weight(zn[j, 0], root, alpha, beta, l1, l2)
        known[k - begin, 0], known[k - begin, 1], known[k - begin, 2] = w, root, n
        margin += np.float64(w * values[k]) if values.size else np.float64(w)
    return margin


@nb.njit(inline="always")
def _room(starts):
    """Return room for what is known of the features of one row, whichever has the most."""
    widest = 0
    for i in range(starts.size - 1):
        widest = max(widest, starts[i + 1] - starts[i])
    return np.empty((widest, 3), np.float32)


# What divides is never 0: without numba's tests for it the loops are a tenth faster.
@nb.njit(cache=True, nogil=True, error_model="numpy")
def _learn(
    zn, starts, indices, values, order, label, importance, offset, discount, parameters, margins
):
    alpha, beta, l1, l2 = parameters[0], parameters[1], parameters[2], parameters[3]
    known = _room(starts)
    for at in range(order.size):
        if at + AHEAD < order.size:
            prefetch_row(zn, starts, indices, order[at + AHEAD])
        i = order[at]
        begin, end = np.uint64(starts[i]), np.uint64(starts[i + 1])
        margin = _margin(zn, begin, end, indices, values, known, alpha, beta, l1, l2)
        margins[at] = margin
        if not np.isfinite(margin):
            # To go on would spread it: as yet only the coordinates at fault are not finite.
            margins[at:] = np.nan
            return
        p = 1.0 / (1.0 + np.exp(-(margin + offset[at])))
        weight = weight_of(at, label, importance, discount, margin)
        gradient = np.float32((p - label[at]) * weight)
        for k in range(begin, end):
            j = indices[k]
            g = gradient * values[k] if values.size else gradient
            n = zn[j, 1]
            # Another feature of the row may have the same coordinate, and have stepped before.
            root = known[k - begin, 1] if n == known[k - begin, 2] else np.sqrt(n)
            grown = n + g * g
            sigma = (np.sqrt(grown) - root) / alpha
            zn[j, 0] += g - sigma * known[k - begin, 0]
            zn[j, 1] = grown


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _predict(zn, starts, indices, values, parameters, margins):
    alpha, beta, l1, l2 = parameters[0], parameters[1], parameters[2], parameters[3]
    known = _room(starts)
    for i in range(margins.size):
        if i + AHEAD < margins.size:
            prefetch_row(zn, starts, indices, i + AHEAD)
        begin, end = np.uint64(starts[i]), np.uint64(starts[i + 1])
        margins[i] = _margin(zn, begin, end, indices, values, known, alpha, beta, l1, l2)


class FtrlModel:
    """State and kernels of FTRL-Proximal; a `headrace.learners.learner.Learner`.

    A row's weight multiplies its gradient: the ``g`` of Algorithm 1 is
    ``(p - y) * weight * x``.

    Parameters
    ----------
    parameters
        Those of Algorithm 1.
    bits
        Size of the table, ``2^bits`` coordinates.

    Attributes
    ----------
    zn
        ``z`` and ``n`` of each coordinate, float32, shape (2^bits, 2).
    """

    version: ClassVar[int] = 1
    weight: ClassVar[Literal["gradient", "repetition", "likelihood"]] = "gradient"

    def __init__(self, parameters: FtrlParameters, bits: int) -> None:
        self.parameters = parameters
        self.bits = bits
        self.zn = np.zeros((1 << bits, 2), np.float32)

    @property
    def state_bytes(self) -> int:
        """Eight bytes a coordinate."""
        return self.zn.nbytes

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
            self.zn, rows.starts, rows.indices, rows.values, order, label, importance, offset,
            discount, self.parameters.as_array(), margins,
        )  # fmt: skip
        return margins

    def predict(self, rows: FeatureRows) -> Floats:
        """Return the log-odds of each row without learning it, float64, shape (n,)."""
        margins = np.empty(rows.starts.size - 1)
        _predict(
            self.zn, rows.starts, rows.indices, rows.values, self.parameters.as_array(), margins
        )
        return margins

    def uncertainty(self, rows: FeatureRows) -> Floats:
        """Return how far one more example would move the log-odds of each row, shape (n,).

        See `headrace.learners.models.steps.furthest_step`. It ranks rows, and is no interval.
        """
        parameters = self.parameters
        return furthest_step(self.zn[:, 1], rows, parameters.alpha, parameters.beta, parameters.l2)

    def export(self) -> dict[str, npt.NDArray[Any]]:
        """Return index (uint32), ``z`` and ``n`` (float32) of every coordinate ever touched."""
        touched = self._touched().astype(np.uint32)
        return {"index": touched, "z": self.zn[touched, 0], "n": self.zn[touched, 1]}

    def restore(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Replace the state by what `export` returned; other coordinates become zero.

        Raises
        ------
        DamagedError
            If it is not what `export` returns.
        """
        index = places(arrays, "index", np.uint32, 1 << self.bits)
        z = exported(arrays, "z", np.float32, index.size)
        n = exported(arrays, "n", np.float32, index.size, least=0)
        self.zn = np.zeros((1 << self.bits, 2), np.float32)
        self.zn[index, 0], self.zn[index, 1] = z, n

    def rearranged(self, kept: Int64s, bits: int) -> FtrlModel:
        """Return a model with other coordinates, for an exact table.

        See `headrace.learners.exact.GrowingLearner.rearranged`.
        """
        model = FtrlModel(self.parameters, bits)
        model.zn[: kept.size] = self.zn[kept]
        return model

    def figures(self) -> dict[str, int]:
        """Count touched coordinates, weights that are not zero, features and collisions."""
        z = self.zn[self._touched(), 0]
        return {
            "coordinates": z.size,
            "nonzero_weights": int(np.count_nonzero(np.abs(z) > np.float32(self.parameters.l1))),
            **collisions(z.size, self.bits),
        }

    def _touched(self) -> Int64s:
        # The square of a small gradient may be zero: a coordinate is touched if z or n is not.
        return np.flatnonzero(self.zn.view(np.uint64))

    def weights(self) -> npt.NDArray[np.float32]:
        """Return the weight of each coordinate, shape (2^bits,); most are exactly 0."""
        alpha, beta, l1, l2 = self.parameters.as_array()
        z, n = self.zn[:, 0], self.zn[:, 1]
        shrunk = np.sign(z) * (np.abs(z) - l1)
        divisor = (beta + np.sqrt(n)) / alpha + l2
        weights = np.zeros(z.size, np.float32)
        return np.divide(-shrunk, divisor, out=weights, where=(np.abs(z) > l1) & (divisor > 0))
