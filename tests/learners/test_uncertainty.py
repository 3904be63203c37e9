"""How far one more example would move a prediction."""

from __future__ import annotations

import numpy as np
import pytest

from headrace.learners.exact import ExactLearner, ExactTable
from headrace.learners.features import FeatureRows
from headrace.learners.learner import probability
from headrace.learners.models.ffm import FfmModel, FfmParameters
from headrace.learners.models.ftrl import FtrlModel, FtrlParameters
from headrace.learners.models.probit import ProbitModel, ProbitParameters
from headrace.learners.models.sgd import SgdModel, SgdParameters
from headrace.learners.uncertainty import uncertainty_of
from tests.learners.conformance import state

BITS, FIELDS = 12, 3
ONES = np.empty(0, np.float32)
LEARNERS = {
    "ftrl": FtrlModel(FtrlParameters(), BITS),
    "ftrl without beta and l2": FtrlModel(FtrlParameters(alpha=0.5, beta=0, l2=0), BITS),
    "ftrl with l1": FtrlModel(FtrlParameters(l1=0.5), BITS),
    "sgd": SgdModel(SgdParameters(), BITS),
    "sgd without beta": SgdModel(SgdParameters(alpha=2, beta=0), BITS),
}


def rare_and_frequent(count, seed, values=400, valued=False):
    """Return rows of an intercept and values of which few are frequent, labels and log-odds."""
    random = np.random.default_rng(seed)
    value = (values * random.random((count, FIELDS)) ** 6).astype(np.int64)
    effect = random.normal(0, 0.7, (FIELDS, values))
    margin = effect[np.arange(FIELDS), value].sum(axis=1) - 1
    index = 1 + np.arange(FIELDS) * values + value
    indices = np.column_stack([np.zeros(count), index]).astype(np.uint32).ravel()
    starts = np.arange(count + 1, dtype=np.int64) * (FIELDS + 1)
    numbers = random.normal(0, 2, indices.size).astype(np.float32) if valued else ONES
    label = (random.random(count) < probability(margin)).astype(float)
    return FeatureRows(starts, indices, numbers), label, margin


def learn(learner, rows, label):
    ones = np.ones(label.size)
    return learner.learn(rows, np.arange(label.size), label, ones, 0 * ones)


def one(rows, at):
    here = slice(rows.starts[at], rows.starts[at + 1])
    values = rows.values[here] if rows.values.size else ONES
    return FeatureRows(np.array([0, FIELDS + 1]), rows.indices[here], values)


@pytest.mark.parametrize("valued", [False, True])
@pytest.mark.parametrize("name", LEARNERS)
def test_no_example_moves_the_log_odds_by_more(name, valued):
    """And one that is as wrong as can be moves them by as much, unless l1 is in its way."""
    learner = LEARNERS[name].rearranged(np.empty(0, np.int64), BITS)
    rows, label, _ = rare_and_frequent(300, 1, valued=valued)
    told = uncertainty_of(learner)
    for at in range(300):
        row = one(rows, at)
        most, before = told(row)[0], learner.predict(row)
        learn(learner, row, label[at : at + 1])
        # An x close to 0 is squared in float32.
        assert abs(learner.predict(row) - before)[0] <= most * (1 + 1e-4) + 1e-7
    none = np.zeros(1)
    for at in range(20):
        row = one(rows, at)
        most, before = told(row)[0], learner.predict(row)
        # An offset makes the prediction of the row 0, and its gradient 1.
        learner.learn(row, np.zeros(1, np.int64), none + 1, none + 1, none - 1e3)
        moved = (learner.predict(row) - before)[0]
        if name == "ftrl with l1":
            assert moved <= most * (1 + 1e-5)
        else:
            np.testing.assert_allclose(moved, most, rtol=1e-4)


@pytest.mark.parametrize("name", ["ftrl", "sgd"])
@pytest.mark.parametrize("table", ["hashed", "exact"])
def test_it_ranks_rows_by_their_errors(name, table):
    """Its rank correlation with the error of log-odds is positive, and so by tenths of the rows.

    Where the log-odds of a row are known, as they are of generated ones.
    """
    learner = LEARNERS[name].rearranged(np.empty(0, np.int64), BITS)
    if table == "exact":
        learner = ExactLearner(type(learner), learner.parameters, ExactTable())
    rows, label, truth = rare_and_frequent(40_000, 2)
    learn(learner, rows, label)
    error = np.abs(learner.predict(rows) - truth)
    told = uncertainty_of(learner)(rows)
    ranks = [np.argsort(np.argsort(figures)) for figures in (told, error)]
    assert np.corrcoef(*ranks)[0, 1] > 0.25
    tenths = [error[part].mean() for part in np.array_split(np.argsort(told), 10)]
    assert tenths[9] > 2.5 * tenths[0]
    assert np.corrcoef(tenths, np.arange(10))[0, 1] > 0.9


@pytest.mark.parametrize("admit", [1, 2])
def test_in_an_exact_table_it_is_of_the_features_that_count(admit):
    """One never seen adds what it would as a new one, or nothing if it waits for admission."""
    learner = ExactLearner(FtrlModel, FtrlParameters(), ExactTable(admit=admit))
    ones = np.ones(3)
    rows = FeatureRows(np.array([0, 1, 2, 3]), np.array([5, 5, 5], np.uint64), ONES)
    learner.learn(rows, np.arange(3), ones, ones, 0 * ones)
    asked = FeatureRows(np.array([0, 1, 2, 4]), np.array([5, 6, 5, 6], np.uint64), ONES)
    known, unknown, both = uncertainty_of(learner)(asked)
    assert unknown == (1 / ((1 + 1) / 0.1 + 1) if admit == 1 else 0)
    assert 0 < known < 1 / 21
    assert both == known + unknown


def test_asking_changes_nothing():
    """Not a bit of the state."""
    learner = ExactLearner(FtrlModel, FtrlParameters(), ExactTable())
    rows, label, _ = rare_and_frequent(50, 3)
    learn(learner, rows, label)
    before = state(learner)
    uncertainty_of(learner)(rare_and_frequent(50, 4)[0])
    assert state(learner) == before


def test_learners_without_it_tell_none():
    """Nor does an exact table of such a model; of no row it is nothing."""
    exact = ExactTable()
    for learner in (
        FfmModel(FfmParameters(), 4),
        SgdModel(SgdParameters(rate="global"), 4),
        SgdModel(SgdParameters(rate="per-weight"), 4),
        ExactLearner(FfmModel.growing, FfmParameters(), exact),
        ExactLearner(SgdModel, SgdParameters(rate="constant"), exact),
    ):
        assert uncertainty_of(learner) is None
    none = FeatureRows(np.zeros(1, np.int64), np.empty(0, np.uint32), ONES)
    for learner in (*LEARNERS.values(), ProbitModel(ProbitParameters(), 4)):
        assert uncertainty_of(learner)(none).shape == (0,)
    probit = ExactLearner(ProbitModel, ProbitParameters(prior_variance=0.25), exact)
    row = FeatureRows(np.array([0, 2]), np.array([3, 4], np.uint64), ONES)
    assert uncertainty_of(probit)(row).tolist() == [np.sqrt(0.5)]
