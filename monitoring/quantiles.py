"""Quantiles by which intervals are made.

scipy is imported when the first is asked for: that takes a tenth of a second, for which neither
help nor the start of a run need wait.
"""

from __future__ import annotations


def normal_quantile(p: float) -> float:
    """Return the quantile of the standard normal distribution, `p` in (0, 1).

    Examples
    --------
    >>> round(normal_quantile(0.975), 4)
    1.96
    """
    from scipy.special import ndtri

    return float(ndtri(p))


def gamma_quantile(shape: float, p: float) -> float:
    """Return the quantile of the gamma distribution of scale 1, `shape` greater than 0.

    Examples
    --------
    >>> round(gamma_quantile(1.0, 0.5), 4)  # that of an exponential variable: log 2
    0.6931
    """
    from scipy.special import gammaincinv

    return float(gammaincinv(shape, p))


def student_quantile(freedom: float, p: float) -> float:
    """Return the quantile of Student's distribution with `freedom` degrees of freedom.

    Examples
    --------
    >>> round(student_quantile(4, 0.975), 3)
    2.776
    """
    from scipy.special import stdtrit

    return float(stdtrit(freedom, p))
