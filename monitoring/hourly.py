"""Features and scores of an hour of event time, as counts of codes: additive and bounded.

Each value has one of `CODES` codes: that of a category is from its digest, of a number from its
sign, exponent and three bits of its mantissa, of a score an eighth of log-odds. So counts
of codes need no dictionary, and those of several parts of a log may be added up.

Of an hour with many rows those of some keys are counted: of a part 2^(-level/4) of them, chosen by
digest, with the least level at which there are at most `MOST_ROWS`. That is a function of the rows
and not of their order (adaptive sampling [1]_), so parts of an hour can be merged in any order.

References
----------
.. [1] Flajolet, On adaptive sampling, Computing 43 (1990).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numba as nb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from headrace.monitoring.exported import packed, unpacked
from headrace.monitoring.statistics import Floats, Int64s
from headrace.schemas.records.hashing import Bools, UInt64s, hash_column, uniform
from headrace.schemas.records.restored import Count, Text, checked, expect, expect_within, written

Kind = Literal["values", "items", "numbers", "scores"]
UInt16s = npt.NDArray[np.uint16]

MOST_ROWS = 10_000
"""So many rows of an hour are counted at most, and of a larger one hardly fewer than 8,400."""
CODES = 1 << 14
"""There are so many codes. Code 0 is null; a row that has no score has it too."""

UNIT = 64
"""Weights are whole numbers of a 64th, so that their sums are exact in any order."""
_MOST_WEIGHT = 1 << 14
_OWN_DRAW = 0x6472696674
"""Keeps the choice of keys independent of others by the same digests."""
_DEEPEST = 60
LEVELS = 4 * (_DEEPEST + 1)
"""No row has this level."""
_QUARTERS = 2.0 ** -np.arange(0.25, 1.0, 0.25)
_PER_LOG_ODDS, _SCORES = 8.0, 16.0


@dataclass(frozen=True)
class Watched:
    """A column of features, or the scores of a learner.

    Parameters
    ----------
    name
        Of the column, or the learner.
    kind
        ``values`` and ``items`` are categories, one or several in a row.
    separator
        Between items, where they are text.
    """

    name: str
    kind: Kind
    separator: str = " "

    @property
    def of(self) -> str:
        """``feature`` or ``score``."""
        return "score" if self.kind == "scores" else "feature"

    @property
    def key(self) -> str:
        """Tells it from others; a learner may have the name of a column."""
        return f"{self.of}:{self.name}"

    @property
    def ordered(self) -> bool:
        """Whether codes are in the order of the values."""
        return self.kind in ("numbers", "scores")


@dataclass(frozen=True)
class Rows:
    """Rows of a log, n of them.

    Parameters
    ----------
    time, key
        Event time, microseconds, and the first half of the key's digest; shape (n,).
    weight
        Inverse probability of having been kept, shape (n,).
    columns
        The watched columns, each of shape (n,).
    scores
        Log-odds by learner, each of shape (n,); NaN where it has none.
    """

    time: Int64s
    key: UInt64s
    weight: Floats
    columns: Mapping[str, pa.Array]
    scores: Mapping[str, Floats]


@dataclass(frozen=True)
class Coded:
    """Rows as codes, n of them.

    Parameters
    ----------
    level, weight
        What `levels` returned, and weights in units; shape (n,).
    codes
        By name of what is watched, shape (n,); of items those of all rows in turn.
    lengths
        How many items each row has, shape (n,); by name.
    """

    level: npt.NDArray[np.uint8]
    weight: npt.NDArray[np.int32]
    codes: dict[str, UInt16s]
    lengths: dict[str, npt.NDArray[np.int32]] = field(default_factory=dict)

    def select(self, rows: Bools) -> Coded:
        """Return some of the rows."""
        codes = {
            name: codes[np.repeat(rows, self.lengths[name]) if name in self.lengths else rows]
            for name, codes in self.codes.items()
        }
        lengths = {name: of[rows] for name, of in self.lengths.items()}
        return Coded(self.level[rows], self.weight[rows], codes, lengths)


def coded(watched: tuple[Watched, ...], rows: Rows, level: npt.NDArray[np.uint8]) -> Coded:
    """Return rows as codes.

    Parameters
    ----------
    watched
        What is counted.
    rows, level
        The rows, and what `levels` returned of them.
    """
    weight = np.rint(np.clip(rows.weight, 0.0, _MOST_WEIGHT) * UNIT).astype(np.int32)
    codes: dict[str, UInt16s] = {}
    lengths: dict[str, npt.NDArray[np.int32]] = {}
    for of in watched:
        if of.kind == "scores":
            codes[of.key] = score_codes(rows.scores[of.name])
        elif of.kind == "items":
            codes[of.key], lengths[of.key] = _items(rows.columns[of.name], of.separator)
        else:
            encode = number_codes if of.kind == "numbers" else value_codes
            codes[of.key] = encode(rows.columns[of.name])
    return Coded(level, weight, codes, lengths)


def levels(key: UInt64s) -> npt.NDArray[np.uint8]:
    """Return up to which level rows are counted, by the first half of their digests, shape (n,)."""
    drawn = uniform(key, _OWN_DRAW)
    found = np.empty(drawn.size, np.uint8)
    _levels(drawn, found)
    return found


@nb.njit(cache=True, nogil=True)
def _levels(drawn, found):
    for i in range(drawn.size):
        mantissa, exponent = math.frexp(drawn[i])
        level = 4 * min(-exponent, _DEEPEST)
        for edge in _QUARTERS:
            level += mantissa <= edge
        found[i] = level


def sizes_of(level: npt.NDArray[np.uint8], number: Int64s, hours: int) -> Int64s:
    """Return how many rows would be counted at each level, shape (hours, `LEVELS` + 1).

    Parameters
    ----------
    level, number
        What `levels` returned of rows, and the number of their hour, shape (n,).
    hours
        How many hours there are.
    """
    counts = np.bincount(number * (LEVELS + 1) + level, minlength=hours * (LEVELS + 1))
    sizes: Int64s = np.cumsum(counts.reshape(hours, LEVELS + 1)[:, ::-1], axis=1)[:, ::-1]
    return sizes


def least_level(sizes: Int64s) -> int:
    """Return the level at which an hour has at most `MOST_ROWS` rows.

    Parameters
    ----------
    sizes
        A row of what `sizes_of` returned.
    """
    return int(np.argmax(sizes <= MOST_ROWS))


class Counts(NamedTuple):
    """A distribution of codes.

    Parameters
    ----------
    codes, weights
        The codes that occur, ascending, and their weights, shape (m,).
    rows
        Of how many rows: of different weights as many as rows of equal weight that say as much
        (Kish 1965).
    """

    codes: UInt16s
    weights: Floats
    rows: float

    @property
    def null(self) -> float:
        """The weight of nulls."""
        return float(self.weights[0]) if self.codes.size and self.codes[0] == 0 else 0.0


@nb.njit(cache=True, nogil=True)
def _count(codes, weight, lengths, absent, present, sums):
    """Add up weights by code; return how many codes occur, and the sums of weights and squares."""
    found, total, squares, at = 0, 0.0, 0.0, 0
    table = np.zeros(CODES)
    for i in range(weight.size):
        w = float(weight[i])
        end = at + (lengths[i] if lengths.size else 1)
        if not (absent and codes[at] == 0):
            total += w
            squares += w * w
            for j in range(at, end):
                table[codes[j]] += w
        at = end
    for code in range(CODES):
        if table[code] > 0.0:
            present[found] = code
            sums[found] = table[code]
            found += 1
    return found, total, squares


@written
class _Written:
    at: Count
    level: Text
    weight: Text
    codes: dict[Text, Text]
    lengths: dict[Text, Text]


class Hour:
    """The rows of an hour that are counted.

    It holds at most `MOST_ROWS` rows: 5 bytes of each, and two for each watched value.

    Parameters
    ----------
    watched
        What is counted.
    """

    def __init__(self, watched: tuple[Watched, ...]) -> None:
        self.watched = watched
        self.level = 0
        self.size = 0
        self._parts: list[Coded] = []

    def add(self, coded: Coded) -> None:
        """Count rows; those below this hour's level are not counted."""
        counted = coded.level >= self.level
        self._parts.append(coded if counted.all() else coded.select(counted))
        self.size += int(np.count_nonzero(counted))
        if self.size > MOST_ROWS:
            whole = self._whole()
            (sizes,) = sizes_of(whole.level, np.zeros(whole.level.size, np.int64), 1)
            self.level = least_level(sizes)
            self._parts = [whole.select(whole.level >= self.level)]
            self.size = int(sizes[self.level])

    def merge(self, other: Hour) -> None:
        """Add other rows of the same hour: associative and commutative."""
        self.level = max(self.level, other.level)
        mine, self._parts, self.size = self._whole(), [], 0
        self.add(mine)
        self.add(other._whole())

    def _whole(self) -> Coded:
        parts = self._parts or [self._nothing()]
        if len(parts) > 1:
            codes, lengths = (
                {name: np.concatenate([of[name] for of in found]) for name in found[0]}
                for found in ([p.codes for p in parts], [p.lengths for p in parts])
            )
            level = np.concatenate([part.level for part in parts])
            weight = np.concatenate([part.weight for part in parts])
            self._parts = [Coded(level, weight, codes, lengths)]
            return self._parts[0]
        return parts[0]

    def _nothing(self) -> Coded:
        items = {of.key: np.empty(0, np.int32) for of in self.watched if of.kind == "items"}
        codes = {of.key: np.empty(0, np.uint16) for of in self.watched}
        return Coded(np.empty(0, np.uint8), np.empty(0, np.int32), codes, items)

    def counts(self, of: Watched) -> Counts:
        """Return how much weight each code has."""
        whole = self._whole()
        codes, weight = whole.codes[of.key], whole.weight
        present = np.empty(min(codes.size, CODES), np.uint16)
        sums = np.empty(present.size)
        lengths = whole.lengths.get(of.key, np.empty(0, np.int32))
        absent = of.kind == "scores"
        found, total, squares = _count(codes, weight, lengths, absent, present, sums)
        return Counts(
            present[:found].copy(), sums[:found].copy(), total**2 / squares if total else 0.0
        )

    def export(self) -> dict[str, Any]:
        """Return the whole state as JSON types; arrays are bytes in base 64."""
        whole = self._whole()
        return {
            "at": self.level,
            "level": packed(whole.level),
            "weight": packed(whole.weight),
            "codes": {name: packed(codes) for name, codes in whole.codes.items()},
            "lengths": {name: packed(lengths) for name, lengths in whole.lengths.items()},
        }

    @classmethod
    def restored(cls, watched: tuple[Watched, ...], state: dict[str, Any]) -> Hour:
        """Return the hour of which `export` returned the state.

        Raises
        ------
        DamagedError
            If it is not what `export` returns.
        """
        checked(_Written, state, "hour")
        hour = cls(watched)
        expect(state["at"] < LEVELS, "hour", f"is of level {state['at']}")
        hour.level = state["at"]
        coded = Coded(
            unpacked(state["level"], np.uint8),
            unpacked(state["weight"], np.int32),
            {name: unpacked(text, np.uint16) for name, text in state["codes"].items()},
            {name: unpacked(text, np.int32) for name, text in state["lengths"].items()},
        )
        _expect_coded(coded, watched)
        hour.add(coded)
        return hour


def _expect_coded(coded: Coded, watched: tuple[Watched, ...]) -> None:
    """Go on if rows are those of an hour: kernels do not look at lengths and codes."""
    rows = coded.level.size
    expect(rows <= MOST_ROWS, "hour", f"has {rows} rows")
    expect_within(coded.level, 0, LEVELS, "levels")
    expect(coded.weight.size == rows, "weights", f"must be {rows} (got {coded.weight.size})")
    expect_within(coded.weight, 0, _MOST_WEIGHT + 1, "weights")
    items = {of.key for of in watched if of.kind == "items"}
    expect(coded.codes.keys() == {of.key for of in watched}, "codes", "are of other columns")
    expect(coded.lengths.keys() == items, "lengths", "are of other columns")
    for name, codes in coded.codes.items():
        expect_within(codes, 0, CODES, name)
        lengths = coded.lengths.get(name)
        if lengths is not None:
            expect(lengths.size == rows, name, f"must have {rows} lengths (got {lengths.size})")
            expect_within(lengths, 1, 1 << 31, name)
        wanted = rows if lengths is None else int(lengths.sum(dtype=np.int64))
        expect(codes.size == wanted, name, f"must have {wanted} codes (got {codes.size})")


def value_codes(column: pa.Array) -> UInt16s:
    """Return codes of categories, shape (n,): 0 for null, others from 1 on."""
    hashes, _ = hash_column(column)
    codes = (hashes % np.uint64(CODES - 1)).astype(np.uint16) + np.uint16(1)
    if column.null_count:
        codes[column.is_null().to_numpy(zero_copy_only=False)] = 0
    return codes


def number_codes(column: pa.Array) -> UInt16s:
    """Return codes of numbers in their order, shape (n,): 0 for what is null or not finite.

    A code is an eighth of a power of two.
    """
    numbers = column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    missing = ~np.isfinite(numbers)
    greatest = float(np.finfo(np.float32).max)
    # Adding 0 makes one zero of both.
    single = np.clip(np.where(missing, 0.0, numbers), -greatest, greatest).astype(np.float32) + 0
    bits = single.astype(np.float32).view(np.uint32)
    ordered = np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31)) >> np.uint32(20)
    return np.where(missing, 0, ordered + 1).astype(np.uint16)


def score_codes(margin: Floats) -> UInt16s:
    """Return codes of log-odds in their order, shape (n,): 0 for NaN."""
    clipped = np.clip(margin, -_SCORES, _SCORES)
    code = np.floor((clipped + _SCORES) * _PER_LOG_ODDS) + 1
    return np.where(np.isnan(margin), 0, code).astype(np.uint16)


def _items(column: pa.Array, separator: str) -> tuple[UInt16s, npt.NDArray[np.int32]]:
    """Return codes of the items of all rows, and how many each has: one if there are none."""
    if not (pa.types.is_list(column.type) or pa.types.is_large_list(column.type)):
        column = pc.split_pattern(column.cast(pa.string()), pattern=separator)
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy().astype(np.int32)
    codes = value_codes(column.flatten())
    nothing = np.flatnonzero(lengths == 0)
    before = np.cumsum(lengths) - lengths
    return np.insert(codes, before[nothing], 0), np.maximum(lengths, 1)
