"""Faults of generated traffic that have a beginning and a length, and changes that are none.

Each is a function of the records in its time and has chances of its own: it changes no other
record, and the order in which faults are given does not matter.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from headrace.schemas.config.durations import format_duration, parse_duration
from headrace.schemas.errors import ArgumentError
from headrace.schemas.records.hashing import Bools, Int64s

HEALTHY = {
    "night": "nine of ten impressions do not happen",
    "weekend": "of impressions on desktops a quarter happens, of others seven tenths",
    "small-slice": "about 20 impressions an hour have the app version v6.0-beta, whose click "
    "rate is up to 1.6 times higher or lower, hour by hour",
    "trend": "the click rate rises by 2 % a day",
    "step": "the click rate is 15 % higher",
}
"""What changes in healthy traffic: what each does."""

TIMED = HEALTHY | {
    "doubled-new-ids": "impressions without a click get one, as many as there are clicks",
    "bot": "of impressions of the ads 11 to 14 ten times as many are clicked",
    "flip": "with the app version v4.9 clicks are missing, and impressions without one have one",
    "region": "impressions of the region west without a click are missing",
    "devices-swapped": "phones are logged as desktops and desktops as phones",
    "os-null": "`os` is null",
    "price-cents": "`price` is a hundred times as high",
    "ids-new": "`ad`, `campaign` and `site` have values that no other time has",
    "doubled-same-key": "clicks are logged again within a second, the same records",
    "standstill": "clicks are logged in its last second, in their order, which changes no file",
    "lag": "nine of ten clicks come later, by twice the window",
    "stop": "no click is logged: they are lost",
}
"""All kinds, in the order in which traffic goes through them: what each does."""

_CODES = {kind: code for code, kind in enumerate(TIMED)}
_MOST = 60
"""Each fault has a bit."""


@dataclass(frozen=True)
class Fault:
    """What changes records of a stretch of event time.

    Parameters
    ----------
    kind
        A name in `TIMED`.
    begin
        Microseconds since the first event time.
    length
        Microseconds; None for no end. The end itself is not part of it.
    """

    kind: str
    begin: int
    length: int | None = None

    def __str__(self) -> str:
        length = "" if self.length is None else f":{format_duration(self.length)}"
        return f"{self.kind}:{format_duration(self.begin)}{length}"

    def holds(self, elapsed: Int64s) -> Bools:
        """Return which times since the first event time it has, shape (n,)."""
        held: Bools = elapsed >= self.begin
        return held if self.length is None else held & (elapsed < self.begin + self.length)

    def between(self, start: int) -> dict[str, object]:
        """Return its kind and times, microseconds UTC; the end is None if there is none.

        Parameters
        ----------
        start
            The first event time, microseconds UTC.
        """
        begin = start + self.begin
        until = None if self.length is None else begin + self.length
        return {
            "kind": self.kind,
            "healthy": self.kind in HEALTHY,
            "from": begin,
            "until": until,
        }

    def chances(self, seed: int, part: int) -> np.random.Generator:
        """Return where its chances come from in a part of a log."""
        length = 0 if self.length is None else self.length
        return np.random.default_rng([seed, part, _CODES[self.kind], self.begin, length])


def parse_fault(text: str) -> Fault:
    """Return the fault that ``KIND:BEGIN`` or ``KIND:BEGIN:LENGTH`` names.

    Raises
    ------
    ArgumentError
        If the kind is not known, or a time is none.

    Examples
    --------
    >>> parse_fault("stop:2d:1h30m")
    Fault(kind='stop', begin=172800000000, length=5400000000)
    """
    kind, *times = text.split(":")
    if kind not in TIMED:
        raise ArgumentError("faults", text, "has no such kind", f"there are {', '.join(TIMED)}")
    hint = f'write KIND:BEGIN or KIND:BEGIN:LENGTH, such as "{kind}:2d:2h"'
    try:
        durations = [parse_duration(time) for time in times]
    except (ValueError, OverflowError):
        durations = []
    if len(durations) not in (1, 2) or durations[1:] == [0]:
        raise ArgumentError("faults", text, "must have a beginning and may have a length", hint)
    if kind == "standstill" and len(durations) == 1:
        raise ArgumentError("faults", text, "must have a length", hint)
    return Fault(kind, *durations)


def in_order(faults: Iterable[Fault]) -> tuple[Fault, ...]:
    """Return faults in the order in which traffic goes through them.

    Raises
    ------
    ArgumentError
        If one is given twice, or there are more than 60.
    """
    given = list(faults)
    if len(given) > _MOST:
        raise ArgumentError("faults", len(given), f"must be {_MOST} or fewer", "leave some out")
    for number, fault in enumerate(given):
        if fault in given[:number]:
            raise ArgumentError("faults", str(fault), "is given twice", "leave one out")
    return tuple(sorted(given, key=lambda fault: (_CODES[fault.kind], fault.begin, str(fault))))
