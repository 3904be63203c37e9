"""Which row the sums of a window and a value are in, of the pairs that occur.

Values by windows would be a full table of mostly nothing: a stranger who writes a new value in
each of many windows decides how large it is. Here a window has pages of some values each, and
only those in which something is; a page takes as much as the sums of two cells.
"""

from __future__ import annotations

import numba as nb
import numpy as np
import numpy.typing as npt

Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]

PAGE_BITS = 5
PAGE = 1 << PAGE_BITS
"""Values of a page."""
IN_PAGE = PAGE - 1

_FIRST_PLACES = 8


@nb.njit(cache=True, nogil=True)
def _count(places, slots, pages, cells):
    found = 0
    for place in places:
        for slot in slots:
            page = pages[place, slot >> PAGE_BITS]
            if page >= 0 and cells[page, slot & IN_PAGE] >= 0:
                found += 1
    return found


@nb.njit(cache=True, nogil=True)
def _list(places, slots, pages, cells, at, code, rows):
    found = 0
    for i in range(places.size):
        for j in range(slots.size):
            page = pages[places[i], slots[j] >> PAGE_BITS]
            if page >= 0 and cells[page, slots[j] & IN_PAGE] >= 0:
                at[found], code[found], rows[found] = i, j, cells[page, slots[j] & IN_PAGE]
                found += 1


@nb.njit(cache=True, nogil=True)
def _clear(places, slots, pages, cells):
    for place in places:
        for slot in slots:
            page = pages[place, slot >> PAGE_BITS]
            if page >= 0:
                cells[page, slot & IN_PAGE] = -1


@nb.njit(cache=True, nogil=True)
def _give(at, slot, pages, cells, used, free, rows):
    left = free.size
    for i in range(at.size):
        page = pages[at[i], slot[i] >> PAGE_BITS]
        if page < 0:
            page = pages[at[i], slot[i] >> PAGE_BITS] = used
            used += 1
        row = cells[page, slot[i] & IN_PAGE]
        if row < 0:
            left -= 1
            row = cells[page, slot[i] & IN_PAGE] = free[left]
        rows[i] = row
    return used, left


class CellTable:
    """Rows by place of a window and slot of a value.

    Attributes
    ----------
    pages
        Page by place and slot >> `PAGE_BITS`, int32; -1 for none.
    cells
        Row by page and slot & `IN_PAGE`, int32; -1 for none.
    used
        How many pages are used; the others are empty.
    """

    def __init__(self) -> None:
        self.pages = np.full((_FIRST_PLACES, 1), -1, np.int32)
        self.cells = np.full((_FIRST_PLACES, PAGE), -1, np.int32)
        self.used = 0

    def enlarge(self, places: int, slots: int) -> None:
        """Let there be at least so many places and slots."""
        self.pages = _enlarged(self.pages, 0, places)
        self.pages = _enlarged(self.pages, 1, -(-slots // PAGE))

    def make_room(self, cells: int) -> None:
        """Let so many cells more have pages."""
        self.cells = _enlarged(self.cells, 0, self.used + min(cells, self.pages.size))

    def listed(self, places: Int32s, slots: Int32s) -> tuple[Int64s, Int64s, Int32s]:
        """Return the cells of windows and values that have a row, in this order.

        Returns
        -------
        at, code, rows
            Which of the places and which of the slots each cell has, and its row, shape (m,).
        """
        size = _count(places, slots, self.pages, self.cells)
        at, code = np.empty(size, np.int64), np.empty(size, np.int64)
        rows = np.empty(size, np.int32)
        _list(places, slots, self.pages, self.cells, at, code, rows)
        return at, code, rows

    def rows(self, at: Int64s, slot: Int64s) -> Int32s:
        """Return the rows of cells, shape (m,), all of which have one."""
        rows: Int32s = self.cells[self.pages[at, slot >> PAGE_BITS], slot & IN_PAGE]
        return rows

    def give(
        self, at: Int64s | Int32s, slot: Int64s | Int32s, free: Int32s
    ) -> tuple[Int32s, int]:  # fmt: skip
        """Return the rows of cells, shape (m,), and how many of the free rows are left.

        A cell without a row gets the last of the free ones.
        """
        self.make_room(len(at))
        rows = np.empty(len(at), np.int32)
        self.used, left = _give(at, slot, self.pages, self.cells, self.used, free, rows)
        return rows, left

    def clear(self, places: Int32s, slots: Int32s) -> None:
        """Take the rows of windows and values away."""
        _clear(places, slots, self.pages, self.cells)

    def keep(self, places: Int32s) -> None:
        """Keep these places alone, which become the first ones in this order."""
        pages = self.pages[places]
        own = pages[pages >= 0]
        pages[pages >= 0] = np.arange(own.size)
        empty = np.full((_FIRST_PLACES, pages.shape[1]), -1, np.int32)
        self.pages = np.concatenate([pages, empty])
        self.cells = np.concatenate([self.cells[own], np.full((_FIRST_PLACES, PAGE), -1, np.int32)])
        self.used = own.size


def _enlarged(rows: Int32s, axis: int, size: int) -> Int32s:
    """Return at least `size` places on an axis, the new ones empty."""
    if size <= rows.shape[axis]:
        return rows
    wanted = list(rows.shape)
    wanted[axis] = max(size, 2 * wanted[axis])
    larger = np.full(wanted, -1, np.int32)
    larger[: rows.shape[0], : rows.shape[1]] = rows
    return larger
