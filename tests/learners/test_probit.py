"""Bayesian probit regression compared with the equations of the papers, and with river's."""

import numpy as np
import pytest
from river import linear_model
from scipy.special import expit, log_ndtr, ndtri
from scipy.stats import norm

from headrace.learners.features import FeatureRows
from headrace.learners.learner import probability
from headrace.learners.models.probit import (
    FARTHEST,
    ProbitModel,
    ProbitParameters,
    from_log_odds,
    log_odds,
)
from headrace.schemas.errors import ConfigError
from tests.learners.conformance import Lesson, lesson
from tests.learners.logistic import BITS, ONES, logistic, taught
from tests.schemas.test_loading import GOOD, load


def papers(parameters, given):
    """Learn in float64 by equations 3 to 7 of He et al.; return the progressive log-odds.

    A weight is applied to the posterior of the sum of weights, as a power of what the row
    adds to precision and precision times mean, and an offset by `scipy.special.ndtri`.
    """
    means, variances, margins = {}, {}, []
    for at, row in enumerate(given.order):
        here = slice(given.rows.starts[row], given.rows.starts[row + 1])
        features = list(
            zip(given.rows.indices[here].tolist(), given.rows.values[here].tolist(), strict=True)
        )
        before = {i: variances.get(i, parameters.prior_variance) for i, _ in features}
        mean = sum(means.get(i, 0.0) * x for i, x in features)
        variance = sum(before[i] * x * x for i, x in features)
        total = parameters.beta**2 + variance
        t = mean / np.sqrt(total)
        margins.append(log_ndtr(t) - log_ndtr(-t))
        if given.offset[at]:
            t = ndtri(expit(margins[-1] + given.offset[at]))
        y = 2 * given.label[at] - 1
        t = np.clip(y * t, -5, 5)
        v = norm.pdf(t) / norm.cdf(t)
        w = v * (v + t)
        # The posterior of the sum by one such row, and what the row added to the prior.
        posterior = mean + y * variance / np.sqrt(total) * v, variance * (1 - w * variance / total)
        precision = 1 / posterior[1] - 1 / variance
        shift = posterior[0] / posterior[1] - mean / variance
        powered = 1 / (1 / variance + given.importance[at] * precision)
        moved = powered * (mean / variance + given.importance[at] * shift) - mean
        for i, x in features:
            means[i] = means.get(i, 0.0) + x * before[i] / variance * moved
            known = x * x * before[i] / variance * (1 - powered / variance)
            variances[i] = variances.get(i, parameters.prior_variance) * (1 - known)
    return np.array(margins)


@pytest.mark.parametrize(
    "parameters",
    [ProbitParameters(), ProbitParameters(prior_variance=0.2, beta=0.5)],
    ids=["default parameters", "other parameters"],
)
def test_progressive_log_odds_are_those_of_the_papers(parameters):
    """With numeric values, weights, offsets and coordinates that occur twice in a row."""
    given = lesson(1, rows=2_000, bits=6)
    margins = given.taught(ProbitModel(parameters, 6))
    assert np.abs(margins - papers(parameters, given)).max() < 1e-4
    assert np.abs(margins).max() > 2


def test_predictions_agree_with_river():
    """Predictions of its AdPredictor, which has an intercept and no values, to 1e-5."""
    samples = logistic(3_000, seed=2)
    model = ProbitModel(ProbitParameters(prior_variance=1.0, beta=0.5), BITS)
    ours = probability(taught(model, samples))
    river = linear_model.AdPredictor(beta=0.5, prior_probability=0.5, epsilon=0.0)
    theirs = []
    for row, label in zip(samples.rows.indices.reshape(3_000, -1), samples.label, strict=True):
        x = {int(index): 1 for index in row[1:]}
        theirs.append(river.predict_proba_one(x)[True])
        river.learn_one(x, bool(label))
    assert np.abs(ours - np.array(theirs)).max() < 1e-5


@pytest.mark.parametrize("intercept", [-1.5, -4.0])
def test_predictions_come_close_to_the_truth(intercept):
    """Log loss within 0.004 of that of the true probabilities, which are not those of a probit."""
    samples = logistic(40_000, seed=1, intercept=intercept)
    assert samples.log_loss(np.full(40_000, intercept)) > 0.015
    assert samples.log_loss(taught(ProbitModel(ProbitParameters(), BITS), samples)) < 0.004


def test_log_odds_are_exact_in_the_tails():
    """Compared with scipy, also where the probability is 0 or 1 in float64; and they rise."""
    t = np.concatenate([np.linspace(-40, 40, 2_001), [-1e6, 29.999999, 30.000001]])
    found = np.array([log_odds(x) for x in t])
    expected = log_ndtr(t) - log_ndtr(-t)
    assert np.allclose(found, expected, rtol=1e-9, atol=1e-14)
    assert (np.diff(found[:2_001]) > 0).all()
    assert np.isfinite([log_odds(1e60), log_odds(-1e60)]).all()


def test_t_is_found_from_log_odds():
    """Compared with scipy; beyond 5 it is clipped."""
    odds = np.linspace(-15, 15, 1_001)
    assert np.allclose([from_log_odds(x) for x in odds], ndtri(expit(odds)), atol=1e-9)
    assert [from_log_odds(x) for x in (-1e300, -15.1, 0.0, 15.1, np.inf)] == [-5, -5, 0, 5, 5]
    assert FARTHEST == 5


def test_only_the_ratio_of_prior_and_noise_has_an_effect():
    """Four times the variance at twice the noise gives the same predictions, bit for bit."""
    given = lesson(3)
    parameters = (
        ProbitParameters(prior_variance=0.5, beta=1.0),
        ProbitParameters(prior_variance=2.0, beta=2.0),
    )
    one, other = (ProbitModel(each, 10) for each in parameters)
    assert given.taught(one).tolist() == given.taught(other).tolist()
    assert (4 * one.beliefs[:, 1]).tolist() == other.beliefs[:, 1].tolist()


@pytest.mark.parametrize("rate", [0.5, 0.1])
@pytest.mark.parametrize("correction", ["weight", "logit"])
def test_predictions_are_calibrated_after_downsampling(correction, rate):
    """By the weight 1 / rate of negatives, or the offset -log(rate) of all samples."""
    samples = logistic(60_000, seed=4)
    kept = (samples.label == 1) | (np.random.default_rng(4).random(60_000) < rate)
    order = np.flatnonzero(kept)
    label = samples.label[order]
    importance = np.where((label == 1) | (correction == "logit"), 1.0, 1 / rate)
    offset = np.full(order.size, -np.log(rate) if correction == "logit" else 0.0)
    model = ProbitModel(ProbitParameters(prior_variance=0.5), BITS)
    model.learn(samples.rows, order, label, importance, offset)
    p = probability(model.predict(samples.rows))
    assert p.mean() / samples.p.mean() == pytest.approx(1, abs=0.06)
    # Not only on average, but in each quarter of samples by their true probabilities.
    for quarter in np.array_split(np.argsort(samples.p), 4):
        assert p[quarter].mean() / samples.p[quarter].mean() == pytest.approx(1, abs=0.12)


def test_a_huge_weight_stays_within_what_its_label_says():
    """Variances stay above 0, and the prediction near the mode of the row's likelihood."""
    rows = FeatureRows(np.array([0, 5]), np.arange(5, dtype=np.uint32), ONES)
    for importance in (1e2, 1e6, 1e300):
        model = ProbitModel(ProbitParameters(), 3)
        model.learn(rows, np.zeros(1, np.int64), np.ones(1), np.full(1, importance), np.zeros(1))
        assert (model.beliefs[:5, 1] > 0).all()
        assert 0.85 < probability(model.predict(rows))[0] < 0.99


def test_a_weight_comes_close_to_repetitions():
    """Margins and variances are nearer to those of so many rows than to those of one."""
    given = lesson(5, rows=2_000)
    weighed, repeated, once = (ProbitModel(ProbitParameters(), 10) for _ in range(3))
    thrice = Lesson(
        given.rows,
        np.repeat(given.order, 3),
        np.repeat(given.label, 3),
        np.ones(6_000),
        np.repeat(given.offset, 3),
    )
    expected = thrice.taught(repeated)[::3]
    gaps = [
        (
            np.abs(given.weighing(importance).taught(model) - expected).mean(),
            np.abs(np.log(model.beliefs[:, 1] / repeated.beliefs[:, 1])).mean(),
        )
        for model, importance in ((weighed, 3.0), (once, 1.0))
    ]
    assert (np.array(gaps[0]) < 0.4 * np.array(gaps[1])).all()


def test_a_label_between_moves_by_the_mean_of_both():
    """One that is the prediction moves no mean; all the same variances fall."""
    rows = FeatureRows(np.array([0, 2]), np.array([0, 1], np.uint32), ONES)
    zero, one = np.zeros(1, np.int64), np.ones(1)
    model = ProbitModel(ProbitParameters(prior_variance=1.0), 1)
    for label in (1.0, 1.0, 0.0, 1.0):
        model.learn(rows, zero, np.full(1, label), one, np.zeros(1))
    before = model.beliefs.copy()
    model.learn(rows, zero, probability(model.predict(rows)), one, np.zeros(1))
    assert np.allclose(model.beliefs[:, 0], before[:, 0], atol=1e-7)
    assert (model.beliefs[:, 1] < 0.95 * before[:, 1]).all()


def test_uncertainty_falls_as_features_are_learned():
    """It is the deviation of the sum of weights times values, and that of the prior at first."""
    model = ProbitModel(ProbitParameters(prior_variance=4.0), 2)
    rows = FeatureRows(
        np.array([0, 1, 3]), np.array([0, 0, 1], np.uint32), np.array([1, 1, 3], np.float32)
    )
    assert model.uncertainty(rows).tolist() == [2.0, np.sqrt(4 + 9 * 4)]
    ones = np.ones(50)
    model.learn(rows, np.zeros(50, np.int64), ones, ones, np.zeros(50))
    known, unknown = model.uncertainty(rows)
    assert known < 0.7
    assert unknown == pytest.approx(np.hypot(known, 6.0))
    before = model.beliefs.copy()
    assert model.uncertainty(rows).dtype == np.float64
    assert (model.beliefs == before).all()


def test_what_is_uncertain_is_wrong_by_more():
    """The half of rows with the greater uncertainty has the greater error of log-odds."""
    samples = logistic(50_000, seed=6)
    model = ProbitModel(ProbitParameters(), BITS)
    # Values of the first field are rare, each to its own degree.
    share = (samples.rows.indices.reshape(50_000, -1)[:, 1] / 26) ** 3
    order = np.flatnonzero(np.random.default_rng(6).random(50_000) < share)
    ones = np.ones(order.size)
    model.learn(samples.rows, order, samples.label[order], ones, 0 * ones)
    error = np.abs(model.predict(samples.rows) - np.log(samples.p / (1 - samples.p)))
    known, unknown = np.array_split(np.argsort(model.uncertainty(samples.rows)), 2)
    assert error[unknown].mean() > 1.5 * error[known].mean()


@pytest.mark.parametrize("value", [1e9, -1e9, 1e-45, 0.0])
def test_values_of_any_size_stay_finite(value):
    """Also beside noise and priors at the ends of their ranges."""
    rows = FeatureRows(
        np.arange(0, 401, 2), np.tile([0, 1], 200).astype(np.uint32),
        np.tile([1.0, value], 200).astype(np.float32),
    )  # fmt: skip
    label = (np.random.default_rng(7).random(200) < 0.5).astype(float)
    for prior_variance in (1e-6, 1.0, 1e6):
        for beta in (1e-6, 1.0, 1e6):
            model = ProbitModel(ProbitParameters(prior_variance=prior_variance, beta=beta), 1)
            for importance in (1.0, 1e6):
                margin = model.learn(
                    rows, np.arange(200), label, np.full(200, importance), np.zeros(200)
                )
                assert np.isfinite(margin).all()
                assert np.isfinite(model.beliefs).all()
                assert (model.beliefs[:, 1] > 0).all()


@pytest.mark.parametrize("place", ["value", "label", "importance", "offset"])
def test_nothing_is_learned_of_a_row_with_what_is_not_a_number(place):
    """Learning ends there; the rows before it are learned."""
    rows = FeatureRows(
        np.arange(4), np.array([0, 1, 0], np.uint32),
        np.array([1, np.nan if place == "value" else 1, 1], np.float32),
    )  # fmt: skip
    given = {
        name: np.array([1.0, np.nan if name == place else 1.0, 1.0])
        for name in ("label", "importance", "offset")
    }
    model = ProbitModel(ProbitParameters(), 1)
    margins = model.learn(rows, np.arange(3), **given)
    assert np.isfinite(margins).tolist() == [True, False, False]
    assert (model.beliefs[:, 0] != 0).tolist() == [True, False]
    assert np.isfinite(model.beliefs).all()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("prior_variance = 0.0",
         "learner.prior_variance: input should be greater than or equal to 0.000001 (got 0.0); "
         "use a greater value"),
        ("beta = 1e7",
         "learner.beta: input should be less than or equal to 1000000 (got 10000000.0); "
         "use at most 1000000.0"),
        ("alpha = 0.1",
         "learner.alpha: unknown key (got 0.1); use one of admit, algorithm, "
         "beta, bits, calibration, delay, epoch, expire, features, filter, label, offset, "
         "position, prior_variance, table, weight"),
    ],
    ids=["no variance", "too much noise", "a parameter of another algorithm"],
)  # fmt: skip
def test_an_error_in_its_table_is_named(tmp_path, keys, message):
    """With key, value and hint."""
    table = f'label = "click"\nalgorithm = "probit"\n{keys}'
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, GOOD.replace('label = "click"', table))
    assert str(caught.value) == f"{tmp_path / 'c.toml'}: {message}"
