"""Faults of generated traffic that have a beginning and a length, and changes that are none.

Each is a function of the records in its time and has chances of its own: it changes no other
record, and the order in which faults are given does not matter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from headrace.learners.learner import Floats
from headrace.pipelines.jobs.behaviour import APP_VERSIONS, REGIONS
from headrace.schemas.config.durations import DAY, HOUR, SECOND, format_duration, parse_duration
from headrace.schemas.errors import ArgumentError
from headrace.schemas.records.hashing import Bools, Int64s

HEALTHY = {
    "night": "nine of ten impressions do not happen",
    "weekend": "of impressions on desktops a quarter happens, of others seven tenths",
    "small-slice": "about 20 impressions an hour have the app version v6.0-beta, whose click "
    "rate is up to 1.6 times higher or lower, hour by hour",
    "trend": "the click rate rises by 2 % a day",
    "step": "the click rate is 15 % higher",
}
"""What changes in healthy traffic: what each does."""

TIMED = HEALTHY | {
    "doubled-new-ids": "impressions without a click get one, as many as there are clicks",
    "bot": "of impressions of the ads 11 to 14 ten times as many are clicked",
    "flip": "with the app version v4.9 clicks are missing, and impressions without one have one",
    "region": "impressions of the region west without a click are missing",
    "devices-swapped": "phones are logged as desktops and desktops as phones",
    "os-null": "`os` is null",
    "price-cents": "`price` is a hundred times as high",
    "ids-new": "`ad`, `campaign` and `site` have values that no other time has",
    "doubled-same-key": "clicks are logged again within a second, the same records",
    "standstill": "clicks are logged in its last second, in their order, which changes no file",
    "lag": "nine of ten clicks come later, by twice the window",
    "stop": "no click is logged: they are lost",
}
"""All kinds, in the order in which traffic goes through them: what each does."""

_CODES = {kind: code for code, kind in enumerate(TIMED)}
_LOSING = frozenset({"night", "weekend", "region"})
_MOST = 60
"""Each fault has a bit."""

_BETA, _BETA_AN_HOUR = "v6.0-beta", 20
_FLIPPED = APP_VERSIONS[-1]
_REGION = REGIONS[-1]
_BOT_ADS = (11, 12, 13, 14)
_MOST_P = 0.999

Clicking = Callable[[pa.Table, Int64s, np.random.Generator], pa.Table]
"""Makes clicks on rows of a table of impressions."""


@dataclass(frozen=True)
class Fault:
    """What changes records of a stretch of event time.

    Parameters
    ----------
    kind
        A name in `TIMED`.
    begin
        Microseconds since the first event time.
    length
        Microseconds; None for no end. The end itself is not part of it.
    """

    kind: str
    begin: int
    length: int | None = None

    def __str__(self) -> str:
        length = "" if self.length is None else f":{format_duration(self.length)}"
        return f"{self.kind}:{format_duration(self.begin)}{length}"

    def holds(self, elapsed: Int64s) -> Bools:
        """Return which times since the first event time it has, shape (n,)."""
        since = elapsed - self.begin
        held: Bools = (since >= 0) & (since < (2**62 if self.length is None else self.length))
        return held

    def between(self, start: int) -> dict[str, object]:
        """Return its kind and times, microseconds UTC; the end is None if there is none.

        Parameters
        ----------
        start
            The first event time, microseconds UTC.
        """
        begin = start + self.begin
        until = None if self.length is None else begin + self.length
        return {
            "kind": self.kind,
            "healthy": self.kind in HEALTHY,
            "from": begin,
            "until": until,
        }

    def chances(self, seed: int, part: int) -> np.random.Generator:
        """Return where its chances come from in a part of a log."""
        length = 0 if self.length is None else self.length
        return np.random.default_rng([seed, part, _CODES[self.kind], self.begin, length])


def parse_fault(text: str) -> Fault:
    """Return the fault that ``KIND:BEGIN`` or ``KIND:BEGIN:LENGTH`` names.

    Raises
    ------
    ArgumentError
        If the kind is not known, or a time is none.

    Examples
    --------
    >>> parse_fault("stop:2d:1h30m")
    Fault(kind='stop', begin=172800000000, length=5400000000)
    """
    kind, *times = text.split(":")
    if kind not in TIMED:
        raise ArgumentError("faults", text, "has no such kind", f"there are {', '.join(TIMED)}")
    hint = f'write KIND:BEGIN or KIND:BEGIN:LENGTH, such as "{kind}:2d:2h"'
    try:
        durations = [parse_duration(time) for time in times]
    except ValueError:
        durations = []
    if len(durations) not in (1, 2) or durations[1:] == [0]:
        raise ArgumentError("faults", text, "must have a beginning and may have a length", hint)
    if kind == "standstill" and len(durations) == 1:
        raise ArgumentError("faults", text, "must have a length", hint)
    return Fault(kind, *durations)


def in_order(faults: Iterable[Fault]) -> tuple[Fault, ...]:
    """Return faults in the order in which traffic goes through them.

    Raises
    ------
    ArgumentError
        If one is given twice, or there are more than 60.
    """
    given = list(faults)
    if len(given) > _MOST:
        raise ArgumentError("faults", len(given), f"must be {_MOST} or fewer", "leave some out")
    for number, fault in enumerate(given):
        if fault in given[:number]:
            raise ArgumentError("faults", str(fault), "is given twice", "leave one out")
    return tuple(sorted(given, key=lambda fault: (_CODES[fault.kind], fault.begin, str(fault))))


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
            if rows.size and fault.kind in _OF_IMPRESSIONS:
                random = fault.chances(self.seed, number)
                _OF_IMPRESSIONS[fault.kind](_Change(self, bit, fault, part, rows, random))
            if fault.kind in HEALTHY:
                happens = ~part.lost
        part.shown = part.shown.append_column("touched", pa.array(part.touched))
        part.clicks = part.clicks.append_column("touched", pa.array(part.click_touched))
        return part, happens

    def settled(self, shown: pa.Table) -> pa.Table:
        """Count what was done to impressions, and return those that are not lost."""
        touched = shown.column("touched").to_numpy()
        self._count(self.impressions, touched)
        losing = sum(1 << bit for bit, fault in enumerate(self.faults) if fault.kind in _LOSING)
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
            if fault.kind in _OF_CLICKS:
                arrives = clicks.column("arrives").to_numpy()
                rows = np.flatnonzero(fault.holds(arrives - self.start))
                random = fault.chances(self.seed, number)
                meets = _Arrivals(clicks, rows, self.start + fault.begin, fault, self.window)
                clicks, count = _OF_CLICKS[fault.kind](meets, random)
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


@dataclass
class _Change:
    """A fault that meets a part of a log; `rows` are the impressions in its time."""

    schedule: Schedule
    bit: int
    fault: Fault
    part: Part
    rows: Int64s
    random: np.random.Generator

    def draw(self) -> Floats:
        """Return a chance of each row in ``[0, 1)``, shape (m,)."""
        return self.random.random(self.rows.size)

    def column(self, name: str) -> npt.NDArray[Any]:
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
        part = self.part
        chosen = np.isin(part.click_rows, rows) & (part.click_touched == 0)
        part.click_touched[chosen] |= 1 << self.bit
        # Those that a fault has added are no rows of the clicks.
        keys = part.shown.column("request_id").take(pa.array(rows)).combine_chunks()
        for number, table in enumerate(part.added):
            lost = pc.is_in(table.column("request_id"), keys)
            self.schedule.clicks[self.bit] += pc.sum(lost).as_py() or 0
            part.added[number] = table.filter(pc.invert(lost))
        part.clicked[rows] = False

    def add_clicks(self, rows: Int64s) -> None:
        part = self.part
        part.added.append(self.schedule.clicking(part.shown, rows, self.random))
        part.clicked[rows] = True
        self.schedule.clicks[self.bit] += rows.size

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


def _night(change: _Change) -> None:
    change.lose(change.draw() >= 0.1)


def _weekend(change: _Change) -> None:
    change.lose(change.draw() >= np.where(change.column("device") == "desktop", 0.25, 0.7))


def _users_click(change: _Change, p: Floats) -> None:
    """Let users click so often: this is the truth from then on."""
    change.want(p)
    change.part.p[change.rows] = p


def _small_slice(change: _Change) -> None:
    chosen = change.draw() < _BETA_AN_HOUR * SECOND / HOUR / change.schedule.rate
    change.replace("app_version", [_BETA] * change.rows.size, chosen)
    noise = np.sin((change.part.elapsed[change.rows] // HOUR) * 12.9898) * np.log(1.6)
    _users_click(change, change.times(np.exp(noise), chosen))


def _trend(change: _Change) -> None:
    days = (change.part.elapsed[change.rows] - change.fault.begin) / DAY
    _users_click(change, change.times(1.02**days))


def _step(change: _Change) -> None:
    _users_click(change, change.times(1.15))


def _doubled_new_ids(change: _Change) -> None:
    change.want(change.times(2))


def _bot(change: _Change) -> None:
    change.want(change.times(10, np.isin(change.column("ad"), _BOT_ADS)))


def _flip(change: _Change) -> None:
    part = change.part
    rows = change.rows[(change.column("app_version") == _FLIPPED) & ~part.lost[change.rows]]
    clicked = part.clicked[rows]
    change.lose_clicks(rows[clicked])
    change.add_clicks(rows[~clicked])


def _lose_region(change: _Change) -> None:
    change.lose((change.column("region") == _REGION) & ~change.part.clicked[change.rows])


def _swap_devices(change: _Change) -> None:
    device = change.column("device")
    phone, desktop = device == "phone", device == "desktop"
    swapped = np.where(phone, "desktop", np.where(desktop, "phone", device))
    change.replace("device", swapped.astype(object), phone | desktop)


def _no_os(change: _Change) -> None:
    change.replace("os", [None] * change.rows.size)


def _cents(change: _Change) -> None:
    change.replace("price", np.round(change.column("price") * 100))


def _new_ids(change: _Change) -> None:
    for name, more in (("ad", 1_000_000), ("campaign", 1_000)):
        change.replace(name, change.column(name) + more)
    change.replace("site", "new-" + change.column("site"))


_OF_IMPRESSIONS: dict[str, Callable[[_Change], None]] = {
    "night": _night, "weekend": _weekend, "small-slice": _small_slice, "trend": _trend,
    "step": _step, "doubled-new-ids": _doubled_new_ids, "bot": _bot, "flip": _flip,
    "region": _lose_region, "devices-swapped": _swap_devices, "os-null": _no_os,
    "price-cents": _cents, "ids-new": _new_ids,
}  # fmt: skip


@dataclass(frozen=True)
class _Arrivals:
    """A fault that meets clicks, of which `rows` arrive in its time."""

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
        arrives: Int64s = self.clicks.column("arrives").to_numpy()[self.rows]
        return arrives


def _again(meets: _Arrivals, random: np.random.Generator) -> tuple[pa.Table, int]:
    arrives = meets.arrives + random.integers(0, SECOND, meets.rows.size)
    again = _with_arrivals(meets.clicks.take(pa.array(meets.rows)), arrives)
    return pa.concat_tables([meets.clicks, again]), meets.rows.size


def _stand_still(meets: _Arrivals, random: np.random.Generator) -> tuple[pa.Table, int]:
    del random
    length = meets.fault.length or 0
    last = min(SECOND, length)
    since = (meets.arrives - meets.begin) * (last / length)
    arrives = meets.begin + length - last + np.minimum(since.astype(np.int64), last - 1)
    # Those that now arrive at once stay in order.
    clicks = meets.arriving(meets.rows, arrives)
    order = np.argsort(meets.clicks.column("arrives").to_numpy(), kind="stable")
    return clicks.take(pa.array(order)), meets.rows.size


def _lag(meets: _Arrivals, random: np.random.Generator) -> tuple[pa.Table, int]:
    lags = random.random(meets.rows.size) < 0.9
    return meets.arriving(meets.rows[lags], meets.arrives[lags] + 2 * meets.window), int(lags.sum())


def _stop(meets: _Arrivals, random: np.random.Generator) -> tuple[pa.Table, int]:
    del random
    there = np.ones(meets.clicks.num_rows, bool)
    there[meets.rows] = False
    return meets.clicks.filter(pa.array(there)), meets.rows.size


_OF_CLICKS: dict[str, Callable[[_Arrivals, np.random.Generator], tuple[pa.Table, int]]] = {
    "doubled-same-key": _again, "standstill": _stand_still, "lag": _lag, "stop": _stop,
}  # fmt: skip


def _with_arrivals(clicks: pa.Table, arrives: Int64s) -> pa.Table:
    at = clicks.schema.get_field_index("arrives")
    return clicks.set_column(at, "arrives", pa.array(arrives))
