"""Durations and times as people write them, microseconds inside."""

from __future__ import annotations

import re
from datetime import UTC, datetime

MICROSECOND = 1
MILLISECOND = 1_000
SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR

UNITS = {"us": MICROSECOND, "ms": MILLISECOND, "s": SECOND, "m": MINUTE, "h": HOUR, "d": DAY}
"""Microseconds of each unit, from the smallest."""
_PATTERN = re.compile(r"(\d+(?:\.\d+)?)\s*(us|ms|s|m|h|d)")


def parse_duration(text: str) -> int:
    """Turn ``"10m"``, ``"1.5h"`` or ``"1h 30m"`` into microseconds.

    Parameters
    ----------
    text
        One or more numbers with a unit (``us ms s m h d``), summed.

    Returns
    -------
    int
        Microseconds, zero or more.

    Raises
    ------
    ValueError
        If the text is anything else, a negative duration included.

    Examples
    --------
    >>> parse_duration("1h 30m") == 90 * MINUTE
    True
    """
    rest = text.strip()
    total = 0.0
    while rest:
        match = _PATTERN.match(rest)
        if match is None:
            raise ValueError("expected a duration such as 10s, 30m, 1.5h or 7d")
        total += float(match[1]) * UNITS[match[2]]
        rest = rest[match.end() :].lstrip()
    if not text.strip():
        raise ValueError("expected a duration such as 10s, 30m, 1.5h or 7d")
    return round(total)


def format_duration(microseconds: int) -> str:
    """Write microseconds as the shortest exact text that `parse_duration` reads back.

    Examples
    --------
    >>> format_duration(90 * MINUTE)
    '1h 30m'
    """
    if microseconds == 0:
        return "0s"
    parts = []
    for unit, size in reversed(UNITS.items()):
        count, microseconds = divmod(microseconds, size)
        if count:
            parts.append(f"{count}{unit}")
    return " ".join(parts)


def format_moment(microseconds: int) -> str:
    """Write a time as people read it, in UTC, to the second.

    Examples
    --------
    >>> format_moment(1_767_225_600_000_000)
    '2026-01-01 00:00:00'
    """
    return f"{datetime.fromtimestamp(microseconds // SECOND, UTC):%Y-%m-%d %H:%M:%S}"


def iso_moment(microseconds: int) -> str:
    """Write a time as ISO 8601, in UTC, to the second.

    Examples
    --------
    >>> iso_moment(1_767_225_600_000_000)
    '2026-01-01T00:00:00+00:00'
    """
    return datetime.fromtimestamp(microseconds // SECOND, UTC).isoformat()
