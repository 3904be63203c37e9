"""Sums of one slice column, by window and value."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numba as nb
import numpy as np
import numpy.typing as npt

from headrace.monitoring.celltable import IN_PAGE, PAGE_BITS, CellTable

Floats = npt.NDArray[np.float64]
Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]

_FIRST_ROWS = 64


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
def _accumulate(windows, window, slots, code, of, pages, cells, used, free, sums):
    """Add samples one after the other; return how many pages are used then, and rows free.

    A cell that has no row gets the last of the free ones.
    """
    left = free.size
    for i in range(code.size):
        at, slot = windows[window[i]], slots[code[i]]
        page = pages[at, slot >> PAGE_BITS]
        if page < 0:
            page = pages[at, slot >> PAGE_BITS] = used
            used += 1
        r = cells[page, slot & IN_PAGE]
        if r < 0:
            left -= 1
            r = cells[page, slot & IN_PAGE] = free[left]
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
    return used, left


@nb.njit(cache=True, nogil=True)
def _sum_up(slot, rows, sums, totals, has):
    """Add the sums of rows to those of their slots, one after the other."""
    for i in range(rows.size):
        has[slot[i]] = True
        for k in range(sums.shape[1]):
            totals[slot[i], k] += sums[rows[i], k]


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
        Place of each window, by when it begins, and of each value, in `table`.
    table
        Row of `sums` by place of the window and of the value, of the pairs that occur.
    sums
        The sums, shape (m, width); those of free rows are zero.
    """

    def __init__(self, width: int) -> None:
        self.windows: dict[int, int] = {}
        self.slots: dict[str, int] = {}
        self.table = CellTable()
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
        most = min(code.size, len(starts) * len(values))
        self._make_room(most)
        table = self.table
        table.make_room(most)
        table.used, left = _accumulate(
            windows, window, slots, code, of, table.pages, table.cells, table.used,
            self._free, self.sums,
        )  # fmt: skip
        self._free = self._free[:left]

    def give_up(self, values: Iterable[str], to: str) -> None:
        """Add the sums of values, one after the other, to those of another, in each window."""
        given_up = [value for value in values if value in self.slots]
        if not given_up:
            return
        (to_slot,) = self._place_values([to])
        slots = np.array([self.slots.pop(value) for value in given_up], np.int32)
        self._free_slots += slots.tolist()
        places = np.arange(len(self.windows), dtype=np.int32)
        at, _, rows = self.table.listed(places, slots)
        windows = np.unique(at)
        self._add_to(windows, np.full(windows.size, to_slot), np.zeros((windows.size, 1)))
        np.add.at(self.sums, self.table.rows(at, np.full(at.size, to_slot)), self.sums[rows])
        self._release(rows)
        self.table.clear(places, slots)

    def add_all(self, other: ColumnSums) -> None:
        """Add the sums of another."""
        windows = self._place_windows(list(other.windows))
        slots = self._place_values(list(other.slots))
        at, slot, rows = other.table.listed(_places(other.windows), _places(other.slots))
        self._add_to(windows[at], slots[slot], other.sums[rows])

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
            places = np.array([self.windows[start] for start in gone], np.int32)
            self._release(self.table.listed(places, _places(self.slots))[2])
            kept = {start: at for start, at in self.windows.items() if start >= time}
            self.table.keep(_places(kept))
            self.windows = {start: at for at, start in enumerate(kept)}
        return taken

    def _cells(self, starts: list[int]) -> Cells:
        values = sorted(self.slots)
        at = np.array([self.windows[start] for start in starts], np.int32)
        slot = np.array([self.slots[of] for of in values], np.int32)
        window, code, rows = self.table.listed(at, slot)
        return Cells(np.array(starts, np.int64)[window], values, code, self.sums[rows])

    def of_value(self, value: str) -> Iterator[tuple[int, Floats]]:
        """Yield (begin, sums) of each window of a value, by time."""
        if (slot := self.slots.get(value)) is not None:
            starts = sorted(self.windows)
            at = np.array([self.windows[start] for start in starts], np.int32)
            window, _, rows = self.table.listed(at, np.array([slot], np.int32))
            for of, row in zip(window.tolist(), rows.tolist(), strict=True):
                yield starts[of], self.sums[row]

    def totals(self, first: int | None = None, last: int | None = None) -> dict[str, Floats]:
        """Return sums by value, in order, over the windows that begin in ``[first, last]``.

        None stands for no bound.
        """
        starts = [
            start
            for start in sorted(self.windows)
            if (first is None or start >= first) and (last is None or start <= last)
        ]
        values = sorted(self.slots)
        totals, has = np.zeros((len(values), self.sums.shape[1])), np.zeros(len(values), np.bool_)
        at = np.array([self.windows[start] for start in starts], np.int32)
        slots = np.array([self.slots[value] for value in values], np.int32)
        _, code, rows = self.table.listed(at, slots)
        _sum_up(code, rows, self.sums, totals, has)
        return {value: totals[code] for code, value in enumerate(values) if has[code]}

    def _place_windows(self, starts: Iterable[int]) -> Int32s:
        known = self.windows
        at = np.array([known.setdefault(start, len(known)) for start in starts], np.int32)
        self.table.enlarge(len(known), 0)
        return at

    def _place_values(self, values: Sequence[str]) -> Int32s:
        known = self.slots
        for value in values:
            if value not in known:
                known[value] = self._free_slots.pop() if self._free_slots else len(known)
        self.table.enlarge(0, len(known) + len(self._free_slots))
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
        self._make_room(len(at))
        rows, left = self.table.give(at, slot, self._free)
        self._free = self._free[:left]
        self.sums[rows] += sums

    def _release(self, rows: Int32s) -> None:
        self.sums[rows] = 0.0
        self._free = np.concatenate([self._free, rows])


def _places(of: Mapping[Any, int]) -> Int32s:
    return np.fromiter(of.values(), np.int32, len(of))
