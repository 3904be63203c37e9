"""Learning from labels that may still change: corrections for delayed actions.

With an early emission an impression leaves before its label is final, and again when an action
comes, so that what is learned has more negatives than are true. Each correction undoes this for
one emission; all are in a form that counts: on average every impression weighs the same. With p
the rate inside the window and d the probability that an action comes after the first emission:

============== ======================= ==========================================================
emission       correction              learned
============== ======================= ==========================================================
immediate      ``fnw`` [1]_            a positive weighs 1, a negative 1 - p
immediate      ``fnc`` [1]_            as they are; then p = b / (1 - b) of what is predicted, b
elapsed        ``es-dfm`` [2]_         a positive weighs 1, a negative 1 - g / (1 - g), where g is
                                       the probability that a row is the later positive, among
                                       first negatives and later positives
window and     ``defer`` [3]_          a positive weighs 2, a negative 2 (1 - p) / (2 (1 - p) + d),
immediate                              where d = p: every action comes after the first emission
============== ======================= ==========================================================

References
----------
.. [1] Ktena et al. 2019, Addressing delayed feedback for continuous training with neural
   networks in CTR prediction, section 3.2.
.. [2] Yang et al. 2021, Capturing delayed feedback in conversion rate prediction via
   elapsed-time sampling (ES-DFM), section 3. It learns d and p / (p + d) from labels that are
   final, which this emission never has; g / (1 - g) is the same ratio.
.. [3] Gu et al. 2021, Real negatives matter (DEFER), section 4. Its weights are for positives
   that are repeated inside the window too; here they are not.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from headrace.learners.discount import NONE
from headrace.learners.learner import Floats

Delay = Literal["fnw", "fnc", "es-dfm", "defer"]

_MOST = math.log1p(-(2.0**-20))
"""Greatest logarithm of a probability that `fnc` predicts: the ratio may exceed 1."""


def positive_weight(delay: Delay | None) -> float:
    """Return what a positive weighs."""
    return 2.0 if delay == "defer" else 1.0


def discount_of(delay: Delay | None, shift: Floats) -> Floats:
    """Return the discount of negatives, see `headrace.learners.learner.Learner.learn`.

    Parameters
    ----------
    delay
        The correction.
    shift
        What is added to the learner's log-odds to make them those of the whole log, shape (m,).
    """
    if delay == "fnw":
        return shift
    if delay == "defer":
        # 2 (1 - p) / (2 (1 - p) + p) = 1 / (1 + odds / 2)
        return shift - math.log(2.0)
    return NONE


def true_share(later: Floats) -> Floats:
    """Return the weight of negatives under ``es-dfm``, from the log-odds of g, shape (m,)."""
    with np.errstate(over="ignore"):
        share: Floats = np.clip(1.0 - np.exp(later), 0.0, 1.0)
    return share


def corrected(delay: Delay | None, margin: Floats) -> Floats:
    """Return the log-odds to predict, from those learned and made those of the whole log.

    With ``fnc`` the odds that were learned are the probability: its logarithm, at most that of
    1 - 2^-20, becomes log-odds. An offset is then added to the logarithm of the probability.
    """
    if delay != "fnc":
        return margin
    log_p = np.minimum(margin, _MOST)
    found: Floats = log_p - np.log(-np.expm1(log_p))
    return found
