"""Sums of one slice column, by window and value."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numba as nb
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]

_FIRST_ROWS, _FIRST_PLACES = 64, 8


class Addends(NamedTuple):
    """What is added up of each sample, each of shape (n,): see `headrace.monitoring.statistics`."""

    label: Floats
    weight: Floats
    p: Floats
    loss: Floats
    mature: npt.NDArray[np.bool_]

    def part(self, some: slice) -> Addends:
        """Return some of the samples."""
        return Addends(
            self.label[some], self.weight[some], self.p[some], self.loss[some], self.mature[some]
        )


@nb.njit(cache=True, nogil=True)
def _accumulate(windows, window, slots, code, of, rows, free, sums):
    """Add samples one after the other; return how many rows are free then.

    A cell that has no row gets the last of the free ones.
    """
    left = free.size
    for i in range(code.size):
        at, slot = windows[window[i]], slots[code[i]]
        r = rows[at, slot]
        if r < 0:
            left -= 1
            r = rows[at, slot] = free[left]
        label, weight = of.label[i], of.weight[i]
        sums[r, 0] += 1.0
        sums[r, 1] += label
        sums[r, 2] += weight
        sums[r, 3] += weight * label
        sums[r, 4] += weight * of.p[i]
        sums[r, 5] += weight * of.loss[i]
        sums[r, 6] += weight * weight
        sums[r, 7] += weight * weight * label
        sums[r, 8] += of.mature[i]
    return left


class Cells(NamedTuple):
    """Sums of windows of values, m of them.

    Parameters
    ----------
    starts
        When the windows begin, microseconds, shape (m,).
    values, codes
        Values in order, and which of them each cell has, shape (m,).
    sums
        The sums, shape (m, width).
    """

    starts: Int64s
    values: list[str]
    codes: Int64s
    sums: Floats


class ColumnSums:
    """Sums by window and value, of those of both that have samples.

    Parameters
    ----------
    width
        How many sums there are of each.

    Attributes
    ----------
    windows, slots
        Place of each window, by when it begins, and of each value, in `rows`.
    rows
        Row of `sums` by place of the window and of the value, int32; -1 for none.
    sums
        The sums, shape (m, width); those of free rows are zero.
    """

    def __init__(self, width: int) -> None:
        self.windows: dict[int, int] = {}
        self.slots: dict[str, int] = {}
        self.rows = np.full((_FIRST_PLACES, _FIRST_PLACES), -1, np.int32)
        self.sums = np.zeros((_FIRST_ROWS, width))
        self._free_slots: list[int] = []
        self._free = np.arange(_FIRST_ROWS - 1, -1, -1, dtype=np.int32)

    def add(
        self,
        starts: Sequence[int],
        window: Int32s,
        values: Sequence[str],
        code: Int32s,
        of: Addends,
    ) -> None:
        """Add samples.

        Parameters
        ----------
        starts, window
            Begins of windows, and which of them each sample is in, shape (n,).
        values, code
            Values, and which of them each sample has, shape (n,); they may be equal.
        of
            What is added up.
        """
        windows, slots = self._place_windows(starts), self._place_values(values)
        self._make_room(min(code.size, len(starts) * len(values)))
        left = _accumulate(windows, window, slots, code, of, self.rows, self._free, self.sums)
        self._free = self._free[:left]

    def give_up(self, values: Iterable[str], to: str) -> None:
        """Add the sums of values, one after the other, to those of another, in each window."""
        given_up = [value for value in values if value in self.slots]
        if not given_up:
            return
        (to_slot,) = self._place_values([to])
        slots = [self.slots.pop(value) for value in given_up]
        self._free_slots += slots
        order, at = np.nonzero(self.rows[:, slots].T >= 0)
        rows = self.rows[at, np.array(slots)[order]]
        windows = np.unique(at)
        self._add_to(windows, np.full(windows.size, to_slot), np.zeros((windows.size, 1)))
        np.add.at(self.sums, self.rows[at, to_slot], self.sums[rows])
        self._release(rows)
        self.rows[:, slots] = -1

    def add_all(self, other: ColumnSums) -> None:
        """Add the sums of another."""
        windows = self._place_windows(list(other.windows))
        slots = np.full(other.rows.shape[1], -1, np.int32)
        slots[list(other.slots.values())] = self._place_values(list(other.slots))
        at, slot = np.nonzero(other.rows >= 0)
        back = np.empty(len(other.rows), np.int64)
        back[list(other.windows.values())] = windows
        self._add_to(back[at], slots[slot], other.sums[other.rows[at, slot]])

    @classmethod
    def of_cells(cls, starts: Sequence[int], values: Sequence[str], sums: Floats) -> ColumnSums:
        """Return the sums, shape (m, width), of windows and values: of each pair one."""
        column = cls(sums.shape[1])
        at, slot = column._place_windows(starts), column._place_values(values)
        column._add_to(at, slot, sums)
        return column

    def cells(self) -> Cells:
        """Return all cells, in order of window, then value."""
        return self._cells(sorted(self.windows))

    def take_before(self, time: int) -> Cells:
        """Take out the cells of the windows that begin before a time."""
        gone = sorted(start for start in self.windows if start < time)
        taken = self._cells(gone)
        if gone:
            rows = self.rows[[self.windows[start] for start in gone]]
            self._release(rows[rows >= 0])
            kept = {start: at for start, at in self.windows.items() if start >= time}
            empty = np.full((_FIRST_PLACES, self.rows.shape[1]), -1, np.int32)
            self.rows = np.concatenate([self.rows[list(kept.values())], empty])
            self.windows = {start: at for at, start in enumerate(kept)}
        return taken

    def _cells(self, starts: list[int]) -> Cells:
        values = sorted(self.slots)
        at, slot = [self.windows[start] for start in starts], [self.slots[of] for of in values]
        rows = self.rows[np.ix_(at, slot)]
        window, code = np.nonzero(rows >= 0)
        sums = self.sums[rows[window, code]]
        return Cells(np.array(starts, np.int64)[window], values, code, sums)

    def of_value(self, value: str) -> Iterator[tuple[int, Floats]]:
        """Yield (begin, sums) of each window of a value, by time."""
        if (slot := self.slots.get(value)) is not None:
            for start in sorted(self.windows):
                if (row := self.rows[self.windows[start], slot]) >= 0:
                    yield start, self.sums[row]

    def totals(self, first: int | None = None, last: int | None = None) -> dict[str, Floats]:
        """Return sums by value, in order, over the windows that begin in ``[first, last]``.

        None stands for no bound.
        """
        size = self.rows.shape[1]
        totals, has = np.zeros((size, self.sums.shape[1])), np.zeros(size, np.bool_)
        for start in sorted(self.windows):
            if (first is None or start >= first) and (last is None or start <= last):
                rows = self.rows[self.windows[start]]
                there = np.flatnonzero(rows >= 0)
                totals[there] += self.sums[rows[there]]
                has[there] = True
        return {
            value: totals[slot] for value, slot in sorted(self.slots.items()) if has[slot]
        }  # fmt: skip

    def _place_windows(self, starts: Iterable[int]) -> Int32s:
        known = self.windows
        at = np.array([known.setdefault(start, len(known)) for start in starts], np.int32)
        if len(known) > len(self.rows):
            self.rows = _enlarged(self.rows, 0, len(known))
        return at

    def _place_values(self, values: Sequence[str]) -> Int32s:
        known = self.slots
        for value in values:
            if value not in known:
                known[value] = self._free_slots.pop() if self._free_slots else len(known)
        if len(known) > self.rows.shape[1]:
            self.rows = _enlarged(self.rows, 1, len(known))
        return np.array([known[value] for value in values], np.int32)

    def _make_room(self, rows: int) -> None:
        """Let so many rows be free at least."""
        if rows > self._free.size:
            size = len(self.sums)
            more = max(size, rows - self._free.size)
            new = np.arange(size + more - 1, size - 1, -1, dtype=np.int32)
            self._free = np.concatenate([new, self._free])
            self.sums = np.concatenate([self.sums, np.zeros((more, self.sums.shape[1]))])

    def _add_to(self, at: Int64s | Int32s, slot: Int64s | Int32s, sums: Floats) -> None:
        """Add sums to those of different cells, by place of window and value, shape (m,)."""
        rows = self.rows[at, slot]
        new = np.flatnonzero(rows < 0)
        self._make_room(new.size)
        left = self._free.size - new.size
        rows[new] = self._free[left:][::-1]
        self._free = self._free[:left]
        self.rows[at, slot] = rows
        self.sums[rows] += sums

    def _release(self, rows: Int32s) -> None:
        self.sums[rows] = 0.0
        self._free = np.concatenate([self._free, rows])


def _enlarged(rows: Int32s, axis: int, size: int) -> Int32s:
    """Return at least `size` places on an axis, the new ones without rows."""
    wanted = list(rows.shape)
    wanted[axis] = max(size, 2 * wanted[axis])
    larger = np.full(wanted, -1, np.int32)
    larger[: rows.shape[0], : rows.shape[1]] = rows
    return larger
