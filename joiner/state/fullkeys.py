"""Whether actions have the keys of the impressions that they were found to meet by digest.

Without a secret anybody can look for two keys of one digest. Where the columns of both are at
hand, the keys themselves are compared, and an action of another key has met nothing.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from headrace.joiner.state.actions import PendingActions
from headrace.joiner.state.settling import SettlingRows
from headrace.schemas.records.hashing import Bools, Int64s
from headrace.schemas.records.samevalues import same_values


def same_keys(
    impressions: pa.RecordBatch, key: tuple[str, ...], actions: PendingActions, entry: Int64s
) -> Bools:
    """Tell which actions have the key of their impression.

    Parameters
    ----------
    impressions
        The impression of each, with at least the columns of the key, shape (n, ...).
    key
        Columns of their key; actions have theirs as their first columns, in the same order.
    actions, entry
        Where the actions are, and which; shape (n,).

    Returns
    -------
    array
        bool, shape (n,).
    """
    same = np.ones(entry.size, np.bool_)
    stream = actions.stream[entry]
    for number in np.unique(stream):
        # The keys of one stream have the same types, of two streams perhaps not.
        chosen = np.flatnonzero(stream == number)
        columns, order = actions.first_columns(entry[chosen], len(key))
        chosen = chosen[order]
        shown = impressions
        if chosen.size < impressions.num_rows or (chosen[1:] < chosen[:-1]).any():
            shown = impressions.select(list(key)).take(pa.array(chosen))
        for name, column in zip(key, columns, strict=True):
            same[chosen] &= same_values(shown.column(name), column)
    return same


def settling_keys(rows: SettlingRows, chosen: Int64s, key: tuple[str, ...]) -> pa.RecordBatch:
    """Return the columns of the key of some rows, which may be named more than once.

    Parameters
    ----------
    rows
        Rows that settle.
    chosen
        Their numbers, ascending, shape (n,).
    key
        Names of the columns.
    """
    once, place = np.unique(chosen, return_inverse=True)
    whole = pa.concat_batches(rows.take(once, key))
    return whole if once.size == chosen.size else whole.take(pa.array(place))
