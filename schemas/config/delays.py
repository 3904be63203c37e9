"""The delay that follows from a join's windows, for the configuration and for the join alike."""

from __future__ import annotations

from collections.abc import Iterable


def longest_window(windows: Iterable[int]) -> int:
    """Return the longest of the windows of a join's action streams, 0 without any."""
    return max(windows, default=0)


def settle_delay(windows: Iterable[int], group_span: int) -> int:
    """Return how long after its event time an impression settles: rule 5 of ``docs/join.md``.

    Parameters
    ----------
    windows
        Of all action streams, microseconds.
    group_span
        How far members of a group may be apart, microseconds.

    Returns
    -------
    int
        Microseconds; at least one, for when the clock is at an impression's event time
        others of the same time may still come.
    """
    return max(longest_window(windows) + group_span, 1)
