"""FTRL-Proximal with scikit-learn's interface: arrays, sparse matrices or tables."""

from __future__ import annotations

from typing import Any, Self

import narwhals as nw
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import column_or_1d
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import (
    _check_sample_weight,
    check_consistent_length,
    check_is_fitted,
    validate_data,
)

from headrace.learners.features import FeatureRows
from headrace.learners.learner import Floats, probability
from headrace.learners.models.ftrl import FtrlModel, FtrlParameters
from headrace.learners.tables import TableEncoder, bounded
from headrace.schemas.errors import LearningError
from headrace.schemas.records.hashing import hash_column


class FTRLClassifier(ClassifierMixin, BaseEstimator):
    """Logistic regression by FTRL-Proximal over hashed features, of two classes.

    A number is a feature with that value; in a table, of text, booleans or anything else each
    value is a feature of its own. Nulls and NaN are left out. Samples are learned one after
    another, in their order. A table, an array and a sparse matrix of the same numbers give the
    same model, to the bit.

    Parameters
    ----------
    alpha, beta, l1, l2
        Parameters of Algorithm 1 in [1]_.
    bits
        Size of the model, ``2^bits`` coordinates.
    passes
        How often `fit` learns all samples. `partial_fit` learns them once.

    Attributes
    ----------
    classes_
        The two classes.
    n_features_in_, feature_names_in_
        Number of columns, and their names if they have any.

    Examples
    --------
    >>> model = FTRLClassifier(bits=10, passes=5).fit([[0.0], [1.0]], ["no", "yes"])
    >>> model.predict([[1.0], [0.0]]).tolist()
    ['yes', 'no']

    References
    ----------
    .. [1] McMahan et al., Ad Click Prediction: a View from the Trenches, KDD 2013.
    """

    def __init__(
        self,
        alpha: float = 0.1,
        beta: float = 1.0,
        l1: float = 0.0,
        l2: float = 1.0,
        bits: int = 18,
        passes: int = 1,
    ) -> None:
        self.alpha = alpha
        self.beta = beta
        self.l1 = l1
        self.l2 = l2
        self.bits = bits
        self.passes = passes

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:  # noqa: N803
        """Learn samples, and forget what was learned before.

        Parameters
        ----------
        X
            An array or sparse matrix of numbers, or a table of pandas, Arrow or polars; shape
            (n, d).
        y
            Classes, shape (n,).
        sample_weight
            Weights of the gradients, shape (n,); None is 1 for all.

        Raises
        ------
        ValueError
            If there are not two classes, or samples are not as scikit-learn wants them.
        LearningError
            If the model is not finite any more, such as by huge weights.
        """
        return self._learn(X, y, None, sample_weight, anew=True, passes=self.passes)

    def partial_fit(
        self,
        X: Any,  # noqa: N803
        y: Any,
        classes: Any = None,
        sample_weight: Any = None,
    ) -> Self:
        """Learn more samples.

        Parameters
        ----------
        X, y, sample_weight
            See `fit`.
        classes
            The two classes; needed at the first call, unless `y` has both.
        """
        anew = not hasattr(self, "classes_")
        return self._learn(X, y, classes, sample_weight, anew=anew, passes=1)

    def decision_function(self, X: Any) -> Floats:  # noqa: N803
        """Return the log-odds of the second class, float64, shape (n,)."""
        check_is_fitted(self)
        return self.model_.predict(self._encode(X, anew=False))

    def predict_proba(self, X: Any) -> Floats:  # noqa: N803
        """Return the probabilities of both classes, float64, shape (n, 2)."""
        p = probability(self.decision_function(X))
        return np.stack([1.0 - p, p], axis=1)

    def predict(self, X: Any) -> npt.NDArray[Any]:  # noqa: N803
        """Return the probable class of each row, shape (n,)."""
        likely = self.decision_function(X) > 0
        classes: npt.NDArray[Any] = self.classes_[likely.astype(int)]
        return classes

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        tags.input_tags.sparse = True
        tags.input_tags.allow_nan = True
        return tags

    def _learn(
        self,
        X: Any,  # noqa: N803
        y: Any,
        classes: Any,
        sample_weight: Any,
        *,
        anew: bool,
        passes: int,
    ) -> Self:
        parameters = FtrlParameters(alpha=self.alpha, beta=self.beta, l1=self.l1, l2=self.l2)
        if y is None:
            raise ValueError(
                f"This {type(self).__name__} estimator requires y to be passed, but the target y "
                "is None"
            )
        rows = self._encode(X, anew=anew)
        count = rows.starts.size - 1
        y = column_or_1d(y, warn=True)
        check_consistent_length(X, y)
        check_classification_targets(y)
        if anew:
            self.classes_ = _two_classes(y if classes is None else np.asarray(classes))
            self.model_ = FtrlModel(parameters, self.bits)
        unknown = ~np.isin(y, self.classes_)
        if unknown.any():
            raise ValueError(
                f"classes must be {self.classes_.tolist()} (got {y[unknown][0]!r} too); fit anew"
            )
        weight = _check_sample_weight(sample_weight, np.empty(count), ensure_non_negative=True)
        label = (y == self.classes_[1]).astype(np.float64)
        for _ in range(passes):
            margins = self.model_.learn(
                rows, np.arange(count), label, np.asarray(weight, np.float64), np.zeros(count)
            )
            if not np.isfinite(margins).all():
                raise LearningError.diverged(type(self).__name__, "any more", ())
        return self

    def _encode(self, X: Any, *, anew: bool) -> FeatureRows:  # noqa: N803
        encoder = TableEncoder(self.bits)
        if nw.dependencies.is_into_dataframe(X):
            validate_data(self, X, reset=anew, skip_check_array=True)
            table = nw.from_native(X, eager_only=True)
            if len(table) == 0:
                raise ValueError("Found array with 0 sample(s) while a minimum of 1 is required.")
            renamed = dict(zip(table.columns, self._names(), strict=True))
            return encoder.encode(table.rename(renamed).to_native())
        X = validate_data(  # noqa: N806
            self, X, reset=anew, accept_sparse="csr", dtype=np.float64,
            ensure_all_finite="allow-nan",
        )  # fmt: skip
        names = self._names()
        if isinstance(X, np.ndarray):
            return encoder.encode(pa.table(dict(zip(names, X.T, strict=True))))
        return _sparse(X, names, encoder)

    def _names(self) -> list[str]:
        """Return the names of all columns, which an array has by their numbers."""
        named = getattr(self, "feature_names_in_", None)
        return [f"x{at}" for at in range(self.n_features_in_)] if named is None else list(named)


def _two_classes(classes: npt.NDArray[Any]) -> npt.NDArray[Any]:
    found = np.unique(classes)
    if type_of_target(found) == "multiclass" or found.size > 2:
        raise ValueError(
            "Only binary classification is supported. The type of the target is "
            f"multiclass (got {found.size} classes)."
        )
    if found.size < 2:
        raise ValueError(f"expected samples of two classes (got 1 class, {found[0]!r})")
    return found


def _sparse(matrix: Any, names: list[str], encoder: TableEncoder) -> FeatureRows:
    """Encode a matrix in compressed sparse row form; what it leaves out is 0, and has no effect."""
    matrix.sort_indices()
    columns, which = np.unique(matrix.indices, return_inverse=True)
    hashes, _ = hash_column(pa.array([names[at] for at in columns], pa.string()))
    starts = matrix.indptr.astype(np.int64) + np.arange(matrix.shape[0] + 1)
    inner = np.ones(starts[-1], np.bool_)
    inner[starts[:-1]] = False
    indices = np.full(starts[-1], encoder.intercept, np.uint32)
    indices[inner] = (hashes & np.uint64(encoder.mask)).astype(np.uint32)[which]
    values = np.ones(starts[-1], np.float32)
    values[inner] = np.nan_to_num(bounded(matrix.data))
    return FeatureRows(starts, indices, values)
