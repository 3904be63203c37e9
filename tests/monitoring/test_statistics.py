import itertools

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from headrace.monitoring.ratios import auc, entropy, ratios
from headrace.monitoring.statistics import (
    LOGIT_BINS,
    LOGIT_RANGE,
    MOST_VALUES,
    OTHER,
    Observation,
    Statistics,
)
from headrace.schemas.errors import StateVersionError


def observation(rows, seed=0, devices=3):
    random = np.random.default_rng(seed)
    label = (random.random(rows) < 0.3).astype(float)
    return Observation(
        np.sort(random.integers(0, 500, rows)),
        label,
        np.where(label > 0, 1.0, 4.0),
        random.normal(-1, 2, rows),
        {"device": pa.array([f"d{i}" for i in random.integers(0, devices, rows)])},
    )


def cut(observed, begin, end):
    here = slice(begin, end)
    return Observation(
        observed.event_time[here], observed.label[here], observed.weight[here],
        observed.margin[here],
        {name: column.slice(begin, end - begin) for name, column in observed.slices.items()},
    )  # fmt: skip


def test_sums_are_the_plain_sums():
    """Samples, positives, weights, predictions and losses add up by window and slice."""
    observed = observation(1_000)
    statistics = Statistics(100, ("device",))
    statistics.observe(observed)
    p = 1 / (1 + np.exp(-observed.margin))
    loss = -np.where(observed.label > 0, np.log(p), np.log(1 - p))
    devices = np.array(observed.slices["device"].to_pylist())
    for column, value, where in (
        ("", "", np.ones(1_000, bool)), ("device", "d1", devices == "d1"),
    ):  # fmt: skip
        windows = statistics.windows(column, value)
        assert [start for start, _ in windows] == [0, 100, 200, 300, 400]
        for start, sums in windows:
            here = where & (observed.event_time // 100 * 100 == start)
            w, y = observed.weight[here], observed.label[here]
            expected = [here.sum(), y.sum(), w.sum(), w @ y, w @ p[here], w @ loss[here]]
            assert sums == pytest.approx(expected)
    assert set(statistics.totals("device")) == {"d0", "d1", "d2"}


@given(st.lists(st.integers(0, 300), max_size=6))
def test_batch_cuts_change_no_bit(cuts):
    """Sums are built sample by sample, so cuts do not show even in the last bit."""
    observed = observation(300)
    whole, parts = Statistics(100, ("device",)), Statistics(100, ("device",))
    whole.observe(observed)
    edges = sorted({0, 300, *cuts})
    for begin, end in itertools.pairwise(edges):
        parts.observe(cut(observed, begin, end))
    for column in ("", "device"):
        for value, sums in whole.totals(column).items():
            for (_, a), (_, b) in zip(
                whole.windows(column, value), parts.windows(column, value), strict=True
            ):
                assert a.tolist() == b.tolist()
            assert sums.size == 6
    assert whole.bins.tolist() == parts.bins.tolist()
    assert whole.baseline.tolist() == parts.baseline.tolist()


def test_restored_statistics_continue_bit_for_bit():
    """The state is written as JSON in between."""
    first, second = observation(200, seed=1), observation(200, seed=2)
    statistics = Statistics(100, ("device",))
    statistics.observe(first)
    again = Statistics(100, ("device",))
    again.restore(statistics.export())
    for one in (statistics, again):
        one.observe(second)
    assert again.export() == statistics.export()


def test_a_slice_keeps_a_thousand_values_and_sums_the_rest():
    """The other values are summed as `OTHER`, and no sample is lost."""
    observed = observation(5_000, devices=3_000)
    statistics = Statistics(1_000, ("device",))
    statistics.observe(observed)
    totals = statistics.totals("device")
    assert len(totals) == MOST_VALUES + 1
    assert OTHER in totals
    assert sum(sums[0] for sums in totals.values()) == 5_000


def test_ratios_are_computed_from_sums():
    """Rate, log loss, normalised entropy and calibration of a hand-made row."""
    found = ratios(np.array([10.0, 2.0, 34.0, 2.0, 4.0, 6.8]))
    assert found["label_rate"] == pytest.approx(2 / 34)
    assert found["log_loss"] == pytest.approx(0.2)
    assert found["normalized_entropy"] == pytest.approx(0.2 / entropy(2 / 34))
    assert found["calibration"] == pytest.approx(2.0)
    empty = ratios(np.zeros(6))
    assert (empty["label_rate"], empty["log_loss"], empty["calibration"]) == (None, None, None)


def test_statistics_with_another_number_of_bins_are_refused():
    """Coarser counts cannot be made finer."""
    state = Statistics(100, ()).export()
    state["bins"] = np.zeros((2, 1024)).tolist()
    with pytest.raises(StateVersionError) as refused:
        Statistics(100, ()).restore(state)
    assert str(refused.value) == (
        "log-odds must be counted in 16384 bins (got 1024); "
        "continue with the version that wrote the state, or start over"
    )


def test_log_odds_of_any_size_are_counted():
    """A certain prediction that is wrong costs the clipped log loss, without a warning."""
    statistics = Statistics(100, ())
    one = np.ones(2)
    margin = np.array([-1e12, 1e12])
    statistics.observe(Observation(np.zeros(2, np.int64), one, one, margin, {}))
    assert statistics.totals()[""][4:].tolist() == pytest.approx([1.0, -np.log(1e-15)])
    assert statistics.bins[1, [0, -1]].tolist() == [1, 1]


def counted(label, margin):
    """Return the AUC over bins, the exact one, and half the share of pairs in one bin."""
    statistics = Statistics(100, ())
    times, weight = np.zeros(label.size, np.int64), np.ones(label.size)
    statistics.observe(Observation(times, label, weight, margin, {}))
    negative, positive = statistics.bins
    shared = (negative * positive).sum() / (positive.sum() * negative.sum())
    return auc(statistics.bins), roc_auc_score(label, margin), shared / 2


def test_auc_is_off_by_at_most_half_the_pairs_that_share_a_bin():
    """With predictions in order within each of ten bins the error is exactly that."""
    middle = (np.arange(10) + 0.5) * 2 * LOGIT_RANGE / LOGIT_BINS
    margin = np.concatenate([middle - 1e-4, middle + 1e-4])
    found, exact, bound = counted(np.repeat([0.0, 1.0], 10), margin)
    assert bound == pytest.approx(0.05)
    assert exact - found == pytest.approx(bound)


@pytest.mark.parametrize(
    ("spread", "bound"),
    [(1.0, 3e-4), (0.1, 3e-3), (0.02, 1.5e-2)],
    ids=["standard deviation 1", "standard deviation 0.1", "standard deviation 0.02"],
)
def test_auc_is_nearly_exact_even_if_predictions_differ_little(spread, bound):
    """The bound is 3e-4 / spread, the error far less: 1,024 bins were off by 0.0036."""
    random = np.random.default_rng(0)
    margin = random.normal(-4, spread, 200_000)
    p = 1 / (1 + np.exp(-(margin + 4) * 3))
    found, exact, half = counted((random.random(margin.size) < p).astype(float), margin)
    assert half <= bound
    assert abs(found - exact) <= min(half, 2e-4)


def test_auc_equals_the_share_of_pairs_in_order():
    """Pairs that share a bin count half."""
    observed = observation(400)
    statistics = Statistics(100, ())
    statistics.observe(
        Observation(observed.event_time, observed.label, np.ones(400), observed.margin, {})
    )
    positive, negative = observed.margin[observed.label > 0], observed.margin[observed.label == 0]
    pairs = positive[:, None] - negative[None, :]
    exact = ((pairs > 0) + 0.5 * (pairs == 0)).mean()
    assert auc(statistics.bins) == pytest.approx(exact, abs=2e-4)
    assert auc(np.zeros((2, LOGIT_BINS))) is None
    sure = np.zeros((2, 4))
    sure[0, 0], sure[1, 3] = 5, 5
    assert auc(sure) == 1.0
