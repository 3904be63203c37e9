"""The most frequent values of a column, in bounded memory and whatever the cuts of batches.

A value has a count of its own as long as it is among the most frequent. Values without one wait
until the end of a block of rows; then the values with the greatest estimates are kept. The
estimate of a value that was not kept is its count in the block and what it may have had before:
the `floor`, the greatest estimate of a value that was given up. That is the Space-Saving algorithm
[1]_ in its mergeable form [2]_: a value that is in more than ``n / (most + 1)`` of n rows is kept,
also if it comes late.

References
----------
.. [1] Metwally, Agrawal and El Abbadi, Efficient computation of frequent and top-k elements in
   data streams, ICDT 2005.
.. [2] Agarwal, Cormode, Huang, Phillips, Wei and Yi, Mergeable summaries, PODS 2012, section 3.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numba as nb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headrace.schemas.records.restored import Count, Text, checked, expect, written

Int32s = npt.NDArray[np.int32]

BLOCK = 1 << 14
"""Rows of a block. Blocks are counted from the first row, so they do not depend on batches."""


@nb.njit(cache=True, nogil=True)
def _number(codes, place, index, found, counts):
    """Give codes numbers in order of first occurrence; return how many there are."""
    different = 0
    for i in range(codes.size):
        at = place[codes[i]]
        if at < 0:
            at = place[codes[i]] = different
            found[at] = codes[i]
            different += 1
        index[i] = at
        counts[at] += 1
    return different


def numbered(texts: pa.DictionaryArray) -> tuple[list[str], list[int], Int32s]:
    """Return values in order of first occurrence, how often each occurs, and which each row has.

    Parameters
    ----------
    texts
        What `headrace.schemas.records.slicing.as_texts` returned, or a part of it, shape (n,).

    Examples
    --------
    >>> numbered(pa.array(["b", "a", "b"]).dictionary_encode())
    (['b', 'a'], [2, 1], array([0, 1, 0], dtype=int32))
    """
    codes = texts.indices.to_numpy()
    most = min(codes.size, len(texts.dictionary))
    index, found = np.empty(codes.size, np.int32), np.empty(most, np.int32)
    counts = np.zeros(most, np.int64)
    different = _number(codes, np.full(len(texts.dictionary), -1, np.int32), index, found, counts)
    values = texts.dictionary.take(pa.array(found[:different]))
    return values.to_numpy(zero_copy_only=False).tolist(), counts[:different].tolist(), index


@written
class _Written:
    kept: dict[Text, Count]
    waiting: dict[Text, Count]
    floor: Count
    rows: Count


class FrequentValues:
    """Values with a count of their own, and those that wait for one.

    Parameters
    ----------
    most
        How many values have a count.
    block
        Rows after which those that wait are compared with those that have one.
    """

    def __init__(self, most: int, block: int = BLOCK) -> None:
        self.most, self.block = most, block
        self.kept: dict[str, int] = {}
        """Estimates: at least how many rows have the value, and at most `floor` more than that."""
        self.waiting: dict[str, int] = {}
        self.floor = 0
        self.rows = 0

    def parts(self, rows: int) -> Iterator[tuple[int, int]]:
        """Cut the next rows where blocks end: (begin, end) of each part."""
        begin = 0
        while begin < rows:
            end = min(rows, begin + self.block - (self.rows + begin) % self.block)
            yield begin, end
            begin = end

    def count(self, values: list[str], counts: list[int]) -> list[bool]:
        """Count the rows of a part by value, in order of first occurrence.

        While there is room, a new value is kept at once.

        Returns
        -------
        list of bool
            Whether each value is kept.
        """
        kept, waiting, most = self.kept, self.waiting, self.most
        found = []
        for value, rows in zip(values, counts, strict=True):
            if has := value in kept:
                kept[value] += rows
            elif has := len(kept) < most:
                kept[value] = rows
            else:
                waiting[value] = waiting.get(value, 0) + rows
            found.append(has)
        return found

    def advance(self, rows: int) -> list[str]:
        """Pass the rows of a part; return the values given up at the end of a block, in order."""
        self.rows += rows
        if self.rows % self.block or not self.waiting:
            return []
        estimates = dict(self.kept)
        estimates.update((value, count + self.floor) for value, count in self.waiting.items())
        return self._keep(estimates, self.floor)

    def merge(self, other: FrequentValues) -> list[str]:
        """Add the counts of other rows; return the values of both that are given up, in order.

        The result is the same whichever of two is merged into the other. Of three it may depend
        on which two come first, which of them are kept, as with every bounded summary.
        """
        values = dict.fromkeys([*self.kept, *self.waiting, *other.kept, *other.waiting])
        estimates = {value: self._at_most(value) + other._at_most(value) for value in values}
        self.rows += other.rows
        given_up = set(other.kept)
        return sorted({*self._keep(estimates, self.floor + other.floor), *given_up - {*self.kept}})

    def _at_most(self, value: str) -> int:
        if value in self.kept:
            return self.kept[value]
        return self.waiting.get(value, 0) + self.floor

    def _keep(self, estimates: dict[str, int], floor: int) -> list[str]:
        before, self.kept, self.waiting = self.kept, estimates, {}
        self.floor = floor
        if len(estimates) > self.most:
            numbers = np.fromiter(estimates.values(), np.int64, len(estimates))
            least = int(np.partition(numbers, -self.most)[-self.most])
            kept = {value: of for value, of in estimates.items() if of > least}
            equal = sorted(value for value, of in estimates.items() if of == least)
            room = self.most - len(kept)
            kept.update(dict.fromkeys(equal[:room], least))
            given_up = numbers[numbers < least]
            next_one = least if len(equal) > room else int(given_up.max(initial=0))
            self.kept, self.floor = kept, max(floor, next_one)
        return sorted(before.keys() - self.kept.keys())

    def export(self) -> dict[str, Any]:
        """Return the whole state as JSON types."""
        return {
            "kept": self.kept, "waiting": self.waiting, "floor": self.floor, "rows": self.rows,
        }  # fmt: skip

    def restore(self, state: dict[str, Any]) -> None:
        """Replace the state by what `export` returned.

        Raises
        ------
        DamagedError
            If it is not what `export` returns.
        """
        checked(_Written, state, "values")
        expect(len(state["kept"]) <= self.most, "values", f"must be {self.most} at most")
        self.kept, self.waiting = dict(state["kept"]), dict(state["waiting"])
        self.floor, self.rows = state["floor"], state["rows"]
