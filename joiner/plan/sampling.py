"""Negative downsampling: deterministic by key, with the weights that undo it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from headrace.schemas.config.predicates import Predicate
from headrace.schemas.records.hashing import Bools, UInt64s, uniform

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Strata:
    """What of rows decides how likely they are kept.

    Parameters
    ----------
    rates
        Probability that a negative unit like the row's is kept, float64, shape (n,).
    safe
        Whether the row is kept anyway, bool, shape (n,).
    """

    rates: Floats
    safe: Bools


@dataclass(frozen=True)
class Selection:
    """Which rows are kept.

    Parameters
    ----------
    kept
        bool, shape (n,).
    inclusion
        Probability with which a row like this one is kept, shape (n,): 1 in a
        positive unit, the negative rate in a negative one. The Horvitz and
        Thompson (1952) weight is its inverse.
    rates
        Negative rate of each row's stratum, shape (n,).
    published
        Weights under further rates, by name, each of shape (n,).
    """

    kept: Bools
    inclusion: Floats
    rates: Floats
    published: dict[str, Floats]

    def part(self, rows: Bools | slice) -> Selection:
        """Return what it says of some rows."""
        published = {name: weight[rows] for name, weight in self.published.items()}
        return Selection(self.kept[rows], self.inclusion[rows], self.rates[rows], published)


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
    keep
        Rows that meet it are never dropped, nor is their unit.
    published
        Further rates, by name: each sample says what it would weigh under them, 0
        if it were dropped.
    weighted
        Kept negatives weigh ``1 / rate`` (correction ``weight``); else all weigh 1.
    seed
        Another seed is an independent choice.
    """

    rate: float = 1.0
    column: str | None = None
    rates: dict[str, float] = field(default_factory=dict)
    keep: Predicate | None = None
    published: dict[str, float] = field(default_factory=dict)
    by_group: bool = False
    weighted: bool = True
    seed: int = 0

    @property
    def keeps_all(self) -> bool:
        """Whether nothing is ever dropped, and nothing to be published of it."""
        everything = self.rate == 1.0 and all(rate == 1.0 for rate in self.rates.values())
        return everything and not self.published

    @property
    def columns(self) -> tuple[str, ...]:
        """Impression columns that decide about a row, each once."""
        by_rate = () if self.column is None else (self.column,)
        by_keep = () if self.keep is None else self.keep.columns
        return tuple(dict.fromkeys((*by_rate, *by_keep)))

    def strata(self, batch: pa.RecordBatch) -> Strata:
        """Return what is known of rows before their labels."""
        rates = np.full(batch.num_rows, self.rate)
        if self.column is not None:
            values = batch.column(self.column).cast(pa.string())
            where = pc.index_in(values, pa.array(list(self.rates), pa.string()))
            table = np.array([*self.rates.values(), self.rate])
            rates = table[pc.fill_null(where, len(self.rates)).to_numpy()]
        if self.keep is None:
            return Strata(rates, np.zeros(batch.num_rows, np.bool_))
        safe = self.keep.evaluate(batch)
        return Strata(np.where(safe, 1.0, rates), safe)

    def select(self, unit: UInt64s, positive: Bools, strata: Strata) -> Selection:
        """Choose the rows to keep.

        Parameters
        ----------
        unit
            First half of the digest of each row's unit (key or group), shape (n,).
        positive
            Whether the row's unit holds a positive, or a row that is kept anyway,
            shape (n,).
        strata
            From `strata`.
        """
        if self.keeps_all:
            one = np.ones(unit.size)
            return Selection(np.ones(unit.size, np.bool_), one, strata.rates, {})
        draw = uniform(unit, self.seed)
        safe = positive | strata.safe
        kept = safe | (draw < strata.rates)
        published = {}
        for name, rate in self.published.items():
            lower = np.minimum(rate, strata.rates)
            published[name] = np.where(safe, 1.0, np.where(draw < lower, 1.0 / lower, 0.0))
        return Selection(kept, np.where(safe, 1.0, strata.rates), strata.rates, published)
