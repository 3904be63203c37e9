"""Stretches of hours in which actions meet no impression, or impressions have no action."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from headrace.monitoring.headline import Windows
from headrace.monitoring.statistics import POSITIVES, WEIGHT, Floats
from headrace.schemas.config.durations import DAY, HOUR, format_moment

FEWEST = 50
"""So many actions without an impression, or so many that were to be expected, show something."""
_LOST, _SOUND = 0.1, 0.5
"""In a lost hour at most such a share of the actions meets an impression, else as many as that."""
_WORTH_SAYING = 0.01
_LIKE_OTHERS = 0.2
"""An hour of a stretch has at least this part of the actions of other hours: few may be robots."""

_DAILY = 2 * HOUR
"""What begins at nearly the same hour of another day is a habit."""

Run = tuple[int, int]
"""Where hours begin and end, the end excluded."""


@dataclass(frozen=True)
class Hours:
    """What became of the actions of a stream, by hour.

    Parameters
    ----------
    met, unmet
        Actions that met an impression, and those that did not, by the hour of their event time.
    shown
        Sums of impressions by the hour of theirs (`headrace.monitoring.labels.LabelSums.hours`).
    reach
        By when nearly all actions come after their impressions, microseconds.
    """

    met: Mapping[int, int] = field(default_factory=dict)
    unmet: Mapping[int, int] = field(default_factory=dict)
    shown: Windows = field(default_factory=list)
    reach: int = 0


@dataclass(frozen=True)
class Stretch:
    """Hours that follow each other.

    Parameters
    ----------
    begin, end
        Event times, microseconds; the end is excluded.
    first, last
        Whether no other hour comes before, or after.
    """

    begin: int
    end: int
    first: bool
    last: bool

    @property
    def words(self) -> str:
        """When it is, such as ``from 2026-01-03 14:00 on``."""
        begin, end = (format_moment(time)[:16] for time in (self.begin, self.end))
        if self.last:
            return f"from {begin} on"
        return f"until {end}" if self.first else f"from {begin} to {end}"

    @property
    def otherwise(self) -> str:
        """The rest of the time, in a word."""
        return (
            "elsewhere" if not (self.first or self.last) else ("before" if self.last else "after")
        )


@dataclass(frozen=True)
class LostActions(Stretch):
    """A stretch in which actions meet no impression.

    Parameters
    ----------
    met, actions
        Actions that met an impression, and all.
    usual
        The share that meets one in other hours.
    impressions
        Whether there are impressions in it.
    """

    met: int
    actions: int
    usual: float
    impressions: bool


@dataclass(frozen=True)
class LostPositives(Stretch):
    """A stretch in which no impression has an action.

    Parameters
    ----------
    expected
        How many there were to be, at the rate of other hours.
    usual
        That rate.
    """

    expected: float
    usual: float


def lost_actions(hours: Hours) -> LostActions | None:
    """Return the greatest stretch in which actions meet no impression; None without one.

    What comes just after the first impression may belong to those before it and is not looked at.
    """
    shown = [start for start, _ in hours.shown]
    if not shown:
        return None
    times = sorted({*hours.met, *hours.unmet})
    judged = [time for time in times if not shown[0] <= time <= shown[0] + hours.reach]
    met = np.array([hours.met.get(time, 0) for time in judged], np.float64)
    every = met + np.array([hours.unmet.get(time, 0) for time in judged])
    lost = met <= _LOST * every
    if not lost.any() or lost.all():
        return None
    usual, per_hour = met[~lost].sum() / every[~lost].sum(), every[~lost].mean()
    begin, end = max(_runs(lost), key=lambda run: every[slice(*run)].sum())
    actions = every[begin:end].sum()
    there = judged[begin], judged[end - 1] + HOUR
    few = actions < max(FEWEST, _WORTH_SAYING * every.sum())
    if few or usual < _SOUND or actions / (end - begin) < _LIKE_OTHERS * per_hour:
        return None
    return LostActions(
        *there, begin == 0, end == len(judged), int(met[begin:end].sum()), int(actions),
        float(usual), any(there[0] <= time < there[1] for time in shown),
    )  # fmt: skip


def lost_positives(hours: Hours, ends: int) -> LostPositives | None:
    """Return the greatest stretch in which no impression has an action; None without one.

    Parameters
    ----------
    hours
        The stream's.
    ends
        The greatest event time of any stream, microseconds: for what was shown just before it,
        actions have not come yet.
    """
    of = [(time, sums) for time, sums in hours.shown if time + HOUR + hours.reach <= ends]
    positives = np.array([sums[POSITIVES] for _, sums in of])
    weight = np.array([sums[WEIGHT] for _, sums in of])
    none = positives == 0
    if not none.any() or none.all():
        return None
    runs = _runs(none)
    begin, end = max(runs, key=lambda run: weight[slice(*run)].sum())
    if any(_alike(of, weight, run, (begin, end)) for run in runs):
        return None
    outside = np.ones(len(of), np.bool_)
    outside[begin:end] = False
    # Negatives were left out by sampling, positives never.
    shown = float(weight[outside].sum())
    usual = float(positives.sum()) / shown if shown else 0.0
    expected = usual * float(weight[begin:end].sum())
    if expected < FEWEST:
        return None
    there = of[begin][0], of[end - 1][0] + HOUR
    return LostPositives(*there, begin == 0, end == len(of), expected, usual)


def _alike(of: Windows, weight: Floats, run: Run, greatest: Run) -> bool:
    """Return whether hours of another day are without actions too: nobody works at night."""
    apart = abs(of[run[0]][0] - of[greatest[0]][0])
    much = weight[slice(*run)].sum() >= weight[slice(*greatest)].sum() / 2
    return bool(apart and much and (apart + _DAILY) % DAY <= 2 * _DAILY)


def _runs(of: npt.NDArray[np.bool_]) -> list[Run]:
    """Return where a mask is true without a break, ends excluded."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], of, [False]])))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))
