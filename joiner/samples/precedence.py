"""Which of the actions that met an impression came first: of their stream, and of their id.

All actions of a key are put in order at once, so that a key with many costs no more for each.
"""

from __future__ import annotations

import numpy as np

from headrace.joiner.samples.labels import Labels, first_of_id
from headrace.joiner.state.actions import PendingActions
from headrace.schemas.records.events import NEVER
from headrace.schemas.records.hashing import Bools, Int64s


def precedence(entries: Int64s, actions: PendingActions) -> tuple[Bools, Bools]:
    """Tell of actions that have met impressions what was known before them.

    Returns
    -------
    first, repeated
        Whether each is its impression's first action of its stream, and whether an action of
        its stream and id had met the impression; shape (n,).
    """
    key, entry = actions.met_of_keys(entries)
    order = np.lexsort((
        actions.offset[entry], actions.source[entry], actions.time[entry], actions.known(entry),
        actions.stream[entry], actions.met[entry], key,
    ))  # fmt: skip
    key, entry = key[order], entry[order]
    row, stream = _impressions(key, actions.met[entry]), actions.stream[entry]
    first, repeated = np.zeros(actions.count, np.bool_), np.zeros(actions.count, np.bool_)
    begins = np.ones(entry.size, np.bool_)
    begins[1:] = (row[1:] != row[:-1]) | (stream[1:] != stream[:-1])
    first[entry[begins]] = True
    counted = first_of_id(row, stream, actions.id0[entry], actions.id1[entry])
    repeated[entry] = counted != np.arange(entry.size)
    return first[entries], repeated[entries]


def corrected_labels(late: Int64s, actions: PendingActions, streams: int) -> tuple[Labels, Bools]:
    """Give the impressions of late actions the labels that they have with each.

    Of an impression all actions that are not late count, the late ones known before, and itself.

    Parameters
    ----------
    late
        The late actions, shape (n,).
    actions
        Where the entries are.
    streams
        Number of action streams.

    Returns
    -------
    labels, repeated
        The labels, and whether an action of its stream and id had counted, shape (n,).
    """
    key, entry = actions.met_of_keys(late)
    known = np.where(actions.late(entry), actions.known(entry), NEVER)
    place = (actions.offset[entry], actions.source[entry], actions.time[entry])
    # Each counts with those of its impression that are above it.
    order = np.lexsort((*place, known, actions.met[entry], key))
    rank = np.empty(entry.size, np.int64)
    by_rank = entry[at := np.lexsort(place)]
    rank[at] = np.arange(entry.size)
    key, entry, rank = key[order], entry[order], rank[order]
    row, stream = _impressions(key, actions.met[entry]), actions.stream[entry]
    every = np.arange(entry.size)
    counted = first_of_id(row, stream, actions.id0[entry], actions.id1[entry]) == every
    where = np.empty(actions.count, np.int64)
    where[entry] = every
    own = where[late]
    begin = np.searchsorted(row, row[own])
    first = np.full((streams, late.size), -1, np.int64)
    count = np.zeros((streams, late.size), np.int32)
    # Ranks of later impressions are less than all of earlier ones, so that these have no effect.
    none = entry.size
    below = row * (none + 1)
    for number in range(streams):
        of_stream = stream == number
        sums = np.concatenate([[0], np.cumsum(counted & of_stream)])
        count[number] = sums[own + 1] - sums[begin]
        least = np.minimum.accumulate(np.where(of_stream, rank, none) - below)[own] + below[own]
        has = least < none
        first[number, has] = by_rank[least[has]]
    nothing = np.empty(0, np.int64)
    return Labels(first, count, nothing, nothing), ~counted[own]


def _impressions(key: Int64s, met: Int64s) -> Int64s:
    """Return a number for the impression of each action; those of one are together."""
    begins = np.zeros(key.size, np.bool_)
    begins[1:] = (key[1:] != key[:-1]) | (met[1:] != met[:-1])
    return np.cumsum(begins)
