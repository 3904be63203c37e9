"""How long after their impressions actions come, and what part of them a window catches.

An impression near the end of a log was watched only briefly: it is *censored*, and
counting it as never clicked would make delays look shorter than they are. The share
of impressions without an action after a delay is therefore estimated by Kaplan and
Meier's product [1]_: over the delays at which first actions came, the product of
``1 - actions / impressions at risk``. At risk are the impressions that are still
watched and have no action just before that delay.

.. [1] Kaplan and Meier 1958, Nonparametric estimation from incomplete
   observations, section 2, equation 1b.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from headrace.schemas.config.durations import DAY, HOUR, MINUTE, SECOND
from headrace.schemas.records.hashing import Int64s

Floats = npt.NDArray[np.float64]

USUAL_WINDOWS = tuple(
    count * unit
    for unit, counts in (
        (SECOND, (1, 2, 5, 10, 20, 30)), (MINUTE, (1, 2, 5, 10, 15, 20, 30)),
        (HOUR, (1, 2, 3, 6, 12)), (DAY, (1, 2, 3, 7, 14, 30, 60, 90)),
    )
    for count in counts
)  # fmt: skip


@dataclass(frozen=True)
class Survival:
    """The share of impressions without an action, by delay.

    Parameters
    ----------
    delay
        Delays at which first actions came, ascending, int64 microseconds, shape (n,).
    actions, at_risk
        First actions at each, and impressions at risk just before, int64, shape (n,).
    share
        Share of impressions still without an action after each, float64, shape (n,).
    longest
        Delays are considered up to this, exclusive; microseconds.
    """

    delay: Int64s
    actions: Int64s
    at_risk: Int64s
    share: Floats
    longest: int

    def caught(self, window: int) -> float:
        """Return the share of impressions with an action at a delay less than `window`."""
        before = int(np.searchsorted(self.delay, window, side="left"))
        return 0.0 if before == 0 else 1.0 - float(self.share[before - 1])

    def coverage(self, window: int) -> float | None:
        """Return the part of the actions within `longest` that a window catches.

        None if there is no action.
        """
        all_of_them = self.caught(self.longest)
        return None if all_of_them == 0 else self.caught(window) / all_of_them

    def window_for(self, coverage: float) -> int | None:
        """Return the shortest window with at least this coverage, microseconds.

        A window excludes its end, so it is a microsecond longer than the last delay in it.
        None if there is no action.
        """
        caught = 1.0 - self.share
        if caught.size == 0:
            return None
        first = int(np.searchsorted(caught, coverage * caught[-1] - 1e-12, side="left"))
        return int(self.delay[min(first, caught.size - 1)]) + 1


class Delays:
    """Counts from which `Survival` is estimated; additive, and bounded by the log's span.

    Parameters
    ----------
    longest
        Delays are considered up to this, exclusive; microseconds.
    resolution
        Event times are rounded down to multiples of this, microseconds. That blurs how
        long impressions at the end of the log were watched, not the delays.
    """

    def __init__(self, longest: int, resolution: int = SECOND) -> None:
        self.longest, self.resolution = longest, resolution
        self.delays: list[Int64s] = []
        self.clicked: Counter[int] = Counter()
        self.all: Counter[int] = Counter()

    def add(self, event_time: Int64s, delay: Int64s) -> None:
        """Add impressions.

        Parameters
        ----------
        event_time
            int64 microseconds, shape (n,).
        delay
            Delay to the first action, negative without one; int64 microseconds, shape (n,).
        """
        has = delay >= 0
        self._count(self.all, event_time)
        self._count(self.clicked, event_time[has])
        self.delays.append(delay[has])

    def _count(self, counter: Counter[int], event_time: Int64s) -> None:
        steps, counts = np.unique(event_time // self.resolution, return_counts=True)
        for step, count in zip(steps.tolist(), counts.tolist(), strict=True):
            counter[step] += count

    def impressions_by_hour(self) -> dict[int, int]:
        """Return the number of impressions in each hour of event time, by the hour's start."""
        by_hour: Counter[int] = Counter()
        for step, count in self.all.items():
            by_hour[step * self.resolution // HOUR * HOUR] += count
        return dict(by_hour)

    def unwatched(self, after: int) -> int:
        """Return how many impressions have an event time greater than `after`."""
        return sum(n for step, n in self.all.items() if step * self.resolution > after)

    def survival(self, watched_until: int) -> Survival:
        """Estimate the share of impressions without an action, by delay.

        Parameters
        ----------
        watched_until
            Event time until which the log of the actions is complete, microseconds.
        """
        delays = np.sort(np.concatenate([np.empty(0, np.int64), *self.delays]))
        delay, actions = np.unique(delays, return_counts=True)
        steps = np.array(sorted(self.all), np.int64)
        alone = np.array([self.all[step] - self.clicked[step] for step in steps.tolist()])
        followed = watched_until - steps * self.resolution
        order = np.argsort(followed)
        followed, alone = followed[order], alone[order].astype(np.int64)
        # At risk: all, minus those with an earlier action, minus those not watched so long.
        gone = np.concatenate([[0], np.cumsum(alone)])
        unwatched = gone[np.searchsorted(followed, delay, side="left")]
        acted = np.cumsum(actions) - actions
        at_risk = np.maximum(sum(self.all.values()) - acted - unwatched, actions)
        share = np.cumprod(1.0 - actions / at_risk)
        return Survival(delay, actions, at_risk, share, self.longest)


class DelayHistogram:
    """How many actions of a label came after which delay; additive.

    Actions are counted between the durations that people use, `USUAL_WINDOWS`: those of
    ``counts[i]`` have a delay less than ``USUAL_WINDOWS[i]``, and not less than the one before;
    the last count has the rest.
    """

    def __init__(self) -> None:
        self.counts = np.zeros(len(USUAL_WINDOWS) + 1, np.int64)

    def add(self, delay: Int64s) -> None:
        """Add delays, microseconds, shape (n,)."""
        place = np.searchsorted(USUAL_WINDOWS, delay, side="right")
        self.counts += np.bincount(place, minlength=self.counts.size)

    def merge(self, other: DelayHistogram) -> None:
        """Add the counts of other actions."""
        self.counts += other.counts

    def reach(self, share: float) -> int:
        """Return by which of `USUAL_WINDOWS` such a share of the actions had come.

        Microseconds; the longest if there are none, or if more came later.
        """
        total = int(self.counts.sum())
        before = np.cumsum(self.counts[:-1])
        enough = np.flatnonzero(before >= share * total) if total else np.empty(0, np.int64)
        return USUAL_WINDOWS[int(enough[0])] if enough.size else USUAL_WINDOWS[-1]

    def as_json(self, window: int) -> list[dict[str, float | int]]:
        """Return the counts up to a window as JSON types, by the end of each bin in seconds.

        What lies in the bin that the window cuts has the window's end.
        """
        found: list[dict[str, float | int]] = []
        for end, count in zip((*USUAL_WINDOWS, window), self.counts.tolist(), strict=True):
            if end >= window or count or found:
                found.append({"below_s": min(end, window) / SECOND, "actions": count})
            if end >= window:
                break
        return found


def nice_window(window: int) -> int:
    """Round a window up to one of `USUAL_WINDOWS`; a longer one is returned as it is."""
    return next((usual for usual in USUAL_WINDOWS if usual >= window), window)
