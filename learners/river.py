"""FTRL-Proximal with river's interface: features as a dictionary, one sample at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from river import base

from headrace.learners.features import FeatureRows
from headrace.learners.models.ftrl import FtrlModel, FtrlParameters
from headrace.schemas.records.hashing import hash_bytes


class FTRLProximalClassifier(base.Classifier):
    """Logistic regression by FTRL-Proximal over hashed features.

    A number is a feature with that value; text, a boolean or anything else is
    a feature of its own for each value. A constant feature carries the
    intercept.

    Parameters
    ----------
    alpha, beta, l1, l2
        Parameters of Algorithm 1 in [1]_.
    bits
        Size of the table, ``2^bits`` coordinates.

    Examples
    --------
    >>> model = FTRLProximalClassifier(l1=0.0, bits=10)
    >>> for _ in range(100):
    ...     model.learn_one({"device": "phone"}, True)
    ...     model.learn_one({"device": "desktop"}, False)
    >>> model.predict_one({"device": "phone"}), model.predict_one({"device": "desktop"})
    (True, False)

    References
    ----------
    .. [1] McMahan et al., Ad Click Prediction: a View from the Trenches, KDD 2013.
    """

    def __init__(
        self,
        alpha: float = 0.1,
        beta: float = 1.0,
        l1: float = 1.0,
        l2: float = 1.0,
        bits: int = 18,
    ) -> None:
        self.alpha = alpha
        self.beta = beta
        self.l1 = l1
        self.l2 = l2
        self.bits = bits
        self._model = FtrlModel(FtrlParameters(alpha=alpha, beta=beta, l1=l1, l2=l2), bits)

    @classmethod
    def _unit_test_params(cls) -> Iterator[dict[str, Any]]:
        yield {"l1": 0.0, "bits": 12}

    @property
    def _multiclass(self) -> bool:
        return False

    def learn_one(self, x: dict[Any, Any], y: Any, w: float = 1.0) -> None:
        """Learn one sample.

        Parameters
        ----------
        x
            Features by name.
        y
            The label, true or false.
        w
            Weight of the gradient.
        """
        self._model.learn(
            self._encode(x),
            np.zeros(1, np.int64),
            np.array([float(bool(y))]),
            np.array([float(w)]),
            np.zeros(1),
        )

    def predict_proba_one(self, x: dict[Any, Any]) -> dict[Any, float]:
        """Return the probabilities of false and true."""
        margin = float(self._model.predict(self._encode(x))[0])
        p = float(1.0 / (1.0 + np.exp(-margin)))
        return {False: 1.0 - p, True: p}

    def _encode(self, x: dict[Any, Any]) -> FeatureRows:
        mask = (1 << self.bits) - 1
        indices = [hash_bytes(b"intercept")[0] & mask]
        values = [1.0]
        for name, value in x.items():
            if isinstance(value, int | float | np.number) and not isinstance(value, bool):
                indices.append(hash_bytes(f"{name}".encode())[0] & mask)
                values.append(float(value))
            else:
                indices.append(hash_bytes(f"{name}={value}".encode())[0] & mask)
                values.append(1.0)
        starts = np.array([0, len(indices)], np.int64)
        return FeatureRows(starts, np.array(indices, np.uint32), np.array(values, np.float32))
