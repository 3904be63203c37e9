"""The field-aware factorisation machine compared with the equations of the paper."""

import numpy as np
import pyarrow as pa
import pytest

from headrace.learners.features import FeatureEncoder, FeatureRows, Features, MultiValued
from headrace.learners.learner import probability
from headrace.learners.models.ffm import FfmModel, FfmParameters
from headrace.learners.models.sgd import SgdModel, SgdParameters
from headrace.schemas.records.hashing import fmix64
from tests.learners.conformance import Lesson, lesson
from tests.learners.logistic import ONES, Samples, taught


def slot(index, field, bits):
    golden = 0x9E3779B97F4A7C15
    return (int(fmix64(np.uint64(index * golden % 2**64))) + field) % (1 << bits)


def paper(parameters, given, bits):
    """Learn in float64 by equations 4 to 7 of Juan et al.; return the progressive log-odds.

    Gradients are those before the row, each slot's the sum over the pairs that it is in.
    """
    factors = FfmModel(parameters, bits).factors.astype(float)
    weights = np.zeros(1 << bits)
    factor_squares, squares = np.zeros_like(factors), np.zeros_like(weights)
    fields = given.rows.fields()
    margins = []

    def step(values, sums, at, g):
        sums[at] += g * g
        values[at] -= parameters.alpha / np.sqrt(1 + sums[at]) * g

    for at, row in enumerate(given.order):
        here = range(given.rows.starts[row], given.rows.starts[row + 1])
        x = {k: float(given.rows.values[k]) if given.rows.values.size else 1.0 for k in here}
        index = {k: int(given.rows.indices[k]) for k in here}
        scale = 1 / sum(value * value for value in x.values())

        def of(a, b, index=index):
            return slot(index[a], int(fields[b]), bits)

        pairs = {(a, b): factors[of(b, a)].copy() * x[a] * x[b]
                 for a in here for b in here if a != b}  # fmt: skip
        effects = [factors[of(a, b)] @ partner for (a, b), partner in pairs.items()]
        margins.append(sum(weights[index[k]] * x[k] for k in here) + scale * sum(effects) / 2)
        p = 1 / (1 + np.exp(-(margins[-1] + given.offset[at])))
        kappa = (p - given.label[at]) * given.importance[at]
        for a in here:
            step(weights, squares, index[a], parameters.l2 * weights[index[a]] + kappa * x[a])
            for field in dict.fromkeys(int(fields[b]) for b in here if b != a):
                pull = sum(pairs[a, b] for b in here if b != a and fields[b] == field)
                i = slot(index[a], field, bits)
                step(factors, factor_squares, i, parameters.l2 * factors[i] + kappa * scale * pull)
    return np.array(margins)


@pytest.mark.parametrize(
    "parameters",
    [FfmParameters(), FfmParameters(alpha=0.5, l2=0.01, factors=3)],
    ids=["default parameters", "other parameters"],
)
def test_progressive_log_odds_are_those_of_the_paper(parameters):
    """With numeric values, weights, offsets, and coordinates that occur twice in a row."""
    given = lesson(1, rows=1_500, bits=8)
    margins = given.taught(FfmModel(parameters, 8))
    assert np.abs(margins - paper(parameters, given, 8)).max() < 1e-4
    assert np.abs(margins).max() > 1


def test_a_list_of_any_length_is_one_field():
    """Also of none; its items have effects with each other."""
    random = np.random.default_rng(5)
    lists = [random.choice(list("pqrstu"), random.integers(0, 4)).tolist() for _ in range(600)]
    columns = {"a": random.choice(list("xyz"), 600), "t": pa.array(lists, pa.list_(pa.string()))}
    features = Features(categorical=("a",), multi_valued=(MultiValued("t"),), crosses=(("a", "t"),))
    rows = FeatureEncoder(features, 12).encode(pa.RecordBatch.from_pydict(columns))
    label = np.array([float("p" in items and len(items) > 1) for items in lists])
    given = Lesson(rows, np.arange(600), label, np.ones(600), np.zeros(600))
    margins = given.taught(FfmModel(FfmParameters(), 12))
    assert np.abs(margins - paper(FfmParameters(), given, 12)).max() < 1e-4
    assert np.abs(margins).max() > 1


def test_items_of_a_list_are_of_one_field():
    """Swapping two items of a list changes no prediction, as it does not change the row."""
    features = Features(categorical=("a",), multi_valued=(MultiValued("t"),))
    columns = {"a": ["x", "x", "y"], "t": pa.array([["p", "q"], ["q", "p"], ["p"]])}
    rows = FeatureEncoder(features, 12).encode(pa.RecordBatch.from_pydict(columns))
    model = FfmModel(FfmParameters(), 12)
    order = np.tile(np.array([0, 2]), 50)
    model.learn(rows, order, order / 2, np.ones(100), np.zeros(100))
    one, other, _ = model.predict(rows)
    assert one == pytest.approx(other, abs=1e-12)
    # Without its fields, each item would be of that of its place.
    one, other, _ = model.predict(FeatureRows(rows.starts, rows.indices, rows.values))
    assert abs(one - other) > 1e-4


def test_effects_of_pairs_are_learned():
    """Log loss comes far closer to the truth than without them."""
    count, fields, values = 100_000, 3, 20
    random = np.random.default_rng(1)
    value = random.integers(0, values, (count, fields))
    latent = random.normal(0, 1, (fields, values, 2))
    of_row = latent[np.arange(fields), value]
    p = probability(-1 + sum((of_row[:, a] * of_row[:, b]).sum(axis=1) * 0.7
                             for a, b in ((0, 1), (0, 2), (1, 2))))  # fmt: skip
    index = 1 + np.arange(fields) * values + value
    indices = np.column_stack([np.zeros(count), index]).astype(np.uint32).ravel()
    rows = FeatureRows(np.arange(count + 1) * (fields + 1), indices, ONES)
    samples = Samples(rows, p, (random.random(count) < p).astype(float))
    alone = samples.log_loss(taught(SgdModel(SgdParameters(alpha=0.3), 14), samples))
    assert alone > 0.05
    pairs = samples.log_loss(taught(FfmModel(FfmParameters(alpha=0.4), 14), samples))
    assert pairs < 0.25 * alone


def test_every_slot_begins_at_a_place_of_its_own():
    """Around 0, within half over the root of their number, alike in each model."""
    parameters = FfmParameters(factors=16)
    first = FfmModel(parameters, 12).factors
    assert (first == FfmModel(parameters, 12).factors).all()
    assert np.abs(first).max() <= 0.125
    assert abs(first.mean()) < 0.001
    assert first.std() == pytest.approx(0.125 / np.sqrt(3), rel=0.01)
    assert np.unique(first).size > 0.98 * first.size


@pytest.mark.parametrize("value", [1e9, 1e-30, 1e-45, 0.0])
def test_values_of_any_size_stay_finite(value):
    """A row without any value but 0 has no pairs."""
    rows = FeatureRows(
        np.arange(0, 401, 2), np.tile([0, 1], 200).astype(np.uint32),
        np.tile([value, value], 200).astype(np.float32),
    )  # fmt: skip
    model = FfmModel(FfmParameters(), 4)
    label = (np.random.default_rng(7).random(200) < 0.5).astype(float)
    margin = model.learn(rows, np.arange(200), label, np.ones(200), np.zeros(200))
    assert np.isfinite(margin).all()
    assert np.isfinite(model.weights).all()
    assert np.isfinite(model.factors).all()


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
    model = FfmModel(FfmParameters(), 1)
    margins = model.learn(rows, np.arange(3), **given)
    assert np.isfinite(margins).tolist() == [True, False, False]
    assert (model.weights != 0).all(axis=1).tolist() == [True, False]


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_steps_are_those_of_finite_differences(label):
    """Of the loss of a row, by each weight and each factor that it has; of no others."""
    model = FfmModel(FfmParameters(l2=0, factors=3), 8)
    lesson(5, rows=200, bits=8).taught(model)
    indices = np.array([7, 21, 135, 200], np.uint32)
    rows = FeatureRows(np.array([0, 4]), indices, np.array([1, 0.5, -1.5, 1], np.float32))
    values = [model.weights[:, 0], model.factors.reshape(-1)]
    squares = [model.weights[:, 1], model.factor_squares.reshape(-1)]

    def loss():
        (margin,) = model.predict(rows)
        return np.logaddexp(0, -margin if label else margin)

    def slope(array, at, step=1 / 64):
        kept, losses = array[at], []
        for moved in (kept + step, kept - step):
            array[at] = moved
            losses.append(loss())
        array[at] = kept
        return (losses[0] - losses[1]) / (2 * step)

    expected = [np.array([slope(array, at) for at in range(array.size)]) for array in values]
    before = [array.copy() for array in (*values, *squares)]
    model.learn(rows, np.array([0]), np.array([label]), np.ones(1), np.zeros(1))
    for number, (array, sums) in enumerate(zip(values, squares, strict=True)):
        moved, grown = array - before[number], np.float64(sums) - before[2 + number]
        gradient = -np.sign(moved) * np.sqrt(np.maximum(grown, 0))
        np.testing.assert_allclose(gradient, expected[number], rtol=0.02, atol=2e-3)
        assert np.count_nonzero(gradient) >= 4
