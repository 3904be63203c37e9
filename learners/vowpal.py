"""Rows as text that Vowpal Wabbit learns from."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headrace.learners.features import FeatureEncoder
from headrace.learners.learner import Floats
from headrace.learners.naming import feature_names, field_names

_ESCAPED = "%|: \t\r\n"
"""Characters that end a name, and the one that marks them. Vowpal Wabbit has no escapes."""


def vowpal_lines(
    encoder: FeatureEncoder,
    batch: pa.RecordBatch,
    label: pa.Array | None = None,
    importance: Floats | None = None,
    base: Floats | None = None,
) -> pa.Array:
    r"""Return each row as a line of Vowpal Wabbit's text format, without its line end.

    Columns and crosses are namespaces; features have the names of `feature_names`, in which
    ``%``, ``|``, ``:`` and blanks are escaped as in URIs. There is no intercept: Vowpal Wabbit
    adds its own. Values are those that a learner gets, transformed and clipped.

    Parameters
    ----------
    encoder
        The features.
    batch
        The rows, n of them.
    label
        Booleans, shape (n,): true becomes 1 and false -1. A row without one has none.
    importance, base
        Weight of each row, and what is added to its log-odds, each float64, shape (n,), finite;
        None leaves them out.

    Examples
    --------
    >>> from headrace.learners.features import Features
    >>> encoder = FeatureEncoder(Features(("site",), numeric={"price": "linear"}), bits=10)
    >>> batch = pa.RecordBatch.from_pydict({"site": ["a b", "c"], "price": [2.5, 1.0]})
    >>> vowpal_lines(encoder, batch, pa.array([True, None]), np.array([2.0, 1.0])).to_pylist()
    ['1 2 |site site=a%20b |price price:2.5', '|site site=c |price price']
    """
    rows = encoder.encode(batch)
    count, starts = rows.starts.size - 1, rows.starts
    fields = rows.fields()
    names = _escaped(feature_names(encoder.features, batch))
    if rows.values.size:
        texts = pa.array(rows.values).cast(pa.string())
        valued = pc.binary_join_element_wise(names, texts, ":")
        names = pc.if_else(pa.array(rows.values == 1), names, valued)
    # The first feature of a column in a row opens its namespace.
    opens = np.ones(fields.size, np.bool_)
    opens[1:] = fields[1:] != fields[:-1]
    opens[starts[:-1]] = True
    spaces = _escaped(pa.array(field_names(encoder.features, batch.schema)))
    opened = pc.binary_join_element_wise(pa.scalar("|"), spaces.take(pa.array(fields)), "")
    texts = pc.if_else(pa.array(opens), pc.binary_join_element_wise(opened, names, " "), names)
    kept = np.ones(fields.size, np.bool_)
    kept[starts[:-1]] = False  # the intercept
    offsets = (starts - np.arange(count + 1)).astype(np.int32)
    lists = pa.ListArray.from_arrays(pa.array(offsets), texts.filter(pa.array(kept)))
    lines = pc.binary_join(lists, " ")
    head = _head(count, label, importance, base)
    return lines if head is None else pc.binary_join_element_wise(head, lines, "")


def _head(
    count: int, label: pa.Array | None, importance: Floats | None, base: Floats | None
) -> pa.Array | None:
    """Return what stands before the namespaces: nothing without a label."""
    if label is None:
        return None
    parts = [pc.if_else(label, "1", "-1")]
    if importance is not None or base is not None:
        parts.append(_plain(np.ones(count) if importance is None else importance))
    if base is not None:
        parts.append(_plain(base))
    head = pc.binary_join_element_wise(*parts, pa.scalar(""), " ")
    return pc.fill_null(head, "")


def _plain(numbers: Floats) -> pa.Array:
    return pa.array(numbers).cast(pa.string())


def _escaped(texts: pa.Array) -> pa.Array:
    for character in _ESCAPED:
        texts = pc.replace_substring(texts, character, f"%{ord(character):02X}")
    return texts
