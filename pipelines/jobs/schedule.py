"""The faults of a log that have a time, and how many records each has changed."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from headrace.learners.learner import Floats
from headrace.pipelines.jobs.arrivals import OF_CLICKS, Arrivals
from headrace.pipelines.jobs.changes import LOSING, OF_IMPRESSIONS, Change, Clicking, Part
from headrace.pipelines.jobs.faults import HEALTHY, Fault
from headrace.schemas.records.hashing import Bools, Int64s


@dataclass
class Schedule:
    """The faults of a log, and how many records each has changed.

    Parameters
    ----------
    faults
        In order, as `in_order` returns them.
    seed
        Of the log.
    start
        The first event time, microseconds UTC.
    window
        Of clicks, microseconds.
    rate
        Impressions per second.
    clicking
        Makes clicks.
    """

    faults: tuple[Fault, ...]
    seed: int
    start: int
    window: int
    rate: int
    clicking: Clicking
    impressions: list[int] = field(init=False)
    clicks: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self.impressions = [0] * len(self.faults)
        self.clicks = [0] * len(self.faults)

    def part(self, number: int, shown: pa.Table, p: Floats, clicks: pa.Table) -> tuple[Part, Bools]:
        """Return a part of the log with what faults do to it, and which impressions happen.

        The columns ``touched`` of its tables say which faults have changed a row, one bit each;
        `settled` turns them into figures. What is lost is still there until then.

        Parameters
        ----------
        number
            Of the part, for the chances of faults.
        shown, p, clicks
            See `Part`.
        """
        part = Part(shown, shown.column("time").to_numpy() - self.start, p, clicks)
        happens = np.ones(shown.num_rows, bool)
        for bit, fault in enumerate(self.faults):
            rows = np.flatnonzero(fault.holds(part.elapsed))
            if rows.size and fault.kind in OF_IMPRESSIONS:
                random = fault.chances(self.seed, number)
                change = Change(fault, bit, part, rows, random, self.clicking, self.rate)
                OF_IMPRESSIONS[fault.kind](change)
                self.clicks[bit] += change.clicks
            if fault.kind in HEALTHY:  # they are first
                happens = ~part.lost
        part.shown = part.shown.append_column("touched", pa.array(part.touched))
        part.clicks = part.clicks.append_column("touched", pa.array(part.click_touched))
        return part, happens

    def settled(self, shown: pa.Table) -> pa.Table:
        """Count what was done to impressions, and return those that are not lost."""
        touched = shown.column("touched").to_numpy()
        self._count(self.impressions, touched)
        losing = sum(1 << bit for bit, fault in enumerate(self.faults) if fault.kind in LOSING)
        return shown.drop_columns(["touched"]).filter(pa.array(touched & losing == 0))

    def logged(self, clicks: pa.Table, added: list[pa.Table], number: int = 0) -> pa.Table:
        """Return the clicks that get into the log, with the time at which each ``arrives``.

        Parameters
        ----------
        clicks
            All others, with the column ``touched``.
        added
            Those that faults have added.
        number
            Of the part of a log that these are.
        """
        touched = clicks.column("touched").to_numpy()
        self._count(self.clicks, touched)
        clicks = clicks.drop_columns(["touched"]).filter(pa.array(touched == 0))
        clicks = pa.concat_tables([clicks, *added])
        for bit, fault in enumerate(self.faults):
            arrives = clicks.column("arrives").to_numpy()
            rows = np.flatnonzero(fault.holds(arrives - self.start))
            if rows.size and fault.kind in OF_CLICKS:
                random = fault.chances(self.seed, number)
                meets = Arrivals(clicks, rows, self.start + fault.begin, fault, self.window)
                clicks, count = OF_CLICKS[fault.kind](meets, random)
                self.clicks[bit] += count
        return clicks

    def _count(self, counts: list[int], touched: Int64s) -> None:
        for bit in range(len(counts)):
            counts[bit] += int(np.count_nonzero(touched >> bit & 1))

    def as_json(self) -> list[dict[str, object]]:
        """Return each fault with its times, and how many records it changed, added or lost."""
        return [
            {**fault.between(self.start), "impressions": impressions, "clicks": clicks}
            for fault, impressions, clicks in zip(
                self.faults, self.impressions, self.clicks, strict=True
            )
        ]
