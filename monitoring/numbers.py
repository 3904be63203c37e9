"""Numbers that are none to a learner: identifiers and times."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_FEWEST = 20
"""Fewer numbers than this tell nothing."""
_DISTINCT = 0.9
_LARGE = 1e9
_YEAR_2000, _YEAR_2100 = 946_684_800, 4_102_444_800
_PER_SECOND = {"seconds": 1, "milliseconds": 1e3, "microseconds": 1e6, "nanoseconds": 1e9}


@dataclass(frozen=True)
class Looks:
    """What the numbers of a column look like, in words, and one of them as text."""

    like: str
    example: str


def suspicion(column: pa.Array) -> Looks | None:
    """Return what a column of numbers looks like that is no quantity, None if it may be one.

    A time: all numbers lie in 2000 to 2099 in one unit since 1970. An identifier: whole
    numbers, nine in ten of them different, half of them of a magnitude of more than 1e9.

    Examples
    --------
    >>> suspicion(pa.array(range(1_767_225_600, 1_767_225_700)))
    Looks(like='a time in seconds since 1970', example='1767225600')
    >>> suspicion(pa.array([float(n) for n in range(100)])) is None
    True
    """
    column = column.drop_null()
    kind = column.type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)) or len(column) < _FEWEST:
        return None
    numbers = column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    if not np.isfinite(numbers).all():
        return None
    example = f"{column[0].as_py():.0f}"
    for unit, per_second in _PER_SECOND.items():
        if ((numbers >= _YEAR_2000 * per_second) & (numbers < _YEAR_2100 * per_second)).all():
            return Looks(f"a time in {unit} since 1970", example)
    large = (numbers == np.rint(numbers)).all() and np.median(np.abs(numbers)) > _LARGE
    # Counted in the column itself: binary64 does not tell long identifiers apart.
    if large and pc.count_distinct(column).as_py() >= _DISTINCT * len(column):
        return Looks("an identifier", example)
    return None
