"""What samples tell of one label, learned or not: its rate over time, its delays, its coverage."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from headrace.monitoring.delays import DelayHistogram
from headrace.monitoring.headline import Windows, summed
from headrace.monitoring.ratios import rate_interval
from headrace.monitoring.shifts import Shifts
from headrace.monitoring.statistics import (
    POSITIVE_SQUARES,
    POSITIVE_WEIGHT,
    POSITIVES,
    SAMPLES,
    SQUARES,
    SUMS,
    WEIGHT,
    Floats,
    Int64s,
)
from headrace.schemas.config.durations import DAY, HOUR, SECOND, iso_moment

PARTS = {"quarter": 4, "half": 2, "window": 1}
"""Parts of the window by which actions may have come, each the window over so much."""
_ROUNDING = 1e-9
_HOURLY = 3 * DAY
"""A log that is longer has bins of a day."""


class LabelSums:
    """Sums over the samples of one label; additive.

    Parameters
    ----------
    window
        Of its actions, microseconds.
    """

    def __init__(self, window: int) -> None:
        self.window = window
        self.delays = DelayHistogram()
        self.shifts = Shifts()
        self.met: Counter[int] = Counter()
        """First actions by the hour of their own event time."""
        self.within = dict.fromkeys(PARTS, 0)
        self._hours: dict[int, Floats] = {}

    def add_impressions(self, time: Int64s, rate: Floats) -> None:
        """Add impressions: event times, and with which probability each was kept, shape (n,)."""
        weight = 1.0 / rate
        self._add(time, {SAMPLES: np.ones(time.size), WEIGHT: weight, SQUARES: weight**2})

    def add_positives(self, shown: Int64s, time: Int64s, rate: Floats) -> None:
        """Add impressions that have an action.

        Parameters
        ----------
        shown, time
            Event times of impressions and of their first actions, int64 microseconds, shape (n,).
        rate
            With which probability each was kept, float64, shape (n,).
        """
        weight = 1.0 / rate
        self._add(
            shown,
            {POSITIVES: np.ones(time.size), POSITIVE_WEIGHT: weight, POSITIVE_SQUARES: weight**2},
        )
        delay = time - shown
        self.delays.add(delay)
        self.shifts.add_met(delay)
        for name, part in PARTS.items():
            # The window is open at its end; so are its parts.
            self.within[name] += int(np.count_nonzero(delay * part < self.window))
        hours, counts = np.unique(time // HOUR, return_counts=True)
        for hour, count in zip(hours.tolist(), counts.tolist(), strict=True):
            self.met[hour * HOUR] += count

    def _add(self, time: Int64s, sums: Mapping[int, Floats]) -> None:
        """Add sums to the hours of impressions, by their place in a row."""
        if not time.size:
            return
        hour = time // HOUR
        first = int(hour.min())
        place = hour - first
        count = np.bincount(place)
        table = np.zeros((count.size, len(SUMS)))
        for at, of in sums.items():
            table[:, at] = np.bincount(place, of)
        for at in np.flatnonzero(count).tolist():
            start = (first + at) * HOUR
            self._hours[start] = self._hours.get(start, 0.0) + table[at]

    @property
    def hours(self) -> Windows:
        """Sums by the hour of the impressions, in order; those of predictions are 0."""
        return sorted(self._hours.items())

    @property
    def reach(self) -> int:
        """By when 99 % of the actions had come, microseconds; the window if there are none."""
        return min(self.delays.reach(0.99), self.window)

    def as_json(self, outside_window: int) -> dict[str, Any]:
        """Return rates and coverage as JSON types, see `headrace.schemas.summary.LabelSummary`."""
        bins, length = binned(self.hours)
        total = sum((of for _, of in bins), np.zeros(len(SUMS)))
        known = self.within["window"] + outside_window
        return {
            **_rates(total),
            "coverage": {
                name: count / known if known else None for name, count in self.within.items()
            },
            "delays": self.delays.as_json(self.window),
            "bin_s": length / SECOND,
            "bins": [{"start": iso_moment(start), **_rates(sums)} for start, sums in bins],
        }


def binned(hours: Windows) -> tuple[Windows, int]:
    """Add up hours to days if there are more than three days of them; also the length of a bin."""
    if hours and hours[-1][0] + HOUR - hours[0][0] > _HOURLY:
        return summed(hours, DAY), DAY
    return hours, HOUR


def _rates(sums: Floats) -> dict[str, Any]:
    weight, positive = float(sums[WEIGHT]), float(sums[POSITIVE_WEIGHT])
    # With an early emission what positives were at first may have been left out by sampling, or
    # have left in a run before. Equal weights may differ by what their sums are rounded by.
    known = weight > 0 and positive <= weight * (1 + _ROUNDING)
    interval = rate_interval(sums) if known else None
    return {
        "samples": int(sums[SAMPLES]),
        "positives": int(sums[POSITIVES]),
        "weight": weight,
        "label_rate": min(positive / weight, 1.0) if known else None,
        "label_rate_interval": None if interval is None else interval.as_json(),
    }
