"""Tables and dictionaries as features, for learners that are used by themselves.

Each column is a feature: a number with its value, of anything else each value is one of its
own. Nulls and numbers that are not finite are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import narwhals as nw
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from headrace.learners.features import MAX_MAGNITUDE, FeatureRows
from headrace.schemas.records.hashing import hash_bytes


class TableEncoder:
    """Encode dictionaries and tables, whose rows get the same features as dictionaries.

    Parameters
    ----------
    bits
        Indices are below ``2^bits``.
    """

    def __init__(self, bits: int) -> None:
        self.mask = (1 << bits) - 1

    @property
    def intercept(self) -> int:
        """The index of the feature that every row has."""
        return self.index("intercept")

    def index(self, text: str) -> int:
        """Return the index of a feature by its name."""
        return int(hash_bytes(text.encode())[0]) & self.mask

    def encode_one(self, x: Mapping[Any, Any]) -> FeatureRows:
        """Encode a row."""
        found = [self._feature(name, value) for name, value in x.items()]
        found = [(index, value) for index, value in found if not np.isnan(value)]
        indices = np.array([self.intercept, *(index for index, _ in found)], np.uint32)
        values = np.array([1.0, *(value for _, value in found)], np.float32)
        return FeatureRows(np.array([0, indices.size], np.int64), indices, values)

    def encode(self, native: Any) -> FeatureRows:
        """Encode a table of pandas, Arrow or polars."""
        table = nw.from_native(native, eager_only=True)
        indices = np.full((len(table), 1 + table.shape[1]), self.intercept, np.uint32)
        values = np.ones(indices.shape, np.float64)
        for at, name in enumerate(table.columns, start=1):
            column = table.get_column(name).to_arrow()
            indices[:, at], values[:, at] = self._encode_column(name, column)
        there = ~np.isnan(values)
        starts = np.zeros(len(table) + 1, np.int64)
        np.cumsum(there.sum(axis=1), out=starts[1:])
        return FeatureRows(starts, indices[there], values[there].astype(np.float32))

    def _feature(self, name: Any, value: Any) -> tuple[int, float]:
        """Return index and value of a feature; the value NaN marks one to leave out."""
        if value is None:
            return 0, np.nan
        if isinstance(value, int | float | np.number) and not isinstance(value, bool):
            return self.index(f"{name}"), float(bounded(np.float64(value)))
        return self.index(f"{name}={value}"), 1.0

    def _encode_column(self, name: str, column: pa.Array) -> tuple[Any, npt.NDArray[np.float64]]:
        kind = column.type
        if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
            number = pc.fill_null(pc.cast(column, pa.float64(), safe=False), np.nan)
            return self.index(name), bounded(number.to_numpy(zero_copy_only=False))
        if not pa.types.is_dictionary(kind):
            column = column.dictionary_encode()
        # Each distinct value once, then one entry for missing values.
        distinct = column.dictionary.to_pylist()
        found = [*(self._feature(name, value) for value in distinct), (0, np.nan)]
        index, value = (np.array(part) for part in zip(*found, strict=True))
        code = pc.fill_null(column.indices.cast(pa.int64()), len(distinct)).to_numpy()
        return index[code], value[code]


def bounded(numbers: Any) -> Any:
    """Return numbers clipped to `MAX_MAGNITUDE`, NaN where they are not finite."""
    return np.where(np.isfinite(numbers), np.clip(numbers, -MAX_MAGNITUDE, MAX_MAGNITUDE), np.nan)
