"""What was found of drift, in words and figures, what differs most first."""

from __future__ import annotations

from typing import Any

from headrace.monitoring.drift import BOUNDS, Drift, Line
from headrace.schemas.config.durations import HOUR, iso_moment

MOST_SAID = 100
"""So many lines are in a summary."""

_MUCH = BOUNDS["distribution"][1]
LEVELS = ("same", "shifted", "much")

_HINTS = {
    "distribution": "Has its unit, its coding or the traffic changed?",
    "null": "Is it still logged?",
    "unseen": "Has its coding changed?",
    "duplicates": "Are records written twice?",
    "actions": "Are they logged several times, under other ids?",
}
_COUNTED = {"actions": "positives", "duplicates": "actions"}
_TELLS = ("null", "unseen", "distribution")
"""Measures of a column, of which the first that says anything explains the others."""


def drift_figures(drift: Drift) -> dict[str, Any] | None:
    """Return what was compared, as JSON types; None if nothing is watched.

    Returns
    -------
    dict
        See `headrace.schemas.summary.DriftSummary`.
    """
    if not drift.plan.watched:
        return None
    end = max((line.latest.hour for line in drift.lines.values()), default=0) + HOUR
    return {
        "reference": None if drift.start is None else iso_moment(drift.start),
        "lines": [_figures(line, end) for line in drift.worst_first()[:MOST_SAID]],
    }


def drift_findings(drift: Drift) -> list[str]:
    """Return a sentence for each column, learner or action stream that differs much."""
    end = max((line.latest.hour for line in drift.lines.values()), default=0) + HOUR
    lines = [line for line in drift.worst_first() if line.level == 2]
    said = {(line.of, line.name, line.measure) for line in lines}
    found = []
    for line in lines:
        before = _TELLS[: _TELLS.index(line.measure)] if line.measure in _TELLS else ()
        if not any((line.of, line.name, measure) in said for measure in before):
            found.append(f"{in_words(line, end)}. {_HINTS[line.measure]}")
    return found


def in_words(line: Line, end: int) -> str:
    """Return what a line says, without a full stop.

    Parameters
    ----------
    line
        What was found.
    end
        When the last hour ends that was compared, microseconds.
    """
    worst = line.worst
    value, other = worst.value, worst.reference
    at, before = f"at {_when(worst.hour)} UTC", f"at {_when(worst.against)}"
    rows = f"({worst.rows:,.0f} {_COUNTED.get(line.measure, 'rows')})"
    subject = {"feature": f"feature {line.name}", "score": f"learner {line.name}"}.get(
        line.of, line.name
    )
    what = {
        "distribution": (
            f"stability index{' of scores' if line.of == 'score' else ''} {value:.3f} {at}, "
            f"against {_when(worst.against)} ({_MUCH:g} is much) {rows}"
        ),
        "null": f"{value:.1%} is null {at}, and {other:.1%} {before} {rows}",
        "unseen": f"{value:.1%} of values are new {at}, and {other:.1%} {before} {rows}",
        "duplicates": f"{value:.1%} are duplicates {at}, and {other:.1%} {before} {rows}",
        "actions": f"a positive has {value:.2f} actions {at}, and {other:.2f} {before} {rows}",
    }[line.measure]
    text = f"{subject}: {what}"
    if line.since is None or line.until is None:
        return text
    if line.until == end:
        return f"{text}; so since {_when(line.since)} UTC"
    return f"{text}; so in hours from {_when(line.since)} to {_when(line.until)} UTC"


def _figures(line: Line, end: int) -> dict[str, Any]:
    worst, latest = line.worst, line.latest
    return {
        "of": line.of,
        "name": line.name,
        "measure": line.measure,
        "level": LEVELS[line.level],
        "value": worst.value,
        "reference": worst.reference,
        "rows": round(worst.rows),
        "reference_rows": round(worst.reference_rows),
        "hour": iso_moment(worst.hour),
        "against": iso_moment(worst.against),
        "latest_value": latest.value,
        "latest_hour": iso_moment(latest.hour),
        "hours": line.judged,
        "much": line.hours,
        "since": None if line.since is None else iso_moment(line.since),
        "until": None if line.until is None else iso_moment(line.until),
        "words": in_words(line, end),
    }


def _when(time: int) -> str:
    return iso_moment(time)[:16].replace("T", " ")
