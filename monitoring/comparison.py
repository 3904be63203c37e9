"""Two learners on the same impressions: by how much their log loss differs, and how surely.

The difference of each row is far less noisy than the two losses. Rows of one time are alike in
what both get wrong, so the interval is that of differences summed by window, of which each is
one observation, as soon as there are enough of them.

References
----------
.. [1] Cameron and Miller, A practitioner's guide to cluster-robust inference, Journal of Human
   Resources 50 (2015), section II.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from headrace.monitoring.statistics import Floats, Int64s
from headrace.schemas.records.restored import Finite, Int, Sum, checked

FEWEST_WINDOWS = 20
_NORMAL_95 = 1.959963984540054


@dataclass(frozen=True)
class Difference:
    """By how much the mean log loss of one learner is above that of another.

    Parameters
    ----------
    rows
        How many impressions both were scored on.
    mean, low, high
        The difference in nats an impression, and its 95 % interval.
    windows
        How many windows the interval is from; None if it is from single rows.
    """

    rows: int
    mean: float
    low: float
    high: float
    windows: int | None


class Comparison:
    """Sums of differences of log loss by window of event time.

    Parameters
    ----------
    window
        Length of a window, microseconds; windows begin at multiples of it.
    """

    def __init__(self, window: int) -> None:
        self.window = window
        self.sums: dict[int, list[float]] = {}
        """By number of the window: rows, sum of differences, sum of their squares."""

    def observe(self, event_time: Int64s, loss: Floats, other: Floats) -> None:
        """Add the log losses of two learners on the same impressions, each of shape (n,).

        Impressions must come in one order over all calls.
        """
        difference = loss - other
        number, place = np.unique(event_time // self.window, return_inverse=True)
        sums = _table([self.sums.get(int(of), [0.0, 0.0, 0.0]) for of in number])
        # One after the other: the sums do not depend on how rows are cut into calls.
        for column, values in enumerate((np.ones(place.size), difference, difference**2)):
            np.add.at(sums[:, column], place, values)
        self.sums.update(zip(number.tolist(), sums.tolist(), strict=True))

    def difference(self) -> Difference | None:
        """Return the difference, None before there are two impressions."""
        ordered = _table([self.sums[number] for number in sorted(self.sums)])
        rows, total, squares = ordered.sum(axis=0)
        if rows < 2:
            return None
        mean, windows = total / rows, len(ordered)
        if windows >= FEWEST_WINDOWS:
            spread = ordered[:, 1] - ordered[:, 0] * mean
            variance = (spread**2).sum() / rows**2 * windows / (windows - 1)
        else:
            variance = max(squares - rows * mean**2, 0.0) / (rows * (rows - 1))
        half = _NORMAL_95 * math.sqrt(variance)
        return Difference(
            int(rows), float(mean), float(mean - half), float(mean + half),
            windows if windows >= FEWEST_WINDOWS else None,
        )  # fmt: skip

    def export(self) -> list[list[float]]:
        """Return the whole state as JSON types."""
        return [[number, *sums] for number, sums in self.sums.items()]

    def restore(self, state: list[list[Any]]) -> None:
        """Replace the state by what `export` returned.

        Raises
        ------
        DamagedError
            If it is not what `export` returns.
        """
        checked(list[tuple[Int, Sum, Finite, Sum]], state, "comparison")
        self.sums = {int(number): list(sums) for number, *sums in state}


def _table(rows: list[list[float]]) -> Floats:
    return np.array(rows, np.float64).reshape(-1, 3)
