"""Stochastic gradient descent compared with the equations of the paper, and with river's."""

import numpy as np
import pytest
from river import linear_model, optim

from headrace.learners.features import FeatureRows
from headrace.learners.learner import probability
from headrace.learners.models.sgd import LOWEST_RATE, SgdModel, SgdParameters
from headrace.schemas.errors import ConfigError
from tests.learners.conformance import lesson
from tests.learners.logistic import BITS, ONES, logistic, taught
from tests.schemas.test_loading import GOOD, load

SCHEMES = [
    SgdParameters(),
    SgdParameters(alpha=0.5, beta=0.0),
    SgdParameters(rate="per-weight-sqrt", alpha=0.2),
    SgdParameters(rate="per-weight", alpha=0.7),
    SgdParameters(rate="global", alpha=0.9),
    SgdParameters(rate="constant", alpha=0.03),
]


def named(parameters):
    return f"{parameters.rate}, alpha={parameters.alpha}, beta={parameters.beta}"


def table_2(parameters, taught):
    """Learn in float64 by Table 2 of He et al.; return the progressive margins."""
    alpha, beta = parameters.alpha, parameters.beta
    w, squares, count, margins = {}, {}, {}, []
    for t, row in enumerate(taught.order, 1):
        here = slice(taught.rows.starts[row], taught.rows.starts[row + 1])
        features = list(
            zip(taught.rows.indices[here].tolist(), taught.rows.values[here].tolist(), strict=True)
        )
        margins.append(sum(w.get(i, 0.0) * x for i, x in features))
        p = 1 / (1 + np.exp(-(margins[-1] + taught.offset[t - 1])))
        for i, x in features:
            g = (p - taught.label[t - 1]) * taught.importance[t - 1] * x
            squares[i] = squares.get(i, 0.0) + g * g
            count[i] = count.get(i, 0) + 1
            rate = {
                "per-coordinate": lambda i=i: alpha / (beta + np.sqrt(squares[i])),
                "per-weight-sqrt": lambda i=i: alpha / np.sqrt(count[i]),
                "per-weight": lambda i=i: alpha / count[i],
                "global": lambda t=t: alpha / np.sqrt(t),
                "constant": lambda: alpha,
            }[parameters.rate]()
            w[i] = (
                w.get(i, 0.0)
                - (rate if parameters.rate == "constant" else max(rate, LOWEST_RATE)) * g
            )
    return np.array(margins)


@pytest.mark.parametrize("parameters", SCHEMES, ids=named)
def test_progressive_margins_are_those_of_table_2(parameters):
    """With numeric values, weights, offsets and coordinates that occur twice in a row."""
    given = lesson(1, rows=2_000, bits=6)
    margins = given.taught(SgdModel(parameters, 6))
    assert np.abs(margins - table_2(parameters, given)).max() < 1e-4
    assert np.abs(margins).max() > 1


def test_a_constant_rate_equals_river():
    """Predictions of river's logistic regression on equal rows and weights."""
    given = lesson(2, rows=1_000, bits=9)
    model = SgdModel(SgdParameters(rate="constant", alpha=0.05), 9)
    margins = model.learn(given.rows, given.order, given.label, given.importance, np.zeros(1_000))
    river = linear_model.LogisticRegression(optim.SGD(0.05), intercept_lr=0.0)
    theirs = []
    for at, row in enumerate(given.order):
        x = {}
        for k in range(given.rows.starts[row], given.rows.starts[row + 1]):
            index = int(given.rows.indices[k])
            x[index] = x.get(index, 0.0) + float(given.rows.values[k])
        theirs.append(river.predict_proba_one(x)[True])
        river.learn_one(x, bool(given.label[at]), w=given.importance[at])
    assert np.abs(probability(margins) - np.array(theirs)).max() < 1e-5


@pytest.mark.parametrize(
    "parameters",
    [
        SgdParameters(alpha=0.3),
        SgdParameters(rate="per-weight-sqrt", alpha=0.3),
        SgdParameters(rate="global", alpha=3.0),
        SgdParameters(rate="constant", alpha=0.02),
    ],
    ids=named,
)
def test_predictions_come_close_to_the_truth(parameters):
    """Log loss within 0.01 of that of the true probabilities, where a constant has 0.09."""
    samples = logistic(40_000, seed=1)
    assert samples.log_loss(np.full(40_000, -1.5)) > 0.08
    assert samples.log_loss(taught(SgdModel(parameters, BITS), samples)) < 0.01


def test_a_rate_that_falls_as_the_number_of_rows_ends_too_soon():
    """It is the worst scheme of the paper, and is here; still it learns."""
    samples = logistic(40_000, seed=1)
    parameters = SgdParameters(rate="per-weight", alpha=1.0)
    assert 0.01 < samples.log_loss(taught(SgdModel(parameters, BITS), samples)) < 0.04


@pytest.mark.parametrize("rate", ["per-coordinate", "per-weight-sqrt", "per-weight", "global"])
def test_no_falling_rate_goes_below_the_lowest(rate):
    """One that would be 1e-6 or less moves a weight by 1e-5 of the gradient."""
    model = SgdModel(SgdParameters(rate=rate, alpha=1e-6), 1)
    one = FeatureRows(np.array([0, 1]), np.array([1], np.uint32), ONES)
    model.learn(one, np.zeros(1, np.int64), np.ones(1), np.ones(1), np.zeros(1))
    assert model.predict(one) == pytest.approx([0.5 * LOWEST_RATE], rel=1e-6)


def test_a_weight_that_all_rows_share_is_no_faster_rate_per_coordinate():
    """It cancels without `beta`; a constant rate is multiplied by it."""
    samples = logistic(2_000, seed=3)
    adaptive, constant = (
        [taught(SgdModel(p, BITS), samples, importance) for importance in (1.0, 4.0)]
        for p in (SgdParameters(beta=0.0), SgdParameters(rate="constant", alpha=0.01))
    )
    assert np.allclose(*adaptive, atol=1e-4)
    faster = SgdParameters(rate="constant", alpha=0.04)
    assert np.allclose(constant[1], taught(SgdModel(faster, BITS), samples), atol=1e-4)


@pytest.mark.parametrize("parameters", SCHEMES, ids=named)
def test_the_offset_moves_training_but_not_the_prediction(parameters):
    """An offset of the log-odds counts in the gradient only: the model learns the rest."""
    rows = FeatureRows(np.arange(4001), np.zeros(4000, np.uint32), ONES)
    # Negatives of a rate of 0.1 are kept with probability 0.1: odds are ten times too high.
    label = np.random.default_rng(5).random(4000) < 0.1 / (0.1 + 0.9 * 0.1)
    parameters = parameters.model_copy(update={"alpha": {"per-weight": 5.0, "constant": 0.02}.get(
        parameters.rate, 1.0)})  # fmt: skip
    model = SgdModel(parameters, 1)
    model.learn(
        rows, np.arange(4000), label.astype(float), np.ones(4000), np.full(4000, np.log(10))
    )
    assert abs(probability(model.predict(rows)[-1]) - 0.1) < 0.03


@pytest.mark.parametrize(
    ("parameters", "names", "width"),
    [
        (SgdParameters(), ["index", "weight", "squares"], 8),
        (SgdParameters(rate="per-weight-sqrt"), ["index", "weight", "count"], 8),
        (SgdParameters(rate="per-weight"), ["index", "weight", "count"], 8),
        (SgdParameters(rate="global"), ["index", "weight", "rows"], 4),
        (SgdParameters(rate="constant"), ["index", "weight"], 4),
    ],
    ids=["per-coordinate", "per-weight-sqrt", "per-weight", "global", "constant"],
)
def test_state_is_what_the_scheme_needs(parameters, names, width):
    """A count of rows, or a number of each coordinate, or nothing besides the weight."""
    model = SgdModel(parameters, 8)
    given = lesson(6, bits=8)
    given.taught(model)
    arrays = model.export()
    assert list(arrays) == names
    assert model.state_bytes == 256 * width + 8
    seen = np.unique(given.rows.indices)
    if "count" in arrays:
        occurrences = np.bincount(given.rows.indices, minlength=256)
        assert arrays["index"].tolist() == seen.tolist()
        assert arrays["count"].tolist() == occurrences[seen].tolist()
    if "rows" in arrays:
        assert arrays["rows"].tolist() == [240]


@pytest.mark.parametrize("value", [1e-23, 1e-30, 1e-45, 0.0])
def test_without_beta_tiny_values_stay_finite(value):
    """Where the square of a gradient is zero in float32, nothing is divided by it."""
    rows = FeatureRows(
        np.arange(0, 9, 2), np.array([0, 1] * 4, np.uint32), np.array([1.0, value] * 4, np.float32)
    )
    model = SgdModel(SgdParameters(beta=0.0), 1)
    label = np.array([1.0, 0.0, 1.0, 1.0])
    margin = model.learn(rows, np.arange(4), label, np.ones(4), np.zeros(4))
    assert np.isfinite(margin).all()
    assert np.isfinite(model.table).all()
    assert model.table[0, 0] > 0


def test_squares_of_huge_gradients_stay_finite():
    """Their sum stays at the greatest number of float32, and the rate at the lowest."""
    rows = FeatureRows(np.array([0, 1]), np.array([0], np.uint32), np.array([1e9], np.float32))
    model = SgdModel(SgdParameters(), 1)
    model.learn(rows, np.zeros(1, np.int64), np.zeros(1), np.full(1, 1e12), np.zeros(1))
    assert model.table[0].tolist() == [
        np.float32(-LOWEST_RATE * 0.5 * 1e21), np.finfo(np.float32).max,
    ]  # fmt: skip


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
    model = SgdModel(SgdParameters(), 1)
    margins = model.learn(rows, np.arange(3), **given)
    assert np.isfinite(margins).tolist() == [True, False, False]
    assert (model.table != 0).all(axis=1).tolist() == [True, False]
    assert np.isfinite(model.table).all()


def test_learning_ends_where_a_prediction_is_not_finite():
    """A weight beyond float32 spreads no further, so that the coordinate at fault can be told."""
    rows = FeatureRows(
        np.arange(0, 9, 2), np.array([0, 1] * 4, np.uint32), np.array([1.0, 1e9] * 4, np.float32)
    )
    model = SgdModel(SgdParameters(rate="constant", alpha=1e31), 1)
    one = np.ones(4)
    margin = model.learn(rows, np.arange(4), one, one, np.zeros(4))
    assert np.isfinite(margin).tolist() == [True, False, False, False]
    assert np.isfinite(model.table[:, 0]).tolist() == [True, False]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ('rate = "linear"',
         "learner.rate: input should be 'per-coordinate', 'per-weight-sqrt', 'per-weight', "
         "'global' or 'constant' (got 'linear'); use one of these values"),
        ("alpha = 0.0",
         "learner.alpha: input should be greater than 0 (got 0.0); use a value above 0, for a "
         "rate at most 1"),
        ('rate = "constant"\nbeta = 2.0',
         'learner.beta: has no effect with rate = "constant" (got 2.0); leave it out'),
    ],
    ids=["an unknown scheme", "no rate", "a parameter of another scheme"],
)  # fmt: skip
def test_an_error_in_its_table_is_named(tmp_path, keys, message):
    """With key, value and hint."""
    table = f'label = "click"\nalgorithm = "sgd"\n{keys}'
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, GOOD.replace('label = "click"', table))
    assert str(caught.value) == f"{tmp_path / 'c.toml'}: {message}"
