"""For each of some moments of some value, the moments of that value beside it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from headrace.schemas.records.events import FOREVER, NEVER
from headrace.schemas.records.hashing import Int64s

Texts = npt.NDArray[np.object_]


@dataclass
class Side:
    """What lies nearest on one side of each moment, shape (n,): when, and what it is.

    Parameters
    ----------
    at
        When, `NEVER` or `FOREVER` where there is none.
    time
        Event time of what lies there.
    text
        Its text, None where there is none.
    """

    at: Int64s
    time: Int64s
    text: Texts

    @classmethod
    def nothing(cls, size: int, at: int) -> Side:
        """Return that nothing has been found yet."""
        return cls(np.full(size, at), np.zeros(size, np.int64), np.full(size, None, np.object_))

    @property
    def found(self) -> npt.NDArray[np.bool_]:
        """Whether there is something."""
        return (self.at > NEVER) & (self.at < FOREVER)

    def take(self, rows: Int64s, at: Int64s, time: Int64s, text: Texts) -> None:
        """Take over what lies nearer."""
        self.at[rows], self.time[rows], self.text[rows] = at, time, text


@dataclass
class Neighbours:
    """The nearest before and from each of n moments, among candidates of the same value.

    What comes out depends on the order of candidates alone, not on how they are cut.

    Parameters
    ----------
    values
        The value of each moment, texts of shape (n,).
    moments
        The moments, int64, shape (n,).
    """

    values: pa.Array
    moments: Int64s
    before: Side = field(init=False)
    after: Side = field(init=False)

    def __post_init__(self) -> None:
        size = self.moments.size
        self.before, self.after = Side.nothing(size, NEVER), Side.nothing(size, FOREVER)
        self.distinct = pc.unique(self.values)
        self.code = pc.index_in(self.values, value_set=self.distinct).to_numpy()

    def offer(self, values: pa.Array, at: Int64s, time: Int64s, texts: pa.Array) -> None:
        """Offer candidates.

        Parameters
        ----------
        values
            Their values, shape (m,).
        at
            When each lies, to be compared with the moments, int64, shape (m,).
        time, texts
            Event time and text of each, shape (m,).
        """
        code = pc.index_in(values, value_set=self.distinct)
        row = np.flatnonzero(code.is_valid().to_numpy(zero_copy_only=False))
        if row.size == 0:
            return
        code = code.take(pa.array(row)).to_numpy()
        order = np.lexsort((at[row], code))  # stable: of equal ones the first comes first
        row, code = row[order], code[order]
        wanted = np.flatnonzero(np.isin(self.code, code))
        # Moments among candidates: of those at one time the moment comes first.
        whole = np.lexsort((
            np.repeat([0, 1], [wanted.size, row.size]),
            np.concatenate([self.moments[wanted], at[row]]),
            np.concatenate([self.code[wanted], code]),
        ))  # fmt: skip
        is_moment = whole < wanted.size
        moment = wanted[whole[is_moment]]
        passed = np.cumsum(~is_moment)[is_moment]  # how many candidates come before it
        for side, place, nearer in (
            (self.before, passed - 1, np.greater_equal), (self.after, passed, np.less),
        ):  # fmt: skip
            inside = (place >= 0) & (place < row.size)
            own, there = moment[inside], place[inside]
            same = code[there] == self.code[own]
            own, found = own[same], row[there[same]]
            better = nearer(at[found], side.at[own])
            own, found = own[better], found[better]
            side.take(own, at[found], time[found], texts.take(pa.array(found)).to_numpy(False))
