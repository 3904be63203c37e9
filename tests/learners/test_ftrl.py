"""FTRL-Proximal compared with Vowpal Wabbit's, and the properties of Algorithm 1."""

import numpy as np
import pytest
from vowpalwabbit import Workspace

from headrace.learners.features import FeatureRows
from headrace.learners.models.ftrl import FtrlModel, FtrlParameters

NONE = np.empty(0, np.float32)


def samples(rows, width, features, seed, valued=False):
    random = np.random.default_rng(seed)
    indices = np.array(
        [random.choice(features, width, replace=False) for _ in range(rows)], np.uint32
    )
    effect = random.normal(0, 1, features)
    p = 1 / (1 + np.exp(-(effect[indices].sum(axis=1) - 1)))
    label = (random.random(rows) < p).astype(float)
    values = random.normal(0, 1, rows * width).astype(np.float32) if valued else NONE
    starts = np.arange(rows + 1, dtype=np.int64) * width
    return FeatureRows(starts, indices.reshape(-1), values), label


@pytest.mark.parametrize("valued", [False, True], ids=["all values 1", "numeric values"])
@pytest.mark.parametrize(
    "parameters",
    [FtrlParameters(), FtrlParameters(alpha=0.5, beta=0.1, l1=0.0, l2=0.0)],
    ids=["default parameters", "no regularisation"],
)
def test_predictions_agree_with_vowpal_wabbit(parameters, valued):
    """Progressive predictions on equal features and weights agree to about 1e-6."""
    width, count = 6, 3000
    rows, label = samples(count, width, 200, seed=1, valued=valued)
    importance = np.where(np.arange(count) % 3, 1.0, 2.5)
    model = FtrlModel(parameters, bits=8)
    margin = model.learn(rows, np.arange(count), label, importance, np.zeros(count))
    ours = 1 / (1 + np.exp(-margin))

    vw = Workspace(
        f"--ftrl --ftrl_alpha {parameters.alpha} --ftrl_beta {parameters.beta} "
        f"--l1 {parameters.l1} --l2 {parameters.l2} --loss_function logistic --link logistic "
        "--noconstant --bit_precision 18 --quiet"
    )
    theirs = []
    for i in range(count):
        here = slice(i * width, (i + 1) * width)
        values = rows.values[here] if valued else np.ones(width)
        features = " ".join(
            f"{k}:{v!r}" for k, v in zip(rows.indices[here].tolist(), values.tolist(), strict=True)
        )
        example = vw.parse(f"{1 if label[i] else -1} {importance[i]} | {features}")
        theirs.append(vw.predict(example))
        vw.learn(example)
        vw.finish_example(example)
    difference = np.abs(ours - np.array(theirs))
    assert difference.max() < 5e-6
    assert difference.mean() < 1e-6


def test_weights_are_exactly_zero_within_l1():
    """Where ``|z| <= l1`` the weight is 0; elsewhere it is not."""
    rows, label = samples(500, 5, 300, seed=2)
    model = FtrlModel(FtrlParameters(l1=2.0), bits=9)
    model.learn(rows, np.arange(500), label, np.ones(500), np.zeros(500))
    weights, z = model.weights(), model.zn[:, 0]
    assert (weights[np.abs(z) <= 2.0] == 0.0).all()
    assert (weights[np.abs(z) > 2.0] != 0.0).all()
    assert 0 < np.count_nonzero(weights) < 300
    # Predictions use the weights that `weights` returns.
    expected = [weights[rows.indices[i * 5 : i * 5 + 5]].sum(dtype=np.float64) for i in range(500)]
    assert np.allclose(model.predict(rows), expected, atol=1e-6)


def test_learning_in_parts_equals_learning_at_once():
    """Batch cuts change no bit of the state."""
    rows, label = samples(400, 4, 100, seed=3)
    whole, parts = FtrlModel(FtrlParameters(), 8), FtrlModel(FtrlParameters(), 8)
    order = np.random.default_rng(0).permutation(400)
    one = np.ones(400)
    zero = np.zeros(400)
    expected = whole.learn(rows, order, label[order], one, zero)
    got = [
        parts.learn(rows, cut, label[cut], one[: cut.size], zero[: cut.size])
        for cut in np.split(order, [1, 50, 51, 333])
    ]
    assert np.array_equal(np.concatenate(got), expected)
    assert np.array_equal(whole.zn, parts.zn)


def test_the_offset_moves_training_but_not_the_prediction():
    """An offset of the log-odds counts in the gradient only: the model learns the rest."""
    rows = FeatureRows(np.arange(4001, dtype=np.int64), np.zeros(4000, np.uint32), NONE)
    random = np.random.default_rng(5)
    # Negatives of a rate of 0.1 are kept with probability 0.1: odds are ten times too high.
    label = (random.random(4000) < 0.1 / (0.1 + 0.9 * 0.1)).astype(float)
    model = FtrlModel(FtrlParameters(alpha=1.0, l1=0.0, l2=0.0), 1)
    margin = model.learn(rows, np.arange(4000), label, np.ones(4000), np.full(4000, -np.log(0.1)))
    assert abs(1 / (1 + np.exp(-margin[-1])) - 0.1) < 0.02


@pytest.mark.parametrize("value", [1e-23, 1e-30, 1e-45, 0.0])
def test_without_regularisation_tiny_values_stay_finite(value):
    """Where the square of a gradient is zero in float32, so is the weight."""
    rows = FeatureRows(
        np.arange(0, 9, 2, dtype=np.int64), np.array([0, 1] * 4, np.uint32),
        np.array([1.0, value] * 4, np.float32),
    )  # fmt: skip
    model = FtrlModel(FtrlParameters(beta=0.0, l1=0.0, l2=0.0), 1)
    label = np.array([1.0, 0.0, 1.0, 1.0])
    margin = model.learn(rows, np.arange(4), label, np.ones(4), np.zeros(4))
    assert np.isfinite(margin).all()
    assert np.isfinite(model.zn).all()
    assert np.isfinite(model.weights()).all()
    if model.zn[1, 1] == 0:
        assert model.weights()[1] == 0
    assert model.weights()[0] != 0


def test_learning_ends_where_a_prediction_is_not_finite():
    """What is not a number spreads no further, so that the coordinates at fault can be told."""
    rows = FeatureRows(
        np.arange(0, 9, 2, dtype=np.int64), np.array([0, 1] * 4, np.uint32),
        np.array([1.0, 1e9] * 4, np.float32),
    )  # fmt: skip
    model = FtrlModel(FtrlParameters(alpha=1e-35), 1)
    one = np.ones(4)
    margin = model.learn(rows, np.arange(4), one, one, np.zeros(4))
    assert np.isfinite(margin).tolist() == [True, False, False, False]
    assert np.isfinite(model.zn).all(axis=1).tolist() == [True, False]
