"""Until when the streams of a log are complete, and what stays open because of that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from headrace.monitoring.results import WORTH_SAYING
from headrace.schemas.config.durations import SECOND, format_duration
from headrace.schemas.records.events import FOREVER, NEVER, Outcome

_WORTH_SAYING_OF_DELAY = 0.1
"""A stream is named if it ends before the others by more than this part of the settle delay."""


@dataclass(frozen=True)
class Ending:
    """The end of a log.

    Parameters
    ----------
    complete_until
        By stream the event time (microseconds UTC) until which its log is complete:
        `FOREVER` if the whole log is declared complete, `NEVER` if it has no event.
    """

    complete_until: Mapping[str, int]

    @property
    def clock(self) -> int:
        """The event time until which all streams are complete."""
        return min(self.complete_until.values())

    @property
    def held_back_by(self) -> str | None:
        """The stream that ends first; None if all end at the same time."""
        least = self.clock
        if all(until == least for until in self.complete_until.values()):
            return None
        return next(name for name, until in self.complete_until.items() if until == least)

    def as_json(self) -> dict[str, Any]:
        """Return the entry ``end_of_log`` of the summary; a time is None if there is none."""
        return {
            "mode": "close" if self.clock == FOREVER else "open",
            "complete_until": {name: _moment(until) for name, until in self.complete_until.items()},
            "labels_complete_until": _moment(self.clock),
            "held_back_by": self.held_back_by,
        }

    def findings(self, summary: Mapping[str, Any], settle_delay: int, declared: bool) -> list[str]:
        """Return findings that name the setting to change, if records stayed open.

        Parameters
        ----------
        summary
            The summary of the run, as JSON types.
        settle_delay
            How long after its event time an impression settles, microseconds.
        declared
            Whether the configuration says what the end of the log means.
        """
        opened = _open_records(summary)
        if not any(opened.values()):
            return []
        findings = []
        held_open, holder = opened["impressions"], self.held_back_by
        # Actions follow the last impression; a log of them that ends before it was cut short.
        if holder is not None and holder != "impressions":
            ahead = (
                min(end for end in self.complete_until.values() if end > self.clock) - self.clock
            )
            much = held_open > WORTH_SAYING * taken(summary, "impressions")
            if much and ahead > _WORTH_SAYING_OF_DELAY * settle_delay:
                findings.append(
                    f"{holder} holds {held_open:,} impressions open: {self._since(ahead)}. If its "
                    f"log is complete to a later time, set actions.{holder}.complete_until; if the "
                    'whole log is complete, set join.end_of_log = "close".'
                )
        if not declared:
            findings.append(
                "join.end_of_log is not set: by default what has not settled when the log ends "
                'stays open and leaves no sample. With "close" the log is taken to be complete '
                'and every window closes; set it to "open" if this is right as it is.'
            )
        return findings

    def _since(self, ahead: int) -> str:
        if self.clock == NEVER:
            return "it has no event"
        by = format_duration(ahead // SECOND * SECOND)
        return f"its log ends at {_shown(_moment(self.clock))}, {by} before the next to end"


def what_stayed_open(summary: Mapping[str, Any]) -> str:
    """Return, in words, what stayed open in a run with this summary; empty if nothing did."""
    opened = _open_records(summary)
    if not any(opened.values()):
        return ""
    end = summary["end_of_log"]
    impressions = taken(summary, "impressions")
    share = opened["impressions"] / impressions if impressions else 0.0
    actions = sum(opened.values()) - opened["impressions"]
    until = _shown(end["labels_complete_until"])
    holder = "" if end["held_back_by"] is None else f", when the log of {end['held_back_by']} ends"
    return (
        f"{opened['impressions']:,} of {impressions:,} impressions ({share:.1%}) and {actions:,} "
        f"actions stayed open; labels are complete until {until}{holder}"
    )


def taken(summary: Mapping[str, Any], stream: str) -> int:
    """Return how many records a run had to decide: what it read, and what was open before."""
    return int(summary["input"][stream]) + int(summary["carried"][stream])


def _shown(moment: str | None) -> str:
    return "no time at all" if moment is None else moment.replace("T", " ")[:19]


def _open_records(summary: Mapping[str, Any]) -> dict[str, int]:
    return {name: counts.get(Outcome.OPEN.value, 0) for name, counts in summary["outcomes"].items()}


def _moment(microseconds: int) -> str | None:
    if not NEVER < microseconds < FOREVER:
        return None
    whole, rest = divmod(microseconds, SECOND)
    return datetime.fromtimestamp(whole, UTC).replace(microsecond=rest).isoformat()
