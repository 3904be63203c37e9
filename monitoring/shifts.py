"""A constant shift between two streams: actions that lie hours before or after their impression.

Delays of actions are counted by minute, from the nearest impression of their key: those that met it
and those that did not. A wrong time zone moves all delays by a multiple of a quarter of an hour, so
the counts begin abruptly there; a window that is too short cuts a curve that goes on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from headrace.monitoring.statistics import Int64s
from headrace.schemas.config.durations import HOUR, MINUTE, format_duration

FEWEST = 50
"""So few actions show nothing."""
_WORTH_SAYING = 0.1
"""Part of the actions whose impression is known that must lie in one place."""
_ABRUPT = 0.1
"""Before a shift there may be this part of what is in it."""
_REACH = 15 * HOUR // MINUTE
"""Minutes; no zones are further apart than 14 hours on either side of UTC."""
_STEP = 15
"""Minutes: zones differ by multiples of it."""
_HALF_HOUR = 30 * MINUTE


@dataclass(frozen=True)
class Shift:
    """Actions that lie in one place beside their impressions.

    Parameters
    ----------
    by
        Their time less that of the impression, about, microseconds.
    actions, known
        How many there are, and of how many actions the impression is known.
    """

    by: int
    actions: int
    known: int


class Shifts:
    """Delays of actions by minute; additive."""

    def __init__(self) -> None:
        self.met = np.zeros(2 * _REACH, np.int64)
        self.unmet = np.zeros(2 * _REACH, np.int64)

    def add_met(self, delay: Int64s) -> None:
        """Add actions that met their impression: delays, microseconds, shape (n,)."""
        self.met += _by_minute(delay)

    def add_unmet(self, delay: Int64s) -> None:
        """Add actions that did not, by the nearest impression of their key, which may be later."""
        self.unmet += _by_minute(delay)

    def found(self) -> Shift | None:
        """Return the shift that most actions have; None if there is none worth saying.

        Looked at is the quarter of an hour from a minute before each multiple of one on, for
        clocks are not exact. It must have at least `FEWEST` actions without an impression, a
        tenth of all, and the quarter before it hardly any.
        """
        known = int(self.met.sum() + self.unmet.sum())
        every, best = self.met + self.unmet, None
        for minutes in range(-_REACH + 2 * _STEP, _REACH - _STEP, _STEP):
            begin = _REACH + minutes - 1
            there = int(self.unmet[begin : begin + _STEP].sum())
            before = int(every[begin - _STEP : begin].sum())
            if (minutes and there >= max(FEWEST, _WORTH_SAYING * known)
                    and before <= _ABRUPT * there):  # fmt: skip
                shift = Shift(minutes * MINUTE, there, known)
                if best is None or shift.actions > best.actions:
                    best = shift
        return best


def _by_minute(delay: Int64s) -> Int64s:
    """Count delays by minute; what lies beyond the reach is added to the ends."""
    minute = np.clip(delay // MINUTE + _REACH, 0, 2 * _REACH - 1)
    return np.bincount(minute, minlength=2 * _REACH)


def between(one: tuple[int, int], other: tuple[int, int]) -> int | None:
    """Return by how many half hours a log lies after another, if both its ends do; None for none.

    Parameters
    ----------
    one, other
        Least and greatest event time of each, microseconds.

    Returns
    -------
    int
        Microseconds, negative if it lies before.
    """
    # The first and the last action may be a while from the first and the last impression.
    begin, end = (round((a - b) / _HALF_HOUR) for a, b in zip(one, other, strict=True))
    if begin != end or not 0 < abs(begin) * _HALF_HOUR < _REACH * MINUTE:
        return None
    return begin * _HALF_HOUR


def shift_in_words(by: int) -> str:
    """Write a shift, such as ``1h before``.

    Examples
    --------
    >>> shift_in_words(-HOUR)
    '1h before'
    """
    return f"{format_duration(abs(by))} {'before' if by < 0 else 'after'}"
