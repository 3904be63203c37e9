"""What faults that have a time do to clicks on their way into a log."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from headrace.pipelines.jobs.faults import Fault
from headrace.schemas.config.durations import SECOND
from headrace.schemas.records.hashing import Int64s


@dataclass(frozen=True)
class Arrivals:
    """A fault that meets clicks.

    Parameters
    ----------
    clicks, rows
        Clicks, and which of them arrive in the time of the fault.
    begin, fault
        Its beginning, microseconds UTC, and what it is.
    window
        Of clicks, microseconds.
    """

    clicks: pa.Table
    rows: Int64s
    begin: int
    fault: Fault
    window: int

    def arriving(self, rows: Int64s, arrives: Int64s) -> pa.Table:
        """Return all clicks; some arrive at other times."""
        moved = self.clicks.column("arrives").to_numpy().copy()
        moved[rows] = arrives
        return _with_arrivals(self.clicks, moved)

    @property
    def arrives(self) -> Int64s:
        """When the rows arrive, microseconds UTC."""
        arrives: Int64s = self.clicks.column("arrives").to_numpy()[self.rows]
        return arrives


def _again(meets: Arrivals, random: np.random.Generator) -> tuple[pa.Table, int]:
    arrives = meets.arrives + random.integers(0, SECOND, meets.rows.size)
    again = _with_arrivals(meets.clicks.take(pa.array(meets.rows)), arrives)
    return pa.concat_tables([meets.clicks, again]), meets.rows.size


def _stand_still(meets: Arrivals, random: np.random.Generator) -> tuple[pa.Table, int]:
    del random
    length = meets.fault.length or 0
    last = min(SECOND, length)
    since = (meets.arrives - meets.begin) * (last / length)
    arrives = meets.begin + length - last + np.minimum(since.astype(np.int64), last - 1)
    # Those that now arrive at once stay in order.
    clicks = meets.arriving(meets.rows, arrives)
    order = np.argsort(meets.clicks.column("arrives").to_numpy(), kind="stable")
    return clicks.take(pa.array(order)), meets.rows.size


def _lag(meets: Arrivals, random: np.random.Generator) -> tuple[pa.Table, int]:
    lags = random.random(meets.rows.size) < 0.9
    return meets.arriving(meets.rows[lags], meets.arrives[lags] + 2 * meets.window), int(lags.sum())


def _stop(meets: Arrivals, random: np.random.Generator) -> tuple[pa.Table, int]:
    del random
    there = np.ones(meets.clicks.num_rows, bool)
    there[meets.rows] = False
    return meets.clicks.filter(pa.array(there)), meets.rows.size


OF_CLICKS: dict[str, Callable[[Arrivals, np.random.Generator], tuple[pa.Table, int]]] = {
    "doubled-same-key": _again, "standstill": _stand_still, "lag": _lag, "stop": _stop,
}  # fmt: skip
"""What each fault of clicks does: returns all clicks, and how many it changed."""


def _with_arrivals(clicks: pa.Table, arrives: Int64s) -> pa.Table:
    at = clicks.schema.get_field_index("arrives")
    return clicks.set_column(at, "arrives", pa.array(arrives))
