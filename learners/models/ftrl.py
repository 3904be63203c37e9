"""FTRL-Proximal with per-coordinate learning rates, over hashed features.

References
----------
.. [1] McMahan et al., Ad Click Prediction: a View from the Trenches, KDD 2013,
   Algorithm 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba as nb
import numpy as np
import numpy.typing as npt

from headrace.learners.features import FeatureRows
from headrace.schemas.records.hashing import Int64s

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class FtrlParameters:
    """Parameters of Algorithm 1: ``alpha > 0``, the others at least 0."""

    alpha: float = 0.1
    beta: float = 1.0
    l1: float = 1.0
    l2: float = 1.0

    def as_array(self) -> npt.NDArray[np.float32]:
        """Return (alpha, beta, l1, l2) as float32."""
        return np.array([self.alpha, self.beta, self.l1, self.l2], np.float32)


@nb.njit(inline="always")
def _weight(z, n, alpha, beta, l1, l2):
    """Solve for the weight of one coordinate; exactly 0 where ``|z| <= l1``."""
    if z > l1:
        return -(z - l1) / ((beta + np.sqrt(n)) / alpha + l2)
    if z < -l1:
        return -(z + l1) / ((beta + np.sqrt(n)) / alpha + l2)
    return np.float32(0)


@nb.njit(inline="always")
def _margin(zn, begin, end, indices, values, weights, alpha, beta, l1, l2):
    margin = np.float64(0)
    for k in range(begin, end):
        j = indices[k]
        w = _weight(zn[j, 0], zn[j, 1], alpha, beta, l1, l2)
        weights[k - begin] = w
        margin += np.float64(w * values[k]) if values.size else np.float64(w)
    return margin


@nb.njit(cache=True, nogil=True)
def _learn(zn, starts, indices, values, order, label, importance, offset, parameters, margins):
    alpha, beta, l1, l2 = parameters[0], parameters[1], parameters[2], parameters[3]
    widest = 0
    for i in range(starts.size - 1):
        widest = max(widest, starts[i + 1] - starts[i])
    weights = np.empty(widest, np.float32)
    for at in range(order.size):
        i = order[at]
        begin, end = starts[i], starts[i + 1]
        margin = _margin(zn, begin, end, indices, values, weights, alpha, beta, l1, l2)
        margins[at] = margin
        p = 1.0 / (1.0 + np.exp(-(margin + offset[at])))
        gradient = np.float32((p - label[at]) * importance[at])
        for k in range(begin, end):
            j = indices[k]
            g = gradient * values[k] if values.size else gradient
            n = zn[j, 1]
            grown = n + g * g
            sigma = (np.sqrt(grown) - np.sqrt(n)) / alpha
            zn[j, 0] += g - sigma * weights[k - begin]
            zn[j, 1] = grown


@nb.njit(cache=True, nogil=True)
def _predict(zn, starts, indices, values, parameters, margins):
    alpha, beta, l1, l2 = parameters[0], parameters[1], parameters[2], parameters[3]
    widest = 0
    for i in range(starts.size - 1):
        widest = max(widest, starts[i + 1] - starts[i])
    weights = np.empty(widest, np.float32)
    for i in range(starts.size - 1):
        margins[i] = _margin(
            zn, starts[i], starts[i + 1], indices, values, weights, alpha, beta, l1, l2
        )


class FtrlModel:
    """State and kernels of FTRL-Proximal.

    Parameters
    ----------
    parameters
        Of Algorithm 1.
    bits
        Size of the table, ``2^bits`` coordinates.

    Attributes
    ----------
    zn
        ``z`` and ``n`` of each coordinate, float32, shape (2^bits, 2).
    """

    def __init__(self, parameters: FtrlParameters, bits: int) -> None:
        self.parameters = parameters
        self.bits = bits
        self.zn = np.zeros((1 << bits, 2), np.float32)

    def learn(
        self,
        rows: FeatureRows,
        order: Int64s,
        label: Floats,
        importance: Floats,
        offset: Floats,
    ) -> Floats:
        """Predict, then learn, row after row.

        Parameters
        ----------
        rows
            Features, shape (n, ...).
        order
            The order in which to visit rows, shape (m,).
        label, importance, offset
            Label in [0, 1], weight of the gradient, and what is added to the
            log-odds in training only; each float64, shape (m,), in visiting order.

        Returns
        -------
        array
            Log-odds before learning the row, offset left out; float64, shape
            (m,), in visiting order.
        """
        margins = np.empty(order.size)
        _learn(
            self.zn, rows.starts, rows.indices, rows.values, order, label, importance, offset,
            self.parameters.as_array(), margins,
        )  # fmt: skip
        return margins

    def predict(self, rows: FeatureRows) -> Floats:
        """Return the log-odds of each row, float64, shape (n,)."""
        margins = np.empty(rows.starts.size - 1)
        _predict(
            self.zn, rows.starts, rows.indices, rows.values, self.parameters.as_array(), margins
        )
        return margins

    def weights(self) -> npt.NDArray[np.float32]:
        """Return the weight of each coordinate, shape (2^bits,); most are exactly 0."""
        alpha, beta, l1, l2 = self.parameters.as_array()
        z, n = self.zn[:, 0], self.zn[:, 1]
        shrunk = np.sign(z) * (np.abs(z) - l1)
        return np.where(
            np.abs(z) <= l1, np.float32(0), -shrunk / ((beta + np.sqrt(n)) / alpha + l2)
        )
