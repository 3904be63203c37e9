"""What was found of drift, in words and figures, what differs most first."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from headrace.monitoring.drift import BOUNDS, Drift, Line
from headrace.schemas.config.durations import HOUR, SECOND

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
        "reference": None if drift.start is None else _iso(drift.start),
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
    against = f"{_when(worst.against)} UTC"
    subject = {
        "feature": f"feature {line.name}", "score": f"scores of learner {line.name}",
        "action": line.name,
    }[line.of]  # fmt: skip
    what = {
        "distribution": f"stability index {value:.3f} (from {_MUCH:g} is much)",
        "null": f"{value:.1%} null, and {other:.1%}",
        "unseen": f"{value:.1%} of values are new, and {other:.1%}",
        "duplicates": f"{value:.1%} are duplicates, and {other:.1%}",
        "actions": f"{value:.2f} actions of a positive, and {other:.2f}",
    }[line.measure]  # fmt: skip
    versus = "against" if line.measure == "distribution" else "in the hour of"
    text = f"{subject}: {what} {versus} {against}, at {_when(worst.hour)} ({worst.rows:,.0f} "
    text += {"actions": "positives)", "duplicates": "actions)"}.get(line.measure, "rows)")
    if line.since is None or line.until is None:
        return text
    if line.until == end:
        return f"since {_when(line.since)} UTC {text}"
    return f"from {_when(line.since)} to {_when(line.until)} UTC {text}"


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
        "hour": _iso(worst.hour),
        "against": _iso(worst.against),
        "latest_value": latest.value,
        "latest_hour": _iso(latest.hour),
        "hours": line.judged,
        "much": line.hours,
        "since": None if line.since is None else _iso(line.since),
        "until": None if line.until is None else _iso(line.until),
        "words": in_words(line, end),
    }


def _iso(time: int) -> str:
    return datetime.fromtimestamp(time // SECOND, UTC).isoformat()


def _when(time: int) -> str:
    return _iso(time)[:16].replace("T", " ")
