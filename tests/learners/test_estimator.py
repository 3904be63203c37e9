import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from river import checks, metrics, preprocessing
from river.datasets import Phishing

from headrace.learners.river import FTRLProximalClassifier


def test_the_classifier_passes_the_checks_of_river():
    """Every check that river has for a classifier holds."""
    checks.check_estimator(FTRLProximalClassifier(l1=0.0, bits=10))


def test_the_classifier_learns_phishing():
    """Progressive accuracy on river's set is that of a sound logistic regression."""
    model = preprocessing.StandardScaler() | FTRLProximalClassifier(alpha=0.5, l1=0.0, bits=14)
    accuracy = metrics.Accuracy()
    for x, y in Phishing():
        accuracy.update(y, model.predict_one(x))
        model.learn_one(x, y)
    assert accuracy.get() > 0.87


def test_a_sample_of_weight_zero_changes_nothing_and_one_of_weight_two_does():
    """Before any sample both probabilities are a half."""
    model = FTRLProximalClassifier(l1=0.0, bits=8)
    before = model.predict_proba_one({"a": 1.0})
    model.learn_one({"a": 1.0}, True, w=0.0)
    assert model.predict_proba_one({"a": 1.0}) == before
    model.learn_one({"a": 1.0}, True, w=2.0)
    assert model.predict_proba_one({"a": 1.0})[True] > before[True]
    assert before == {False: pytest.approx(0.5), True: pytest.approx(0.5)}


def frame(rows, seed=3):
    random = np.random.default_rng(seed)
    return pd.DataFrame({
        "device": random.choice(["phone", "tablet", None], rows),
        "price": np.where(random.random(rows) < 0.2, np.nan, random.normal(size=rows)),
        "new": random.random(rows) < 0.5,
        "ad": random.integers(0, 9, rows),
    })  # fmt: skip


def arrow(rows):
    return pa.Table.from_pandas(rows, preserve_index=False)


@pytest.mark.parametrize(
    "table", [pd.DataFrame, arrow, pl.from_pandas], ids=["pandas", "Arrow", "polars"]
)
def test_learning_a_table_equals_learning_its_rows(table):
    """To the same bits; missing values are left out."""
    rows = frame(500)
    rows["kind"] = rows["ad"].map(str).astype("category")
    label = rows["new"] ^ (rows["ad"] > 5)
    weight = pd.Series(np.where(label, 1.0, 0.5))
    many = FTRLProximalClassifier(l1=0.1, bits=12)
    for part in np.array_split(np.arange(500), 7):
        many.learn_many(table(rows.iloc[part]), label.iloc[part], weight.iloc[part])
    one = FTRLProximalClassifier(l1=0.1, bits=12)
    for x, y, w in zip(rows.to_dict("records"), label, weight, strict=True):
        one.learn_one(x, bool(y), w)
    for name, array in one._model.export().items():
        np.testing.assert_array_equal(many._model.export()[name], array)
    p = many.predict_proba_many(table(rows))
    assert isinstance(p, type(table(rows)))
    true = True if table is pd.DataFrame else "True"
    expected = [one.predict_proba_one(x)[True] for x in rows.to_dict("records")]
    np.testing.assert_array_equal(p[true], expected)
    np.testing.assert_array_equal(many.predict_many(table(rows)), np.array(expected) > 0.5)


def test_probabilities_keep_the_index_of_a_pandas_table():
    """So they can be put beside the rows that they belong to."""
    rows = frame(4).set_index(pd.Index([7, 5, 3, 1]))
    p = FTRLProximalClassifier(bits=8).predict_proba_many(rows)
    assert list(p.index) == [7, 5, 3, 1]
    assert np.allclose(p.sum(axis=1), 1.0)
