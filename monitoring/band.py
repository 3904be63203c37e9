"""Which band a guard needs: how far labels are from what is predicted while nothing is wrong."""

from __future__ import annotations

import numpy as np

from headrace.monitoring.statistics import Floats

BANDS = (1.25, 1.5, 2.0, 3.0)
"""Those among which one is suggested."""

_DEVIATIONS = 4.0
_LEAST = 20.0


def deviation_of(positives: Floats, expected: Floats) -> float:
    """Return the standard deviation of log(positives / expected) beyond that of counts.

    Counts alone deviate by about 1 / sqrt(expected); what remains is that of the model.

    Parameters
    ----------
    positives, expected
        Of windows, shape (n,); those of fewer than 20 expected positives say too little.

    Returns
    -------
    float
        NaN if fewer than two windows have enough.

    Examples
    --------
    >>> deviation_of(np.array([900.0, 1000.0, 1100.0]), np.full(3, 1000.0)).__round__(3)
    0.095
    """
    enough = expected >= _LEAST
    if np.count_nonzero(enough) < 2:
        return float("nan")
    k, n = positives[enough], expected[enough]
    # Half a positive more, so that none has a logarithm.
    spread = float(np.var(np.log((k + 0.5) / (n + 0.5)), ddof=1))
    return float(np.sqrt(max(spread - float(np.mean(1.0 / n)), 0.0)))


def suggested_band(deviation: float) -> float:
    """Return the narrowest band beyond four times a deviation, the widest if none is.

    Examples
    --------
    >>> suggested_band(0.1)
    1.5
    >>> suggested_band(0.15)
    2.0
    """
    needed = np.exp(_DEVIATIONS * deviation)
    return next((band for band in BANDS if band >= needed), BANDS[-1])
