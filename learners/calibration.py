"""Calibration after training: from the log-odds of a model to those that labels bear out.

A map is fitted, online, to impressions that have settled: to what was predicted of each when it
was known, and its final label. It is applied to impressions that become known later, so that no
prediction is scored by a map that has seen its label. All kinds are fitted to the same sums, of
impressions by bins of log-odds, and are the same to use: log-odds between knots are interpolated,
and beyond them shifted like the outermost one.

References
----------
.. [1] McMahan et al. 2013, Ad Click Prediction: a View from the Trenches, section 7: piecewise
   linear and isotonic corrections, fitted to aggregated data.
.. [2] Platt 1999, Probabilistic outputs for support vector machines: a sigmoid.
.. [3] Zadrozny and Elkan 2002, Transforming classifier scores into accurate multiclass
   probability estimates: isotonic regression.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from headrace.learners.learner import Floats, probability
from headrace.schemas.config.durations import MINUTE
from headrace.schemas.records.restored import (
    Count,
    Finite,
    Int,
    Text,
    bins,
    checked,
    expect,
    written,
)

Kind = Literal["sigmoid", "isotonic", "piecewise"]

REFIT = 10 * MINUTE
"""A map is fitted anew at multiples of this event time, microseconds."""

LEAST = 100
"""A map is fitted to at least so many impressions of either label; with fewer of a value those
of all values together are used, and with fewer of these none."""

MOST_VALUES = 100
"""So many values of a column have a map of their own, those that come first."""

_BINS, _RANGE = 512, 16.0
_PIECES = 20
_LONGEST = 100_000
"""After so many periods, two years, nothing is left to forget."""
_COUNT, _POSITIVE, _MARGIN = range(3)


_Lists = tuple[
    Annotated[list[Finite], Field(min_length=1, max_length=_BINS)],
    Annotated[list[Finite], Field(min_length=1, max_length=_BINS)],
]


@written
class _WrittenMap:
    by: Text | None
    whole: _Lists | None
    of: dict[Text, _Lists]


@written
class _WrittenState:
    sums: dict[Text, tuple[list[Count], tuple[list[Finite], list[Finite], list[Finite]]]]
    map: dict[Text, Any]
    period: Int | None


@dataclass(frozen=True)
class CalibrationPlan:
    """How predictions are calibrated.

    Parameters
    ----------
    kind
        ``sigmoid``: log-odds become a + b times themselves. ``isotonic``: the rates of bins, made
        to rise. ``piecewise``: the same of twenty groups with equally many of the rarer label.
    by
        A column each value of which has a map of its own; None for one map.
    half_life
        After this event time an impression counts half, microseconds.
    """

    kind: Kind
    by: str | None
    half_life: int


@dataclass(frozen=True)
class Knots:
    """A map of log-odds by points on it; both ascending, float64, shape (k,)."""

    at: Floats
    to: Floats

    def apply(self, margin: Floats) -> Floats:
        """Return the calibrated log-odds, of any shape."""
        inside = np.interp(margin, self.at, self.to)
        beyond = margin - np.clip(margin, self.at[0], self.at[-1])
        applied: Floats = inside + beyond
        return applied


@dataclass(frozen=True)
class CalibrationMap:
    """What a model's predictions are mapped by.

    Parameters
    ----------
    by
        The column that says which map holds for a row; None for one map.
    whole
        The map of all rows whose value has none; None before enough has settled.
    of
        The maps of values.
    """

    by: str | None
    whole: Knots | None
    of: dict[str, Knots]

    def apply(self, margin: Floats, rows: pa.RecordBatch) -> Floats:
        """Return the calibrated log-odds of rows, shape (n,)."""
        calibrated = margin if self.whole is None else self.whole.apply(margin)
        if self.by is None or not self.of:
            return calibrated
        calibrated = calibrated.copy()
        for value, chosen in _by_value(rows.column(self.by)):
            if value in self.of:
                calibrated[chosen] = self.of[value].apply(margin[chosen])
        return calibrated

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON types."""
        maps = {value: _as_lists(knots) for value, knots in sorted(self.of.items())}
        whole = None if self.whole is None else _as_lists(self.whole)
        return {"by": self.by, "whole": whole, "of": maps}

    @classmethod
    def from_json(cls, written: dict[str, Any]) -> CalibrationMap:
        """Read what `as_json` returned.

        Raises
        ------
        DamagedError
            If it is not what `as_json` returns.
        """
        checked(_WrittenMap, written, "map")
        maps = {value: _from_lists(lists) for value, lists in written["of"].items()}
        whole = None if written["whole"] is None else _from_lists(written["whole"])
        return cls(written["by"], whole, maps)


class Calibrator:
    """Sums by log-odds of impressions that have settled, and the map that was last fitted.

    Parameters
    ----------
    plan
        The kind of map.
    """

    def __init__(self, plan: CalibrationPlan) -> None:
        self.plan = plan
        self.sums = {"": np.zeros((3, _BINS))}
        """Of all rows, and by value with an equals sign before it."""
        self.map = CalibrationMap(plan.by, None, {})
        self.period: int | None = None

    def advance(self, period: int) -> None:
        """Fit the map at the beginning of a period, of `REFIT`, if it was not fitted there yet."""
        if self.period is None:
            self.period = period
        if period <= self.period:
            return
        whole, *others = (fit(self.plan.kind, sums) for sums in self.sums.values())
        values = [name.removeprefix("=") for name in list(self.sums)[1:]]
        of = {value: knots for value, knots in zip(values, others, strict=True) if knots}
        self.map = CalibrationMap(self.plan.by, whole, of)
        # A power of several periods would differ from its product by where runs are cut.
        kept = 0.5 ** (REFIT / self.plan.half_life)
        for _ in range(min(period - self.period, _LONGEST)):
            for sums in self.sums.values():
                sums *= kept
        self.period = period

    def observe(self, margin: Floats, label: Floats, rows: pa.RecordBatch) -> None:
        """Add impressions that have settled: their log-odds when known, and final labels, (n,)."""
        _add(self.sums[""], margin, label)
        if self.plan.by is not None:
            for value, chosen in _by_value(rows.column(self.plan.by)):
                name = f"={value}"
                if name not in self.sums:
                    if len(self.sums) > MOST_VALUES:
                        continue
                    self.sums[name] = np.zeros((3, _BINS))
                _add(self.sums[name], margin[chosen], label[chosen])

    def export(self) -> dict[str, Any]:
        """Return the whole state as JSON types."""
        sums = {}
        for name, table in self.sums.items():
            used = np.flatnonzero(table[_COUNT])
            sums[name] = [used.tolist(), table[:, used].tolist()]
        return {"sums": sums, "map": self.map.as_json(), "period": self.period}

    def restore(self, state: dict[str, Any]) -> None:
        """Replace the state by what `export` returned.

        Raises
        ------
        DamagedError
            If it is not what `export` returns.
        """
        checked(_WrittenState, state, "calibration")
        names = list(state["sums"])
        rest = len(names) <= MOST_VALUES + 1 and all(name.startswith("=") for name in names[1:])
        expect(names[:1] == [""] and rest, "calibration", "has other values than are counted")
        expect(state["map"]["by"] == self.plan.by, "map", "is by another column")
        sums = {}
        for name, (used, values) in state["sums"].items():
            table = sums[name] = np.zeros((3, _BINS))
            at = bins(used, _BINS, "bins")
            table[:, at] = np.array(values, np.float64).reshape(3, at.size)
            fit = table[_POSITIVE].min() >= 0 and (table[_POSITIVE] <= table[_COUNT]).all()
            expect(fit, "calibration", "has more positives than impressions")
        self.sums = sums
        self.map = CalibrationMap.from_json(state["map"])
        self.period = state["period"]


def fit(kind: Kind, sums: Floats) -> Knots | None:
    """Fit a map to sums of impressions by bins; None if there are too few of either label.

    Parameters
    ----------
    kind
        The kind of map.
    sums
        Impressions, positives, and the sum of log-odds in each bin, shape (3, bins).
    """
    positives, count = sums[_POSITIVE].sum(), sums[_COUNT].sum()
    if min(positives, count - positives) < LEAST:
        return None
    used = sums[_COUNT] > 0
    n, y, m = (row[used] for row in sums)
    if kind == "sigmoid":
        return _sigmoid(n, y, m / n)
    if kind == "piecewise":
        n, y, m = _grouped(n, y, m)
    from scipy.optimize import isotonic_regression  # a tenth of a second to import

    blocks = isotonic_regression(y / n, weights=n).blocks[:-1]
    n, y, m = (np.add.reduceat(row, blocks) for row in (n, y, m))
    # One more impression of the rate of all: of no label alone do log-odds follow.
    rate = isotonic_regression((y + positives / count) / (n + 1), weights=n).x
    return Knots(m / n, np.log(rate) - np.log1p(-rate))


def _sigmoid(n: Floats, y: Floats, s: Floats) -> Knots:
    """Fit logit(rate) = a + b s by Newton's method, with a weak pull towards a = 0, b = 1."""
    design = np.stack([np.ones_like(s), s])
    start = beta = np.array([0.0, 1.0])
    for _ in range(50):
        p = probability(beta @ design)
        gradient = design @ (y - n * p) - (beta - start)
        hessian = (design * (n * p * (1 - p))) @ design.T + np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        # Far from the optimum a whole step may overshoot.
        beta = beta + step / max(1.0, float(np.abs(step).max()))
        if np.abs(step).max() < 1e-10:
            break
    ends = np.array([-_RANGE, _RANGE])
    return Knots(ends, beta[0] + max(beta[1], 0.0) * ends)


def _grouped(n: Floats, y: Floats, m: Floats) -> tuple[Floats, Floats, Floats]:
    """Put neighbouring bins together into groups with about equally many of the rarer label."""
    total = np.cumsum(y if 2 * y.sum() < n.sum() else n - y)
    begins = np.flatnonzero(np.diff(np.ceil(total * _PIECES / total[-1]), prepend=-1))
    n, y, m = (np.add.reduceat(row, begins) for row in (n, y, m))
    return n, y, m


def _add(sums: Floats, margin: Floats, label: Floats) -> None:
    margin = np.clip(margin, -_RANGE, _RANGE)
    at = ((margin + _RANGE) * (_BINS / (2 * _RANGE))).astype(np.int64)
    at = np.minimum(at, _BINS - 1)
    np.add.at(sums[_COUNT], at, 1.0)
    np.add.at(sums[_POSITIVE], at, label)
    np.add.at(sums[_MARGIN], at, margin)


def _by_value(column: pa.Array) -> list[tuple[str, Any]]:
    """Return each value of a column as text, as they first come, with its rows; no null."""
    encoded = pc.cast(column, pa.string()).dictionary_encode()
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    return [(value, np.flatnonzero(codes == code))
            for code, value in enumerate(encoded.dictionary.to_pylist())]  # fmt: skip


def _as_lists(knots: Knots) -> list[list[float]]:
    return [knots.at.tolist(), knots.to.tolist()]


def _from_lists(lists: list[list[float]]) -> Knots:
    at, to = (np.array(of, np.float64) for of in lists)
    ascending = at.size == to.size and (np.diff(at) >= 0).all() and (np.diff(to) >= 0).all()
    expect(ascending, "map", "has points that do not ascend")
    return Knots(at, to)
