"""What users of generated traffic do beyond the additive model, where that is asked for.

Everything is a fixed function of the columns' values, so that all parts of a log have the same.

References
----------
.. [1] Wang et al. 2016, Learning to rank with selection bias in personal search, section 3: a
   click is examination, which depends on the position alone, and relevance; of positions that
   are random, examination is in proportion to the click rate.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from headrace.learners.learner import Floats, probability
from headrace.schemas.config.durations import DAY, HOUR
from headrace.schemas.records.hashing import Bools, Int64s

THETA = (1.0, 0.6, 0.4, 0.3, 0.2)
"""Probability that each position of a page is examined, from the first on."""

RANDOMISED = 0.1
"""Share of the pages whose positions are random."""

REGIONS = ("north", "east", "south", "centre", "west")
APP_VERSIONS = ("v5.2", "v5.1", "v5.0", "v4.9")

_REGION_SHARES = (0.35, 0.25, 0.2, 0.12, 0.08)
_REGION_EFFECTS = np.array([0.0, 0.2, -0.2, 0.1, -0.1])
_VERSION_SHARES = (0.6, 0.3, 0.08, 0.02)
_VERSION_EFFECTS = np.array([0.1, 0.0, -0.1, -0.2])
_AMPLITUDE = 0.6
"""By how much the rate of impressions rises above its mean, and falls below it, in a day."""
_PEAK = 15 * HOUR
_PAGE = len(THETA)
_USERS, _SITES = 50_000, 200
_SLOWNESS = np.array([0.5, 1.0, 2.0, 4.0])
"""How much longer clicks take, by device."""
_ROWS = 4_096
_KNOTS = np.linspace(0.0, DAY, 1_441)


def pages(count: int) -> Int64s:
    """Return the first impression of the page that each is on, shape (n,); the last may be short.

    Examples
    --------
    >>> pages(7).tolist()
    [0, 0, 0, 0, 0, 5, 5]
    """
    number: Int64s = np.arange(count)
    return number - number % _PAGE


def positions(relevance: Floats, random: np.random.Generator) -> tuple[Int64s, Bools]:
    """Return the positions on pages, and on which pages they are random; each of shape (n,).

    On the others what is more relevant is higher.

    Parameters
    ----------
    relevance
        Probability that an impression is clicked if it is examined, shape (n,).
    random
        Where chance comes from.
    """
    page = pages(relevance.size)
    randomised = (random.random(relevance.size) < RANDOMISED)[page]
    score = np.where(randomised, random.random(relevance.size), relevance)
    position = np.empty(relevance.size, np.int64)
    position[np.lexsort((-score, page))] = np.arange(relevance.size) % _PAGE + 1
    return position, randomised


def examined(position: Int64s) -> Floats:
    """Return the probability that positions are examined, shape (n,)."""
    return np.array(THETA)[position - 1]


def interactions(
    site: npt.NDArray[Any], ad: npt.NDArray[Any], device: npt.NDArray[Any],
    campaign: npt.NDArray[Any],
) -> Floats:  # fmt: skip
    """Return what pairs of values add to the log-odds: site with ad, device with campaign; (n,).

    Those of a site and an ad are products of two latent factors each.
    """
    first = np.sin(site * 1.7 + 0.3) * np.sin(ad * 2.3 + 0.7)
    second = np.cos(site * 5.1 + 0.9) * np.cos(ad * 4.7 + 0.1)
    third: Floats = np.sin(device * 2.1 + 0.4) * np.cos(campaign * 3.3 + 0.2)
    return 0.9 * (first + second) + 0.6 * third


def effect_of_user(user: npt.NDArray[Any]) -> Floats:
    """Return what a user adds to the log-odds, shape (n,); no column shows the user."""
    effect: Floats = np.sin(user * 78.233) * 0.3
    return effect


def site_of(user: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the only site that a user visits, shape (n,)."""
    return user % _SITES


def regions(count: int, random: np.random.Generator) -> tuple[Int64s, Int64s]:
    """Return the number of each impression's region and app version, each of shape (n,)."""
    region = random.choice(len(REGIONS), count, p=_REGION_SHARES)
    return region, random.choice(len(APP_VERSIONS), count, p=_VERSION_SHARES)


def effect_of_region(region: Int64s, version: Int64s) -> Floats:
    """Return what region and app version add to the log-odds, shape (n,)."""
    effect: Floats = _REGION_EFFECTS[region] + _VERSION_EFFECTS[version]
    return effect


def effect_of_hour(hour: Int64s) -> Floats:
    """Return what the hour of the day adds to the log-odds, shape (n,)."""
    effect: Floats = 0.3 * np.cos((hour - 20) * (np.pi / 12))
    return effect


def even_of_daily(elapsed: Floats) -> Floats:
    """Return how long it takes to see as many impressions at a constant rate, shape (n,).

    Parameters
    ----------
    elapsed
        Times since midnight, microseconds, shape (n,), in which the rate has a daily curve.

    Examples
    --------
    >>> (even_of_daily(np.array([0.0, 6, 12, 18, 24]) * HOUR) / HOUR).round(2).tolist()
    [0.0, 2.76, 8.76, 18.0, 24.0]
    """
    turn = 2 * np.pi / DAY
    curve = np.sin((elapsed - _PEAK) * turn) + np.sin(_PEAK * turn)
    even: Floats = elapsed + _AMPLITUDE / turn * curve
    return even


def daily(even: Floats) -> Floats:
    """Turn even times since midnight, microseconds, into such of a daily curve, shape (n,).

    Whole days have the same mean rate.
    """
    day, of_day = np.divmod(even, DAY)
    found: Floats = day * DAY + np.interp(of_day, even_of_daily(_KNOTS), _KNOTS)
    return found


def without_user(rest: Floats, site: npt.NDArray[Any]) -> Floats:
    """Return the mean probability over all users of a site, who are equally many, shape (n,).

    Parameters
    ----------
    rest
        Log-odds without the effect of the user, shape (n,).
    site
        The site, which is all that columns tell of a user, shape (n,).
    """
    # Users of a site are those of equal remainder.
    effects = effect_of_user(np.arange(_USERS)).reshape(-1, _SITES).T
    mean = np.empty(rest.size)
    for begin in range(0, rest.size, _ROWS):
        part = slice(begin, begin + _ROWS)
        mean[part] = probability(rest[part, None] + effects[site[part]]).mean(axis=1)
    return mean


def slowness(device: npt.NDArray[Any]) -> Floats:
    """Return how much longer than others clicks on a device take, shape (n,)."""
    return _SLOWNESS[device]
