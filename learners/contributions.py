"""What each feature, and each pair of features, adds to the margin of a row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from headrace.learners.exact import ExactLearner
from headrace.learners.features import FeatureRows
from headrace.learners.learner import Floats, Learner
from headrace.learners.models.ffm import FfmModel
from headrace.learners.models.probit import ProbitModel
from headrace.learners.models.small import SmallModel
from headrace.learners.weights import counting_features, feature_effects
from headrace.schemas.records.hashing import Int64s

_PAIRS = 1 << 18


@dataclass(frozen=True)
class Contributions:
    """What the margins of n rows are made of.

    Those of a row add up to its margin, but for rounding: learners add in their own order.

    Parameters
    ----------
    features
        What each feature adds, float64, shape (starts[n],).
    row, first, second
        Of each pair of features that adds something its row, and the places of the two
        among all features; int64, shape (m,), in order of rows.
    pairs
        What each pair adds, float64, shape (m,).
    """

    features: Floats
    row: Int64s
    first: Int64s
    second: Int64s
    pairs: Floats


def contributions(learner: Learner, rows: FeatureRows, margin: Floats) -> Contributions:
    """Take margins apart.

    Parameters
    ----------
    learner
        Its margin is a sum over features, and of a factorisation machine over pairs of them
        too. The probit has a margin that is a function of such a sum, and is shared out in
        proportion to its parts. In an exact table a feature that does not count adds 0, and is
        in no pair.
    rows
        The features of n rows.
    margin
        What the learner predicts of them, float64, shape (n,).
    """
    if isinstance(learner, ExactLearner):
        located, places = counting_features(learner, rows)
        parts = contributions(learner.model, located, margin)
        features = np.zeros(rows.indices.size)
        features[places] = parts.features
        first, second = places[parts.first], places[parts.second]
        return replace(parts, features=features, first=first, second=second)
    effects = feature_effects(learner, rows)
    none = np.empty(0, np.int64)
    if isinstance(learner, FfmModel):
        pairs = list(_pairs(learner, rows, effects))
        row, first, second = (np.concatenate([none, *(part[at] for part in pairs)])
                              for at in range(3))  # fmt: skip
        return Contributions(
            effects, row, first, second, np.concatenate([np.empty(0), *(part[3] for part in pairs)])
        )
    is_small_probit = isinstance(learner, SmallModel) and learner.beta is not None
    if isinstance(learner, ProbitModel) or is_small_probit:
        row = np.repeat(np.arange(margin.size), np.diff(rows.starts))
        score = np.bincount(row, effects, margin.size)
        with np.errstate(divide="ignore", invalid="ignore"):
            effects = effects * np.where(score == 0, 0.0, margin / score)[row]
    return Contributions(effects, none, none, none, np.empty(0))


def _pairs(
    learner: Learner, rows: FeatureRows, effects: Floats
) -> Iterator[tuple[Int64s, Int64s, Int64s, Floats]]:
    """Yield rows, places and effects of pairs, of some rows at a time.

    What two features add together is what a row of both has beyond each of them alone. A
    row's pairs are divided by the sum of its squared values, so that of two by theirs.
    """
    widths = np.diff(rows.starts)
    squares = (
        np.square(rows.values, dtype=np.float64) if rows.values.size else np.ones(rows.indices.size)
    )
    totals = np.bincount(np.repeat(np.arange(widths.size), widths), squares, widths.size)
    ends = np.cumsum(widths * (widths - 1) // 2)
    begin = 0
    while begin < widths.size:
        done = ends[begin - 1] if begin else 0
        end = max(int(np.searchsorted(ends, done + _PAIRS, side="right")), begin + 1)
        row, first, second = _places(rows.starts, begin, end)
        if row.size:
            beside = squares[first] + squares[second]
            margin = learner.predict(_of_two(rows, first, second))
            both = (margin - (effects[first] + effects[second])) * (beside / totals[row])
            yield row, first, second, both
        begin = end


def _places(starts: Int64s, begin: int, end: int) -> tuple[Int64s, Int64s, Int64s]:
    """Return row and places of all pairs of features of the rows ``[begin, end)``."""
    row = np.repeat(np.arange(begin, end), np.diff(starts[begin : end + 1]))
    place = np.arange(starts[begin], starts[end])
    later = starts[row + 1] - place - 1  # features of the row after this one
    first = np.repeat(place, later)
    within = np.arange(first.size) - np.repeat(np.cumsum(later) - later, later)
    return np.repeat(row, later), first, first + 1 + within


def _of_two(rows: FeatureRows, first: Int64s, second: Int64s) -> FeatureRows:
    """Return rows of two features each, with the fields and codes that these have in `rows`."""
    places = np.stack([first, second], axis=1).reshape(-1)
    values = rows.values[places] if rows.values.size else rows.values
    whole, origin = rows.source or (rows, np.arange(rows.indices.size))
    starts = np.arange(0, places.size + 1, 2)
    return FeatureRows(starts, rows.indices[places], values, source=(whole, origin[places]))
