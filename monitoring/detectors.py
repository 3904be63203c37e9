"""What the usual detectors of drift would have said of label rates, for comparison.

None of them decides anything here: they look at the label rate, which has a day and a week, where
the sum of predictions already knows both.

References
----------
.. [1] Bifet and Gavaldà, Learning from time-changing data with adaptive windowing, SDM 2007.
.. [2] Page, Continuous inspection schemes, Biometrika 41 (1954).
.. [3] Siddiqi, Credit risk scorecards (2006): population stability index, 0.1 is a shift.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from headrace.monitoring.headline import Windows
from headrace.monitoring.ratios import against_expected
from headrace.monitoring.statistics import POSITIVE_WEIGHT, WEIGHT, Floats

BAND = 1.25
PSI_SHIFT = 0.1
_LEARNING = 10
"""Windows before the first that is compared."""
_GRACE = 10
"""ADWIN says nothing before so many values (its `grace_period`)."""


@dataclass(frozen=True)
class Said:
    """What a detector would have said.

    Parameters
    ----------
    detector
        Name and settings.
    alarms
        Starts of the windows at which it would have spoken, microseconds.
    windows
        How many it has seen.
    """

    detector: str
    alarms: tuple[int, ...]
    windows: int


def what_others_say(windows: Windows) -> list[Said]:
    """Play windows, by time, to each detector.

    Parameters
    ----------
    windows
        Sums of labels and predictions, shape (9,) each.
    """
    seen = [(start, sums) for start, sums in windows if sums[WEIGHT] > 0]
    times = [start for start, _ in seen]
    rates = [float(sums[POSITIVE_WEIGHT] / sums[WEIGHT]) for _, sums in seen]
    speaking = {
        "ADWIN of river on the label rate (delta 0.002)": _adwin(rates),
        "Page-Hinkley of river on the label rate over its mean so far (delta 0.05, threshold 2)": (
            _page_hinkley(rates)
        ),
        f"PSI of labels against all windows before (above {PSI_SHIFT:g})": _psi(rates),
        f"positives against predictions (interval beyond {BAND:g})": [
            _beyond(sums) for _, sums in seen
        ],
    }
    return [
        Said(name, tuple(time for time, spoke in zip(times, said, strict=True) if spoke), len(seen))
        for name, said in speaking.items()
    ]


def _beyond(sums: Floats) -> bool:
    found = against_expected(sums)
    if found is None:
        return False
    low, high = found[1].low, found[1].high
    return low > BAND or (high is not None and high < 1 / BAND)


def _fed(detector: object, values: Sequence[float]) -> Iterator[bool]:
    update: Callable[[float], None] = detector.update  # type: ignore[attr-defined]
    for value in values:
        update(value)
        yield bool(detector.drift_detected)  # type: ignore[attr-defined]


def _adwin(rates: list[float]) -> list[bool]:
    if len(rates) < _GRACE:
        return [False] * len(rates)
    from river.drift import ADWIN  # takes a second to import, which a short log is spared

    return list(_fed(ADWIN(delta=0.002, clock=1), rates))


def _page_hinkley(rates: list[float]) -> list[bool]:
    if len(rates) < _LEARNING:
        return [False] * len(rates)
    from river.drift import PageHinkley

    relative, total = [], 0.0
    for count, rate in enumerate(rates, start=1):
        total += rate
        relative.append(rate * count / total if total else 1.0)
    return list(_fed(PageHinkley(min_instances=_LEARNING, delta=0.05, threshold=2.0), relative))


def _psi(rates: list[float]) -> list[bool]:
    found, total = [], 0.0
    for count, rate in enumerate(rates):
        before = total / count if count >= _LEARNING else 0.0
        found.append(before > 0 and label_psi(rate, before) > PSI_SHIFT)
        total += rate
    return found


def label_psi(rate: float, reference: float) -> float:
    """Return the population stability index of two label rates; infinite if one class is absent.

    Examples
    --------
    >>> round(label_psi(0.02, 0.04), 4)
    0.0143
    """
    pairs = ((rate, reference), (1 - rate, 1 - reference))
    if any((a == 0) != (b == 0) for a, b in pairs):
        return math.inf
    return sum((a - b) * math.log(a / b) for a, b in pairs if a)
