"""The disconnects of a guard, from its journal: when nothing was learned, of what, and why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from headrace.monitoring.leadguard import LEAD

_OVER = frozenset({"reconnect", "accept"})
"""Events that end a disconnect."""


@dataclass(frozen=True)
class Disconnect:
    """A stretch of a log of which nothing was learned.

    Parameters
    ----------
    number
        Its number in the journal, from 1.
    label
        Whose guard it is.
    slice, value
        The value of a slice column whose samples were held back; None for all samples.
    begin
        Emit time of the row at which the alarm was due, UTC.
    end
        That of the row that ended it; None if it was still going on at the end of the journal.
    asks
        Whether it is still going on, for longer than it may without being asked.
    positives, expected
        What came since the change had probably begun, and what was predicted.
    reason
        A sentence that says all of this.
    arrivals
        Whether arrivals of actions were too few (`headrace.monitoring.leadguard`), and not labels.
    """

    number: int
    label: str
    slice: str | None
    value: str | None
    begin: datetime
    end: datetime | None
    asks: bool
    positives: int
    expected: float
    reason: str
    arrivals: bool = False

    @property
    def scope(self) -> tuple[str, str | None, str | None, bool]:
        """Label, slice column and value, and whether it is of arrivals."""
        return self.label, self.slice, self.value, self.arrivals


def disconnects_of(journal: Iterable[Mapping[str, Any]]) -> list[Disconnect]:
    """Return the disconnects in a journal, in the order in which they began.

    Parameters
    ----------
    journal
        Rows of `headrace.monitoring.guard.GUARD_SCHEMA` as Python values, in order.
    """
    found: list[Disconnect] = []
    open_at: dict[tuple[str, str | None, str | None, bool], int] = {}
    for row in journal:
        event = row["event"].removeprefix(LEAD)
        scope = row["label"], row["slice"], row["value"], event != row["event"]
        if event == "disconnect":
            open_at[scope] = len(found)
            found.append(Disconnect(
                len(found) + 1, *scope[:3], row["time"], None, False, row["positives"],
                row["expected"], row["reason"], arrivals=scope[3],
            ))  # fmt: skip
        elif scope in open_at and event in _OVER:
            at = open_at.pop(scope)
            found[at] = replace(found[at], end=row["time"], asks=False)
        elif scope in open_at and event == "ask":
            found[open_at[scope]] = replace(found[open_at[scope]], asks=True)
    return found
