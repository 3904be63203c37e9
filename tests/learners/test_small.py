"""Small models: weights alone, of 16 bits."""

from __future__ import annotations

import json

import numpy as np
import pytest

from headrace.learners.contributions import contributions
from headrace.learners.exact import CODE_BITS, ExactTable
from headrace.learners.features import FeatureRows
from headrace.learners.models.small import SmallModel
from headrace.learners.registry import ALGORITHMS
from headrace.learners.shrinking import small
from headrace.learners.snapshot import load_snapshot, save_snapshot
from headrace.learners.uncertainty import uncertainty_of
from headrace.learners.weights import touched_weights
from headrace.schemas.errors import LearningError, SnapshotError
from tests.learners.test_uncertainty import learn, rare_and_frequent

NAMES = ("ftrl", "sgd", "probit")
TABLES = {"hashed": None, "exact": ExactTable(), "admitting": ExactTable(admit=3)}
NONE = np.empty(0, np.float32)


def learned(name, table="hashed", count=3_000, valued=False, **parameters):
    algorithm = ALGORITHMS[name]
    bits = 12 if table == "hashed" else CODE_BITS
    given = algorithm.parameters.model_validate(parameters)
    learner = algorithm.make(given, bits, TABLES[table])
    rows, label, _ = rare_and_frequent(count, 1, valued=valued)
    if table != "hashed":
        codes = rows.indices.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        rows = FeatureRows(rows.starts, codes, rows.values)
    learn(learner, rows, label)
    return learner, rows


def with_weights(weights):
    """Return an SGD model with these weights."""
    algorithm = ALGORITHMS["sgd"]
    model = algorithm.make(algorithm.parameters(), 12)
    model.table[: weights.size, 0] = weights
    return model


def found_in(model):
    """Return the small model's weights as numbers."""
    return np.ldexp(model.weights.astype(float), -model.fraction_bits)


@pytest.mark.parametrize("valued", [False, True])
@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("name", NAMES)
def test_predictions_are_those_of_weights_that_are_near(name, table, valued):
    """Each is less than a step away; of the probit the mean alone is there."""
    learner, rows = learned(name, table, valued=valued)
    model = small(learner)
    step = 2.0**-model.fraction_bits
    index, weight = (np.concatenate(part) for part in zip(*touched_weights(learner), strict=True))
    own = dict(zip(*(np.concatenate(p).tolist() for p in zip(*touched_weights(model), strict=True)),
                   strict=True))  # fmt: skip
    rounded = np.array([own.get(one, 0.0) for one in index.tolist()])
    assert np.abs(rounded - weight).max() < step
    assert np.abs(weight).max() < 2.0**15 * step <= 2 * np.abs(weight).max()
    values = rows.values if valued else np.ones(rows.indices.size)
    effects = np.array([own.get(one, 0.0) for one in rows.indices.tolist()]) * values
    sums = np.add.reduceat(effects, rows.starts[:-1])
    margin = model.predict(rows)
    if name == "probit":
        from scipy.special import log_ndtr

        expected = log_ndtr(sums) - log_ndtr(-sums)
        np.testing.assert_allclose(margin, expected, rtol=1e-9, atol=1e-12)
    else:
        np.testing.assert_allclose(margin, sums, rtol=1e-12, atol=1e-12)
        assert np.abs(margin - learner.predict(rows)).max() < 10 * np.abs(values).max() * step


def test_nothing_is_clipped_and_small_weights_have_small_steps():
    """The greatest magnitude says where the point is; beside it nothing is finer than a step."""
    for largest, integer_bits in ((5.3, 3), (4.0, 3), (3.99, 2), (0.7, 0), (0.01, -6), (1e30, 100)):
        model = small(with_weights(np.array([largest, -largest / 3])))
        assert model.fraction_bits == 15 - integer_bits
        found = found_in(model)
        step = 2.0**-model.fraction_bits
        # The one number that the form lacks is that of its upper end.
        assert np.abs(found[:2] - np.float32([largest, -largest / 3])).max() <= step
    assert found_in(small(with_weights(np.zeros(3)))).max() == 0
    ends = small(with_weights(np.float32([2**15 - 0.5, -(2**15 - 0.5)])))
    assert ends.weights[0] == 2**15 - 1
    assert ends.weights[1] in (-(2**15), -(2**15) + 1)


def test_rounding_is_random_and_on_average_right():
    """A third of a step becomes a step for a third of the coordinates, also below 0."""
    count = 4_000
    for third in (1 / 3, -1 / 3):
        weights = np.full(count, third * 2.0**-14, np.float32)
        weights[0] = 1.5
        rounded = small(with_weights(weights)).weights[1:count]
        assert set(rounded.tolist()) == ({0, 1} if third > 0 else {-1, 0})
        assert abs(rounded.mean() - third) < 4 * np.sqrt(2 / 9 / count)


def test_how_a_weight_is_rounded_depends_on_its_index_alone():
    """Not on the others; the same model is rounded alike each time."""
    weights = np.random.default_rng(3).normal(size=2_000).astype(np.float32)
    whole = small(with_weights(weights))
    assert (small(with_weights(weights)).weights == whole.weights).all()
    some = np.where(np.arange(2_000) % 3, weights, 0)
    some[weights.argmax()] = weights.max()
    some[weights.argmin()] = weights.min()
    part = small(with_weights(some))
    assert (part.weights[:2_000][some != 0] == whole.weights[:2_000][some != 0]).all()


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("name", NAMES)
def test_a_small_snapshot_is_read_again_and_cannot_be_learned_from(tmp_path, name, table):
    """It is at most a third as large as the other, and has a checksum too."""
    learner, rows = learned(name, table, count=20_000)
    full = save_snapshot(tmp_path / "full", name, learner, {})
    model = small(learner)
    manifest = save_snapshot(tmp_path / "small", name, model, {"learner": "click"})
    assert (manifest["format"], manifest["algorithm"]) == (3, name)
    assert manifest["small"] == {"fraction_bits": model.fraction_bits}
    assert manifest["sha256"] != full["sha256"]
    again, read = load_snapshot(tmp_path / "small")
    assert read == manifest
    np.testing.assert_array_equal(again.predict(rows), model.predict(rows))
    assert again.state_bytes == model.state_bytes <= learner.state_bytes / 3
    assert again.figures() == {"coordinates": np.count_nonzero(model.weights)}
    assert uncertainty_of(again) is None
    with pytest.raises(LearningError, match="weights alone and cannot be learned from; take"):
        learn(again, rows, np.zeros(20_000))
    manifest["small"]["fraction_bits"] += 1
    (tmp_path / "small" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(SnapshotError, match="is damaged"):
        load_snapshot(tmp_path / "small")


@pytest.mark.parametrize("table", ["hashed", "exact"])
@pytest.mark.parametrize("name", NAMES)
def test_a_prediction_can_be_taken_apart(name, table):
    """Its parts add up to the margin."""
    learner, rows = learned(name, table)
    model = small(learner)
    margin = model.predict(rows)
    parts = contributions(model, rows, margin)
    np.testing.assert_allclose(np.add.reduceat(parts.features, rows.starts[:-1]), margin, atol=1e-9)


def test_unknown_codes_and_an_empty_model_predict_nothing():
    """Also one beyond the last code."""
    learner, _ = learned("ftrl", "exact", count=5)
    model = small(learner)
    beyond = np.array([model.codes.max() + np.uint64(1), 2**64 - 1, 3], np.uint64)
    asked = FeatureRows(np.array([0, 1, 3]), beyond, NONE)
    assert model.predict(asked).tolist() == [0, 0]
    empty = small(ALGORITHMS["ftrl"].make(learner.parameters, CODE_BITS, ExactTable()))
    assert empty.predict(asked).tolist() == [0, 0]
    assert empty.figures() == {"coordinates": 0}


def test_what_has_more_than_weights_is_refused():
    """Or is small already."""
    ffm = ALGORITHMS["ffm"]
    for table in (None, ExactTable()):
        learner = ffm.make(ffm.parameters(), 64 if table else 4, table)
        with pytest.raises(ValueError, match="more than a weight for each feature; export ftrl"):
            small(learner)
    with pytest.raises(ValueError, match="is small already"):
        small(SmallModel(ALGORITHMS["sgd"].parameters(), 4, 13))
