"""How far one more example would move a prediction: a rank of how little is known of a row.

References
----------
.. [1] McMahan et al., Ad Click Prediction: a View from the Trenches, KDD 2013, section 6.
"""

from __future__ import annotations

import numba as nb
import numpy as np
import numpy.typing as npt

from headrace.learners.features import FeatureRows
from headrace.learners.learner import Floats


def furthest_step(
    squares: npt.NDArray[np.float32],
    rows: FeatureRows,
    alpha: float,
    beta: float,
    l2: float = 0.0,
    lowest: float = 0.0,
) -> Floats:
    """Return the most by which log-odds change if a row is learned once more, with weight 1.

    That is the sum of ``x^2 / ((beta + sqrt(n + x^2)) / alpha + l2)`` over its features: the
    gradient of the log-odds is at most 1, that of a weight at most x, with which a coordinate
    steps at its rate after it. The ``u(x)`` of [1]_ is the same but for the last: it has the rate
    before, and takes x to be at most 1 and l2 to be 0.

    Parameters
    ----------
    squares
        Sums of squared gradients n, shape (2^bits,).
    rows
        Features, shape (n, ...). Two of one row that share a coordinate are taken as apart.
    alpha, beta, l2
        Of the rate of a coordinate.
    lowest
        No rate goes below this.
    """
    steps = np.empty(rows.starts.size - 1)
    _furthest_step(squares, rows.starts, rows.indices, rows.values, alpha, beta, l2, lowest, steps)
    return steps


@nb.njit(cache=True, nogil=True)
def _furthest_step(squares, starts, indices, values, alpha, beta, l2, lowest, steps):
    for i in range(steps.size):
        steps[i] = 0
        for k in range(starts[i], starts[i + 1]):
            x = np.float64(values[k]) if values.size else 1.0
            # Of 0 nothing is learned, and there may be nothing to divide by.
            if x != 0:
                root = np.sqrt(np.float64(squares[indices[k]]) + x * x)
                steps[i] += x * x * max(1 / ((beta + root) / alpha + l2), lowest)
