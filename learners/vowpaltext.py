"""Text of Vowpal Wabbit as columns: label, weight, and one column a namespace."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

_HEAD = r"^\s*(?P<label>\S+)?(?:\s+(?P<importance>\S+))?(?:\s+(?P<base>\S+))?\s*$"
_TAG = r"(\s)'\S*|(\s)\S+$"
"""A word that begins with a quote, or that ends where the features begin."""
_DEFAULT = "features"
"""Name of the namespace that has none."""

Bools = npt.NDArray[np.bool_]
Feature = tuple[str, str]
"""Namespace and name of a feature."""


@dataclass(frozen=True)
class VowpalRows:
    """Lines as columns, n of them.

    Parameters
    ----------
    good
        Lines with a label and numbers where numbers must be, bool, shape (n,). Of others no
        column has anything.
    label
        Whether the label is above 0, bool, shape (n,).
    importance, base
        Weight of the row, and what is added to its log-odds; float64, shape (n,).
    row, space, name, value
        The features of good rows: number of the row, namespace, name, and value; each of
        shape (m,), ascending by row.
    """

    good: Bools
    label: Bools
    importance: npt.NDArray[np.float64]
    base: npt.NDArray[np.float64]
    row: npt.NDArray[np.int64]
    space: pa.Array
    name: pa.Array
    value: npt.NDArray[np.float64]

    def valued(self) -> set[Feature]:
        """Return the features that have another value than 1 in some row."""
        other = pa.array(self.value != 1)
        pairs = pa.table({"space": self.space.filter(other), "name": self.name.filter(other)})
        found = pairs.group_by(["space", "name"]).aggregate([])
        return set(zip(found["space"].to_pylist(), found["name"].to_pylist(), strict=True))


def read_lines(lines: pa.Array) -> VowpalRows:
    """Read lines of Vowpal Wabbit's text format, with one label each.

    A label above 0 is positive; tags are left out. The value of a namespace multiplies those of
    its features. A name that contains a colon ends at the last one.

    Parameters
    ----------
    lines
        Text without line ends, n of them, none of them blank.
    """
    parts = pc.split_pattern(lines, "|")
    head = pc.replace_substring_regex(pc.list_element(parts, 0), _TAG, " ")
    head = pc.extract_regex(head, _HEAD)
    label, good = _numbers(head, "label", np.nan)
    importance, fine = _numbers(head, "importance", 1.0)
    base, sound = _numbers(head, "base", 0.0)
    good &= fine & sound & np.isfinite(label) & np.isfinite(importance) & np.isfinite(base)
    good &= (importance >= 0) & (pc.list_value_length(parts).to_numpy() > 1)

    spaces, row = _flattened(pc.list_slice(parts, 1), np.arange(len(lines)))
    words = pc.split_pattern_regex(pc.utf8_rtrim_whitespace(spaces), r"\s+")
    first, times, fine = _named(pc.list_element(words, 0))
    names, of = _flattened(pc.list_slice(words, 1), np.arange(len(spaces)))
    name, value, sound = _named(names)
    bad = np.concatenate([row[~fine], row[of][~sound]])
    good[bad] = False
    kept = good[row[of]]
    space = pc.if_else(pc.equal(first, ""), _DEFAULT, first)
    return VowpalRows(
        good, label > 0, importance, base,
        row[of][kept], space.take(pa.array(of[kept])), name.filter(pa.array(kept)),
        (value * times[of])[kept],
    )  # fmt: skip


def columns_of(rows: VowpalRows, spaces: list[str], valued: Set[Feature]) -> pa.RecordBatch:
    """Return the features of good rows as columns.

    Parameters
    ----------
    rows
        The rows.
    spaces
        The namespaces. Each is a column of lists with the names of its features.
    valued
        Features that are a column of numbers each, such as ``space:name``, and are in no list.
        Such a feature that a row has twice is the sum of both.
    """
    number = np.cumsum(rows.good)[rows.row] - 1
    count = int(rows.good.sum())
    columns: dict[str, pa.Array] = {}
    listed = np.ones(number.size, np.bool_)
    for space, name in sorted(valued):
        has = pc.and_(pc.equal(rows.space, space), pc.equal(rows.name, name))
        has = has.to_numpy(zero_copy_only=False)
        listed &= ~has
        sums = np.bincount(number[has], rows.value[has], count)
        missing = np.bincount(number[has], minlength=count) == 0
        columns[f"{space}:{name}"] = pa.array(sums, mask=missing)
    for space in spaces:
        own = listed & pc.equal(rows.space, space).to_numpy(zero_copy_only=False)
        offsets = np.concatenate([[0], np.cumsum(np.bincount(number[own], minlength=count))])
        names = rows.name.filter(pa.array(own))
        columns[space] = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), names)
    return pa.RecordBatch.from_pydict(columns)


def _numbers(head: pa.Array, field: str, missing: float) -> tuple[npt.NDArray[np.float64], Bools]:
    """Return a number of each head, and whether it is one or missing."""
    texts = pc.struct_field(head, field)
    texts = pc.if_else(pc.equal(texts, ""), None, texts)
    return _parsed(texts, missing), _is_number(texts)


def _named(words: pa.Array) -> tuple[pa.Array, npt.NDArray[np.float64], Bools]:
    """Return name and value of words such as ``name:2.5``, and whether the value is a number."""
    found = pc.extract_regex(words, r"^(?P<name>.*):(?P<value>[^:]*)$")
    plain = pc.is_null(found)
    name = pc.if_else(plain, words, pc.struct_field(found, "name"))
    value = pc.if_else(plain, None, pc.struct_field(found, "value"))
    return name, _parsed(value, 1.0), _is_number(value)


_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"


def _is_number(texts: pa.Array) -> Bools:
    matches = pc.fill_null(pc.match_substring_regex(texts, _NUMBER), True)
    found: Bools = matches.to_numpy(zero_copy_only=False).copy()
    return found


def _parsed(texts: pa.Array, missing: float) -> npt.NDArray[np.float64]:
    fine = pc.match_substring_regex(texts, _NUMBER)
    numbers = pc.cast(pc.if_else(fine, texts, None), pa.float64())
    absent = pc.is_null(texts).to_numpy(zero_copy_only=False)
    parsed: npt.NDArray[np.float64] = np.where(
        absent, missing, numbers.to_numpy(zero_copy_only=False)
    )
    return parsed


def _flattened(
    lists: pa.Array, of: npt.NDArray[np.int64]
) -> tuple[pa.Array, npt.NDArray[np.int64]]:
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy()
    return lists.flatten(), np.repeat(of, lengths)
