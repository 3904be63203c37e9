"""From sample columns to hashed features.

A feature's index is the low bits of its 64-bit hash: ``fmix64(code ^ name)``,
where ``name`` is the hash of kind and column, such as ``categorical:device``.
``docs/features.md`` says how each kind of feature gets its code and value, and has
vectors to check an implementation in another language.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

import numba as nb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from headrace.schemas.records.hashing import (
    PUBLISHED,
    Hash,
    Int64s,
    UInt64s,
    fmix64,
    hash_bytes,
    hash_column,
)

NumericForm = Literal["linear", "log"] | tuple[float, ...]

_NULL = np.uint64(0x9AE16A3B2F90404F)
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_VALUE_OF_CATEGORY = np.float32(1.0)

MAX_MAGNITUDE = 1e9
"""Values of numeric features are clipped to plus or minus this.

Sums of squared gradients are float32, in which a sum stops growing at 2^25 times
its greatest term: with gradients of 1e9 and weights of 1e6 it stays below 3.4e37.
"""


@dataclass(frozen=True)
class MultiValued:
    """A column of several values: a list column, or text with a separator."""

    column: str
    separator: str = " "


@dataclass(frozen=True)
class Features:
    """The columns that become features.

    Parameters
    ----------
    categorical
        Columns of which each value is a feature.
    multi_valued
        Columns with several such values in each row.
    numeric
        Columns of numbers: used as they are (``linear``), by their logarithm (``log``),
        or by the bucket between ascending bounds.
    crosses
        Lists of columns of which each combination of values is a feature; of a column of
        several values, each of them.
    by
        The hash of values. With another than the published one nobody can choose values that
        share a coordinate.
    """

    categorical: tuple[str, ...] = ()
    multi_valued: tuple[MultiValued, ...] = ()
    numeric: Mapping[str, NumericForm] = field(default_factory=dict)
    crosses: tuple[tuple[str, ...], ...] = ()
    by: Hash = PUBLISHED

    @property
    def names(self) -> tuple[str, ...]:
        """A name of each feature, such as ``numeric:price (log)``; equal ones are the same."""
        numeric = (f"numeric:{name} ({form})" for name, form in self.numeric.items())
        lists = (f"multi_valued:{of.column} ({of.separator!r})" for of in self.multi_valued)
        single = (f"categorical:{name}" for name in self.categorical)
        crosses = ("cross:" + "*".join(columns) for columns in self.crosses)
        return (*single, *lists, *numeric, *crosses)

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column that some feature needs, each once, in order of first use."""
        names = [*self.categorical, *(m.column for m in self.multi_valued), *self.numeric]
        names.extend(column for cross in self.crosses for column in cross)
        return tuple(dict.fromkeys(names))


@dataclass(frozen=True)
class FeatureRows:
    """Features of n rows in compressed sparse row form.

    Parameters
    ----------
    starts
        Row ``i`` has the features ``starts[i]:starts[i + 1]``; int64, shape (n + 1,).
    indices
        Indices below ``2^bits``, uint32, shape (starts[n],); with more than 32 bits uint64.
    values
        Values, float32, shape (starts[n],), or shape (0,) if all are 1.
    clipped
        How many values were clipped to `MAX_MAGNITUDE`, by column; without those of none.
    lists
        Of each column, or cross, that has any number of features in a row, how many each
        row has, int64, shape (n,). They are the last of the row, in this order.
    times
        When each row is learned, microseconds, int64, shape (n,); shape (0,) if nothing
        depends on it.
    source
        The rows that these were taken from, and the place of each feature in them; None for
        rows that were not taken from others.
    """

    starts: Int64s
    indices: npt.NDArray[np.unsignedinteger[Any]]
    values: npt.NDArray[np.float32]
    clipped: Mapping[str, int] = field(default_factory=dict)
    lists: tuple[Int64s, ...] = ()
    times: Int64s = field(default_factory=lambda: np.empty(0, np.int64))
    source: tuple[FeatureRows, Int64s] | None = None

    def followed_by(self, other: FeatureRows) -> FeatureRows:
        """Return these rows and then others of the same encoder; `clipped` is of both together."""
        ends = [self.starts, other.starts[1:] + self.starts[-1]]
        names = {*self.clipped, *other.clipped}
        return FeatureRows(
            np.concatenate(ends),
            np.concatenate([self.indices, other.indices]),
            np.concatenate([self.values, other.values]),
            {name: self.clipped.get(name, 0) + other.clipped.get(name, 0) for name in names},
            tuple(map(np.concatenate, zip(self.lists, other.lists, strict=True))),
        )

    def fields(self) -> npt.NDArray[np.uint16]:
        """Return which column or cross each feature is of, uint16, shape (starts[n],).

        They are numbered in the order in which a row has their features: the intercept
        is 0. Of rows that were not encoded each feature has the number of its place.
        """
        if self.source is not None:
            rows, places = self.source
            return rows.fields()[places]
        fields = np.empty(self.indices.size, np.uint16)
        lists = np.array(self.lists, np.int64).reshape(len(self.lists), self.starts.size - 1)
        _number(self.starts, lists, fields)
        return fields


@nb.njit(cache=True, nogil=True)
def _number(starts, lists, fields):
    for i in range(starts.size - 1):
        at = starts[i]
        single = starts[i + 1] - at - lists[:, i].sum()
        for place in range(single):
            fields[at + place] = place
        at += single
        for of in range(len(lists)):
            for _ in range(lists[of, i]):
                fields[at] = single + of
                at += 1


@nb.njit(cache=True, nogil=True)
def _put(hashes, seed, mask, starts, place, out):
    for i in range(hashes.size):
        out[starts[i] + place] = fmix64(hashes[i] ^ seed) & mask


@nb.njit(cache=True, nogil=True)
def _put_lists(hashes, offsets, missing, seed, mask, places, out):
    for i in range(places.size):
        at = places[i]
        if missing[i]:
            out[at] = fmix64(_NULL ^ seed) & mask
        for j in range(offsets[i], offsets[i + 1]):
            out[at] = fmix64(hashes[j - offsets[0]] ^ seed) & mask
            at += 1


@nb.njit(cache=True, nogil=True)
def _fold(folded, hashes):
    for i in range(folded.size):
        folded[i] = fmix64((folded[i] * _GOLDEN) ^ hashes[i])


@nb.njit(cache=True, nogil=True)
def _fold_items(folded, starts, hashes, offsets, missing, out):
    at = 0
    for i in range(missing.size):
        for j in range(starts[i], starts[i + 1]):
            if missing[i]:
                out[at] = fmix64((folded[j] * _GOLDEN) ^ _NULL)
                at += 1
            for k in range(offsets[i], offsets[i + 1]):
                out[at] = fmix64((folded[j] * _GOLDEN) ^ hashes[k])
                at += 1


@dataclass(frozen=True)
class _Items:
    """Hashes of the items of n rows.

    Parameters
    ----------
    hashes
        Of all rows, uint64, shape (offsets[n],).
    offsets
        Where those of each row begin, int64, shape (n + 1,).
    missing
        Rows that have a null in place of items, bool, shape (n,).
    """

    hashes: UInt64s
    offsets: Int64s
    missing: npt.NDArray[np.bool_]

    @property
    def counts(self) -> Int64s:
        """How many features each row has, int64, shape (n,)."""
        return np.diff(self.offsets) + self.missing


class FeatureEncoder:
    """Encode sample columns as hashed features.

    Parameters
    ----------
    features
        The columns that become features, and how.
    bits
        Indices are below ``2^bits``; with 64 they are the codes of an exact table.

    Examples
    --------
    >>> encoder = FeatureEncoder(Features(categorical=("device",)), bits=10)
    >>> rows = encoder.encode(pa.RecordBatch.from_pydict({"device": ["a", "b", None]}))
    >>> rows.starts.tolist(), bool((rows.indices < 1024).all())
    ([0, 2, 4, 6], True)
    """

    def __init__(self, features: Features, bits: int) -> None:
        self.features = features
        self.mask = np.uint64((1 << bits) - 1)
        self.dtype: type[np.unsignedinteger[Any]] = np.uint32 if bits <= 32 else np.uint64
        self.separators = {multi.column: multi.separator for multi in features.multi_valued}
        self.valued = any(isinstance(form, str) for form in features.numeric.values())

    def coordinates(self) -> tuple[int, dict[str, int]]:
        """Return the index of the intercept, and that of each numeric column without edges."""
        numeric = {
            name: int(fmix64(_name_hash(f"numeric:{name}")) & self.mask)
            for name, form in self.features.numeric.items()
            if isinstance(form, str)
        }
        return int(_name_hash("intercept") & self.mask), numeric

    def encode(self, batch: pa.RecordBatch) -> FeatureRows:
        """Encode every row; a null is a value of its own.

        Raises
        ------
        KeyError
            If a declared column is missing.
        """
        rows = batch.num_rows
        features = self.features
        memo: dict[str, UInt64s] = {}

        def hashed(name: str) -> UInt64s:
            if name not in memo:
                memo[name] = _hash_values(batch.column(name), features.by)
            return memo[name]

        lists = [
            (self._items(batch, multi.column), _name_hash(f"multi_valued:{multi.column}"))
            for multi in features.multi_valued
        ]
        of_lists = [
            columns for columns in features.crosses
            if any(self._has_items(batch, name) for name in columns)
        ]  # fmt: skip
        lists += [(self._combinations(batch, columns), np.uint64(0)) for columns in of_lists]
        crosses = [columns for columns in features.crosses if columns not in of_lists]
        fixed = 1 + len(features.categorical) + len(crosses) + len(features.numeric)
        widths = np.full(rows, fixed, np.int64)
        for items, _ in lists:
            widths += items.counts
        starts = np.zeros(rows + 1, np.int64)
        np.cumsum(widths, out=starts[1:])
        out = np.empty(starts[-1], self.dtype)
        values = np.ones(starts[-1] if self.valued else 0, np.float32)

        out[starts[:-1]] = _name_hash("intercept") & self.mask
        place = 1
        for name in features.categorical:
            _put(hashed(name), _name_hash(f"categorical:{name}"), self.mask, starts, place, out)
            place += 1
        for columns in crosses:
            folded = _cross_hashes(columns, rows)
            for name in columns:
                _fold(folded, hashed(name))
            _put(folded, np.uint64(0), self.mask, starts, place, out)
            place += 1
        clipped: dict[str, int] = {}
        for name, form in features.numeric.items():
            code, value, beyond = _numeric(batch.column(name), form)
            if beyond:
                clipped[name] = beyond
            _put(code, _name_hash(f"numeric:{name}"), self.mask, starts, place, out)
            if value is not None:
                values[starts[:-1] + place] = value
            place += 1
        places = starts[:-1] + place
        for items, seed in lists:
            _put_lists(items.hashes, items.offsets, items.missing, seed, self.mask, places, out)
            places = places + items.counts
        return FeatureRows(starts, out, values, clipped, tuple(items.counts for items, _ in lists))

    def _has_items(self, batch: pa.RecordBatch, name: str) -> bool:
        return name in self.separators or pa.types.is_list(batch.schema.field(name).type)

    def _items(self, batch: pa.RecordBatch, name: str) -> _Items:
        """Return the items of each row of a column, of one value if it has no lists."""
        column, by = batch.column(name), self.features.by
        if not self._has_items(batch, name):
            rows = len(column)
            return _Items(_hash_values(column, by), np.arange(rows + 1), np.zeros(rows, np.bool_))
        items, offsets, missing = _list_column(column, self.separators.get(name, ""))
        return _Items(_hash_values(items, by), offsets, missing)

    def _combinations(self, batch: pa.RecordBatch, columns: tuple[str, ...]) -> _Items:
        """Return the cross of columns of which some have several items in a row."""
        rows = batch.num_rows
        folded, starts = _cross_hashes(columns, rows), np.arange(rows + 1)
        for name in columns:
            items = self._items(batch, name)
            ends = np.cumsum(np.diff(starts) * items.counts)
            out = np.empty(ends[-1] if rows else 0, np.uint64)
            _fold_items(folded, starts, items.hashes, items.offsets, items.missing, out)
            folded, starts = out, np.concatenate([[0], ends])
        return _Items(folded, starts, np.zeros(rows, np.bool_))


def _cross_hashes(columns: tuple[str, ...], rows: int) -> UInt64s:
    return np.full(rows, _name_hash("cross:" + "*".join(columns)))


@lru_cache
def _name_hash(name: str) -> np.uint64:
    return np.uint64(hash_bytes(name.encode())[0])


def _hash_values(column: pa.Array, by: Hash) -> UInt64s:
    hashes, _ = hash_column(column, by)
    if column.null_count:
        hashes[column.is_null().to_numpy(zero_copy_only=False)] = _NULL
    return hashes


def _list_column(
    column: pa.Array, separator: str
) -> tuple[pa.Array, Int64s, npt.NDArray[np.bool_]]:
    """Return the values of all rows, where each row's begin, shape (n + 1,), and the null rows."""
    if not (pa.types.is_list(column.type) or pa.types.is_large_list(column.type)):
        column = pc.split_pattern(column.cast(pa.string()), pattern=separator)
    # `flatten` omits the values under null lists, so offsets are computed from lengths.
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy()
    offsets = np.zeros(len(column) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return column.flatten(), offsets, column.is_null().to_numpy(zero_copy_only=False)


_TRANSFORMS: dict[str, Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]] = {
    "linear": lambda x: x,
    "log": lambda x: np.sign(x) * np.log1p(np.abs(x)),
}


def _numeric(
    column: pa.Array, form: str | tuple[float, ...]
) -> tuple[UInt64s, npt.NDArray[np.float32] | None, int]:
    """Return each row's code, its value unless it is a bucket, and how many were clipped.

    A number that is null or not finite has the code of a null and the value 1; others
    are clipped to `MAX_MAGNITUDE` after the transform.
    """
    # A safe cast would refuse integers beyond 2^53; they are to be rounded.
    numbers = column.cast(pa.float64(), safe=False)
    numbers = pc.fill_null(numbers, np.nan).to_numpy(zero_copy_only=False)
    missing = ~np.isfinite(numbers)
    if isinstance(form, tuple):
        bucket = np.searchsorted(np.asarray(form), numbers, side="right").astype(np.uint64)
        return np.where(missing, _NULL, bucket + np.uint64(1)), None, 0
    value = _TRANSFORMS[form](np.where(missing, 0.0, numbers))
    beyond = int(np.count_nonzero(np.abs(value) > MAX_MAGNITUDE))
    value = np.clip(value, -MAX_MAGNITUDE, MAX_MAGNITUDE).astype(np.float32)
    code = np.where(missing, _NULL, np.uint64(0))
    return code, np.where(missing, _VALUE_OF_CATEGORY, value), beyond
