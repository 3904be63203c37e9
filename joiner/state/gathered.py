"""Columns of given impressions, gathered from the batches in which they may be."""

from __future__ import annotations

import numba as nb
import numpy as np
import pyarrow as pa

from headrace.joiner.plan.rules import known_at
from headrace.joiner.state.columns import in_one
from headrace.joiner.state.impressions import Impressions
from headrace.schemas.records.events import ARRIVAL, KEY0, KEY1, OFFSET, TIME
from headrace.schemas.records.hashing import Bools, Int64s
from headrace.schemas.records.restored import expect


@nb.njit(cache=True, nogil=True)
def _locate(time, key0, key1, arrival, wanted, has_copies, out):
    """Find each impression among rows ordered by event time and position: the first of equals."""
    for i in range(out.size):
        row = np.searchsorted(time, wanted.time[i])
        while row < time.size and time[row] == wanted.time[i]:
            if (
                key0[row] == wanted.key0[i]
                and key1[row] == wanted.key1[i]
                and (not has_copies or known_at(time[row], arrival[row]) == wanted.known[i])
            ):
                out[i] = row
                break
            row += 1


class Gathered:
    """Impressions of which the columns are sought.

    Parameters
    ----------
    wanted
        Which; shape (n,).
    """

    def __init__(self, wanted: Impressions) -> None:
        self.wanted = wanted
        self._where = np.full(wanted.time.size, -1, np.int64)
        self._place = np.full((2, wanted.time.size), np.iinfo(np.int64).max)
        self._parts: list[pa.RecordBatch] = []
        self._found = 0

    def missing(self, among: Bools) -> Int64s:
        """List those of some, given as a mask of shape (n,), that are not found yet."""
        return np.flatnonzero(among & (self._where < 0))

    def take_from(
        self, batch: pa.RecordBatch, numbers: Int64s, has_copies: bool, source: int = 0
    ) -> int:
        """Take what is found of the impressions with some numbers; return how many are new.

        Parameters
        ----------
        batch
            Impressions in order of (event time, offset).
        numbers
            Which are sought in it.
        has_copies
            Whether rows may have one key and event time. Then those are meant that were
            known when the wanted one was; of several the one with the least (source, offset)
            of all batches is.
        source
            The batch's.
        """
        time, *columns = (batch.column(name).to_numpy() for name in (TIME, KEY0, KEY1, ARRIVAL))
        sought = self.wanted.time[numbers]
        numbers = numbers[(sought >= time[0]) & (sought <= time[-1])]
        row = np.full(numbers.size, -1, np.int64)
        _locate(time, *columns, self.wanted.select(numbers), has_copies, row)
        here = row >= 0
        numbers, row = numbers[here], row[here]
        offset = batch.column(OFFSET).to_numpy()[row]
        sources, offsets = self._place[:, numbers]
        before = (source < sources) | ((source == sources) & (offset < offsets))
        numbers, row = numbers[before], row[before]
        if not numbers.size:
            return 0
        new = int(np.count_nonzero(self._where[numbers] < 0))
        self._place[0, numbers], self._place[1, numbers] = source, offset[before]
        self._parts.append(batch.take(pa.array(row)))
        self._where[numbers] = self._found + np.arange(numbers.size)
        self._found += numbers.size
        return new

    def rows(self) -> pa.RecordBatch:
        """Return all columns of the impressions, a row each.

        Raises
        ------
        DamagedError
            If one was not found: the state that was restored lacks it.
        """
        missing = int(np.count_nonzero(self._where < 0))
        expect(not missing, "join", f"a restored state lacks {missing} impressions that were met")
        return in_one(self._parts).take(pa.array(self._where))
