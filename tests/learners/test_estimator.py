import pytest
from river import checks, metrics, preprocessing
from river.datasets import Phishing

from headrace.learners.river import FTRLProximalClassifier


def test_it_passes_the_checks_of_river():
    """Every check that river has for a classifier holds."""
    checks.check_estimator(FTRLProximalClassifier(l1=0.0, bits=10))


def test_it_learns_a_real_set():
    """Progressive accuracy on river's phishing set is that of a sound logistic regression."""
    model = preprocessing.StandardScaler() | FTRLProximalClassifier(alpha=0.5, l1=0.0, bits=14)
    accuracy = metrics.Accuracy()
    for x, y in Phishing():
        accuracy.update(y, model.predict_one(x))
        model.learn_one(x, y)
    assert accuracy.get() > 0.87


def test_a_weight_counts_as_often_as_it_says():
    """A sample of weight 0 changes nothing."""
    model = FTRLProximalClassifier(l1=0.0, bits=8)
    before = model.predict_proba_one({"a": 1.0})
    model.learn_one({"a": 1.0}, True, w=0.0)
    assert model.predict_proba_one({"a": 1.0}) == before
    model.learn_one({"a": 1.0}, True, w=2.0)
    assert model.predict_proba_one({"a": 1.0})[True] > before[True]
    assert before == {False: pytest.approx(0.5), True: pytest.approx(0.5)}
