"""Pairwise accuracy: whether what is clicked ranks above what is not, alike in every slice.

Of a value of a slice column it is the probability that a clicked impression of the value has
higher log-odds than one that was not clicked: one of the same value (intra), or one of any other
(inter) [1]_. Clicks follow the ranking that was shown, so each weighs 1 / propensity, at most
`MOST_WEIGHT`, and sums are divided by the sum of weights [2]_; without propensities it would be a
figure about the old ranking. Pairs here are of the whole log and not of one request, and all that
was not clicked weighs 1: where clicks are rare, nearly all of it is not relevant.

Only histograms are kept, which are added up in canonical order, so that they are the same
wherever epochs are cut.

References
----------
.. [1] Beutel et al., Fairness in recommendation ranking through pairwise comparisons, KDD 2019,
   section 4: pairwise, intra-group and inter-group accuracy.
.. [2] Swaminathan and Joachims, The self-normalized estimator for counterfactual learning,
   NIPS 2015: weights that are divided by their sum.
.. [3] Kish, Survey sampling, 1965: so many of equal weight say as much.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headrace.monitoring.exported import check_version, packed, unpacked, unpacked_places
from headrace.monitoring.frequent import FrequentValues, numbered
from headrace.monitoring.quantiles import normal_quantile
from headrace.monitoring.ratios import LEVEL, Interval, auc
from headrace.monitoring.statistics import LOGIT_RANGE, OTHER, Floats, Int64s
from headrace.schemas.records.restored import Count, Text, checked, expect, written
from headrace.schemas.records.slicing import as_texts

PAIRWISE_VERSION = 1
"""Version of what `Pairwise.export` returns."""

MOST_VALUES = 50
"""So many values of a slice column have histograms of their own, the most frequent ones."""

MOST_WEIGHT = 100.0
"""The most that a click weighs: propensities below 0.01 are taken as 0.01."""

FEWEST_EFFECTIVE = 50.0
"""Of fewer effective clicks there is no figure."""

_BINS = 1024
"""Equal bins of log-odds over ``[-16, 16)``, clipped; a pair in one bin counts half."""

_UNCLICKED, _CLICKS, _WEIGHT, _SQUARES = range(4)
"""Histograms: what was not clicked, clicks, the sum of their weights, and that of the squares."""


@written
class _Written:
    version: Count
    keys: list[tuple[Text, Text]]
    filled: Text
    sums: Text
    left_out: Count
    clipped: Count
    values: dict[Text, dict[Text, Any]]


class Pairwise:
    """Histograms of served log-odds of what was clicked and what was not, by value.

    Parameters
    ----------
    slices
        Names of the slice columns.

    Attributes
    ----------
    left_out
        Impressions without a propensity in (0, 1].
    clipped
        Clicks that would have weighed more than `MOST_WEIGHT`.
    """

    def __init__(self, slices: tuple[str, ...]) -> None:
        self.slices = slices
        self.values = {name: FrequentValues(MOST_VALUES) for name in slices}
        self.left_out = self.clipped = 0
        self.rows: dict[tuple[str, str], int] = {}
        self.sums = np.zeros((8, 4, _BINS))
        self._free: list[int] = []

    def observe(
        self, margin: Floats, label: Floats, propensity: Floats, slices: dict[str, pa.Array]
    ) -> None:
        """Add impressions, which must come in canonical order over all calls.

        Parameters
        ----------
        margin, label, propensity
            Log-odds as served, final label 0 or 1, and propensity, NaN for null; shape (n,).
        slices
            Columns to slice by, each of shape (n,).
        """
        valid = (propensity > 0.0) & (propensity <= 1.0)
        self.left_out += int(valid.size - np.count_nonzero(valid))
        margin, label, propensity = margin[valid], label[valid], propensity[valid]
        clicked = label > 0
        weight = 1.0 / np.maximum(propensity, 1.0 / MOST_WEIGHT)
        self.clipped += int(np.count_nonzero(clicked & (propensity < 1.0 / MOST_WEIGHT)))
        at = ((margin + LOGIT_RANGE) * (_BINS / (2 * LOGIT_RANGE))).clip(0, _BINS - 1)
        bins = at.astype(np.int64)
        self._add(np.full(bins.size, self._row("", "")), bins, clicked, weight)
        for name, frequent in self.values.items():
            texts = as_texts(slices[name]).filter(pa.array(valid))
            for begin, end in frequent.parts(bins.size):
                values, counts, index = numbered(texts.slice(begin, end - begin))
                kept = frequent.count(values, counts)
                rows = np.array([
                    self._row(name, value if own else OTHER)
                    for value, own in zip(values, kept, strict=True)
                ], np.int64)  # fmt: skip
                here = slice(begin, end)
                self._add(rows[index], bins[here], clicked[here], weight[here])
                self._give_up(name, frequent.advance(end - begin))

    def _add(
        self, row: Int64s, bins: Int64s, clicked: npt.NDArray[np.bool_], weight: Floats
    ) -> None:
        sums, at = self.sums.reshape(-1), row * (4 * _BINS) + bins
        # One after the other, so that sums do not depend on where epochs are cut.
        np.add.at(sums, at[~clicked] + _UNCLICKED * _BINS, 1.0)
        at, weight = at[clicked], weight[clicked]
        for kind, addend in ((_CLICKS, 1.0), (_WEIGHT, weight), (_SQUARES, weight**2)):
            np.add.at(sums, at + kind * _BINS, addend)

    def _row(self, name: str, value: str) -> int:
        """Return the place of a value's histograms, a new one of zeros if it has none."""
        if (row := self.rows.get((name, value))) is not None:
            return row
        row = self._free.pop() if self._free else len(self.rows)
        if row == len(self.sums):
            self.sums = np.concatenate([self.sums, np.zeros_like(self.sums)])
        self.rows[name, value] = row
        return row

    def _give_up(self, name: str, values: list[str]) -> None:
        """Add the histograms of values of a column to those of `OTHER`."""
        for value in values:
            if value != OTHER and (name, value) in self.rows:
                other, row = self._row(name, OTHER), self.rows.pop((name, value))
                self.sums[other] += self.sums[row]
                self.sums[row] = 0.0
                self._free.append(row)

    def merge(self, other: Pairwise) -> None:
        """Add the histograms of other impressions; see `Statistics.merge` on what it keeps.

        Raises
        ------
        ValueError
            If slice columns differ.
        """
        if self.slices != other.slices:
            raise ValueError(f"slices must be {self.slices} (got {other.slices})")
        self.left_out += other.left_out
        self.clipped += other.clipped
        for key, row in other.rows.items():
            self.sums[self._row(*key)] += other.sums[row]
        for name, frequent in self.values.items():
            self._give_up(name, frequent.merge(other.values[name]))

    def histograms(self, column: str = "") -> dict[str, Floats]:
        """Return the histograms of the values of a column, each of shape (4, 1024).

        The column ``""`` has one value ``""``, which stands for all impressions.
        """
        return {
            value: self.sums[row] for (name, value), row in sorted(self.rows.items())
            if name == column
        }  # fmt: skip

    def export(self) -> dict[str, Any]:
        """Return the whole state as JSON types; arrays are bytes in base 64."""
        rows = self.sums[list(self.rows.values())]
        filled = np.flatnonzero(rows.any(axis=(0, 1)))
        return {
            "version": PAIRWISE_VERSION,
            "keys": list(self.rows),
            "filled": packed(filled),
            "sums": packed(rows[:, :, filled]),
            "left_out": self.left_out,
            "clipped": self.clipped,
            "values": {name: frequent.export() for name, frequent in self.values.items()},
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Replace the state by what `export` returned; of other slice columns there is nothing.

        Raises
        ------
        StateVersionError
            If the state has another version.
        DamagedError
            If it is not what `export` returns.
        """
        check_version(state, PAIRWISE_VERSION, "pairwise accuracy")
        checked(_Written, state, "pairwise accuracy")
        keys = [(name, value) for name, value in state["keys"]]
        expect(len(set(keys)) == len(keys), "pairwise accuracy", "has a value twice")
        filled = unpacked_places(state["filled"], _BINS)
        sums = unpacked(state["sums"], np.float64, (len(keys), 4, filled.size))
        own = [at for at, (name, _) in enumerate(keys) if name in ("", *self.values)]
        self.rows, self._free = {keys[at]: row for row, at in enumerate(own)}, []
        self.sums = np.zeros((max(8, len(own)), 4, _BINS))
        self.sums[: len(own), :, filled] = sums[own]
        self.left_out, self.clipped = state["left_out"], state["clipped"]
        for name, frequent in self.values.items():
            if name in state["values"]:
                frequent.restore(state["values"][name])


def effective(clicked: Floats) -> float:
    """Return how many clicks of equal weight would say as much [3]_.

    Parameters
    ----------
    clicked
        Histograms, shape (4, 1024).
    """
    squares = float(clicked[_SQUARES].sum())
    return float(clicked[_WEIGHT].sum()) ** 2 / squares if squares else 0.0


def accuracy(clicked: Floats, unclicked: Floats) -> tuple[float, Interval | None] | None:
    """Return how often a click is above what was not clicked, and its 95 % interval.

    The interval is DeLong's, with the weights of clicks as they are in each bin: clicks that were
    improbable may also have other log-odds.

    Parameters
    ----------
    clicked
        Histograms of the one, shape (4, 1024).
    unclicked
        Counts of the other by bin, shape (1024,).

    Returns
    -------
    tuple of float and Interval
        None of fewer than `FEWEST_EFFECTIVE` effective clicks, or if nothing is without a click.
        The interval is None if all pairs are in order, or none, which says nothing of how surely.
    """
    m, n = effective(clicked), float(unclicked.sum())
    area = auc(np.stack([unclicked, clicked[_WEIGHT]])) if m >= FEWEST_EFFECTIVE else None
    if area is None:
        return None
    if not 0.0 < area < 1.0 or n < 2:
        return area, None
    of_unclicked = unclicked / n
    of_clicked = clicked[_WEIGHT] / clicked[_WEIGHT].sum()
    squares = clicked[_SQUARES] / clicked[_WEIGHT].sum() ** 2
    # A share of m equal parts has the variance of m - 1.
    variance = m / (m - 1) * float((squares * (_below(of_unclicked) - area) ** 2).sum())
    variance += float((of_unclicked * (1 - _below(of_clicked) - area) ** 2).sum()) / (n - 1)
    half = normal_quantile((1 + LEVEL) / 2) * math.sqrt(variance)
    return area, Interval(max(0.0, area - half), min(1.0, area + half))


def _below(shares: Floats) -> Floats:
    """Return how much lies below each bin, and half of what is in it."""
    return np.cumsum(shares) - shares / 2


def pairwise_figures(pairwise: Pairwise) -> dict[str, Any]:
    """Return the figures of all impressions and of each value, as JSON types.

    Values are in order of their impressions, the most first; what is together as `OTHER` is not
    one of them, but what was not clicked of it is beside every value.

    Returns
    -------
    dict
        See `headrace.schemas.summary.PairwiseSummary`, but for ``propensity``.
    """
    whole = pairwise.histograms().get("", np.zeros((4, _BINS)))
    found = []
    for column in pairwise.slices:
        of = pairwise.histograms(column)
        order = sorted(of, key=lambda value: (-_size(of[value]), value))
        for value in itertools.filterfalse(OTHER.__eq__, order):
            own = of[value]
            found.append({
                "slice": column, "value": value, **_counts(own),
                **_figure("intra", own, own[_UNCLICKED]),
                **_figure("inter", own, whole[_UNCLICKED] - own[_UNCLICKED]),
            })  # fmt: skip
    return {
        "samples": _size(whole),
        "left_out": pairwise.left_out,
        "clipped": pairwise.clipped,
        **_counts(whole),
        **_figure("accuracy", whole, whole[_UNCLICKED]),
        "slices": found,
    }


def _size(histograms: Floats) -> int:
    return int(histograms[[_UNCLICKED, _CLICKS]].sum())


def _counts(histograms: Floats) -> dict[str, Any]:
    return {
        "positives": int(histograms[_CLICKS].sum()),
        "effective_positives": effective(histograms),
        "unclicked": int(histograms[_UNCLICKED].sum()),
    }


def _figure(name: str, clicked: Floats, unclicked: Floats) -> dict[str, Any]:
    found = accuracy(clicked, unclicked)
    if found is None:
        return {name: None, f"{name}_interval": None}
    return {name: found[0], f"{name}_interval": found[1] and found[1].as_json()}
