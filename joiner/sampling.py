"""Negative downsampling: deterministic by key, with the weights that undo it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from schemas.hashing import UInt64s, keep_below

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class SamplingPlan:
    """Which negatives are kept, and what weight they get.

    Parameters
    ----------
    rate
        Probability that a negative unit is kept, in (0, 1].
    column, rates
        An impression column whose values (as text) have rates of their own.
    by_group
        The unit is the group; it is positive if any member near in time is.
    weighted
        Kept negatives weigh ``1 / rate`` (correction ``weight``); else all weigh 1.
    seed
        Another seed is an independent choice.
    """

    rate: float = 1.0
    column: str | None = None
    rates: dict[str, float] = field(default_factory=dict)
    by_group: bool = False
    weighted: bool = True
    seed: int = 0

    @property
    def keeps_all(self) -> bool:
        """Whether nothing is ever dropped."""
        return self.rate == 1.0 and all(rate == 1.0 for rate in self.rates.values())

    def negative_rates(self, batch: pa.RecordBatch) -> Floats:
        """Return the negative rate of each row's stratum, float64, shape (n,)."""
        if self.column is None:
            return np.full(batch.num_rows, self.rate)
        values = batch.column(self.column).cast(pa.string())
        where = pc.index_in(values, pa.array(list(self.rates), pa.string()))
        table = np.array([*self.rates.values(), self.rate])
        return table[pc.fill_null(where, len(self.rates)).to_numpy()]

    def select(self, unit: UInt64s, positive: Bools, rates: Floats) -> tuple[Bools, Floats]:
        """Choose the rows to keep.

        Parameters
        ----------
        unit
            First half of the digest of each row's unit (key or group), shape (n,).
        positive
            Whether the row's unit holds a positive, shape (n,).
        rates
            Each row's negative rate, shape (n,).

        Returns
        -------
        kept
            bool, shape (n,).
        inclusion
            Probability with which a row like this one is kept, shape (n,): 1 in
            a positive unit, the negative rate in a negative one. The Horvitz
            and Thompson (1952) weight is its inverse.
        """
        if self.keeps_all:
            return np.ones(unit.size, np.bool_), np.ones(unit.size)
        kept = positive | keep_below(unit, self.seed, rates)
        return kept, np.where(positive, 1.0, rates)
