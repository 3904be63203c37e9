"""Detectors of what keeps actions from their impressions: clocks, keys, missing hours, one file."""

from __future__ import annotations

from collections.abc import Iterator

from headrace.monitoring.origins import in_words
from headrace.monitoring.results import WORTH_SAYING, LogResult, StreamResult
from headrace.monitoring.shifts import FEWEST, between, shift_in_words
from headrace.monitoring.stops import lost_actions, lost_positives
from headrace.schemas.records.events import Outcome

_HARDLY_ANY = 0.1
_MOST = 0.5


def shifted_clocks(stream: StreamResult, log: LogResult) -> Iterator[str]:
    """Find actions that lie a constant time before or after their impressions."""
    if stream.meeting is None:
        return
    shift = stream.meeting.shift
    zones = (
        f"Check {stream.table}.time.zone (now {stream.zone}) and impressions.time.zone (now "
        f"{log.impressions.zone}), and whether times were logged as local ones."
    )
    if shift is not None:
        most = "most actions" if shift.actions > _MOST * shift.known else "many actions"
        yield (
            f"{stream.name}: {most} lie {shift_in_words(shift.by)} their impression "
            f"({shift.actions:,} of {shift.known:,} whose impression has a sample): is a time zone "
            f"declared wrongly? {zones}"
        )
    elif (by := _apart(stream, log.impressions)) is not None:
        yield (
            f"{stream.name}: hardly any action meets an impression, and its log begins and ends "
            f"{shift_in_words(by)} that of the impressions: is a time zone declared wrongly? "
            f"{zones}"
        )


def _apart(stream: StreamResult, impressions: StreamResult) -> int | None:
    """Return by how much a stream lies beside the impressions, if it hardly meets them."""
    times = stream.first_time, stream.last_time
    others = impressions.first_time, impressions.last_time
    if None in (*times, *others) or stream.records < FEWEST:
        return None
    if stream.outcomes.get(Outcome.SETTLED, 0) > _HARDLY_ANY * stream.records:
        return None
    return between(times, others)  # type: ignore[arg-type]


def stopped_actions(stream: StreamResult, log: LogResult) -> Iterator[str]:
    """Find hours in which actions meet no impression, or impressions have no action."""
    if stream.meeting is None:
        return
    hours = stream.meeting.hours
    lost = lost_actions(hours)
    if lost is not None:
        share = (
            "no action meets" if not lost.met else f"{lost.met / lost.actions:.1%} of actions meet"
        )
        why = (
            "What changed then: keys, a clock, a file of either stream?"
            if lost.impressions
            else "No impression with a sample is of that time: are files of impressions missing?"
        )
        yield (
            f"{stream.name}: {lost.words} {share} an impression ({lost.actions:,} actions; "
            f"{lost.otherwise}: {lost.usual:.1%}). {why}"
        )
        return
    ends = max((of.last_time for of in log.streams if of.last_time is not None), default=0)
    none = lost_positives(hours, ends)
    if none is not None:
        yield (
            f"{stream.name}: no impression {none.words} has an action ({none.expected:,.0f} were "
            f"to be expected at the rate {none.otherwise}, {none.usual:.2%}). Is a file of "
            f"{stream.table} missing or cut short, or did the actions of that time go elsewhere?"
        )


def keys_written_otherwise(stream: StreamResult, log: LogResult) -> Iterator[str]:
    """Find keys of actions that are written otherwise than those of impressions."""
    lost = sum(stream.outcomes.get(of, 0) for of in (Outcome.ORPHAN, Outcome.OUTSIDE_WINDOW))
    if stream.meeting is None or lost <= WORTH_SAYING * stream.records:
        return
    for column, (here, there) in stream.meeting.notations.items():
        yield (
            f"{stream.name}: the keys of orphans are written otherwise than those of impressions "
            f"({column}), such as {here!r} here and {there!r} there. Keys must be equal to match: "
            "write them alike where they are logged."
        )


def told(stream: StreamResult, log: LogResult) -> bool:
    """Return whether it is said why actions find no impression."""
    detectors = (shifted_clocks, stopped_actions, keys_written_otherwise)
    return any(True for detector in detectors for _ in detector(stream, log))


def sources_that_stand_out(stream: StreamResult, log: LogResult) -> Iterator[str]:
    """Find one file or partition from which most of what is lost comes."""
    for what in dict.fromkeys(name for of in stream.sources for name in of.lost):
        said = in_words(stream.name, what, stream.sources)
        if said is not None:
            yield said
