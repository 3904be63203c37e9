"""Whether actions have the keys of the impressions that they were found to meet by digest.

Without a secret anybody can look for two keys of one digest. Where the columns of both are at
hand, the keys themselves are compared, and an action of another key has met nothing.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from headrace.joiner.state.actions import PendingActions
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
    for rows, columns in actions.first_columns(entry, len(key)):
        at = pa.array(rows)
        for name, column in zip(key, columns, strict=True):
            same[rows] &= same_values(impressions.column(name).take(at), column)
    return same
