import itertools
import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from headrace.monitoring import frequent
from headrace.monitoring import statistics as module
from headrace.monitoring.ratios import auc
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
            assert sums[:6] == pytest.approx(expected)
            assert sums[6:] == pytest.approx([w @ w, (w * w) @ y, here.sum()])
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
            assert sums.size == 9
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


def test_statistics_with_another_number_of_bins_are_refused():
    """Coarser counts cannot be made finer."""
    state = Statistics(100, ()).export()
    state["bin_count"] = 1024
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
    assert statistics.totals()[""][4:6].tolist() == pytest.approx([1.0, -np.log(1e-15)])
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


def skewed(rows, values, seed):
    """Return an observation whose values change their frequency in the middle."""
    random = np.random.default_rng(seed)
    observed = observation(rows, seed)
    early = random.zipf(1.3, rows // 2) % values
    late = (random.zipf(1.3, rows - rows // 2) + values // 2) % values
    device = pa.array([f"d{i}" for i in np.concatenate([early, late])])
    return replace(observed, slices={"device": device})


@pytest.fixture
def small(monkeypatch):
    """Five values a column, compared every 64 rows."""
    monkeypatch.setattr(module, "MOST_VALUES", 5)
    monkeypatch.setattr(frequent.FrequentValues.__init__, "__defaults__", (64,))


def played(observed, edges, slices=("device",)):
    statistics = Statistics(100, slices)
    for begin, end in itertools.pairwise(sorted({0, observed.label.size, *edges})):
        statistics.observe(cut(observed, begin, end))
    return statistics


def shown(statistics):
    """Return everything that statistics say, whatever the order of their rows."""
    sums = statistics.table("click", "learned")
    values = {name: of.export() for name, of in statistics.values.items()}
    return sums, statistics.bins.tolist(), statistics.baseline.tolist(), values


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("seed", range(5))
def test_a_crowded_column_does_not_depend_on_cuts_of_batches(seed):
    """Which values have sums of their own, and each of their bits."""
    observed = skewed(600, 40, seed)
    cuts = np.random.default_rng(seed).integers(0, 600, 8).tolist()
    assert shown(played(observed, cuts)) == shown(played(observed, ()))


@pytest.mark.usefixtures("small")
def test_a_value_that_becomes_frequent_gets_sums_of_its_own():
    """One that is so no longer goes to the others, and sums over values are those of all."""
    statistics = played(skewed(4_000, 40, seed=1), ())
    totals = statistics.totals("device")
    assert len(totals) == 6
    assert "d21" in totals  # the most frequent of the second half
    for start, sums in statistics.windows():
        found = statistics.all_totals(start, start)
        of_values = [sums for (column, _), sums in found.items() if column == "device"]
        assert np.sum(of_values, axis=0) == pytest.approx(sums)
        assert np.sum(of_values, axis=0)[[0, 1, 8]].tolist() == sums[[0, 1, 8]].tolist()


@pytest.mark.usefixtures("small")
def test_a_value_called_like_the_others_is_summed_with_them():
    """No sample is lost when it is given up."""
    observed = observation(300)
    names = [*["(other)", "a", "b", "c", "d"] * 2, *[f"e{i % 6}" for i in range(290)]]
    statistics = Statistics(100, ("device",))
    statistics.observe(replace(observed, slices={"device": pa.array(names)}))
    assert sum(sums[0] for sums in statistics.totals("device").values()) == 300
    assert OTHER in statistics.totals("device")


@pytest.mark.usefixtures("small")
def test_merging_is_commutative_to_the_bit_and_loses_nothing():
    """Also of crowded columns; counts are exact."""
    parts = [played(skewed(400, 40, seed), ()) for seed in (1, 2)]
    again = [played(skewed(400, 40, seed), ()) for seed in (1, 2)]
    parts[0].merge(again[1])
    parts[1].merge(again[0])
    assert shown(parts[0]) == shown(parts[1])
    assert sum(sums[0] for sums in parts[0].totals("device").values()) == 800
    assert len(parts[0].totals("device")) <= 6


@given(st.lists(st.integers(0, 240), min_size=2, max_size=2))
def test_merging_parts_is_associative_but_for_rounding(cuts):
    """Counts are exact, sums equal to the 12th digit, and equal to those of one pass."""
    observed = observation(240)
    edges = sorted({0, 240, *cuts})
    parts = [cut(observed, begin, end) for begin, end in itertools.pairwise(edges)]

    def merged(order):
        one = Statistics(100, ("device",))
        for part in order:
            other = Statistics(100, ("device",))
            other.observe(part)
            one.merge(other)
        return one

    whole = played(observed, ())
    for found in (merged(parts), merged(parts[::-1])):
        assert [start for start, _ in found.windows()] == [start for start, _ in whole.windows()]
        for start, _ in whole.windows():
            cells, expected = found.all_totals(start, start), whole.all_totals(start, start)
            assert cells.keys() == expected.keys()
            for key, sums in cells.items():
                np.testing.assert_allclose(sums, expected[key], rtol=1e-12)
                assert sums[[0, 1, 8]].tolist() == expected[key][[0, 1, 8]].tolist()
        np.testing.assert_allclose(found.bins, whole.bins, rtol=1e-12)


def test_only_statistics_of_the_same_windows_and_slices_are_merged():
    """Their sums would mean different things."""
    with pytest.raises(ValueError, match="windows and slices must be"):
        Statistics(100, ()).merge(Statistics(200, ()))


def test_the_state_of_another_version_is_refused():
    """That without a version was the first."""
    state = Statistics(100, ()).export()
    del state["version"]
    with pytest.raises(StateVersionError) as refused:
        Statistics(100, ()).restore(state)
    assert str(refused.value) == (
        "statistics must have version 3 (got None); "
        "continue with the version that wrote the state, or start over"
    )


@pytest.mark.usefixtures("small")
def test_a_restored_crowded_column_continues_bit_for_bit():
    """In the middle of a block, through JSON."""
    observed = skewed(500, 40, seed=3)
    statistics = played(cut(observed, 0, 230), ())
    again = Statistics(100, ("device",))
    again.restore(json.loads(json.dumps(statistics.export())))
    for one in (statistics, again):
        one.observe(cut(observed, 230, 500))
    assert shown(again) == shown(statistics)
    assert shown(again) == shown(played(observed, ()))


@pytest.mark.usefixtures("small")
def test_windows_that_were_taken_out_stay_out_when_a_value_is_given_up():
    """The others are summed on."""
    observed = skewed(600, 40, seed=4)
    statistics = played(cut(observed, 0, 300), ())
    taken = statistics.take_before(200, "click", "learned")
    statistics.observe(cut(observed, 300, 600))
    values = taken.filter(pc.equal(taken.column("slice"), "device"))
    total = pc.sum(values.column("samples")).as_py()
    rest = sum(sums[0] for sums in statistics.totals("device").values())
    assert total + rest == 600
