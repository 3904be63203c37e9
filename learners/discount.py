"""The weight of a negative that may still become positive, from what is predicted of it.

While actions are delayed some negatives are false. Learned with the share of the true ones as
its weight, a negative has the right effect on average (importance sampling [1]_ [2]_). That
share follows from the prediction just before the row is learned, so only the loop that learns
can compute it.

.. [1] Ktena et al. 2019, Addressing delayed feedback for continuous training with neural
   networks in CTR prediction, section 3.2 (FNW).
.. [2] Gu et al. 2021, Real negatives matter: continuous training with real negatives for delayed
   feedback modeling (DEFER), section 4.
"""

from __future__ import annotations

import numba as nb
import numpy as np

NONE = np.empty(0)
"""For rows whose labels are as they are."""


@nb.njit(inline="always")
def weight_of(at, label, importance, discount, margin):
    """Return the weight of the row at a place in the order, see `Learner.learn`."""
    if discount.size and label[at] == 0:
        return importance[at] / (1.0 + np.exp(margin + discount[at]))
    return importance[at]
