"""Names of features: what a hash cannot tell, told by the rows that it was made from."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headrace.learners.features import Features, NumericForm
from headrace.schemas.records.hashing import Int64s

INTERCEPT = "intercept"


@dataclass(frozen=True)
class _Texts:
    """Values of n rows as text: of each row any number of them.

    Parameters
    ----------
    texts
        Those of all rows, null for a null.
    counts
        How many each row has, int64, shape (n,).
    """

    texts: pa.Array
    counts: Int64s


def feature_names(features: Features, batch: pa.RecordBatch) -> pa.Array:
    """Return the name of each feature, in the order of `FeatureEncoder.encode`.

    Parameters
    ----------
    features
        The columns that become features.
    batch
        The rows, n of them.

    Returns
    -------
    pyarrow.Array
        Text without nulls, of the length of ``FeatureRows.indices``: ``site=a``, of a null
        ``site is null``, of several columns ``site*hour=a*7``; of a number ``price``, or the
        bucket that it is in, ``price in [10, 20)``, ``price < 10`` or ``price >= 20``.

    Examples
    --------
    >>> batch = pa.RecordBatch.from_pydict({"site": ["a", None], "price": [2.5, 12.0]})
    >>> feature_names(Features(("site",), numeric={"price": (10.0,)}), batch).to_pylist()
    ['intercept', 'site=a', 'price < 10', 'intercept', 'site is null', 'price >= 10']
    """
    rows = batch.num_rows
    separators = {multi.column: multi.separator for multi in features.multi_valued}
    of_lists = _crosses_of_lists(features, batch.schema)
    parts = [_one_each(pa.repeat(pa.scalar(INTERCEPT), rows))]
    for name in features.categorical:
        parts.append(_one_each(_named(name, _values(batch.column(name)))))
    parts += [_crossed(batch, columns, {}) for columns in features.crosses
              if columns not in of_lists]  # fmt: skip
    for name, form in features.numeric.items():
        parts.append(_one_each(_number_names(name, batch.column(name), form)))
    for multi in features.multi_valued:
        items = _items(batch.column(multi.column), multi.separator)
        parts.append(_Texts(_named(multi.column, items.texts), items.counts))
    parts += [_crossed(batch, columns, separators) for columns in of_lists]
    return _interleaved(parts, rows)


def field_names(features: Features, schema: pa.Schema) -> list[str]:
    """Return which column or cross each number of `FeatureRows.fields` stands for."""
    of_lists = _crosses_of_lists(features, schema)
    crosses = ["*".join(columns) for columns in features.crosses if columns not in of_lists]
    lists = [multi.column for multi in features.multi_valued]
    lists += ["*".join(columns) for columns in of_lists]
    return [INTERCEPT, *features.categorical, *crosses, *features.numeric, *lists]


def _crosses_of_lists(features: Features, schema: pa.Schema) -> list[tuple[str, ...]]:
    separators = {multi.column for multi in features.multi_valued}
    return [
        columns for columns in features.crosses
        if any(name in separators or _is_list(schema.field(name).type) for name in columns)
    ]  # fmt: skip


def _interleaved(parts: list[_Texts], rows: int) -> pa.Array:
    """Return the texts of all parts, row after row."""
    counts = np.stack([part.counts for part in parts], axis=1)
    row = np.concatenate([np.repeat(np.arange(rows), part.counts) for part in parts])
    # Stable: within a row parts stay in their order.
    order = np.argsort(row, kind="stable")
    assert order.size == counts.sum()
    return pa.concat_arrays([part.texts for part in parts]).take(pa.array(order))


def _one_each(texts: pa.Array) -> _Texts:
    return _Texts(texts, np.ones(len(texts), np.int64))


def _named(name: str, values: pa.Array) -> pa.Array:
    named = pc.binary_join_element_wise(pa.scalar(name), values, "=")
    return pc.fill_null(named, f"{name} is null")


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind)


def _values(column: pa.Array) -> pa.Array:
    """Return values as text; bytes as hexadecimal digits."""
    if pa.types.is_binary(column.type):
        texts = (None if value is None else "0x" + value.hex() for value in column.to_pylist())
        return pa.array(texts, pa.string())
    if pa.types.is_duration(column.type):
        return column.cast(pa.int64()).cast(pa.string())
    return column.cast(pa.string())


def _items(column: pa.Array, separator: str) -> _Texts:
    """Return the items of each row, a null list as one null."""
    if not _is_list(column.type):
        column = pc.split_pattern(column.cast(pa.string()), pattern=separator)
    missing = column.is_null().to_numpy(zero_copy_only=False)
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy().astype(np.int64)
    texts = _values(column.flatten())
    # Where a list is null the place after the items before it gets a null.
    places = np.insert(np.arange(len(texts)), np.cumsum(lengths)[missing], -1)
    return _Texts(texts.take(pa.array(places, mask=places < 0)), lengths + missing)


def _crossed(batch: pa.RecordBatch, columns: tuple[str, ...], separators: dict[str, str]) -> _Texts:
    """Return the names of a cross: of lists each combination, the last column fastest."""
    found = _one_each(pa.repeat(pa.scalar(""), batch.num_rows))
    for at, name in enumerate(columns):
        column = batch.column(name)
        if name in separators or _is_list(column.type):
            items = _items(column, separators.get(name, ""))
        else:
            items = _one_each(_values(column))
        row = np.repeat(np.arange(batch.num_rows), found.counts)
        each = items.counts[row]  # how many items each text so far is joined with
        first = (np.cumsum(items.counts) - items.counts)[row]
        within = np.arange(each.sum()) - np.repeat(np.cumsum(each) - each, each)
        before = found.texts.take(pa.array(np.repeat(np.arange(each.size), each)))
        value = pc.fill_null(items.texts.take(pa.array(np.repeat(first, each) + within)), "null")
        texts = pc.binary_join_element_wise(before, value, "*" if at else "")
        found = _Texts(texts, found.counts * items.counts)
    return _Texts(_named("*".join(columns), found.texts), found.counts)


def _number_names(name: str, column: pa.Array, form: NumericForm) -> pa.Array:
    numbers = pc.fill_null(column.cast(pa.float64(), safe=False), np.nan)
    values = numbers.to_numpy(zero_copy_only=False)
    names, which = [name], np.zeros(values.size, np.int64)
    if isinstance(form, tuple):
        edges = [repr(edge).removesuffix(".0") for edge in form]
        inner = [f"{name} in [{low}, {high})" for low, high in itertools.pairwise(edges)]
        names = [f"{name} < {edges[0]}", *inner, f"{name} >= {edges[-1]}"]
        which = np.searchsorted(np.asarray(form), values, side="right")
    names.append(f"{name} is null")  # as is what is not finite
    return pa.array(names).take(pa.array(np.where(np.isfinite(values), which, len(names) - 1)))
