"""Which impressions are predicted when a server would have predicted them, for scoring later."""

from __future__ import annotations

from dataclasses import dataclass

from headrace.schemas.records.hashing import Bools, UInt64s, uniform

_OWN_DRAW = 0x536572766564
"""Keeps the draw independent of the choice of negatives, which may have the same seed."""


@dataclass(frozen=True)
class ServedPlan:
    """A sample of keys, whose impressions leave when they are known, and again when settled.

    Parameters
    ----------
    share
        Probability that a key is of the sample, in [0, 1]; whatever its label, and whether or
        not negative downsampling drops it.
    columns
        Impression columns that the learners predict from.
    labelled
        Columns of a sample by which what was predicted is scored.
    seed
        Another seed is an independent choice.
    step
        Actions that become known are counted by steps of this length, microseconds; 0 for not.
    """

    share: float = 0.0
    columns: tuple[str, ...] = ()
    labelled: tuple[str, ...] = ()
    seed: int = 0
    step: int = 0

    def chosen(self, key0: UInt64s) -> Bools:
        """Return which keys, by the first half of their digest, are of the sample; shape (n,)."""
        chosen: Bools = uniform(key0, self.seed ^ _OWN_DRAW) < self.share
        return chosen
