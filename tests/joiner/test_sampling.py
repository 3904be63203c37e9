"""Downsampling and its weights."""

import numpy as np
import pyarrow as pa
import pytest

from headrace.joiner.plan.sampling import SamplingPlan
from headrace.learners.models.ftrl import FtrlModel, FtrlParameters
from headrace.schemas.config.predicates import Predicate
from headrace.schemas.records.hashing import hash_column

ROWS, SEEDS = 4_000, 200


def choose(plan, positive, devices):
    units, _ = hash_column(pa.array(np.arange(positive.size)))
    batch = pa.RecordBatch.from_pydict({"device": devices})
    return plan.select(units, positive, plan.strata(batch))


def traffic():
    random = np.random.default_rng(1)
    positive = random.random(ROWS) < 0.1
    devices = random.choice(["phone", "tv", "desktop"], ROWS)
    groups = np.arange(ROWS) // 4
    return positive, devices, groups


def gradient(rows, label, weight):
    """Sum of weighted log-loss gradients by coordinate, by FTRL's own kernel.

    With a large beta, and so a learning rate next to nothing, all predictions are those of an empty
    model, and z is the plain sum of gradients.
    """
    model = FtrlModel(FtrlParameters(alpha=1.0, beta=1e9, l1=0.0, l2=0.0), 3)
    encoded = rows.encode(pa.RecordBatch.from_pydict({"device": label[1]}))
    order = np.arange(label[0].size)
    model.learn(encoded, order, label[0].astype(float), weight, np.zeros(order.size))
    return model.zn[:, 0].astype(float)


def figures(positive, devices, kept, weight):
    """Counts, click-through rate of a slice, and gradient of weighted rows."""
    from headrace.learners.features import FeatureEncoder, Features

    phone = devices == "phone"
    own = weight * kept
    ctr = own[phone & positive].sum() / own[phone].sum()
    encoder = FeatureEncoder(Features(categorical=("device",)), 3)
    grad = gradient(encoder, (positive[kept], devices[kept]), weight[kept])
    return np.array([own.sum(), own[phone].sum(), own[positive].sum(), ctr, *grad])


@pytest.mark.parametrize("unit", ["row", "group"])
@pytest.mark.parametrize("rates", [{}, {"phone": 0.05, "tv": 1.0}], ids=["one rate", "by device"])
def test_weighted_figures_are_unbiased_over_many_seeds(unit, rates):
    """Counts, rates by slice and the FTRL gradient are those of all rows, on the mean of seeds."""
    positive, devices, groups = traffic()
    unit_positive, units = positive, np.arange(ROWS)
    if unit == "group":
        units = groups
        unit_positive = np.isin(groups, groups[positive])
        if rates:
            devices = devices[groups * 4]  # a group has one device, or it would have two rates
    digests, _ = hash_column(pa.array(units))
    truth = figures(positive, devices, np.ones(ROWS, bool), np.ones(ROWS))
    found, low = [], []
    for seed in range(SEEDS):
        plan = SamplingPlan(
            rate=0.2, column="device" if rates else None, rates=rates, seed=seed,
            published={"low": 0.04},
        )  # fmt: skip
        strata = plan.strata(pa.RecordBatch.from_pydict({"device": devices}))
        selection = plan.select(digests, unit_positive, strata)
        assert (selection.inclusion[unit_positive] == 1.0).all()
        found.append(figures(positive, devices, selection.kept, 1 / selection.inclusion))
        weight = selection.published["low"]
        assert not weight[~selection.kept].any()
        low.append([weight.sum(), weight[devices == "phone"].sum(), weight[positive].sum()])
    for sums, expected in ((np.array(found), truth), (np.array(low), truth[:3])):
        spread = sums.std(axis=0) / np.sqrt(SEEDS)
        # A ratio of sums is biased by the order of its variance.
        allowed = 4 * spread + 1e-3 * np.abs(expected) + 1e-6
        assert (np.abs(sums.mean(axis=0) - expected) <= allowed).all()
        assert spread[0] > 0


def test_a_rate_of_one_keeps_everything():
    """Nothing is left to chance at rate 1."""
    positive = np.zeros(1_000, bool)
    selection = choose(SamplingPlan(rate=1.0), positive, ["x"] * 1_000)
    assert selection.kept.all()
    assert (selection.inclusion == 1.0).all()


def test_rates_go_by_the_value_of_a_column_as_text():
    """A value without a rate of its own, or none, has the default; numbers are matched as text."""
    plan = SamplingPlan(rate=0.5, column="device", rates={"7": 0.25})
    batch = pa.RecordBatch.from_pydict({"device": [7, 8, None]})
    assert plan.strata(batch).rates.tolist() == [0.25, 0.5, 0.5]


@pytest.mark.parametrize(
    "keep",
    [
        None, "device == 'tv'", "device == 'tv' or device == 'phone'",
        "price > 1 and device == 'tv'",
    ],
)  # fmt: skip
@pytest.mark.parametrize("column", [None, "device", "price"])
def test_a_column_of_several_uses_is_named_once(column, keep):
    """Rate and condition may go by the same column: rows that carry it once are enough."""
    predicate = None if keep is None else Predicate(keep)
    plan = SamplingPlan(column=column, rates={"tv": 0.5} if column else {}, keep=predicate)
    used = {name for name in ("device", "price") if name == column or name in (keep or "")}
    assert sorted(plan.columns) == sorted(used)
    batch = pa.RecordBatch.from_pydict({"device": ["tv", "pc", None], "price": [1, 2, 3]})
    strata = plan.strata(batch.select(plan.columns))
    whole = plan.strata(batch)
    assert strata.rates.tolist() == whole.rates.tolist()
    assert strata.safe.tolist() == whole.safe.tolist()


def test_rows_that_are_to_be_kept_are_never_dropped():
    """They weigh 1, at every published rate too; the others are as they were."""
    positive, devices, _ = traffic()
    common = {"rate": 0.1, "seed": 3, "published": {"low": 0.01}}
    plain = choose(SamplingPlan(**common), positive, devices)
    keep = Predicate("device in ['tv']")
    kept = choose(SamplingPlan(keep=keep, **common), positive, devices)
    tv = devices == "tv"
    assert kept.kept[tv].all()
    assert (kept.inclusion[tv] == 1.0).all()
    assert (kept.rates[tv] == 1.0).all()
    assert (kept.published["low"][tv] == 1.0).all()
    assert (kept.kept[~tv] == plain.kept[~tv]).all()
    assert (kept.published["low"][~tv] == plain.published["low"][~tv]).all()
