"""Where a run stands, as its figures tell somebody who watches it: what is worst comes first.

Everything here is a function of figures as JSON types, see `headrace.monitoring.figures`, so it is
the same of a run on this machine and of a ``status.json`` from elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from headrace.monitoring.headline import FEWEST_EXPECTED
from headrace.monitoring.ratios import LEVEL, against_expected
from headrace.monitoring.statistics import (
    LOSS,
    MATURE,
    OTHER,
    P_SUM,
    POSITIVE_WEIGHT,
    SAMPLES,
    SUMS,
    WEIGHT,
    Floats,
)

AT_REST = ("young", "watching")
"""States of a scope of the guard in which nothing is suspected."""

_SEVERITY = ("warned", "disconnected", "asking")


@dataclass(frozen=True)
class Calibration:
    """Positives against what was predicted, by weight.

    Parameters
    ----------
    samples
        How many samples.
    positives, expected
        Weight of positives, and the sum of predictions by weight: k and the sum of p.
    ratio, low, high
        Positives over expected, with its 95 % interval; None if nothing was predicted.
    log_loss
        By weight, nats; None without samples.
    """

    samples: int
    positives: float
    expected: float
    ratio: float | None
    low: float | None
    high: float | None
    log_loss: float | None

    @classmethod
    def of(cls, sums: Floats) -> Calibration:
        """Return that of sums, shape (9,)."""
        found = against_expected(sums)
        ratio, low, high = (
            (None, None, None) if found is None else (found[0], found[1].low, found[1].high)
        )
        loss = float(sums[LOSS] / sums[WEIGHT]) if sums[WEIGHT] else None
        return cls(
            int(sums[SAMPLES]), float(sums[POSITIVE_WEIGHT]), float(sums[P_SUM]), ratio, low, high,
            loss,
        )  # fmt: skip


@dataclass(frozen=True)
class SliceStanding:
    """Where a value of a slice column stands.

    Parameters
    ----------
    slice, value
        Column and value.
    whole, window
        Since the run began, and in the latest complete window; None if that has none of it.
    guard
        State of the guard; None if it shows none.
    beyond
        By what factor it is surely off, 1 if it may be chance.
    """

    slice: str
    value: str
    whole: Calibration
    window: Calibration | None
    guard: str | None
    beyond: float


@dataclass(frozen=True)
class LearnerStanding:
    """Where the predictions of a learner stand.

    Parameters
    ----------
    name, label
        The learner, and the action stream that it predicts.
    predicted
        The kind of predictions that is judged: ``served`` where labels are not final when they
        are learned, else ``learned``.
    sums
        Of all samples since the run began, shape (9,).
    window_end
        Event time of the end of the latest complete window, microseconds; None before the first.
    window
        All samples in it; None without any.
    slices
        Values of slices, the worst first.
    """

    name: str
    label: str
    predicted: str
    sums: Floats
    window_end: int | None
    window: Calibration | None
    slices: tuple[SliceStanding, ...]

    @property
    def whole(self) -> Calibration:
        """All samples since the run began."""
        return Calibration.of(self.sums)

    @property
    def worst(self) -> SliceStanding | None:
        """The worst value of those that are judged, None without any."""
        judged = (of for of in self.slices if of.guard in _SEVERITY or _is_large(of.whole))
        return next(judged, None)


@dataclass(frozen=True)
class StreamStanding:
    """How far a stream is behind.

    Parameters
    ----------
    name
        The stream.
    records, rejected
        Records read, and how many of them are invalid.
    event_time
        Its greatest event time, microseconds; None before the first record.
    behind
        How far that is behind the greatest of all streams, microseconds; None before the first.
    lag
        Records that wait; None if nobody has said.
    ended
        Whether all its sources have ended.
    """

    name: str
    records: int
    rejected: int
    event_time: int | None
    behind: int | None
    lag: int | None
    ended: bool


def streams(figures: Mapping[str, Any]) -> list[StreamStanding]:
    """Return the streams in the order of their outcomes, that of impressions first."""
    newest = max((t for of in figures["sources"] if (t := of["event_time"]) is not None), default=0)
    found = []
    for name in figures["outcomes"]:
        own = [of for of in figures["sources"] if of["stream"] == name]
        time = max((t for of in own if (t := of["event_time"]) is not None), default=None)
        lags = [of["lag"] for of in own]
        found.append(
            StreamStanding(
                name, sum(of["records"] for of in own), sum(of["rejected"] for of in own), time,
                None if time is None else newest - time,
                None if None in lags or not lags else sum(lags),
                bool(own) and all(of["ended"] for of in own),
            )
        )  # fmt: skip
    return found


def learners(figures: Mapping[str, Any]) -> list[LearnerStanding]:
    """Return where the predictions of each learner stand."""
    kinds: dict[str, dict[str, Any]] = {}
    for of in figures["predictions"]:
        kinds.setdefault(of["learner"], {})[of["predicted"]] = of
    states = {(of["label"], of["slice"], of["value"]): of["state"] for of in figures["guard"]}
    return [_learner(_judged(by_kind), states) for by_kind in kinds.values()]


def worst_scopes(scopes: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return scopes of a guard, the worst first: by state, then by their last block."""

    def badness(of: Mapping[str, Any]) -> tuple[int, float]:
        state = of["state"]
        severity = 1 + _SEVERITY.index(state) if state in _SEVERITY else 0
        if of["expected"] is None:
            return severity, 0.0
        return severity, abs(math.log((of["positives"] + 0.5) / (of["expected"] + 0.5)))

    return sorted(scopes, key=badness, reverse=True)


def _judged(kinds: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the predictions whose labels are final, those as learned if none are."""
    learned, served = kinds["learned"], kinds.get("served")
    sums = _cells(learned["totals"]).get(("", ""))
    final = sums is None or sums[MATURE] == sums[SAMPLES]
    if final or served is None or not served["totals"]["slice"]:
        found: Mapping[str, Any] = learned
        return found
    return served


def _learner(of: Mapping[str, Any], states: Mapping[tuple[str, str, str], str]) -> LearnerStanding:
    totals = _cells(of["totals"])
    window = {} if of["window"] is None else _cells(of["window"])
    whole = totals.pop(("", ""), np.zeros(len(SUMS)))
    large = sum(value != OTHER and sums[P_SUM] >= FEWEST_EXPECTED
                for (_, value), sums in totals.items())  # fmt: skip
    # Of many values some are far off by chance.
    level = 1 - (1 - LEVEL) / max(large, 1)
    slices = [
        SliceStanding(
            column, value, Calibration.of(sums),
            Calibration.of(window[column, value]) if (column, value) in window else None,
            states.get((of["label"], column, value)),
            max(_beyond(sums, level), _beyond(window.get((column, value)), level)),
        )
        for (column, value), sums in totals.items()
    ]  # fmt: skip
    of_all = window.get(("", ""))
    return LearnerStanding(
        of["learner"], of["label"], of["predicted"], whole,
        None if of["window"] is None else of["window"]["end"],
        None if of_all is None else Calibration.of(of_all),
        tuple(sorted(slices, key=_badness, reverse=True)),
    )  # fmt: skip


def _cells(columns: Mapping[str, Any]) -> dict[tuple[str, str], Floats]:
    rows = np.array([columns[name] for name in SUMS], float).T
    return dict(zip(zip(columns["slice"], columns["value"], strict=True), rows, strict=True))


def _is_large(of: Calibration) -> bool:
    return of.expected >= FEWEST_EXPECTED


def _beyond(sums: Floats | None, level: float) -> float:
    """Return by what factor positives are surely off, 1 if it may be chance, or is not judged."""
    if sums is None or sums[P_SUM] < FEWEST_EXPECTED:
        return 1.0
    found = against_expected(sums, level)
    if found is None or found[1].high is None:
        return 1.0
    return max(1.0, found[1].low, 1 / found[1].high)


def _badness(of: SliceStanding) -> tuple[int, float, bool, float]:
    severity = 1 + _SEVERITY.index(of.guard) if of.guard in _SEVERITY else 0
    ratio = of.whole.ratio
    distance = abs(math.log(ratio)) if ratio else 0.0
    return severity, of.beyond, _is_large(of.whole), distance
