"""What faults that have a time do to impressions and to who clicks on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from headrace.learners.learner import Floats
from headrace.pipelines.jobs.behaviour import APP_VERSIONS, REGIONS
from headrace.pipelines.jobs.faults import Fault
from headrace.schemas.config.durations import DAY, HOUR, SECOND
from headrace.schemas.records.hashing import Bools, Int64s

Clicking = Callable[[pa.Table, Int64s, np.random.Generator], pa.Table]
"""Makes clicks on rows of a table of impressions."""

_BETA, _BETA_AN_HOUR = "v6.0-beta", 20
_FLIPPED = APP_VERSIONS[-1]
_REGION = REGIONS[-1]
_BOT_ADS = (11, 12, 13, 14)
_MOST_P = 0.999
LOSING = frozenset({"night", "weekend", "region"})
"""Kinds by which impressions are lost."""


def as_often(p: Floats, factor: Floats | float) -> Floats:
    """Return probabilities so many times as high, below 1, shape (n,).

    Examples
    --------
    >>> as_often(np.array([0.1, 0.7]), 2).tolist()
    [0.2, 0.999]
    """
    more: Floats = np.minimum(p * factor, np.maximum(p, _MOST_P))
    return more


class Part:
    """Impressions of a part of a log and the clicks on them, as faults change them.

    Rows are only marked as lost, so that what else happens to a log is not shifted by it.

    Parameters
    ----------
    shown
        Impressions, n rows.
    elapsed
        Their times since the first event time, microseconds, shape (n,).
    p
        Probability that each is clicked, shape (n,).
    clicks
        Clicks on them, in their order.
    """

    def __init__(self, shown: pa.Table, elapsed: Int64s, p: Floats, clicks: pa.Table) -> None:
        self.shown, self.elapsed, self.p, self.clicks = shown, elapsed, p.copy(), clicks
        self.clicked: Bools = pc.is_in(
            shown.column("request_id"), clicks.column("request_id").combine_chunks()
        ).to_numpy()
        self.click_rows: Int64s = np.flatnonzero(self.clicked)
        self.lost = np.zeros(shown.num_rows, bool)
        self.touched = np.zeros(shown.num_rows, np.int64)
        self.click_touched = np.zeros(clicks.num_rows, np.int64)
        self.added: list[pa.Table] = []

    def column(self, name: str) -> npt.NDArray[Any]:
        """Return values of the impressions, shape (n,)."""
        values: npt.NDArray[Any] = self.shown.column(name).to_numpy()
        return values


@dataclass
class Change:
    """A fault that meets a part of a log.

    Parameters
    ----------
    fault, bit
        What happens, and its bit in ``touched``.
    part, rows
        The part, and its impressions that are in the time of the fault.
    random
        Where chance comes from.
    clicking
        Makes clicks.
    rate
        Impressions per second.
    clicks
        How many clicks were added, or lost again of those that were.
    """

    fault: Fault
    bit: int
    part: Part
    rows: Int64s
    random: np.random.Generator
    clicking: Clicking
    rate: int
    clicks: int = 0

    def draw(self) -> Floats:
        """Return a chance of each row in ``[0, 1)``, shape (m,)."""
        return self.random.random(self.rows.size)

    def column(self, name: str) -> npt.NDArray[Any]:
        """Return values of the rows, shape (m,)."""
        return self.part.column(name)[self.rows]

    def touch(self, chosen: Bools) -> Int64s:
        """Mark some of the rows, but no lost ones, as changed; return them."""
        part = self.part
        rows = self.rows[chosen & ~part.lost[self.rows]]
        part.touched[rows] |= 1 << self.bit
        return rows

    def lose(self, chosen: Bools) -> None:
        """Lose some of the rows with their clicks."""
        rows = self.touch(chosen)
        self.part.lost[rows] = True
        self.lose_clicks(rows)

    def lose_clicks(self, rows: Int64s) -> None:
        """Lose all clicks on some impressions."""
        part = self.part
        chosen = np.isin(part.click_rows, rows) & (part.click_touched == 0)
        part.click_touched[chosen] |= 1 << self.bit
        # Those that a fault has added are no rows of the clicks.
        keys = part.shown.column("request_id").take(pa.array(rows)).combine_chunks()
        for number, table in enumerate(part.added):
            lost = pc.is_in(table.column("request_id"), keys)
            self.clicks += pc.sum(lost).as_py() or 0
            part.added[number] = table.filter(pc.invert(lost))
        part.clicked[rows] = False

    def add_clicks(self, rows: Int64s) -> None:
        """Add a click on each of some impressions."""
        part = self.part
        part.added.append(self.clicking(part.shown, rows, self.random))
        part.clicked[rows] = True
        self.clicks += rows.size

    def want(self, p: Floats) -> None:
        """Add and lose as few clicks as make them as frequent as `p` says, shape (m,)."""
        part, rows, draws = self.part, self.rows, self.draw()
        before = part.p[rows]
        there, clicked = ~part.lost[rows], part.clicked[rows]
        self.lose_clicks(rows[there & clicked & (draws >= p / before)])
        self.add_clicks(rows[there & ~clicked & (draws < (p - before) / (1 - before))])

    def times(self, factor: Floats | float, chosen: Bools | None = None) -> Floats:
        """Return the probability of a click, so many times as high for some, shape (m,)."""
        p = self.part.p[self.rows]
        more = as_often(p, factor)
        return more if chosen is None else np.where(chosen, more, p)

    def replace(self, name: str, values: object, chosen: Bools | None = None) -> None:
        """Log other values of a column, shape (m,)."""
        rows = self.touch(np.ones(self.rows.size, bool) if chosen is None else chosen)
        shown = self.part.shown
        column = shown.column(name).combine_chunks()
        mask = np.zeros(shown.num_rows, bool)
        mask[rows] = True
        wanted = pa.array(values, column.type).take(pa.array(np.searchsorted(self.rows, rows)))
        at = shown.schema.get_field_index(name)
        column = pc.replace_with_mask(column, pa.array(mask), wanted)
        self.part.shown = shown.set_column(at, name, column)


def _night(change: Change) -> None:
    change.lose(change.draw() >= 0.1)


def _weekend(change: Change) -> None:
    change.lose(change.draw() >= np.where(change.column("device") == "desktop", 0.25, 0.7))


def _users_click(change: Change, p: Floats) -> None:
    """Let users click so often: this is the truth from then on."""
    change.want(p)
    change.part.p[change.rows] = p


def _small_slice(change: Change) -> None:
    chosen = change.draw() < _BETA_AN_HOUR * SECOND / HOUR / change.rate
    change.replace("app_version", [_BETA] * change.rows.size, chosen)
    noise = np.sin((change.part.elapsed[change.rows] // HOUR) * 12.9898) * np.log(1.6)
    _users_click(change, change.times(np.exp(noise), chosen))


def _trend(change: Change) -> None:
    days = (change.part.elapsed[change.rows] - change.fault.begin) / DAY
    _users_click(change, change.times(1.02**days))


def _step(change: Change) -> None:
    _users_click(change, change.times(1.15))


def _doubled_new_ids(change: Change) -> None:
    change.want(change.times(2))


def _bot(change: Change) -> None:
    change.want(change.times(10, np.isin(change.column("ad"), _BOT_ADS)))


def _flip(change: Change) -> None:
    part = change.part
    rows = change.rows[(change.column("app_version") == _FLIPPED) & ~part.lost[change.rows]]
    clicked = part.clicked[rows]
    change.lose_clicks(rows[clicked])
    change.add_clicks(rows[~clicked])


def _lose_region(change: Change) -> None:
    change.lose((change.column("region") == _REGION) & ~change.part.clicked[change.rows])


def _swap_devices(change: Change) -> None:
    device = change.column("device")
    phone, desktop = device == "phone", device == "desktop"
    swapped = np.where(phone, "desktop", np.where(desktop, "phone", device))
    change.replace("device", swapped.astype(object), phone | desktop)


def _no_os(change: Change) -> None:
    change.replace("os", [None] * change.rows.size)


def _cents(change: Change) -> None:
    change.replace("price", np.round(change.column("price") * 100))


def _new_ids(change: Change) -> None:
    for name, more in (("ad", 1_000_000), ("campaign", 1_000)):
        change.replace(name, change.column(name) + more)
    change.replace("site", "new-" + change.column("site"))


OF_IMPRESSIONS: dict[str, Callable[[Change], None]] = {
    "night": _night, "weekend": _weekend, "small-slice": _small_slice, "trend": _trend,
    "step": _step, "doubled-new-ids": _doubled_new_ids, "bot": _bot, "flip": _flip,
    "region": _lose_region, "devices-swapped": _swap_devices, "os-null": _no_os,
    "price-cents": _cents, "ids-new": _new_ids,
}  # fmt: skip
"""What each fault of impressions does."""
