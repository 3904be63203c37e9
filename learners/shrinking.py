"""Making a model small: its weights alone, of 16 bits each.

References
----------
.. [1] McMahan et al., Ad Click Prediction: a View from the Trenches, KDD 2013, section 4.2.
"""

from __future__ import annotations

import math

import numpy as np

from headrace.learners.exact import ExactLearner
from headrace.learners.learner import Floats, Learner
from headrace.learners.models.ftrl import FtrlModel
from headrace.learners.models.probit import ProbitModel
from headrace.learners.models.sgd import SgdModel
from headrace.learners.models.small import Int16s, SmallModel
from headrace.learners.weights import Indices, touched_weights
from headrace.schemas.records.hashing import fmix64

_BITS = 15
"""How many a magnitude has; the sixteenth is its sign."""

_SEED = np.uint64(0xD6E8FEB86659FD93)


def small(learner: Learner) -> SmallModel:
    """Return the weights of a learner, each rounded to 16 bits at random [1]_.

    The paper's numbers are of one form, q2.13, and clipped at 4. Here the greatest magnitude says
    how many bits a fraction has, so that nothing is clipped. A weight is rounded up with the
    probability of what is above the number below it, so that on average it is itself; how,
    depends on its index alone.

    Raises
    ------
    ValueError
        If the learner is not FTRL, SGD or the probit; after ``;`` is a hint.
    """
    model = learner.model if isinstance(learner, ExactLearner) else learner
    if isinstance(model, SmallModel):
        raise ValueError("is small already; copy its folder")
    if not isinstance(model, FtrlModel | ProbitModel | SgdModel):
        raise ValueError("has more than a weight for each feature; export ftrl, sgd or probit")
    parts = list(touched_weights(learner))
    index = np.concatenate([np.empty(0, np.uint32), *(part for part, _ in parts)])
    weights = np.concatenate([np.empty(0), *(part for _, part in parts)])
    _, integer_bits = math.frexp(np.abs(weights).max(initial=0.0))
    found = SmallModel(learner.parameters, learner.bits, _BITS - integer_bits)
    rounded = _rounded(np.ldexp(weights, found.fraction_bits), index)
    kept = rounded != 0
    name, kind = ("code", np.uint64) if found.is_exact else ("index", np.uint32)
    order = np.argsort(index[kept], kind="stable")
    found.restore({name: index[kept][order].astype(kind), "weight": rounded[kept][order]})
    return found


def _rounded(numbers: Floats, index: Indices) -> Int16s:
    """Round numbers of magnitudes up to 2^15 at random, by their indices."""
    hashes = fmix64.py_func(index.astype(np.uint64) ^ _SEED)
    rounded = np.floor(numbers + np.ldexp((hashes >> np.uint64(11)).astype(np.float64), -53))
    most = np.iinfo(np.int16)
    return np.clip(rounded, most.min, most.max).astype(np.int16)
