"""Downsampling and its weights."""

import numpy as np
import pyarrow as pa
import pytest

from joiner.sampling import SamplingPlan
from schemas.hashing import hash_column


def choose(plan, positive, devices, seed_rows=0):
    units, _ = hash_column(pa.array(np.arange(seed_rows, seed_rows + positive.size)))
    batch = pa.RecordBatch.from_pydict({"device": devices})
    return plan.select(units, positive, plan.negative_rates(batch))


@pytest.mark.parametrize("rates", [{}, {"phone": 0.05, "tv": 1.0}])
def test_weighted_counts_are_unbiased_over_many_seeds(rates):
    """Horvitz-Thompson: the mean over seeds of weighted counts is the true count, by slice too."""
    random = np.random.default_rng(1)
    positive = random.random(4_000) < 0.1
    devices = random.choice(["phone", "tv", "desktop"], 4_000)
    totals = []
    for seed in range(200):
        plan = SamplingPlan(rate=0.2, column="device" if rates else None, rates=rates, seed=seed)
        kept, inclusion = choose(plan, positive, devices)
        weight = 1 / inclusion[kept]
        assert (inclusion[kept & positive] == 1.0).all()
        totals.append([weight.sum(), weight[devices[kept] == "phone"].sum(), kept[positive].sum()])
    totals = np.array(totals, float)
    truth = [4_000, (devices == "phone").sum(), positive.sum()]
    spread = totals.std(axis=0) / np.sqrt(200)
    assert (np.abs(totals.mean(axis=0) - truth) <= 4 * spread + 1e-9).all()


def test_a_rate_of_one_keeps_everything():
    """Nothing is left to chance at rate 1."""
    positive = np.zeros(1_000, bool)
    kept, inclusion = choose(SamplingPlan(rate=1.0), positive, ["x"] * 1_000)
    assert kept.all()
    assert (inclusion == 1.0).all()


def test_rates_go_by_the_value_of_a_column_as_text():
    """A value without a rate of its own, or none, has the default; numbers are matched as text."""
    plan = SamplingPlan(rate=0.5, column="device", rates={"7": 0.25})
    batch = pa.RecordBatch.from_pydict({"device": [7, 8, None]})
    assert plan.negative_rates(batch).tolist() == [0.25, 0.5, 0.5]
