"""The figures to judge a run by: without the warm-up, of final labels, and the worst slice."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from headrace.monitoring.ratios import (
    LEVEL,
    against_expected,
    entropy_interval,
    ratios,
)
from headrace.monitoring.statistics import (
    MATURE,
    OTHER,
    P_SUM,
    POSITIVES,
    SAMPLES,
    Floats,
    Statistics,
)
from headrace.schemas.config.durations import DAY

FEWEST_EXPECTED = 20.0
"""A slice is judged if at least so many positives were predicted, by weight."""

Windows = list[tuple[int, Floats]]


def judged(statistics: Statistics, served: Statistics | None) -> Statistics | None:
    """Return the statistics to judge a learner by: those whose labels are final.

    Samples that leave before their label is final tell too few positives. Then the figures as
    served are right, whose labels always are; None if there are none either.
    """
    sums = statistics.totals().get("")
    if sums is None or sums[MATURE] == sums[SAMPLES]:
        return statistics
    return served if served is not None and not served.empty else None


def warm_up(windows: Windows, length: int) -> int:
    """Return how many of the first windows are left out of headline figures.

    Of a log of more than three days those that begin within a day of the first; of a shorter one
    a tenth of them, rounded down.

    Parameters
    ----------
    windows
        By time.
    length
        Of a window, microseconds.
    """
    if not windows:
        return 0
    first, last = windows[0][0], windows[-1][0]
    if last + length - first > 3 * DAY:
        return sum(start < first + DAY for start, _ in windows)
    return len(windows) // 10


def headline(statistics: Statistics) -> dict[str, Any] | None:
    """Return the figures without the warm-up, with intervals; None without windows.

    Returns
    -------
    dict
        ``since``, the start of the first window, microseconds; ``windows`` and ``left_out``, how
        many are in the figures and how many are not; `ratios`; ``log_loss_interval`` and
        ``normalized_entropy_interval``; and ``actual``, by how many times positives are as many
        as predicted, with ``actual_interval``.
    """
    windows = statistics.windows()
    left_out = warm_up(windows, statistics.window)
    kept = windows[left_out:]
    if not kept:
        return None
    table = np.array([sums for _, sums in kept])
    total = table.sum(axis=0)
    of_loss, of_entropy = entropy_interval(table) or (None, None)
    actual = against_expected(total)
    return {
        "since": kept[0][0],
        "windows": len(kept),
        "left_out": left_out,
        **ratios(total),
        "log_loss_interval": of_loss and of_loss.as_json(),
        "normalized_entropy_interval": of_entropy and of_entropy.as_json(),
        "actual": actual and actual[0],
        "actual_interval": actual and actual[1].as_json(),
    }


@dataclass(frozen=True)
class WorstSlice:
    """The value of a slice column whose positives are surest not to be as many as predicted.

    Parameters
    ----------
    slice, value
        Column and value.
    actual, low, high
        By how many times positives are as many as predicted, and the interval in which it is
        with 95 % for all values that were looked at together (Bonferroni).
    samples, positives, expected
        Counts, and the weight of the positives that were predicted.
    among
        How many values were looked at.
    """

    slice: str
    value: str
    actual: float
    low: float
    high: float
    samples: int
    positives: int
    expected: float
    among: int

    @property
    def beyond(self) -> float:
        """By what factor it is surely off, 1 if it may be chance."""
        return max(1.0, self.low, 1 / self.high)


def worst_slice(statistics: Statistics, since: int) -> WorstSlice | None:
    """Return the worst slice from a time on, None if none is large enough.

    Of the values with `FEWEST_EXPECTED` predicted positives it is the one whose interval is the
    furthest from 1, in logarithms: a value is not the worst because it is small. If all
    intervals contain 1, it is the one with the greatest ratio or the least.

    Parameters
    ----------
    statistics
        Of final labels.
    since
        Start of the first window, microseconds.
    """
    large = {
        (name, value): sums
        for name in statistics.slices
        for value, sums in statistics.totals(name, since).items()
        if value != OTHER and sums[P_SUM] >= FEWEST_EXPECTED
    }
    level, found = 1 - (1 - LEVEL) / max(len(large), 1), []
    for (name, value), sums in large.items():
        actual, interval = against_expected(sums, level) or (0.0, None)
        if interval is not None and interval.high is not None:
            counts = int(sums[SAMPLES]), int(sums[POSITIVES]), float(sums[P_SUM]), len(large)
            found.append(WorstSlice(name, value, actual, interval.low, interval.high, *counts))
    return max(found, key=_badness, default=None)


def _badness(of: WorstSlice) -> tuple[float, float]:
    return of.beyond, abs(math.log(of.actual)) if of.actual else math.inf


def bucketed(windows: Windows, length: int, most: int) -> tuple[Windows, int]:
    """Add up windows that follow each other until there are at most so many; also their length.

    Parameters
    ----------
    windows
        By time.
    length
        Of a window, microseconds.
    most
        How many buckets the time from the first to the last window may have.
    """
    if not windows:
        return [], length
    # Buckets begin at multiples of their length, so there may be one more than fit.
    span = (windows[-1][0] - windows[0][0]) // length + 1
    bucket = length * next(n for n in _steps() if span / n + 1 <= most)
    return summed(windows, bucket), bucket


def _steps() -> Iterator[int]:
    yield from (n * 10**power for power in itertools.count() for n in (1, 2, 3, 4, 6))


def summed(windows: Windows, bucket: int) -> Windows:
    """Add up windows by the multiple of a time in which they begin, microseconds."""
    sums: dict[int, Floats] = {}
    for start, of in windows:
        at = start // bucket * bucket
        sums[at] = sums[at] + of if at in sums else of
    return sorted(sums.items(), key=lambda item: item[0])
