"""What lies in the cells of the journal, but for envelopes and whole batches.

A piece is columns of equal length; its bytes are those of an Arrow batch that names them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headrace.joiner.journal.segments import Name
from headrace.schemas.records.envelope import batch_to_bytes
from headrace.schemas.records.events import NEVER
from headrace.schemas.records.hashing import Bools, Int64s, UInt64s
from headrace.schemas.records.restored import expect_columns, expect_times


class KeptKeys(NamedTuple):
    """Kept impressions by key; each column of shape (n,).

    Parameters
    ----------
    key1
        Second half of the key's digest.
    time, known
        Event time, and when the impression was known, microseconds.
    """

    key1: UInt64s
    time: Int64s
    known: Int64s

    @classmethod
    def none(cls) -> KeptKeys:
        """Return no impressions."""
        return cls(np.empty(0, np.uint64), np.empty(0, np.int64), np.empty(0, np.int64))

    @classmethod
    def together(cls, parts: Iterable[KeptKeys]) -> KeptKeys:
        """Return all of several parts, part by part."""
        return cls(*(np.concatenate(column) for column in zip(cls.none(), *parts, strict=True)))

    def select(self, rows: Bools | Int64s) -> KeptKeys:
        """Return some of them."""
        return KeptKeys(self.key1[rows], self.time[rows], self.known[rows])


class ShadowedRows(NamedTuple):
    """Duplicates among the impressions of a segment, by their row numbers, shape (n,)."""

    name: Name
    rows: Int64s


class Positives(NamedTuple):
    """Positive impressions by group; each column of shape (n,).

    Parameters
    ----------
    group0, group1
        The two halves of the group's digest.
    time
        Event time, microseconds.
    """

    group0: UInt64s
    group1: UInt64s
    time: Int64s

    @classmethod
    def none(cls) -> Positives:
        """Return no impressions."""
        return cls(np.empty(0, np.uint64), np.empty(0, np.uint64), np.empty(0, np.int64))

    def select(self, rows: Bools | Int64s) -> Positives:
        """Return some of them."""
        return Positives(self.group0[rows], self.group1[rows], self.time[rows])

    def ordered_with(self, more: Positives) -> Positives:
        """Return these and others in order of group and event time."""
        whole = Positives(*(np.concatenate(pair) for pair in zip(self, more, strict=True)))
        return whole.select(np.lexsort((whole.time, whole.group1, whole.group0)))


class Marks(NamedTuple):
    """What is known of actions so far; each column of shape (n,).

    Later marks of an action add to earlier ones: it never becomes undecided again, and
    what it met it has met for good.

    Parameters
    ----------
    source, offset
        Where the action came from.
    decided
        Whether it has an outcome. Which one follows from `met`, `seen` and its own
        times, by rule 10.
    seen
        Event time of the latest impression that was visible to it without its belonging to
        that, `NEVER` while there is none.
    met
        Event time of the impression that it belongs to, `NEVER` while that is not known.
    """

    source: npt.NDArray[np.int32]
    offset: Int64s
    decided: Bools
    seen: Int64s
    met: Int64s

    @classmethod
    def together(cls, parts: Iterable[Marks]) -> Marks:
        """Return all of several parts, with one mark for an action, in order of its place."""
        kinds = (np.int32, np.int64, np.bool_, np.int64, np.int64)
        none = (np.empty(0, kind) for kind in kinds)
        whole = cls(*(np.concatenate(column) for column in zip(none, *parts, strict=True)))
        place, first, number = np.unique(whole.places, return_index=True, return_inverse=True)
        decided = np.zeros(place.size, np.bool_)
        seen, met = np.full((2, place.size), NEVER)
        np.logical_or.at(decided, number, whole.decided)
        np.maximum.at(seen, number, whole.seen)
        np.maximum.at(met, number, whole.met)
        return cls(whole.source[first], whole.offset[first], decided, seen, met)

    def select(self, rows: Int64s) -> Marks:
        """Return some of them."""
        return Marks(
            self.source[rows], self.offset[rows],
            self.decided[rows], self.seen[rows], self.met[rows],
        )  # fmt: skip

    @property
    def places(self) -> Int64s:
        """Source and offset as one number, shape (n,)."""
        return place_of(self.source, self.offset)

    def of(self, source: int, offset: Int64s) -> tuple[Bools, Int64s, Int64s]:
        """Return what these, which are `together`, say of actions of a source.

        Returns
        -------
        decided, seen, met
            Shape (n,); what there is no mark of is not decided, and saw and met nothing.
        """
        wanted, places = place_of(source, offset), self.places
        if places.size == 0:
            nothing = np.full((2, wanted.size), NEVER)
            return np.zeros(wanted.size, np.bool_), nothing[0], nothing[1]
        at = np.minimum(np.searchsorted(places, wanted), places.size - 1)
        has = places[at] == wanted
        seen, met = (np.where(has, column[at], NEVER) for column in (self.seen, self.met))
        return self.decided[at] & has, seen, met


_OFFSETS = 43
"""Bits of an offset: a source has fewer than 2^43 records."""


def place_of(source: npt.NDArray[np.int32] | int, offset: Int64s) -> Int64s:
    """Return source and offset of records as one number, which orders them."""
    place: Int64s = (np.asarray(source, np.int64) << _OFFSETS) | offset
    return place


def to_bytes(piece: NamedTuple) -> bytes:
    """Write the columns of a piece as bytes."""
    columns = [pa.array(column) for column in piece]
    return batch_to_bytes(pa.RecordBatch.from_arrays(columns, list(piece._fields)))


_TYPES: dict[Any, dict[str, pa.DataType]] = {
    KeptKeys: {"key1": pa.uint64(), "time": pa.int64(), "known": pa.int64()},
    Positives: {"group0": pa.uint64(), "group1": pa.uint64(), "time": pa.int64()},
    Marks: {
        "source": pa.int32(), "offset": pa.int64(), "decided": pa.bool_(), "seen": pa.int64(),
        "met": pa.int64(),
    },
}  # fmt: skip


def is_of(kind: Any, batch: pa.RecordBatch) -> bool:
    """Tell whether a batch has the columns of a kind of piece."""
    return batch.schema.names == list(kind._fields)


def from_batch(kind: Any, batch: pa.RecordBatch) -> Any:
    """Return a piece of some kind whose columns a batch has.

    Raises
    ------
    DamagedError
        If it has others.
    """
    what = kind.__name__
    expect_columns(batch, _TYPES[kind], what, exactly=True)
    for name in ("met", "seen") if kind is Marks else ("time",):
        times = batch.column(name).to_numpy()
        expect_times(times if name == "time" else times[times != NEVER], what)
    return kind(*(batch.column(name).to_numpy(zero_copy_only=False) for name in kind._fields))
