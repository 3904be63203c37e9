"""The columns of JSON lines, from the first of them."""

from __future__ import annotations

import bisect
import contextlib
from collections import Counter
from collections.abc import Collection, Iterable
from typing import Any

import pyarrow as pa

from headrace.schemas.records.jsonlines import BROKEN, NotAnObjectError, any_object
from headrace.schemas.records.paths import Columns
from headrace.schemas.types import JSON

_RARE = 0.1
"""Values that need a larger type than the others decide on the type if they are more than this
share of a column: of the first lines of a log some may be written to spoil it."""


def infer_columns(lines: Iterable[bytes], identifiers: Collection[str] = ()) -> Columns:
    """Infer columns from the first lines of a file; broken lines are ignored.

    A column has the type of most of its values, because a log can have wrong
    lines at its head too. Numbers are float64 if one has a fraction, else int64, or uint64 if
    more than one in ten needs that, or text if more than one in ten needs even more; a column of
    nulls has no type; objects, and lists of objects or lists, are JSON. The fields of objects are
    nested columns.

    Parameters
    ----------
    lines
        The lines.
    identifiers
        Columns of identifiers, in which numbers with fractions count only if there are no others.
    """
    kinds: dict[Path, Counter[str]] = {}
    for line in lines:
        with contextlib.suppress(NotAnObjectError, *BROKEN):
            _count(any_object(line), (), kinds)
    columns = Columns({}, {})
    objects: set[Path] = {()}
    for path, counts in kinds.items():
        if path[:-1] in objects:
            name = ".".join(path)
            if name in identifiers and counts.keys() & _WHOLE:
                del counts["float"]
            most = _most(counts)
            if most == "object":
                objects.add(path)
            (columns.nested if path[1:] else columns.own)[name] = _type_of(most)
    for name in columns.own.keys() & columns.nested.keys():
        del columns.nested[name]
    return columns


Path = tuple[str, ...]


def _count(record: dict[str, Any], above: Path, kinds: dict[Path, Counter[str]]) -> None:
    """Count the kinds of all values of an object by path, an object before what is in it."""
    for name, value in record.items():
        if above and "." in name:
            continue  # no path leads there
        counts = kinds.setdefault((*above, name), Counter())
        if value is not None:
            counts[_kind_of(value)] += 1
        if isinstance(value, dict):
            _count(value, (*above, name), kinds)


def _kind_of(value: Any) -> str:
    """Name the kind of a value, of a list that of its items."""
    if isinstance(value, bool | float | str):
        return type(value).__name__
    if isinstance(value, int):
        return "below zero" if -(2**63) <= value < 0 else _SIZES[bisect.bisect(_BOUNDS, value)]
    if isinstance(value, dict):
        return "object"
    items = Counter(_kind_of(item) for item in value if item is not None)
    if any(kind == "object" or kind.startswith("list") for kind in items):
        return "json"
    kinds = _without_sizes(items)
    return f"list of {kinds.popitem()[0]}" if len(kinds) == 1 else "list"


_WHOLE = frozenset({"below zero", "int", "above 2^63", "too large"})
_BOUNDS, _SIZES = (0, 2**63, 2**64), ("too large", "int", "above 2^63", "too large")


def _most(counts: Counter[str]) -> str:
    """Return the kind of most values; none if there are none."""
    counts = _without_sizes(counts)
    for one, other in (("uint", "int"), ("float", "uint"), ("float", "int")):
        if f"list of {one}" in counts:
            counts[f"list of {one}"] += counts.pop(f"list of {other}", 0)
    if counts["list"] and len(counts) > 1:
        del counts["list"]  # empty ones go with the others
    return max(counts, key=counts.__getitem__, default="null")


def _without_sizes(counts: Counter[str]) -> Counter[str]:
    """Return counts with one kind for all numbers, that holds each of them."""
    sizes = counts.keys() & {*_WHOLE, "float"}
    least = _RARE * sum(counts[size] for size in sizes)
    usual = {size for size in sizes if counts[size] > least}
    if "float" in sizes:
        one = "float"
    elif "too large" in usual or usual >= {"below zero", "above 2^63"}:
        one = "str"
    else:
        one = "uint" if "above 2^63" in usual else "int"
    merged: Counter[str] = Counter()
    for kind, count in counts.items():
        merged[one if kind in sizes else kind] += count
    return merged


def _type_of(kind: str) -> pa.DataType:
    if kind == "list":
        return pa.list_(pa.string())
    if kind.startswith("list of "):
        return pa.list_(_type_of(kind.removeprefix("list of ")))
    return _TYPES.get(kind, JSON)


_TYPES = {
    "bool": pa.bool_(),
    "int": pa.int64(),
    "uint": pa.uint64(),
    "float": pa.float64(),
    "str": pa.string(),
    "null": pa.null(),
}
