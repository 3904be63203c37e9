"""What the counts of a run show to be wrong with its input, and which setting to change."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from headrace.monitoring.meeting import (
    keys_written_otherwise,
    shifted_clocks,
    sources_that_stand_out,
    stopped_actions,
    told,
)
from headrace.monitoring.results import WORTH_SAYING, LogResult, StreamResult
from headrace.schemas.config.durations import DAY, format_duration
from headrace.schemas.records.badvalues import advice
from headrace.schemas.records.events import Outcome, Reason

_WORTH_CLIPPING = 0.001
_LOW_RATE = 0.01
"""Below it correction by weight costs much, and by a shift of the log-odds little."""
_FEW_WEIGHTS = 0.5


Detector = Callable[[StreamResult, LogResult], Iterator[str]]
"""Looks at one stream of a log; a finding is a sentence with a likely cause and the setting to
change."""


def times_in_1970(stream: StreamResult, log: LogResult) -> Iterator[str]:
    """Find a stream all of whose times lie in 1970: its unit is too small."""
    if stream.last_time is not None and stream.last_time < 365 * DAY:
        yield (
            f"{stream.name}: all event times lie in 1970; are seconds read as milliseconds? "
            f"Check {stream.table}.time.unit."
        )


def invalid_records(stream: StreamResult, log: LogResult) -> Iterator[str]:
    """Find invalid records, and name the most frequent reason."""
    share = share_of(stream, Outcome.INVALID)
    if share is None:
        return
    reason = max(stream.reasons, key=lambda name: stream.reasons[name]) if stream.reasons else ""
    hints = {
        Reason.UNDECODABLE: (
            f"Check {stream.table}.format and delimiter; of a topic value, schema and header."
        ),
        Reason.WRONG_TYPE: f"Declare the columns' types in {stream.table}.types.",
        Reason.NULL_KEY: f"Check that {stream.table}.key names the right columns.",
        Reason.NULL_TIME: f"Check {stream.table}.time.column.",
        Reason.TIME_JUMP: (
            "They are far ahead of the rows around them. If the file is not sorted by time, set "
            f'{stream.table}.order = "sort"; if clocks are wrong, see join.max_jump.'
        ),
        Reason.TIME_OUT_OF_RANGE: (
            f"Is the unit wrong (milliseconds read as seconds)? Check {stream.table}.time."
        ),
    }
    hint = hints.get(Reason(reason), "") if reason else ""
    yield f"{share} are invalid, most for {reason}. {hint}".rstrip()


def bad_values(stream: StreamResult, log: LogResult) -> Iterator[str]:
    """Find columns in which many values do not fit."""
    for column, causes in stream.bad_values.items():
        for cause, found in causes.items():
            if found["count"] > WORTH_SAYING * stream.records:
                yield (
                    f"{stream.name}: {found['count']:,} of {stream.records:,} values of {column} "
                    f"are {cause} (such as {', '.join(found['examples'])}) and null in samples. "
                    f"{advice(stream.table, found['examples'])}"
                )


def repeated_hours(stream: StreamResult, log: LogResult) -> Iterator[str]:
    """Find event times that name two moments, of which nothing tells which one is meant."""
    counts = stream.time_counts
    if counts.get("unresolved", 0):
        told = counts["first_pass"] + counts["second_pass"]
        yield (
            f"{stream.name}: {counts['unresolved']:,} times in {stream.time_column} lie in an hour "
            f"that {stream.zone} repeats, and nothing tells in which pass; the first is taken "
            f"({told:,} more were told by the order of the file). Log times with an offset or in "
            f"UTC, and set {stream.table}.time."
        )


def repeated_keys(stream: StreamResult, log: LogResult) -> Iterator[str]:
    """Find impressions that often have the key of another one: it may be the key of a user."""
    share = share_of(stream, Outcome.DUPLICATE)
    if share is not None and stream is log.impressions:
        yield (
            f"{share} are duplicates: {stream.outcomes[Outcome.DUPLICATE]:,} have the key "
            f"({', '.join(stream.key)}) of an impression shortly before. Is that the key of a user "
            f"or a page, and not of an impression? Then add columns to {stream.table}.key until "
            "it tells impressions apart. If they are copies, nothing need be done."
        )


def unmet_sampling(stream: StreamResult, log: LogResult) -> Iterator[str]:
    """Find settings of sampling that no sample meets."""
    sampling = log.sampling
    if stream is not log.impressions or not sampling.samples:
        return
    if sampling.keep is not None and not sampling.kept:
        yield (
            f"sampling.keep: no sample meets {sampling.keep}. Are its values written as in the "
            "log, with the same case and type?"
        )
    for value, count in sampling.found.items():
        if not count:
            yield (
                f"sampling.negative_rate.values: no sample has {value!r} in {sampling.column}. Is "
                "it written as in the log, or is its rate so low that all were dropped?"
            )


def heavy_weights(stream: StreamResult, log: LogResult) -> Iterator[str]:
    """Find a rate so low that the weights which correct it spoil what is learned."""
    sampling = log.sampling
    if (stream is log.impressions and log.learners and sampling.correction == "weight"
            and sampling.lowest < _LOW_RATE):  # fmt: skip
        yield (
            f"sampling.negative_rate: at a rate of {sampling.lowest:g} a negative weighs "
            f"{1 / sampling.lowest:,.0f}, and each moves the model far. Set sampling.correction = "
            '"logit", which shifts the log-odds instead.'
        )


def sparse_weights(stream: StreamResult, log: LogResult) -> Iterator[str]:
    """Find a learner most of whose weights L1 keeps at zero."""
    for learner in log.learners if stream is log.impressions else ():
        seen = learner.figures.get("coordinates", 0)
        # Learners without L1 count no weights that are not 0.
        learned = learner.figures.get("nonzero_weights", seen)
        if learned < _FEW_WEIGHTS * seen:
            yield (
                f"learner {learner.name}: {seen - learned:,} of {seen:,} weights are 0, as "
                f"{learner.table}.l1 wants it: features with little evidence are as if never seen. "
                "Where positives are rare that can cost much; l1 = 0 keeps them all, in a larger "
                "snapshot."
            )


def refused_weights(stream: StreamResult, log: LogResult) -> Iterator[str]:
    """Find learners whose weights, offsets or thetas are missing, or weights below zero."""
    for learner in log.learners if stream is log.impressions else ():
        if learner.refused:
            yield (
                f"learner {learner.name}: {learner.refused:,} samples were not learned, because "
                "their weight is missing or below zero, or their offset or the theta of their "
                "position is missing, or their offset beyond ±100. Check the columns of "
                f"{learner.table}.weight, offset and position."
            )


def clipped_numbers(stream: StreamResult, log: LogResult) -> Iterator[str]:
    """Find numeric features of which many values are clipped."""
    for learner in log.learners if stream is log.impressions else ():
        for column, count in learner.clipped.items():
            if count > _WORTH_CLIPPING * learner.samples:
                yield (
                    f"learner {learner.name}: {count:,} of {learner.samples:,} values of {column} "
                    f'lie beyond ±1e9 and are clipped. Use "log" or edges for it in '
                    f"{learner.table}.features.numeric."
                )


def numbers_far_beyond(stream: StreamResult, log: LogResult) -> Iterator[str]:
    """Find columns for the numbers of which many samples were not learned."""
    for learner in log.learners if stream is log.impressions else ():
        for column, count in learner.outliers.items():
            if count > _WORTH_CLIPPING * learner.samples:
                yield (
                    f"learner {learner.name}: {count:,} of {learner.samples:,} samples were not "
                    f"learned, because {column} is far beyond its other values. Look into them; "
                    f'if they are right, use "log" or edges in {learner.table}.features.numeric.'
                )


def numbers_that_are_none(stream: StreamResult, log: LogResult) -> Iterator[str]:
    """Find numeric features that are identifiers or times."""
    for learner in log.learners if stream is log.impressions else ():
        for column, looks in learner.suspicions.items():
            advice = "put it into features.categorical"
            if looks.like != "an identifier":
                advice = "log the hour or the day of the week instead, or leave it out"
            yield (
                f"learner {learner.name}: the numeric feature {column} looks like {looks.like} "
                f"(such as {looks.example}), whose magnitude says nothing: {advice}, in "
                f"{learner.table}."
            )


def late_records(stream: StreamResult, log: LogResult) -> Iterator[str]:
    """Find records that came after what they would change had settled."""
    share = share_of(stream, Outcome.LATE)
    if share is not None:
        yield (
            f"{share} are late: they came after what they would change had settled. If the file is "
            f'not sorted by time, set {stream.table}.order = "sort"; else set '
            "join.out_of_orderness to the usual disorder."
        )


def orphans(stream: StreamResult, log: LogResult) -> Iterator[str]:
    """Find actions for which no impression of their key is visible."""
    share = share_of(stream, Outcome.ORPHAN)
    if share is not None:
        same = stream.key_types == log.impressions.key_types
        why = "" if same and told(stream, log) else f" {_why(stream, log.impressions)}"
        yield f"{share} are orphans: they have no impression of their key.{why}"


def outside_window(stream: StreamResult, log: LogResult) -> Iterator[str]:
    """Find actions that lie outside the window of every impression of their key."""
    share = share_of(stream, Outcome.OUTSIDE_WINDOW)
    if share is not None:
        why = (
            f" Is {stream.table}.window too short, or do the clocks of the two streams disagree "
            f"(join.early)? The longest window is {format_duration(log.longest_window)}."
        )
        of_impression = f"{share} are outside the window of their impression."
        yield of_impression if told(stream, log) else of_impression + why


DETECTORS: tuple[Detector, ...] = (
    times_in_1970, invalid_records, bad_values, repeated_hours, repeated_keys, unmet_sampling,
    heavy_weights, sparse_weights, refused_weights, clipped_numbers, numbers_far_beyond,
    numbers_that_are_none, late_records, orphans, outside_window, shifted_clocks, stopped_actions,
    keys_written_otherwise, sources_that_stand_out,
)  # fmt: skip

OF_FIRST_RECORDS: tuple[Detector, ...] = (
    bad_values, repeated_hours, repeated_keys, unmet_sampling, heavy_weights, refused_weights,
    clipped_numbers, numbers_far_beyond, numbers_that_are_none, late_records,
)  # fmt: skip
"""The detectors that are right about the beginnings of files too, which need not overlap."""


def diagnose(log: LogResult, detectors: Sequence[Detector] = DETECTORS) -> list[str]:
    """Return all findings, stream by stream, in the order of detectors."""
    return [
        finding
        for stream in log.streams
        for detector in detectors
        for finding in detector(stream, log)
    ]


def share_of(stream: StreamResult, outcome: Outcome) -> str | None:
    """Return, in words, the share of a stream's records with an outcome.

    None if it is not greater than `WORTH_SAYING`.
    """
    count = stream.outcomes.get(outcome, 0)
    if not stream.records or count / stream.records <= WORTH_SAYING:
        return None
    return f"{stream.name}: {100 * count / stream.records:.1f} % of {stream.records:,} records"


def _why(stream: StreamResult, impressions: StreamResult) -> str:
    if stream.key_types != impressions.key_types:
        return (
            f"The key is {'/'.join(stream.key_types)} here and "
            f"{'/'.join(impressions.key_types)} in the impressions, and text and numbers "
            f"never match: declare one type in {stream.table}.types or impressions.types."
        )
    if None not in (
        stream.first_time, stream.last_time, impressions.first_time, impressions.last_time
    ):  # fmt: skip
        apart = stream.first_time > impressions.last_time or (  # type: ignore[operator]
            stream.last_time < impressions.first_time  # type: ignore[operator]
        )
        if apart:
            return (
                "The two streams do not overlap in time: check the units "
                f"({stream.table}.time, impressions.time) and the zone."
            )
    return (
        f"Do {stream.table}.key and impressions.key name the same thing? Are impression files "
        "missing, or join.dedup_horizon or join.wait_for_impression too short?"
    )
