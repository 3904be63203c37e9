"""Correction for the position of impressions: what is lower on a page is examined less.

A click is taken as examination and relevance: its probability is theta of the position times
that of an impression which is examined [1]_. What is learned is the latter, either with log theta
as an offset of the log-odds, or with positives that weigh 1 / theta. Theta is given, or estimated
on impressions whose positions were random: there the click rates are in proportion to it.

An offset of the log-odds is one of the log of the probability where that is small. A weight of
1 / theta on every sample is not a correction: it cancels from the rate of a position.

References
----------
.. [1] Wang et al. 2016, Learning to rank with selection bias in personal search, section 3.
.. [2] Joachims et al. 2017, Unbiased learning-to-rank with biased feedback, section 4: clicks
   alone are weighed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from headrace.learners.calibration import REFIT
from headrace.learners.learner import Floats
from headrace.schemas.records.hashing import Int64s
from headrace.schemas.records.restored import Count, Finite, Int, Sum, bins, checked, written

MOST = 1_000
"""The greatest position of which theta is estimated."""

LEAST = 50
"""Theta of a position is estimated from at least so many positives there, and at position 1."""

_SHOWN, _POSITIVE = range(2)


@written
class _Written:
    log_theta: Annotated[list[Finite | None], Field(max_length=MOST)] | None
    sums: tuple[list[Count], tuple[list[Sum], list[Sum]]]
    period: Int | None


@dataclass(frozen=True)
class PositionPlan:
    """How a learner is corrected for positions.

    Parameters
    ----------
    column
        The position of an impression, from 1.
    method
        ``offset``: log theta is added to the log-odds in training. ``clicks``: positives weigh
        1 / theta.
    theta
        Of the positions from 1 on; None to estimate it.
    randomised
        A column that is true where the position was random; None if theta is given.
    clip
        The most that a positive weighs.
    """

    column: str
    method: Literal["offset", "clicks"]
    theta: tuple[float, ...] | None = None
    randomised: str | None = None
    clip: float = 10.0


@dataclass(frozen=True)
class Randomised:
    """Samples whose positions were random, in the order in which they are learned.

    Parameters
    ----------
    rows
        Their places in the epoch, int64, shape (m,).
    label, weight
        Label, and 1 / sampling rate; each float64, shape (m,).
    """

    rows: Int64s
    label: Floats
    weight: Floats


class Positions:
    """What is known of theta.

    Estimates hold for a period of `REFIT`, and are made from all samples before it.

    Parameters
    ----------
    plan
        The correction.

    Attributes
    ----------
    log_theta
        By position, from 1 on, float64, NaN where it is not known; None before anything is.
    """

    def __init__(self, plan: PositionPlan) -> None:
        self.plan = plan
        self.log_theta = None if plan.theta is None else np.log(plan.theta)
        self.sums = np.zeros((2, MOST))
        self.period: int | None = None

    @property
    def theta(self) -> list[float | None] | None:
        """Theta as estimated from all samples so far, as JSON types; None if it was given."""
        if self.plan.theta is not None:
            return None
        return as_theta(estimated(self.sums))

    def of(self, position: Floats, emit: Int64s, randomised: Randomised | None) -> Floats:
        """Return log theta of the rows of an epoch, and count those whose position was random.

        Parameters
        ----------
        position, emit
            Position, NaN for null, and emit time of each row, shape (n,).
        randomised
            Those of the rows that were randomised; None if theta is given, or without any.

        Returns
        -------
        array
            Float64, shape (n,); NaN where it is not known, and 0 before any is.
        """
        if self.plan.theta is not None:
            return log_theta_of(self.log_theta, position)
        found = np.empty(position.size)
        periods = emit // REFIT
        for period in np.unique(periods):
            self._advance(int(period))
            here = periods == period
            found[here] = log_theta_of(self.log_theta, position[here])
            if randomised is not None:
                self._count(position, randomised, here[randomised.rows])
        return found

    def _advance(self, period: int) -> None:
        if self.period is not None and period > self.period:
            self.log_theta = estimated(self.sums)
        self.period = period

    def _count(self, position: Floats, randomised: Randomised, chosen: Any) -> None:
        at = _places(position[randomised.rows[chosen]], MOST)
        weight, label = randomised.weight[chosen][at >= 0], randomised.label[chosen][at >= 0]
        at = at[at >= 0]
        # One after the other, so that sums do not depend on where epochs are cut.
        np.add.at(self.sums[_SHOWN], at, weight)
        np.add.at(self.sums[_POSITIVE], at, weight * label)

    def export(self) -> dict[str, Any]:
        """Return the state as JSON types."""
        used = np.flatnonzero(self.sums[_SHOWN])
        known = None if self.log_theta is None else [
            None if np.isnan(value) else value for value in self.log_theta.tolist()
        ]  # fmt: skip
        sums = [used.tolist(), self.sums[:, used].tolist()]
        return {"log_theta": known, "sums": sums, "period": self.period}

    def restore(self, state: dict[str, Any]) -> None:
        """Replace the state by what `export` returned.

        Raises
        ------
        DamagedError
            If it is not what `export` returns.
        """
        checked(_Written, state, "position")
        used, values = state["sums"]
        at = bins(used, MOST, "positions")
        self.sums[:] = 0
        self.sums[:, at] = np.array(values, np.float64).reshape(2, at.size)
        known = state["log_theta"]
        self.log_theta = None if known is None else np.array(known, np.float64)
        self.period = state["period"]


def estimated(sums: Floats) -> Floats | None:
    """Estimate log theta as the logarithm of click rates over that of position 1.

    Parameters
    ----------
    sums
        Impressions and positives by position, shape (2, k).

    Returns
    -------
    array or None
        Of the positions up to the last that is known, NaN for those with fewer than `LEAST`
        positives; None if position 1 has fewer.
    """
    known = np.flatnonzero(sums[_POSITIVE] >= LEAST)
    if not known.size or known[0] != 0:
        return None
    log_theta = np.full(known[-1] + 1, np.nan)
    rate = sums[_POSITIVE, known] / sums[_SHOWN, known]
    log_theta[known] = np.log(rate / rate[0])
    return log_theta


def log_theta_of(log_theta: Floats | None, position: Floats) -> Floats:
    """Return log theta of positions, shape (n,); NaN where it is not known.

    Parameters
    ----------
    log_theta
        By position, from 1 on; None if nothing is known yet, and nothing is to be corrected.
    position
        Float64, NaN for null, shape (n,).

    Examples
    --------
    >>> log_theta_of(np.log([1.0, 0.5]), np.array([1, 2, 3, np.nan])).round(2).tolist()
    [0.0, -0.69, nan, nan]
    """
    known = np.zeros(MOST) if log_theta is None else log_theta
    at = _places(position, known.size)
    found: Floats = np.where(at >= 0, known[at], np.nan)
    return found


def _places(position: Floats, most: int) -> Int64s:
    """Return the index of each position, from 0; -1 of what is no position up to `most`."""
    whole = (position >= 1) & (position <= most) & (position == np.floor(position))
    return np.where(whole, position, 0).astype(np.int64) - 1


def as_theta(log_theta: Floats | None) -> list[float | None]:
    """Return theta by position as JSON types, null where it is not known."""
    if log_theta is None:
        return []
    return [None if np.isnan(value) else float(np.exp(value)) for value in log_theta]


def as_log_theta(theta: Sequence[float | None]) -> Floats | None:
    """Return what `as_theta` returned as an array; None if nothing was known."""
    return np.log(np.array(theta, np.float64)) if theta else None
