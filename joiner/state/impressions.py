"""What identifies impressions, beside their columns."""

from __future__ import annotations

from typing import NamedTuple

import pyarrow as pa

from headrace.joiner.plan.rules import known_times
from headrace.schemas.records.events import KEY0, KEY1, TIME
from headrace.schemas.records.hashing import Bools, Int64s, UInt64s


class Impressions(NamedTuple):
    """Impressions by key and time; each column of shape (n,).

    Parameters
    ----------
    key0, key1
        The two halves of the key's digest.
    time
        Event time, microseconds.
    known
        When the impression is known, microseconds.
    """

    key0: UInt64s
    key1: UInt64s
    time: Int64s
    known: Int64s

    @classmethod
    def of(cls, batch: pa.RecordBatch) -> Impressions:
        """Return those of a batch of impressions."""
        key0, key1, time = (batch.column(name).to_numpy() for name in (KEY0, KEY1, TIME))
        return cls(key0, key1, time, known_times(batch))

    def select(self, rows: Bools | Int64s) -> Impressions:
        """Return some of them."""
        return Impressions(self.key0[rows], self.key1[rows], self.time[rows], self.known[rows])
