"""Ratios from sums, and how surely each is known: what the report and the summary show.

Intervals are of 95 %. Samples are weighted where negatives were sampled, so how much they say
is told by the sums of squares of weights; without weights every interval here is the textbook's.

References
----------
.. [1] He et al., Practical Lessons from Predicting Clicks on Ads at Facebook,
   ADKDD 2014: normalised entropy (eq. 1) and calibration (section 2).
.. [2] Fawcett, An introduction to ROC analysis, Pattern Recognition Letters
   27 (2006), algorithm 2: AUC by the trapezoidal rule, ties counted half.
.. [3] Brown, Cai and DasGupta, Interval estimation for a binomial proportion, Statistical
   Science 16 (2001), eq. 4: Wilson's interval.
.. [4] Garwood, Fiducial limits for the Poisson distribution, Biometrika 28 (1936).
.. [5] Bohm and Zech, Statistics of weighted Poisson events and its applications, Nuclear
   Instruments and Methods A 748 (2014), section 2.3: the scaled Poisson distribution.
.. [6] DeLong, DeLong and Clarke-Pearson, Comparing the areas under two or more correlated
   receiver operating characteristic curves, Biometrics 44 (1988), eq. 4 and 5.
.. [7] Cameron and Miller, A practitioner's guide to cluster-robust inference, Journal of Human
   Resources 50 (2015), section II.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from headrace.monitoring.quantiles import gamma_quantile, normal_quantile, student_quantile
from headrace.monitoring.statistics import (
    LOGIT_BINS,
    LOGIT_RANGE,
    LOSS,
    MATURE,
    P_SUM,
    POSITIVE_SQUARES,
    POSITIVE_WEIGHT,
    POSITIVES,
    SAMPLES,
    SQUARES,
    WEIGHT,
    Floats,
)

LEVEL = 0.95
ECE_GROUPS = 32
"""The calibration error is summed over groups of log-odds of width 1, over ``[-16, 16)``."""
_NOTHING = 1e-100
"""So little predicted is nothing: a ratio to it need not be a number."""
FEWEST_WINDOWS = 5
"""From fewer windows no interval of a log loss is given."""


@dataclass(frozen=True)
class Interval:
    """The 95 % interval of a figure; `high` is None if there is no upper end."""

    low: float
    high: float | None

    def as_json(self) -> list[float | None]:
        """Return both ends."""
        return [self.low, self.high]


def entropy(rate: float) -> float:
    """Return the entropy of a Bernoulli variable in nats, 0 if the rate is not inside (0, 1).

    Examples
    --------
    >>> round(entropy(0.5), 6)
    0.693147
    """
    if rate <= 0.0 or rate >= 1.0:
        return 0.0
    return -(rate * math.log(rate) + (1 - rate) * math.log(1 - rate))


def ratios(sums: Floats) -> dict[str, Any]:
    """Return the ratios of one row of sums, shape (9,); None where one is undefined.

    ``normalized_entropy`` is against the entropy of the row's own label rate, ``calibration``
    the sum of predictions over the weight of positives.
    """
    weight, positive = float(sums[WEIGHT]), float(sums[POSITIVE_WEIGHT])
    rate = positive / weight if weight else None
    log_loss = float(sums[LOSS]) / weight if weight else None
    base = entropy(rate) if rate is not None else 0.0
    return {
        "samples": int(sums[SAMPLES]),
        "positives": int(sums[POSITIVES]),
        "mature": int(sums[MATURE]),
        "weight": weight,
        "label_rate": rate,
        "label_rate_interval": _json(rate_interval(sums)),
        "log_loss": log_loss,
        "normalized_entropy": log_loss / base if log_loss is not None and base else None,
        "calibration": float(sums[P_SUM]) / positive if positive else None,
        "calibration_interval": _json(calibration_interval(sums)),
    }


def _json(interval: Interval | None) -> list[float | None] | None:
    return None if interval is None else interval.as_json()


def rate_interval(sums: Floats) -> Interval | None:
    """Return Wilson's interval [3]_ of the label rate; None without samples.

    With weights the number of samples is the one of which a binomial proportion would have the
    same variance: ``r (1 - r) / V``, where ``V = (w * w * (y - r) ** 2).sum() / w.sum() ** 2``.
    """
    weight = float(sums[WEIGHT])
    if not weight:
        return None
    rate = float(sums[POSITIVE_WEIGHT]) / weight
    of_positives = float(sums[POSITIVE_SQUARES])
    spread = (1 - rate) ** 2 * of_positives + rate**2 * (float(sums[SQUARES]) - of_positives)
    # Both are 0 if all labels are the same; rounded sums of weights may be beyond that.
    variance = rate * (1 - rate)
    if min(variance, spread) <= 0:
        variance, spread = 0.0, 0.0
    n = weight**2 * (variance / spread if spread else 1 / float(sums[SQUARES]))
    z = normal_quantile((1 + LEVEL) / 2)
    middle, half = rate + z**2 / (2 * n), z * math.sqrt(variance / n + (z / n) ** 2 / 4)
    return Interval(
        max(0.0, (middle - half) / (1 + z**2 / n)), min(1.0, (middle + half) / (1 + z**2 / n))
    )


def against_expected(sums: Floats, level: float = LEVEL) -> tuple[float, Interval] | None:
    """Return by how many times positives are as many as was predicted, with its interval.

    That of k positives is exact for a Poisson variable [4]_. With weights, k is the number of
    positives of equal weight that say as much, ``(w * y).sum() ** 2 / (w * w * y).sum()`` [5]_.

    Returns
    -------
    tuple of float and Interval
        ``(w * y).sum() / (w * p).sum()``; None if nothing was predicted. Also defined without
        positives, where the lower end is 0.
    """
    expected, positive = float(sums[P_SUM]), float(sums[POSITIVE_WEIGHT])
    if not expected > _NOTHING:
        return None
    squares = float(sums[POSITIVE_SQUARES])
    k = positive**2 / squares if squares else 0.0
    # Without positives, the weight that one of them would have is that of a sample.
    one = squares / positive if positive else float(sums[SQUARES] / sums[WEIGHT])
    tail = (1 - level) / 2
    low = gamma_quantile(k, tail) if k else 0.0
    high = gamma_quantile(k + 1, 1 - tail)
    return positive / expected, Interval(low * one / expected, high * one / expected)


def calibration_interval(sums: Floats) -> Interval | None:
    """Return the interval of the sum of predictions over the weight of positives.

    None where calibration is undefined.
    """
    found = against_expected(sums)
    if found is None or not found[0]:
        return None
    inverse = found[1]
    assert inverse.high
    return Interval(1 / inverse.high, 1 / inverse.low if inverse.low else None)


def entropy_interval(windows: Floats) -> tuple[Interval, Interval] | None:
    """Return the intervals of log loss and normalised entropy over windows.

    Samples of one time are alike in what predictions get wrong, so a window is one observation
    [7]_, and the interval Student's.

    Parameters
    ----------
    windows
        Sums of each, shape (n, 9).

    Returns
    -------
    tuple of Interval
        Of log loss, and of normalised entropy; None from fewer than `FEWEST_WINDOWS` windows, or
        if entropy is 0.
    """
    weight, positive, loss = (windows[:, at] for at in (WEIGHT, POSITIVE_WEIGHT, LOSS))
    total, count = weight.sum(), len(windows)
    rate = float(positive.sum() / total) if total else 0.0
    base = entropy(rate)
    if count < FEWEST_WINDOWS or not base:
        return None
    mean = float(loss.sum() / total)
    # By how much each window moves log loss, and by the rate's entropy, their ratio.
    moves = loss - mean * weight
    slope = math.log((1 - rate) / rate)
    relative = moves - mean / base * slope * (positive - rate * weight)
    t = student_quantile(count - 1, (1 + LEVEL) / 2)
    found = []
    for figure, of in ((mean, moves / total), (mean / base, relative / (total * base))):
        half = t * math.sqrt(float((of**2).sum()) * count / (count - 1))
        found.append(Interval(max(0.0, figure - half), figure + half))
    return found[0], found[1]


def auc(bins: Floats) -> float | None:
    """Return the area under the ROC curve from counts by predicted log-odds.

    A pair of a positive and a negative in one bin counts half, whatever the order of
    the two. So this differs from the exact area by at most half the share of such
    pairs, ``(negative * positive).sum() / 2`` over all pairs: with bins of 1/512,
    3e-4 / s for log-odds of standard deviation s, and in practice far less, because
    most errors cancel. Log-odds beyond ±16 are all in the outermost bin.

    Parameters
    ----------
    bins
        Weight of negatives and of positives by bin, shape (2, bins).

    Returns
    -------
    float
        In [0, 1]; None without positives or without negatives.
    """
    negative, positive = bins
    pairs = negative.sum() * positive.sum()
    if not pairs:
        return None
    return float((positive * _below(negative)).sum() / pairs)


def _below(counts: Floats) -> Floats:
    """Return how many lie below each bin, and half of those in it."""
    return np.cumsum(counts) - counts / 2


def auc_interval(bins: Floats, sums: Floats) -> Interval | None:
    """Return DeLong's interval [6]_ of the AUC.

    With weights, the numbers of positives and negatives are those of equal weight that say as
    much.

    Parameters
    ----------
    bins
        Weight of negatives and of positives by bin, shape (2, bins).
    sums
        Of the same samples, shape (9,).

    Returns
    -------
    Interval
        None without two of each, or if all pairs are in order (or none), which says nothing of
        how surely.
    """
    area = auc(bins)
    if area is None or not 0.0 < area < 1.0:
        return None
    negative, positive = bins / bins.sum(axis=1, keepdims=True)
    squares = sums[POSITIVE_SQUARES], sums[SQUARES] - sums[POSITIVE_SQUARES]
    weights = sums[POSITIVE_WEIGHT], sums[WEIGHT] - sums[POSITIVE_WEIGHT]
    m, n = (float(of**2 / square) for of, square in zip(weights, squares, strict=True))
    if min(m, n) < 2:
        return None
    of_positives = float((positive * (_below(negative) - area) ** 2).sum())
    of_negatives = float((negative * (1 - _below(positive) - area) ** 2).sum())
    # A share of m equal parts has the variance of m - 1.
    half = normal_quantile((1 + LEVEL) / 2) * math.sqrt(
        of_positives / (m - 1) + of_negatives / (n - 1)
    )
    return Interval(max(0.0, area - half), min(1.0, area + half))


def calibration_error(bins: Floats) -> float | None:
    """Return the expected calibration error over `ECE_GROUPS` groups of equal width of log-odds.

    The mean of ``abs(label rate - mean prediction)`` of the groups, each by its weight. Noise
    does not cancel in it: it is above 0 of a perfect model too, and less so of more samples.
    None without samples.
    """
    weight = bins.sum(axis=0)
    total = float(weight.sum())
    if not total:
        return None
    of_positives, of_predictions = (
        of.reshape(ECE_GROUPS, -1).sum(axis=1) for of in (bins[1], weight * middles())
    )
    return float(np.abs(of_positives - of_predictions).sum() / total)


def middles() -> Floats:
    """Return the probability in the middle of each bin of log-odds, shape (LOGIT_BINS,)."""
    from scipy.special import expit  # as late as the quantiles

    centre = (np.arange(LOGIT_BINS) + 0.5) * (2 * LOGIT_RANGE / LOGIT_BINS) - LOGIT_RANGE
    return expit(centre)
