"""Whether features, scores and the number of actions are still distributed as they were.

Faults of features mostly escape a comparison of labels with predictions: a column that is null, or
in cents, makes a prediction that is wrong, but often not wrong on the whole. So every hour of event
time is compared, once it is complete, with the same hour of the day before, and with the same hour
of a day that stays the reference. The lesser of the two differences counts: what differs from
yesterday alone is a return to what was, and what differs from the reference alone came slowly.

Distributions are compared by the population stability index [1]_, over at most `GROUPS` groups that
the earlier hour has: its most frequent values and all others together, or neighbouring numbers of
about equal weight, and nulls. With shares a and b of the G groups, of n and m rows::

    sum (a - b) log(a / b),  a = (count + 1/2) / (n + G/2)

so that an empty group is finite. Shares are compared by the interval of their difference [2]_.

References
----------
.. [1] Siddiqi, Credit risk scorecards (2006): above 0.1 something has shifted, above 0.25 much has.
.. [2] Agresti and Caffo, Simple and effective confidence intervals for proportions and differences
   of proportions, The American Statistician 54 (2000).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa

from headrace.monitoring.exported import check_version, packed, unpacked
from headrace.monitoring.hourly import (
    CODES,
    LEVELS,
    Counts,
    Hour,
    Rows,
    Watched,
    coded,
    least_level,
    levels,
    sizes_of,
)
from headrace.monitoring.statistics import Floats, Int64s
from headrace.schemas.config.durations import DAY, HOUR
from headrace.schemas.records.events import NEVER
from headrace.schemas.records.hashing import Bools, UInt64s
from headrace.schemas.records.restored import (
    Count,
    Finite,
    Moment,
    Sum,
    Text,
    checked,
    expect,
    written,
)

DRIFT_VERSION = 1
"""Version of what `Drift.export` returns."""

FEWEST_ROWS = 5000
"""An hour with fewer rows is not judged, and none is judged by it: the index of two samples of so
many rows of one distribution is about 0.01, of 200 rows it is 0.2."""
FEWEST_ACTIONS = 100
"""Actions, or positives, from which on their number is judged."""
GROUPS = 20
_FULL = 0.9
"""A reference whose values have more of the codes does not tell new values."""
_SINGLE = 0.99
_Z = 1.96

BOUNDS = {
    "distribution": (0.1, 0.25),
    "null": (0.02, 0.1),
    "unseen": (0.05, 0.1),
    "duplicates": (0.02, 0.1),
    "actions": (math.log(1.1), math.log(1.25)),
}
"""By measure from where on something has shifted, and from where on it is a finding: of the
population stability index; of the least that a difference of shares may be; of the least that the
logarithm of a ratio may be."""


@dataclass(frozen=True)
class DriftPlan:
    """What is watched.

    Parameters
    ----------
    watched
        Columns of features and scores of learners.
    labels
        Action streams that are labels.
    delay
        The longest time from an event to when it is decided, microseconds.
    fresh
        Learners that begin with nothing: their scores of the first day are no reference.
    """

    watched: tuple[Watched, ...] = ()
    labels: tuple[str, ...] = ()
    delay: int = 0
    fresh: frozenset[str] = frozenset()


class Shape(NamedTuple):
    """What is kept of a distribution: groups of codes, and their weights.

    Parameters
    ----------
    rows
        Of how many rows it is, see `headrace.monitoring.hourly.Counts`.
    groups
        The most frequent codes, or the first code of each group of neighbours.
    weights
        Weight of null, of each group, and of values of no group.
    unseen
        Share of values that the reference has not; None if that is not known.
    """

    rows: float
    groups: list[int]
    weights: list[float]
    unseen: float | None = None

    @property
    def null(self) -> float:
        """The share of nulls."""
        return self.weights[0] / max(sum(self.weights), 1.0)

    @property
    def single(self) -> bool:
        """Whether nearly all values are one, as of an hour of the day."""
        total = sum(self.weights)
        return total > 0 and max(self.weights[1:]) >= _SINGLE * total


class Actions(NamedTuple):
    """Sums over the positives of an hour, and actions that were there already."""

    positives: int = 0
    actions: int = 0
    squares: int = 0
    duplicates: int = 0

    def plus(self, other: Actions) -> Actions:
        """Return the sums of both."""
        return Actions(*(a + b for a, b in zip(self, other, strict=True)))

    @property
    def repeated(self) -> tuple[float, float]:
        """The share of actions that were there already, and of how many it is."""
        total = self.actions + self.duplicates
        return self.duplicates / max(total, 1), float(total)

    @property
    def mean(self) -> tuple[float, float]:
        """The actions of a positive, and the standard error of the logarithm of that."""
        mean = self.actions / self.positives
        variance = max(self.squares / self.positives - mean**2, 0.0)
        return mean, math.sqrt(variance / self.positives) / mean


class Found(NamedTuple):
    """How an hour differs from an earlier one.

    Parameters
    ----------
    hour
        When it begins, microseconds.
    badness
        How much it differs, in terms of `BOUNDS`.
    value, reference
        What is compared; of a distribution the index, and 0.
    rows, reference_rows
        Of how many rows, or actions, each is.
    against
        When the earlier hour begins.
    """

    hour: int
    badness: float
    value: float
    reference: float
    rows: float
    reference_rows: float
    against: int


@dataclass
class Line:
    """What was found of one measure of one column, learner or action stream.

    Parameters
    ----------
    of, name, measure
        ``feature``, ``score`` or ``action``; which one; a key of `BOUNDS`.
    judged
        Hours that were compared.
    latest, worst
        The last of them, and the one that differs most.
    since, until, hours
        Of hours that differ much: when the first begins, when the last ends (microseconds), and how
        many there are.
    """

    of: str
    name: str
    measure: str
    judged: int
    latest: Found
    worst: Found
    since: int | None = None
    until: int | None = None
    hours: int = 0

    @property
    def level(self) -> int:
        """1 if the worst hour has shifted, 2 if it has much, else 0."""
        return _level(self.measure, self.worst.badness)


def _level(measure: str, badness: float) -> int:
    return sum(badness >= bound for bound in BOUNDS[measure])


def shape_of(counts: Counts, ordered: bool) -> Shape:
    """Return the groups of a distribution.

    Parameters
    ----------
    counts
        The distribution.
    ordered
        Whether neighbouring codes are grouped; else the most frequent have groups.
    """
    has = counts.codes > 0
    codes, weights = counts.codes[has].astype(np.int64), counts.weights[has]
    if ordered and codes.size:
        sums = np.cumsum(weights)
        # A code that has more than one part of the weight is a group, others share one.
        at = np.searchsorted(sums, np.arange(GROUPS) * sums[-1] / GROUPS, side="right")
        groups = np.unique(np.append(codes[at], 1))
    else:
        order = np.lexsort((codes, -weights))
        groups = np.sort(codes[order[:GROUPS]])
    return Shape(counts.rows, groups.tolist(), grouped(counts, groups, ordered).tolist())


def grouped(counts: Counts, groups: Int64s, ordered: bool) -> Floats:
    """Return the weight of null, of each group, and of values of no group."""
    codes = counts.codes.astype(np.int64)
    if ordered:
        at = np.searchsorted(groups, codes, side="right")
    else:
        at = np.searchsorted(groups, codes) + 1
        own = np.append(groups, -1)[at - 1] == codes
        at = np.where(own, at, np.where(codes == 0, 0, groups.size + 1))
    return np.bincount(at, weights=counts.weights, minlength=groups.size + 2).astype(np.float64)


def stability_index(now: Floats, rows: float, then: Floats, then_rows: float) -> float:
    """Return the population stability index of two distributions over the same groups.

    Parameters
    ----------
    now, then
        Weights of the groups, shape (G,); their scale does not matter.
    rows, then_rows
        Of how many rows they are.

    Examples
    --------
    >>> halves, thirds = np.array([1.0, 1.0]), np.array([2.0, 1.0])
    >>> round(stability_index(halves, 1e9, thirds, 1e9), 6)  # 1/6 log 2
    0.115525
    """
    share, other = (
        (of / of.sum() * n + 0.5) / (n + 0.5 * of.size)
        for of, n in ((now, rows), (then, then_rows))
    )
    return float(np.sum((share - other) * np.log(share / other)))


def surely_apart(a: float, n: float, b: float, m: float) -> float:
    """Return by how much two shares differ at least, with 95 %; 0 if they may be the same.

    Parameters
    ----------
    a, b
        Shares of n and m rows.

    Examples
    --------
    >>> round(surely_apart(0.9, 8, 0.5, 8), 3)
    0.0
    >>> round(surely_apart(1.0, 5000, 0.0, 5000), 3)
    0.999
    """
    p, q = (a * n + 1) / (n + 2), (b * m + 1) / (m + 2)
    error = math.sqrt(p * (1 - p) / (n + 2) + q * (1 - q) / (m + 2))
    return max(0.0, abs(p - q) - _Z * error)


_WrittenShape = tuple[Sum, list[Count], list[Sum], Sum | None]
_WrittenFound = tuple[Moment, Finite, Finite, Finite, Sum, Sum, Moment]


@written
class _WrittenLine:
    of: Literal["feature", "score", "action"]
    name: Text
    measure: Literal["distribution", "null", "unseen", "duplicates", "actions"]
    judged: Count
    latest: _WrittenFound
    worst: _WrittenFound
    since: Moment | None
    until: Moment | None
    hours: Count


@written
class _Written:
    version: Count
    hours: list[tuple[Moment, dict[Text, Any]]]
    actions: list[tuple[Text, Moment, Count, Count, Count, Count]]
    shapes: list[tuple[Moment, dict[Text, _WrittenShape]]]
    start: Moment | None
    closed: Moment | None
    seen: dict[Text, Text]
    lines: list[_WrittenLine]


class Drift:
    """Counts hours, and compares those that are complete.

    While an hour is open its rows are counted (`headrace.monitoring.hourly.Hour`, which can be
    merged); of a complete one a few groups are kept, for a day or two. What is found depends on
    the log alone, not on when `close_before` is called.

    Parameters
    ----------
    plan
        What is watched.
    """

    def __init__(self, plan: DriftPlan) -> None:
        self.plan = plan
        self.hours: dict[int, Hour] = {}
        """Open hours by when they begin, microseconds."""
        self.actions: dict[tuple[str, int], Actions] = {}
        """By stream and hour; of complete hours for as long as they are compared with."""
        self.shapes: dict[int, dict[str, Shape]] = {}
        """Of complete hours, by key of what is watched."""
        self.start: int | None = None
        """The first hour with enough rows: the day from it on is the reference."""
        self.seen = {of.name: np.zeros(CODES, np.bool_) for of in plan.watched if not of.ordered}
        self.lines: dict[tuple[str, str, str], Line] = {}
        self.closed = NEVER
        """Hours before this are complete."""

    def wanted(self, time: Int64s, key: UInt64s) -> tuple[Int64s, Any]:
        """Return which rows are counted, and their levels, both of shape (m,).

        Parameters
        ----------
        time, key
            Event time, microseconds, and first half of the key's digest, shape (n,).
        """
        level = levels(key)
        starts, number = _by_hour(time)
        # Rows that these alone would leave out need not be looked at.
        least = np.empty(len(starts), np.uint8)
        sizes = sizes_of(level, number, len(starts))
        for at, start in enumerate(starts):
            known = self.hours[start].level if start in self.hours else 0
            least[at] = LEVELS if start < self.closed else max(known, least_level(sizes[at]))
        rows = np.flatnonzero(level >= least[number])
        return rows, level[rows]

    def observe(self, rows: Rows, level: Any) -> None:
        """Count the rows that `wanted` has chosen."""
        starts, number = _by_hour(rows.time)
        whole = coded(self.plan.watched, rows, level)
        for at, start in enumerate(starts):
            if start not in self.hours:
                self.hours[start] = Hour(self.plan.watched)
            self.hours[start].add(whole if len(starts) == 1 else whole.select(number == at))

    def count(self, stream: str, time: Int64s, positive: Bools, actions: Int64s) -> None:
        """Count the actions of positives.

        Parameters
        ----------
        stream
            The action stream.
        time
            Event time of each sample, microseconds, shape (n,).
        positive, actions
            Its label, and how many actions it has, shape (n,).
        """
        own = np.flatnonzero(positive)
        counts = actions[own].astype(np.int64)
        starts, number = _by_hour(time[own])
        for at, start in enumerate(starts):
            here = counts[number == at]
            self._count(stream, start, Actions(here.size, int(here.sum()), int(here @ here)))

    def count_duplicates(self, stream: str, time: int, records: int) -> None:
        """Count records of an action stream that were there already, of a time in microseconds."""
        self._count(stream, time // HOUR * HOUR, Actions(duplicates=records))

    def _count(self, stream: str, start: int, more: Actions) -> None:
        if start >= self.closed:
            self.actions[stream, start] = self.actions.get((stream, start), Actions()).plus(more)

    # --- complete hours -------------------------------------------------------------------

    def close_before(self, emit: int) -> None:
        """Compare the hours of which nothing comes any more.

        Parameters
        ----------
        emit
            All samples that are emitted before are counted, microseconds.
        """
        until = (emit - self.plan.delay) // HOUR * HOUR
        if until <= self.closed:
            return
        self.closed = until
        found = {start for start in self.hours if start < until}
        found |= {start for _, start in self.actions if start < until}
        for start in sorted(found - self.shapes.keys()):
            self._close(start)
        last = max(found, default=until) + HOUR
        self._forget(last)

    def _close(self, start: int) -> None:
        hour = self.hours.pop(start, None)
        counts = {} if hour is None else {of: hour.counts(of) for of in self.plan.watched}
        rows = max((of.rows for of in counts.values()), default=0.0)
        if self.start is None and rows >= FEWEST_ROWS:
            self.start = start
        shapes: dict[str, Shape] = {}
        for of, found in counts.items():
            shape = shape_of(found, of.ordered)
            if not of.ordered:
                shape = shape._replace(unseen=self._unseen(of.name, start, found))
            shapes[of.key] = shape
            if shape.rows >= FEWEST_ROWS:
                self._judge(of, start, found, shape)
        self.shapes[start] = shapes
        for stream in self.plan.labels:
            if (stream, start) in self.actions:
                self._judge_actions(stream, start)

    def _unseen(self, name: str, start: int, counts: Counts) -> float | None:
        """Return the share of values that the reference has not; add those of the reference."""
        seen = self.seen[name]
        if self.start is None or start < self.start + DAY:
            if self.start is not None:
                seen[counts.codes] = True
            return None
        full = float(np.count_nonzero(seen[1:])) / (CODES - 1)
        total = float(counts.weights.sum()) - counts.null
        if full > _FULL or not total:
            return None
        new = ~seen[counts.codes] & (counts.codes > 0)
        # A new value has the code of a seen one as often as codes are taken.
        return min(1.0, float(counts.weights[new].sum()) / total / (1 - full))

    def _references(self, start: int, first: int | None) -> list[int]:
        """Return the hours to compare one with; the reference begins at `first`."""
        if first is None or start < first + DAY:
            return []
        return sorted({start - DAY, first + (start - first) % DAY})

    def _first(self, of: Watched) -> int | None:
        late = of.kind == "scores" and of.name in self.plan.fresh
        return self.start if self.start is None or not late else self.start + DAY

    def _judge(self, of: Watched, start: int, counts: Counts, shape: Shape) -> None:
        found: dict[str, list[Found]] = {}
        for against in self._references(start, self._first(of)):
            then = self.shapes.get(against, {}).get(of.key)
            if then is not None and then.rows >= FEWEST_ROWS:
                for measure, badness, value, other in _differences(of, counts, shape, then):
                    row = Found(start, badness, value, other, shape.rows, then.rows, against)
                    found.setdefault(measure, []).append(row)
        for measure, rows in found.items():
            self._note(of.of, of.name, measure, min(rows, key=lambda row: row.badness))

    def _judge_actions(self, stream: str, start: int) -> None:
        now = self.actions[stream, start]
        repeats, counts = [], []
        for against in self._references(start, self.start):
            then = self.actions.get((stream, against), Actions())
            if min(now.positives, then.positives) < FEWEST_ACTIONS:
                continue
            (share, n), (other, m) = now.repeated, then.repeated
            apart = surely_apart(share, n, other, m)
            repeats.append(Found(start, apart, share, other, n, m, against))
            (mean, error), (before, its) = now.mean, then.mean
            log = abs(math.log(mean / before)) - _Z * math.hypot(error, its)
            counts.append(
                Found(start, max(0.0, log), mean, before, now.positives, then.positives, against)
            )
        for measure, rows in (("duplicates", repeats), ("actions", counts)):
            if rows:
                self._note("action", stream, measure, min(rows, key=lambda row: row.badness))

    def _note(self, of: str, name: str, measure: str, found: Found) -> None:
        key = (of, name, measure)
        line = self.lines.setdefault(key, Line(of, name, measure, 0, found, found))
        line.judged += 1
        line.latest = found
        line.worst = max(line.worst, found, key=lambda row: row.badness)
        if _level(measure, found.badness) == 2:
            line.since = found.hour if line.since is None else line.since
            line.until = found.hour + HOUR
            line.hours += 1

    def _forget(self, last: int) -> None:
        """Forget hours with which none from `last` on is compared."""

        def stays(start: int) -> bool:
            first = self.start
            return start >= last - DAY or (first is not None and first <= start < first + 2 * DAY)

        self.shapes = {start: of for start, of in self.shapes.items() if stays(start)}
        self.actions = {key: of for key, of in self.actions.items() if stays(key[1])}

    # --- state ----------------------------------------------------------------------------

    def export(self) -> dict[str, Any]:
        """Return the whole state as JSON types; arrays are bytes in base 64."""
        return {
            "version": DRIFT_VERSION,
            "hours": [[start, hour.export()] for start, hour in self.hours.items()],
            "actions": [[*key, *sums] for key, sums in self.actions.items()],
            "shapes": [
                [start, {key: list(shape) for key, shape in shapes.items()}]
                for start, shapes in self.shapes.items()
            ],
            "start": self.start,
            "closed": self.closed,
            "seen": {name: packed(np.packbits(seen)) for name, seen in self.seen.items()},
            "lines": [
                {**vars(line), "latest": list(line.latest), "worst": list(line.worst)}
                for line in self.lines.values()
            ],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Replace the state by what `export` returned.

        Raises
        ------
        StateVersionError
            If the state has another version.
        DamagedError
            If it is not what `export` returns.
        """
        check_version(state, DRIFT_VERSION, "counts of hours")
        checked(_Written, state, "counts of hours")
        watched = self.plan.watched
        seen = {
            name: np.unpackbits(unpacked(text, np.uint8, (CODES // 8,))).astype(np.bool_)
            for name, text in state["seen"].items()
        }
        expect(seen.keys() == self.seen.keys(), "values seen", "are of other columns")
        for _, shapes in state["shapes"]:
            for key, (_, groups, weights, _) in shapes.items():
                expect(len(weights) == len(groups) + 2, key, "has other groups than weights")
                expect(groups == sorted(set(groups)), key, "has groups that do not ascend")
                expect(all(code < CODES for code in groups), key, "has a code that there is not")
        self.hours = {start: Hour.restored(watched, hour) for start, hour in state["hours"]}
        self.actions = {
            (stream, start): Actions(*sums) for stream, start, *sums in state["actions"]
        }
        self.shapes = {
            start: {key: Shape(*shape) for key, shape in shapes.items()}
            for start, shapes in state["shapes"]
        }
        self.start, self.closed = state["start"], state["closed"]
        self.seen = seen
        self.lines = {}
        for row in state["lines"]:
            latest, worst = Found(*row["latest"]), Found(*row["worst"])
            line = Line(**{**row, "latest": latest, "worst": worst})
            self.lines[line.of, line.name, line.measure] = line

    def latest(self, most: int) -> dict[str, dict[str, float]]:
        """Return the index of the last hour by ``feature`` or ``score`` and name: the greatest."""
        lines = [line for line in self.worst_first() if line.measure == "distribution"]
        found: dict[str, dict[str, float]] = {}
        for line in sorted(lines, key=lambda line: -line.latest.value)[:most]:
            found.setdefault(line.of, {})[line.name] = line.latest.value
        return found

    def worst_first(self) -> list[Line]:
        """Return what was found, what differs most first: by its part of the bound."""
        return sorted(
            self.lines.values(),
            key=lambda line: (-line.worst.badness / BOUNDS[line.measure][1], line.of, line.name),
        )


def _differences(
    of: Watched, counts: Counts, now: Shape, then: Shape
) -> Iterator[tuple[str, float, float, float]]:
    """Yield measures of an hour: how much it differs, the value, and the earlier one."""
    if of.kind != "scores":
        yield "null", surely_apart(now.null, now.rows, then.null, then.rows), now.null, then.null
    if now.unseen is not None and then.unseen is not None:
        apart = surely_apart(now.unseen, now.rows, then.unseen, then.rows)
        yield "unseen", apart if now.unseen > then.unseen else 0.0, now.unseen, then.unseen
    # What has one value all the hour is a clock.
    if sum(then.weights) and not (now.single and then.single):
        weights = grouped(counts, np.array(then.groups, np.int64), of.ordered)
        index = stability_index(weights, now.rows, np.array(then.weights), then.rows)
        yield "distribution", index, index, 0.0


def _by_hour(time: Int64s) -> tuple[list[int], Int64s]:
    """Return the hours of times, when they begin, and which each time is in, shape (n,)."""
    encoded = pa.array(time // HOUR).dictionary_encode()
    starts = [number * HOUR for number in encoded.dictionary.to_pylist()]
    return starts, encoded.indices.to_numpy().astype(np.int64)
