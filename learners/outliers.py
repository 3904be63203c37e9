"""Numbers that are far beyond the others of their column: one of them could undo what was learned.

The step of a coordinate falls with the gradients it has had, so a value of a million times the
usual moves its weight as far as all others did together, and keeps it from moving again. So
a sample is not learned if one of its numbers is at least twice, and at most four times, as large
as all but the largest thousandth of those that were to be learned before it. It counts among
them, and it is predicted as any other.
"""

from __future__ import annotations

from collections.abc import Sequence

import numba as nb
import numpy as np
import numpy.typing as npt

from headrace.learners.learner import Floats
from headrace.schemas.records.hashing import Bools, Int64s

_LEAST, _SIZES = -64, 192
"""Sizes are powers of two from ``2^-64`` on; those beyond both ends count with the last."""
_SHARE = 1000
_FEW, _MOST_OF_FEW = 16, 2
"""Of few numbers, one in `_FEW` may be larger than the others, at most `_MOST_OF_FEW`."""
_FIRST = 10 - _LEAST
"""The first `_FEW` numbers must be below ``2^10``."""
_REMEMBERED = 1 << 17
"""When so many are counted, counts are halved, so that a column may change."""

MOST_GRADIENT = 1e16
"""Numbers and weights whose product is larger are not learned: a float32 holds the sum of 2^20
such squares, and of any number of smaller ones."""


@nb.njit(cache=True, nogil=True)
def _judge(sizes, counts, far):
    total = counts.sum()
    usual, above = _SIZES - 1, 0
    for i in range(sizes.size):
        size = sizes[i]
        if size < 0:
            continue
        allowed = max(total // _SHARE, min(total // _FEW, _MOST_OF_FEW))
        while above > allowed:
            usual += 1
            above -= counts[usual]
        while usual > 0 and above + counts[usual] <= allowed:
            above += counts[usual]
            usual -= 1
        far[i] |= size > (usual + 1 if total >= _FEW else _FIRST)
        counts[size] += 1
        total += 1
        above += size > usual
        if total >= _REMEMBERED:
            counts[:] = counts // 2
            total = counts.sum()
            usual, above = _SIZES - 1, 0


class Outliers:
    """What is usual of some columns of numbers, by all that were to be learned.

    Parameters
    ----------
    columns
        Their names.

    Attributes
    ----------
    counts
        By column, how many numbers were of each size, int64, shape (sizes,).
    found
        By column, how many samples were not learned for its sake.
    """

    def __init__(self, columns: Sequence[str]) -> None:
        self.counts: dict[str, Int64s] = {name: np.zeros(_SIZES, np.int64) for name in columns}
        self.found = dict.fromkeys(columns, 0)

    def judge(self, column: str, numbers: Floats, weight: Floats) -> Bools:
        """Return which of the next samples are not to be learned, bool, shape (n,).

        Parameters
        ----------
        column
            The column.
        numbers
            Its numbers in the order of learning, NaN for null, shape (n,). Zeros say nothing.
        weight
            What the samples weigh, shape (n,).
        """
        magnitudes = np.abs(numbers)
        far: npt.NDArray[np.bool_] = magnitudes * weight > MOST_GRADIENT
        _, exponents = np.frexp(magnitudes)
        sizes = np.clip(exponents - _LEAST, 0, _SIZES - 1)
        sizes[~((magnitudes > 0) & (magnitudes < np.inf))] = -1
        _judge(sizes, self.counts[column], far)
        self.found[column] += int(np.count_nonzero(far))
        return far

    def export(self) -> dict[str, dict[str, list[int] | int]]:
        """Return the state as JSON types."""
        return {
            name: {"counts": counts.tolist(), "found": self.found[name]}
            for name, counts in self.counts.items()
        }

    def restore(self, state: dict[str, dict[str, list[int] | int]]) -> None:
        """Replace the state by what `export` returned."""
        for name, of in state.items():
            self.counts[name] = np.array(of["counts"], np.int64)
            self.found[name] = int(np.asarray(of["found"]))
