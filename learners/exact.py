"""A table without collisions, which grows: each feature has a coordinate of its own.

The table maps the 64-bit codes of features to coordinates of a model, in order of first
admission. A feature is admitted at its n-th occurrence; before, it is left out of rows. One
that was not seen for too long starts anew, with another coordinate. What is learned depends
on rows and their times alone: when the table grows, or takes back what expired, changes
nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, Self

import numba as nb
import numpy as np
import numpy.typing as npt

from headrace.learners.discount import NONE
from headrace.learners.features import FeatureRows
from headrace.learners.learner import Floats, Learner
from headrace.learners.prefetch import AHEAD
from headrace.schemas.config.models import Model
from headrace.schemas.records.hashing import Int64s, UInt64s
from headrace.schemas.records.prefetch import prefetch
from headrace.schemas.records.restored import expect, expect_moments, exported, places

VERSION = 1
"""Version of the arrays that are the table's own."""

CODE_BITS = 64

_FEWEST_BITS = 8
_ENTRIES_AHEAD = 16
_MOST = 1 << 31

_CODE, _HELD, _SEEN = range(3)
"""Columns of the table: the code; its coordinate times 2^32, and its occurrences up to
admission, 0 together if there is none; and when it was last seen, if features expire."""

_NOW, _NEXT, _ENTRIES, _BEGUN = range(4)
"""What is counted: the time of the last row, the next coordinate, entries of the table, and
how often a feature started, for the first time or anew."""

_NEVER = -(1 << 62)
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)


class GrowingLearner(Learner, Protocol):
    """A learner whose coordinates are given out one by one, as an exact table needs it.

    Coordinate 0 is that of features that are not known: it is asked for, and never learned.
    `restore` finds among the arrays, beside its own, ``code``: those of the coordinates from 1
    on.
    """

    def rearranged(self, kept: Int64s, bits: int) -> Self:
        """Return a model of ``2^bits`` coordinates, whose i-th is the ``kept[i]``-th of this one.

        All others are as in the beginning. ``kept[0]`` is 0.
        """


@dataclass(frozen=True)
class ExactTable:
    """Which features have a coordinate.

    Parameters
    ----------
    admit
        A feature counts from its so many-th occurrence on; twice in a row is once.
    expire
        A feature that is seen again after more than this starts anew, microseconds; None for
        never.
    """

    admit: int = 1
    expire: int | None = None


@nb.njit(inline="always")
def _entry(table, code):
    """Return where a code is in the table, or would be."""
    mask = np.uint64(len(table) - 1)
    at = code & mask
    while table[at, _HELD] != 0 and table[at, _CODE] != code:
        at = (at + np.uint64(1)) & mask
    return at


@nb.njit(inline="always")
def _ask_ahead(table, codes, begin, end):
    mask = np.uint64(len(table) - 1)
    for k in range(begin, end):
        prefetch(table, codes[k] & mask)


@nb.njit(cache=True, nogil=True)
def _locate(
    table, counts, room, limit, admit, expire, codes, starts, times, order, importance, first,
    coordinates, places, ends,
):  # fmt: skip
    """Find the coordinates of rows in visiting order; rows that weigh something admit features.

    Returns the first row, from `first` on, for which there may be no room. Of the rows before
    it the coordinates of features, and the places of these features, follow each other; those
    of a row end at its entry of `ends`.
    """
    found = 0
    for at in range(first, order.size):
        if at + AHEAD < order.size:
            row = order[at + AHEAD]
            _ask_ahead(table, codes, starts[row], starts[row + 1])
        begin, end = starts[order[at]], starts[order[at] + 1]
        time = max(times[order[at]], counts[_NOW]) if times.size else counts[_NOW]
        learns = importance[at] != 0
        if learns:
            width = end - begin
            if counts[_NEXT] + width > room or counts[_ENTRIES] + width > limit:
                return at
            counts[_NOW] = time
        for k in range(begin, end):
            entry = _entry(table, codes[k])
            held = table[entry, _HELD]
            is_new = held == 0
            if expire >= 0 and not is_new and time - np.int64(table[entry, _SEEN]) > expire:
                held = np.uint64(0)
            coordinate, seen = np.int64(held >> _HALF), np.int64(held & _LOW)
            if coordinate == 0 and not learns:
                if seen + 1 < admit:
                    continue
            elif learns:
                if expire >= 0:
                    table[entry, _SEEN] = np.uint64(time)
                if coordinate == 0:
                    earlier = begin if seen > 0 else k
                    while codes[earlier] != codes[k]:
                        earlier += 1
                    if earlier < k:
                        continue
                    if is_new:
                        table[entry, _CODE] = codes[k]
                        counts[_ENTRIES] += 1
                    if seen == 0:
                        counts[_BEGUN] += 1
                    seen += 1
                    if seen == admit:
                        coordinate = counts[_NEXT]
                        counts[_NEXT] += 1
                    table[entry, _HELD] = (np.uint64(coordinate) << _HALF) | np.uint64(seen)
                    if coordinate == 0:
                        continue
            coordinates[found], places[found] = coordinate, k
            found += 1
        ends[at - first + 1] = found
    return order.size


@nb.njit(cache=True, nogil=True)
def _insert(table, entries):
    for i in range(len(entries)):
        if i + _ENTRIES_AHEAD < len(entries):
            prefetch(table, entries[i + _ENTRIES_AHEAD, _CODE] & np.uint64(len(table) - 1))
        at = _entry(table, entries[i, _CODE])
        for column in range(table.shape[1]):
            table[at, column] = entries[i, column]


@nb.njit(cache=True, nogil=True)
def _live(table, next_coordinate, time, expire):
    """Return the entries that have not expired: the admitted ones, by coordinate, and others."""
    admitted = np.zeros((next_coordinate, table.shape[1]), np.uint64)
    waiting = np.empty_like(table)
    others = 0
    for i in range(len(table)):
        held = table[i, _HELD]
        if held == 0 or (expire >= 0 and time - np.int64(table[i, _SEEN]) > expire):
            continue
        if held >> _HALF:
            admitted[held >> _HALF] = table[i]
        else:
            waiting[others] = table[i]
            others += 1
    return admitted[admitted[:, _HELD] != 0], waiting[:others]


class ExactLearner:
    """A learner with an exact table; a `headrace.learners.learner.Learner`.

    Indices of its rows are the codes of features, uint64.

    Parameters
    ----------
    growing
        Makes the model from parameters and the bits of its size.
    parameters
        Those of the model.
    plan
        Which features have a coordinate.

    Attributes
    ----------
    model
        The model. Its coordinates from 1 on are those of admitted features.
    table
        The entries of an open hash table, uint64, shape (a power of two, 2 or 3).
    counts
        What is counted, int64, shape (4,).
    """

    bits: ClassVar[int] = CODE_BITS

    def __init__(
        self, growing: Callable[[Any, int], GrowingLearner], parameters: Model, plan: ExactTable
    ) -> None:
        self.growing = growing
        self.parameters = parameters
        self.plan = plan
        self.model = growing(parameters, _FEWEST_BITS)
        self.table = self._empty(_FEWEST_BITS)
        self.counts = np.array([_NEVER, 1, 0, 0], np.int64)

    @property
    def version(self) -> int:
        """Version of the arrays of the model."""
        return self.model.version

    @property
    def weight(self) -> Literal["gradient", "repetition", "likelihood"]:
        """Effect of a row's weight, as of the model; it is one occurrence of its features."""
        return self.model.weight

    @property
    def state_bytes(self) -> int:
        """What its arrays take now. With `expire` what it is at most follows from the log."""
        return self.model.state_bytes + self.table.nbytes + self.counts.nbytes

    def learn(
        self,
        rows: FeatureRows,
        order: Int64s,
        label: Floats,
        importance: Floats,
        offset: Floats,
        discount: Floats = NONE,
    ) -> Floats:
        """Predict, then learn, row after row; see `headrace.learners.learner.Learner.learn`.

        If features expire, a row's time is that of ``rows.times``, or that of the row before it
        if that is later. Rows without times have that of the last row.
        """
        margins = np.full(order.size, np.nan)
        begin = 0
        while begin < order.size:
            located, end = self._located(rows, order, importance, begin, self.counts)
            here = slice(begin, end)
            visits = np.arange(end - begin)
            margins[here] = self.model.learn(
                located, visits, label[here], importance[here], offset[here],
                discount[here] if discount.size else NONE,
            )  # fmt: skip
            if not np.isfinite(margins[here]).all():
                margins[end:] = np.nan
                break
            if end < order.size:
                row = order[end]
                time = int(self.counts[_NOW])
                if rows.times.size:
                    time = max(time, int(rows.times[row]))
                self._make_room(time, int(rows.starts[row + 1] - rows.starts[row]))
            begin = end
        return margins

    def predict(self, rows: FeatureRows) -> Floats:
        """Return the log-odds of each row, float64, shape (n,).

        A feature that would not count if the row were learned next is left out; one that
        would be admitted is as any feature before it is learned. Rows without times have that
        of the last row that was learned.
        """
        return self.model.predict(self.located(rows))

    def located(self, rows: FeatureRows) -> FeatureRows:
        """Return rows as the model has them: with coordinates, without what does not count."""
        count = rows.starts.size - 1
        return self._located(rows, np.arange(count), np.zeros(count), 0, self.counts.copy())[0]

    def export(self) -> dict[str, npt.NDArray[Any]]:
        """Return all features that have not expired, and the arrays of the model.

        ``code`` (uint64) has those that are admitted, of coordinate 1, 2 and so on in the arrays
        of the model, and ``waiting`` (uint64) the others, ascending, with their occurrences in
        ``occurrences`` (uint32). ``last`` (int64, shape (2,)) is the time of the last row, and
        how often a feature started. If features expire, ``seen`` and ``waiting_seen`` (int64)
        say when they were last seen.
        """
        admitted, waiting = self._live(int(self.counts[_NOW]))
        # Where they are in the table depends on when it was rearranged.
        waiting = waiting[np.argsort(waiting[:, _CODE])]
        arrays: dict[str, npt.NDArray[Any]] = {
            "code": admitted[:, _CODE].copy(),
            "waiting": waiting[:, _CODE].copy(),
            "occurrences": waiting[:, _HELD].astype(np.uint32),
            "last": self.counts[[_NOW, _BEGUN]],
        }
        if self.plan.expire is not None:
            arrays["seen"] = admitted[:, _SEEN].astype(np.int64)
            arrays["waiting_seen"] = waiting[:, _SEEN].astype(np.int64)
        return {**arrays, **self._rearranged(admitted).export()}

    def restore(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Replace the state by what `export` returned.

        Raises
        ------
        DamagedError
            If it is not what `export` returns.
        """
        code = exported(arrays, "code", np.uint64)
        waiting = places(arrays, "waiting", np.uint64, 1 << 64)
        expect(code.size + waiting.size < _MOST, "code", "has too many features")
        expect(np.unique(code).size == code.size, "code", "has a feature twice")
        expect(not np.isin(waiting, code).any(), "waiting", "has a feature that is admitted")
        occurrences = exported(arrays, "occurrences", np.uint32, waiting.size, least=1)
        expect((occurrences < self.plan.admit).all(), "occurrences", "are enough to be admitted")
        exported(arrays, "last", np.int64, 2)
        entries = self._empty_entries(code.size + waiting.size)
        entries[:, _CODE] = np.concatenate([code, waiting])
        coordinates = np.arange(1, code.size + 1, dtype=np.uint64)
        entries[: code.size, _HELD] = coordinates << _HALF | np.uint64(self.plan.admit)
        entries[code.size :, _HELD] = occurrences
        if self.plan.expire is not None:
            seen = np.concatenate([
                exported(arrays, "seen", np.int64, code.size),
                exported(arrays, "waiting_seen", np.int64, waiting.size),
            ])  # fmt: skip
            expect_moments(seen, "seen")
            entries[:, _SEEN] = seen.astype(np.uint64)
        now, begun = arrays["last"].tolist()
        expect_moments(arrays["last"][:1], "last")
        expect(len(entries) <= begun < 1 << 53, "last", f"{begun} features have started")
        self.counts = np.array([now, 1 + code.size, len(entries), begun], np.int64)
        self.model = self.growing(self.parameters, _bits_of_model(1 + code.size, 0))
        self.model.restore(arrays)
        self.table = self._filled(entries, 0)

    def figures(self) -> dict[str, int]:
        """Count features: all, admitted, waiting to be, expired; and what the model counts.

        None depends on when the table was rearranged: `bytes` is what is taken once it is loaded.
        """
        admitted, waiting = self._live(int(self.counts[_NOW]))
        known, model = len(admitted) + len(waiting), self._rearranged(admitted)
        size = self.table.itemsize * self.table.shape[1] << _bits_of_table(known, 0)
        counted = {name: n for name, n in model.figures().items() if name != "colliding"}
        return {
            **counted,
            "features": known,
            "admitted": len(admitted),
            "waiting": len(waiting),
            "expired": int(self.counts[_BEGUN]) - known,
            "bytes": model.state_bytes + size + self.counts.nbytes,
        }

    @property
    def _expire(self) -> int:
        return -1 if self.plan.expire is None else self.plan.expire

    def _located(
        self, rows: FeatureRows, order: Int64s, importance: Floats, begin: int, counts: Int64s
    ) -> tuple[FeatureRows, int]:
        """Return rows from one on in visiting order, and the first for which there is no room."""
        widths = rows.starts[order[begin:] + 1] - rows.starts[order[begin:]]
        total = int(widths.sum())
        coordinates, places = np.empty(total, np.uint32), np.empty(total, np.int64)
        ends = np.zeros(order.size - begin + 1, np.int64)
        end = _locate(
            self.table, counts, 1 << self.model.bits, _limit(len(self.table)), self.plan.admit,
            self._expire, rows.indices, rows.starts, rows.times, order, importance, begin,
            coordinates, places, ends,
        )  # fmt: skip
        starts = ends[: end - begin + 1]
        places = places[: starts[-1]]
        values = rows.values[places] if rows.values.size else rows.values
        found = coordinates[: starts[-1]]
        return FeatureRows(starts, found, values, source=(rows, places)), end

    def _live(self, time: int) -> tuple[UInt64s, UInt64s]:
        """Return the entries that have not expired at a time, of admitted and waiting features."""
        return _live(self.table, self.counts[_NEXT], time, self._expire)

    def _rearranged(self, admitted: UInt64s, free: int = 0) -> GrowingLearner:
        """Return the model with the coordinates of these entries alone, and some free ones."""
        kept = np.zeros(1 + len(admitted), np.int64)
        kept[1:] = admitted[:, _HELD] >> _HALF
        return self.model.rearranged(kept, _bits_of_model(kept.size, free))

    def _make_room(self, time: int, width: int) -> None:
        """Make room for a row of so many features, by what has expired or by growing.

        A half more than there are: what this costs is then a constant for each new feature.
        """
        admitted, waiting = self._live(time)
        self.model = self._rearranged(admitted, max(width, len(admitted) // 2))
        coordinates = np.arange(1, 1 + len(admitted), dtype=np.uint64)
        admitted[:, _HELD] = coordinates << _HALF | np.uint64(self.plan.admit)
        entries = np.concatenate([admitted, waiting])
        self.table = self._filled(entries, max(width, len(entries) // 2))
        self.counts[_NEXT] = 1 + len(admitted)
        self.counts[_ENTRIES] = len(entries)

    def _filled(self, entries: UInt64s, free: int) -> UInt64s:
        table = self._empty(_bits_of_table(len(entries), free))
        _insert(table, entries)
        return table

    def _empty(self, bits: int) -> UInt64s:
        return self._empty_entries(1 << bits)

    def _empty_entries(self, count: int) -> UInt64s:
        return np.zeros((count, 2 if self.plan.expire is None else 3), np.uint64)


def _limit(size: int) -> int:
    """Return how many entries a table may have; with more of them a search becomes slow."""
    return size * 5 // 8


def _bits_of_table(count: int, free: int) -> int:
    """Return the bits of the smallest table with so many entries and so many free ones."""
    bits = _FEWEST_BITS
    while count + free > _limit(1 << bits):
        bits += 1
    return bits


def _bits_of_model(count: int, free: int) -> int:
    """Return the bits of the smallest model with so many coordinates and so many free ones."""
    bits = _FEWEST_BITS
    while count + free > 1 << bits:
        bits += 1
    return bits
