"""FTRL-Proximal with river's interface: a sample at a time as a dictionary, or tables of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import narwhals as nw
import numpy as np
import numpy.typing as npt
from river import base

from headrace.learners.learner import probability
from headrace.learners.models.ftrl import FtrlModel, FtrlParameters
from headrace.learners.tables import TableEncoder


class FTRLProximalClassifier(base.MiniBatchClassifier):
    """Logistic regression by FTRL-Proximal over hashed features.

    A number is a feature with that value; of text, booleans or anything else each
    value is a feature of its own; None and numbers that are not finite are left out, and
    those beyond ±1e9 are clipped to it. A constant feature carries the intercept. Learning a
    table gives the same bits as learning its rows one by one.

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
        self._encoder = TableEncoder(bits)
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
            self._encoder.encode_one(x),
            np.zeros(1, np.int64),
            np.array([float(bool(y))]),
            np.array([float(w)]),
            np.zeros(1),
        )

    def predict_proba_one(self, x: dict[Any, Any]) -> dict[Any, float]:
        """Return the probabilities of false and true."""
        p = float(probability(self._model.predict(self._encoder.encode_one(x)))[0])
        return {False: 1.0 - p, True: p}

    def learn_many(self, X: Any, y: Any, w: Any = None) -> None:  # noqa: N803
        """Learn the rows of a table, in their order.

        Parameters
        ----------
        X
            A table of pandas, Arrow or polars, one feature per column, shape (n, d).
        y
            Labels, true or false, shape (n,).
        w
            Weights of the gradients, shape (n,); None is 1 for all.
        """
        rows = self._encoder.encode(X)
        count = rows.starts.size - 1
        label = np.asarray(y).astype(bool).astype(np.float64)
        weight = np.ones(count) if w is None else np.asarray(w, np.float64)
        self._model.learn(rows, np.arange(count), label, weight, np.zeros(count))

    def predict_proba_many(self, X: Any) -> Any:  # noqa: N803
        """Return the probabilities of false and true of every row.

        Returns
        -------
        table
            Of the same kind as `X`. In pandas the columns are ``False`` and ``True``, and
            the index is that of `X`; else the columns are ``"False"`` and ``"True"``.
        """
        p = self._probability(X)
        if nw.dependencies.is_pandas_dataframe(X):
            return type(X)({False: 1.0 - p, True: p}, index=X.index)
        table = nw.from_native(X, eager_only=True)
        return nw.from_dict({"False": 1.0 - p, "True": p}, backend=table.implementation).to_native()

    def predict_many(self, X: Any) -> Any:  # noqa: N803
        """Return whether each label is probably true (p > 0.5), as a column of `X`'s kind."""
        likely = self._probability(X) > 0.5
        if nw.dependencies.is_pandas_dataframe(X):
            return X.iloc[:, 0].__class__(likely, index=X.index)
        table = nw.from_native(X, eager_only=True)
        return nw.new_series("label", likely, backend=table.implementation).to_native()

    def _probability(self, table: Any) -> npt.NDArray[np.float64]:
        return probability(self._model.predict(self._encoder.encode(table)))
