"""What the counts of a run say is wrong with its input, and which setting to change."""

from __future__ import annotations

from dataclasses import dataclass

from headrace.schemas.config.durations import DAY, format_duration
from headrace.schemas.records.events import Outcome, Reason

WORTH_SAYING = 0.01
"""Share of a stream from which a loss is reported."""


@dataclass(frozen=True)
class StreamFacts:
    """What a diagnosis looks at, for one stream.

    Parameters
    ----------
    name
        ``impressions`` or the action's name.
    records
        Records read.
    outcomes
        Records by outcome.
    reasons
        Invalid records by reason.
    first_time, last_time
        Least and greatest event time, microseconds; None without a valid one.
    key_types
        Types of the key columns.
    """

    name: str
    records: int
    outcomes: dict[str, int]
    reasons: dict[str, int]
    first_time: int | None
    last_time: int | None
    key_types: tuple[str, ...]

    @property
    def table(self) -> str:
        """Name of the stream's table in the configuration."""
        return "impressions" if self.name == "impressions" else f"actions.{self.name}"


def diagnose(streams: list[StreamFacts], window: int) -> list[str]:
    """List what is wrong, most telling first; empty if nothing is.

    Parameters
    ----------
    streams
        The impressions, then the actions.
    window
        The longest window, microseconds.
    """
    impressions = streams[0]
    findings = []
    for facts in streams:
        if facts.last_time is not None and facts.last_time < 365 * DAY:
            findings.append(
                f"{facts.name}: all event times lie in 1970; are seconds read as milliseconds? "
                f"Check {facts.table}.time.unit."
            )
        findings += _invalid(facts)
        findings += _late(facts)
        if facts is not impressions:
            findings += _unmatched(facts, impressions, window)
    return findings


def _share(facts: StreamFacts, count: int) -> str | None:
    if not facts.records or count / facts.records <= WORTH_SAYING:
        return None
    return f"{facts.name}: {100 * count / facts.records:.1f} % of {facts.records:,} records"


def _invalid(facts: StreamFacts) -> list[str]:
    share = _share(facts, facts.outcomes.get(Outcome.INVALID, 0))
    if share is None:
        return []
    reason = max(facts.reasons, key=lambda name: facts.reasons[name]) if facts.reasons else ""
    hints = {
        Reason.UNDECODABLE: f"Check {facts.table}.format and delimiter.",
        Reason.WRONG_TYPE: f"Declare the columns' types in {facts.table}.types.",
        Reason.NULL_KEY: f"Check that {facts.table}.key names the right columns.",
        Reason.NULL_TIME: f"Check {facts.table}.time.column.",
        Reason.TIME_JUMP: (
            "They are far ahead of the rows around them. Is the file not sorted by time "
            f'({facts.table}.order = "sort"), or are clocks wrong? See join.max_jump.'
        ),
        Reason.TIME_OUT_OF_RANGE: (
            f"Is the unit wrong (milliseconds read as seconds)? Check {facts.table}.time."
        ),
    }
    hint = hints.get(Reason(reason), "") if reason else ""
    return [f"{share} are invalid, most for {reason}. {hint}".rstrip()]


def _late(facts: StreamFacts) -> list[str]:
    share = _share(facts, facts.outcomes.get(Outcome.LATE, 0))
    if share is None:
        return []
    return [
        f"{share} are late: they came after what they touch had settled. Is the file not "
        f'sorted by time? Set {facts.table}.order = "sort", or join.out_of_orderness to the '
        "disorder that is usual."
    ]


def _unmatched(facts: StreamFacts, impressions: StreamFacts, window: int) -> list[str]:
    findings = []
    share = _share(facts, facts.outcomes.get(Outcome.ORPHAN, 0))
    if share is not None:
        why = _why(facts, impressions)
        findings.append(f"{share} are orphans: they know no impression of their key. {why}")
    share = _share(facts, facts.outcomes.get(Outcome.OUTSIDE_WINDOW, 0))
    if share is not None:
        findings.append(
            f"{share} lie outside the window of their impression. Is {facts.table}.window "
            f"too short, or do the clocks of the two streams disagree (join.early)? "
            f"The longest window is {format_duration(window)}."
        )
    return findings


def _why(facts: StreamFacts, impressions: StreamFacts) -> str:
    if facts.key_types != impressions.key_types:
        return (
            f"The key is {'/'.join(facts.key_types)} here and "
            f"{'/'.join(impressions.key_types)} in the impressions, and values of different types "
            f"never match: declare one type in {facts.table}.types or impressions.types."
        )
    if None not in (
        facts.first_time, facts.last_time, impressions.first_time, impressions.last_time
    ):  # fmt: skip
        apart = facts.first_time > impressions.last_time or (  # type: ignore[operator]
            facts.last_time < impressions.first_time  # type: ignore[operator]
        )
        if apart:
            return (
                "The two streams do not overlap in time: check the units "
                f"({facts.table}.time, impressions.time) and the zone."
            )
    return (
        f"Do {facts.table}.key and impressions.key name the same thing? Are impression files "
        "missing, or join.dedup_horizon or join.wait_for_impression too short?"
    )
