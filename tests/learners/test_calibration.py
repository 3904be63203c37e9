"""Maps from log-odds to calibrated log-odds, and how they are fitted online."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from headrace.learners.calibration import (
    LEAST,
    CalibrationMap,
    CalibrationPlan,
    Calibrator,
    fit,
)
from headrace.learners.learner import probability

KINDS = ("sigmoid", "isotonic", "piecewise")
HOUR = 3_600_000_000


def drawn(seed, rows, bend=lambda s: 1.5 * s - 0.7, labels=False):
    """Draw log-odds of a model, and labels whose true log-odds are another function of these."""
    random = np.random.default_rng(seed)
    margin = random.normal(-2, 1, rows)
    return margin, (random.random(rows) < probability(bend(margin))).astype(np.float64)


def summed(margin, label):
    calibrator = Calibrator(CalibrationPlan("sigmoid", None, HOUR))
    calibrator.observe(margin, label, pa.RecordBatch.from_pydict({"x": np.zeros(margin.size)}))
    return calibrator.sums[""]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "bend",
    [lambda s: 1.5 * s - 0.7, lambda s: s + 0.8, lambda s: 0.3 * s],
    ids=["too timid", "too low", "too bold"],
)
def test_a_map_makes_new_predictions_calibrated(kind, bend):
    """Overall within 3 %, and in each fifth within 15 %, of rows that it was not fitted to."""
    knots = fit(kind, summed(*drawn(1, 400_000, bend)))
    margin, label = drawn(2, 400_000, bend)
    p = probability(knots.apply(margin))
    assert p.sum() == pytest.approx(label.sum(), rel=0.03)
    for part in np.array_split(np.argsort(margin), 5):
        assert p[part].sum() == pytest.approx(label[part].sum(), rel=0.15)
    before = probability(margin).sum() / label.sum()
    assert abs(before - 1) > 0.1


def test_a_sigmoid_is_that_of_a_logistic_regression():
    """On the log-odds themselves, up to the width of a bin and the weak pull."""
    margin, label = drawn(3, 100_000)
    knots = fit("sigmoid", summed(margin, label))
    oracle = LogisticRegression(C=1e6).fit(margin[:, None], label)
    slope = (knots.to[1] - knots.to[0]) / (knots.at[1] - knots.at[0])
    assert slope == pytest.approx(oracle.coef_[0, 0], abs=0.02)
    assert knots.apply(np.zeros(1))[0] == pytest.approx(oracle.intercept_[0], abs=0.04)


def test_an_isotonic_map_is_that_of_scikit_learn():
    """At its knots, which are the middles of pooled bins."""
    margin, label = drawn(4, 100_000, lambda s: np.where(s < -2, -3.0, s))
    knots = fit("isotonic", summed(margin, label))
    oracle = IsotonicRegression(out_of_bounds="clip").fit(margin, label)
    inside = slice(2, -2)  # outermost ones are of few rows
    got, expected = probability(knots.to), oracle.predict(knots.at)
    assert np.abs(got - expected)[inside].max() < 0.02
    assert (np.diff(knots.to) >= 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_too_few_labels_fit_nothing(kind):
    """A hundred of either are needed."""
    margin = np.linspace(-3, 3, 1_000)
    label = np.zeros(1_000)
    label[: LEAST - 1] = 1
    assert fit(kind, summed(margin, label)) is None
    assert fit(kind, summed(margin, 1 - label)) is None
    label[LEAST - 1] = 1
    assert fit(kind, summed(margin, label)) is not None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("margin", [np.zeros(1_000), np.repeat([-1e300, 1e300], 500)])
def test_odd_log_odds_are_mapped_to_numbers(kind, margin):
    """All in one bin, or far out."""
    label = np.tile([0.0, 1.0], 500)
    knots = fit(kind, summed(margin, label))
    assert np.isfinite(knots.apply(np.array([-50.0, 0.0, 50.0]))).all()
    assert (np.diff(knots.apply(np.linspace(-30, 30, 100))) >= 0).all()


CALLS = st.lists(st.integers(0, 30), min_size=1, max_size=8)


@settings(deadline=None, max_examples=40)
@given(CALLS, st.integers(0, 7), st.sampled_from(KINDS))
def test_neither_cuts_nor_saving_change_a_map(sizes, saved, kind):
    """Nor which values have maps of their own, those that come first."""
    plan = CalibrationPlan(kind, "site", HOUR)
    rows = sum(sizes)
    margin, label = drawn(5, 40 * rows)
    sites = pa.RecordBatch.from_pydict({"site": [f"s{i * 7 % 130}" for i in range(40 * rows)]})
    whole, parts = Calibrator(plan), Calibrator(plan)
    whole.advance(3)
    whole.observe(margin, label, sites)
    parts.advance(3)
    at = 0
    for number, size in enumerate(sizes):
        if number == saved:
            state = json.loads(json.dumps(parts.export()))
            parts = Calibrator(plan)
            parts.restore(state)
        here = slice(at, at + 40 * size)
        parts.advance(3)
        parts.observe(margin[here], label[here], sites.slice(at, 40 * size))
        at = here.stop
    whole.advance(9)
    parts.advance(9)
    assert json.dumps(parts.export()) == json.dumps(whole.export())


def test_values_have_maps_of_their_own():
    """One with few labels, or none, has that of all; it is written and read without a change."""
    calibrator = Calibrator(CalibrationPlan("sigmoid", "site", HOUR))
    margin, label = drawn(6, 60_000, lambda s: s)
    site = np.array(["low", "high"])[np.arange(60_000) % 2]
    site[:50] = "rare"
    low = site == "low"
    label[low] = drawn(7, 60_000, lambda s: s + 1)[1][low] * 0 + (
        np.random.default_rng(7).random(low.sum()) < probability(margin[low] + 1)
    )
    rows = pa.RecordBatch.from_pydict({"site": site})
    calibrator.advance(0)
    calibrator.observe(margin, label, rows)
    calibrator.advance(1)
    found = CalibrationMap.from_json(json.loads(json.dumps(calibrator.map.as_json())))
    assert set(found.of) == {"low", "high"}
    new = pa.RecordBatch.from_pydict({"site": ["low", "high", "rare", "new", None]})
    low, high, *others = found.apply(np.full(5, -2.0), new)
    assert low == pytest.approx(-1, abs=0.1)
    assert high == pytest.approx(-2, abs=0.1)
    assert others == [found.whole.apply(np.array(-2.0))] * 3
    assert high < others[0] < low


def test_what_is_old_is_forgotten():
    """After many half-lives the map is that of what came since."""
    calibrator = Calibrator(CalibrationPlan("sigmoid", None, HOUR))
    rows = pa.RecordBatch.from_pydict({"x": np.zeros(50_000)})
    calibrator.advance(0)
    calibrator.observe(*drawn(8, 50_000, lambda s: s + 2), rows)
    calibrator.advance(600)
    assert calibrator.map.whole.apply(np.array([-2.0]))[0] == pytest.approx(0, abs=0.1)
    calibrator.observe(*drawn(9, 50_000, lambda s: s - 1), rows)
    calibrator.advance(601)
    assert calibrator.map.whole.apply(np.array([-2.0]))[0] == pytest.approx(-3, abs=0.1)
