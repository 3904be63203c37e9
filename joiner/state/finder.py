"""Where kept impressions are: in the queue before they settle, then retained."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from headrace.joiner.journal.shardjournal import ShardJournal
from headrace.joiner.state.gathered import Gathered
from headrace.joiner.state.hashqueue import HashQueue
from headrace.joiner.state.impressions import Impressions
from headrace.joiner.state.retained import Retained


def find_kept(
    wanted: Impressions,
    settled_until: int,
    queue: HashQueue,
    retained: Retained,
    journal: ShardJournal,
    found_in: dict[str, int],
) -> pa.RecordBatch:
    """Return all columns of kept impressions, a row each; all of them must be there.

    Of copies that are equal in key, event time and when they were known the one with
    the smallest (source, offset) is kept.

    Parameters
    ----------
    wanted
        Which; shape (n,).
    settled_until
        Event times up to and including this one have settled.
    queue, retained
        Those that wait to settle, and those that have.
    journal
        Has the rows for which the queue has no room.
    found_in
        Counts how many were found in ``memory`` and how many in the ``journal``.
    """
    gathered = Gathered(wanted)
    settled = wanted.time <= settled_until
    if settled.any():
        _count(found_in, "memory", retained.find(gathered, settled))
    segments = queue.overlapping(wanted.time[~settled])
    batches, read_back = queue.look_up(segments, journal)
    waiting = np.flatnonzero(~settled)
    for segment in segments:
        place = "journal" if segment.name in read_back else "memory"
        # Also what has been found: a merged segment may have the first of equal copies.
        found = gathered.take_from(
            batches[segment.name], waiting, has_copies=True, source=segment.name[0]
        )
        _count(found_in, place, found)
    return gathered.rows()


def _count(found_in: dict[str, int], place: str, found: int) -> None:
    """Count what was found in a place; one in which nothing was is not named."""
    if found:
        found_in[place] = found_in.get(place, 0) + found
