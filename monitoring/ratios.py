"""Ratios from sums: what the report and the summary show.

References
----------
.. [1] He et al., Practical Lessons from Predicting Clicks on Ads at Facebook,
   ADKDD 2014: normalised entropy (eq. 1) and calibration (section 2).
.. [2] Fawcett, An introduction to ROC analysis, Pattern Recognition Letters
   27 (2006), algorithm 2: AUC by the trapezoidal rule, ties counted half.
"""

from __future__ import annotations

import math

import numpy as np

from headrace.monitoring.statistics import (
    LOSS,
    P_SUM,
    POSITIVE_WEIGHT,
    POSITIVES,
    SAMPLES,
    WEIGHT,
    Floats,
)


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


def ratios(sums: Floats) -> dict[str, float | int | None]:
    """Return the ratios of one row of sums, shape (6,); None where one is undefined.

    ``calibration`` is the sum of predictions over the weight of positives.
    """
    weight, positive = float(sums[WEIGHT]), float(sums[POSITIVE_WEIGHT])
    rate = positive / weight if weight else None
    log_loss = float(sums[LOSS]) / weight if weight else None
    base = entropy(rate) if rate is not None else 0.0
    return {
        "samples": int(sums[SAMPLES]),
        "positives": int(sums[POSITIVES]),
        "weight": weight,
        "label_rate": rate,
        "log_loss": log_loss,
        "normalized_entropy": log_loss / base if log_loss is not None and base else None,
        "calibration": float(sums[P_SUM]) / positive if positive else None,
    }


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
    below = np.concatenate([[0.0], np.cumsum(negative)[:-1]])
    return float((positive * (below + negative / 2)).sum() / pairs)
