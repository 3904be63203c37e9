"""FTRL-Proximal as a classifier of scikit-learn."""

from __future__ import annotations

import pickle
import subprocess
import sys

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.calibration import calibration_curve
from sklearn.feature_extraction import FeatureHasher
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

import headrace
from headrace.learners.river import FTRLProximalClassifier
from headrace.learners.sklearn import FTRLClassifier

NOT_FOR_LEARNERS_IN_ORDER = {
    f"check_sample_weight_equivalence_on_{kind}_data": "samples are learned one after another: a "
    "weight multiplies a gradient, and is not so many samples; nor does their order not matter"
    for kind in ("dense", "sparse")
}


def test_the_classifier_passes_the_checks_of_scikit_learn():
    """All but two, which no learner of samples in order passes; these fail."""
    found = check_estimator(
        FTRLClassifier(), expected_failed_checks=NOT_FOR_LEARNERS_IN_ORDER, on_skip=None
    )
    statuses = {check["check_name"]: check["status"] for check in found}
    failed = {name for name, status in statuses.items() if status == "xfail"}
    assert failed == NOT_FOR_LEARNERS_IN_ORDER.keys()
    assert sum(status == "passed" for status in statuses.values()) > 50
    assert {name for name, status in statuses.items() if status == "skipped"} <= {
        "check_array_api_input"
    }


def numbers(rows=400, seed=1):
    random = np.random.default_rng(seed)
    x = random.normal(size=(rows, 5)) * (random.random((rows, 5)) < 0.4)
    p = 1 / (1 + np.exp(-(x @ [2, -1, 0, 1, 0.5])))
    return x, np.where(random.random(rows) < p, "yes", "no")


def test_arrays_sparse_matrices_and_tables_give_the_same_model():
    """To the bit, as does learning them in parts."""
    x, y = numbers()
    names = [f"x{at}" for at in range(5)]
    tables = (
        x, sparse.csr_matrix(x), sparse.coo_array(x), pd.DataFrame(x, columns=names),
        pa.table(dict(zip(names, x.T, strict=True))), pl.DataFrame(x, schema=names),
    )  # fmt: skip
    expected = FTRLClassifier(bits=10).fit(x, y).predict_proba(x)
    assert np.mean((expected[:, 1] > 0.5) == (y == "yes")) > 0.6
    for table in tables:
        model = FTRLClassifier(bits=10).fit(table, y)
        np.testing.assert_array_equal(model.predict_proba(table), expected)
    parts = FTRLClassifier(bits=10)
    for part in np.array_split(np.arange(400), 7):
        parts.partial_fit(sparse.csr_matrix(x[part]), y[part], classes=["yes", "no"])
    np.testing.assert_array_equal(parts.predict_proba(x), expected)


def test_it_learns_what_the_classifier_for_river_learns():
    """Texts, nulls, NaN and numbers of any size included; passes repeat the samples."""
    table = pd.DataFrame({
        "site": ["a", "b", None, "a"] * 50, "n": [1.0, np.nan, 1e300, -3.0] * 50,
        "on": [True, False, False, True] * 50,
    })  # fmt: skip
    y = np.array([1, 0, 0, 1] * 50)
    weight = np.linspace(0, 2, 200)
    one = FTRLClassifier(bits=12, passes=3).fit(table, y, sample_weight=weight)
    other = FTRLProximalClassifier(bits=12, l1=0.0)
    for _ in range(3):
        other.learn_many(table, y, weight)
    np.testing.assert_array_equal(
        one.predict_proba(table)[:, 1], other.predict_proba_many(table)[True]
    )
    assert np.isfinite(one.decision_function(table)).all()


def test_it_works_with_the_parts_of_scikit_learn():
    """Pipelines, hashers, cross-validation, curves of calibration, copies."""
    x, y = numbers(2_000)
    model = make_pipeline(StandardScaler(), FTRLClassifier(alpha=0.3, bits=12)).fit(x, y)
    p = model.predict_proba(x)[:, 1]
    positives, predicted = calibration_curve(y, p, n_bins=5, pos_label="yes")
    assert np.abs(positives - predicted).max() < 0.1
    assert cross_val_score(model, x, y, cv=3).min() > 0.6
    hashed = FeatureHasher(n_features=2**20, input_type="string").transform([["a"], ["b"]] * 20)
    texts = FTRLClassifier(bits=12).fit(hashed, [1, 0] * 20)
    assert texts.predict(hashed).tolist() == [1, 0] * 20
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict_proba(x)[:, 1], p)
    assert not hasattr(clone(model)[-1], "classes_")


def test_what_cannot_be_learned_is_refused():
    """In one line."""
    x, y = numbers(10)
    with pytest.raises(ValueError, match="Only binary classification"):
        FTRLClassifier().fit(x, range(10))
    with pytest.raises(ValueError, match="samples of two classes"):
        FTRLClassifier().partial_fit(x, ["yes"] * 10)
    with pytest.raises(ValueError, match=r"classes must be \['no', 'yes'\] \(got .* too\)"):
        FTRLClassifier().fit(x, y).partial_fit(x, ["maybe"] * 10)
    with pytest.raises(ValueError, match="Negative values"):
        FTRLClassifier().fit(x, y, sample_weight=[-1] * 10)
    with pytest.raises(headrace.HeadraceError, match="its model is not finite"):
        FTRLClassifier(beta=0, l2=0).fit(x, y, sample_weight=[1e300] * 10)


def test_without_scikit_learn_the_name_says_what_to_install():
    """All others work."""
    script = (
        "import sys; sys.modules['sklearn'] = None; import headrace\n"
        "headrace.FTRLProximalClassifier\n"
        "try: headrace.FTRLClassifier\n"
        "except ImportError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == (
        "headrace.FTRLClassifier needs scikit-learn: pip install 'headrace[sklearn]'\n"
    ), done.stderr
