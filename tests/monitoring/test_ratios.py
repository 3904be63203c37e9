import numpy as np
import pyarrow as pa
import pytest
from scipy import stats
from sklearn.metrics import log_loss, roc_auc_score

from headrace.monitoring.ratios import (
    FEWEST_WINDOWS,
    against_expected,
    auc,
    auc_interval,
    calibration_error,
    calibration_interval,
    entropy,
    entropy_interval,
    rate_interval,
    ratios,
)
from headrace.monitoring.statistics import SUMS, Observation, Statistics


def sums_of(label, p, weight=None):
    """Return the statistics of samples in one window, and their sums."""
    label, p = np.asarray(label, float), np.asarray(p, float)
    weight = np.ones(label.size) if weight is None else np.asarray(weight, float)
    statistics = Statistics(100, ())
    margin = np.log(p / (1 - p))
    statistics.observe(Observation(np.zeros(label.size, np.int64), label, weight, margin, {}))
    return statistics, statistics.totals()[""]


def drawn(rows, seed=0, factor=1.0, spread=1.0):
    """Return labels that follow predictions times a factor."""
    random = np.random.default_rng(seed)
    p = 1 / (1 + np.exp(-random.normal(-2, spread, rows)))
    return (random.random(rows) < p * factor).astype(float), p


def test_ratios_of_a_window_counted_by_hand():
    """Four samples, one of them positive, half of them mature, each predicted 1/2."""
    statistics = Statistics(100, ())
    label, mature = np.array([1.0, 0.0, 0.0, 0.0]), np.array([True, True, False, False])
    times = np.zeros(4, np.int64)
    statistics.observe(Observation(times, label, np.ones(4), np.zeros(4), {}, mature))
    found = ratios(statistics.totals()[""])
    assert found == {
        "samples": 4, "positives": 1, "mature": 2, "weight": 4.0, "label_rate": 0.25,
        "label_rate_interval": pytest.approx([0.04559, 0.69936], abs=1e-5),
        "log_loss": pytest.approx(np.log(2)),
        "normalized_entropy": pytest.approx(np.log(2) / entropy(0.25)),
        "calibration": 2.0,
        # 2 over the Poisson interval of one event, 0.0253 to 5.5716
        "calibration_interval": pytest.approx([2 / 5.5716, 2 / 0.025318], rel=1e-4),
    }  # fmt: skip
    empty = ratios(np.zeros(len(SUMS)))
    assert {name for name, value in empty.items() if value is not None} == {
        "samples", "positives", "mature", "weight",
    }  # fmt: skip


def test_log_loss_and_auc_are_those_of_scikit_learn():
    """Weighted as well."""
    label, p = drawn(3_000)
    weight = np.where(label > 0, 1.0, 4.0)
    statistics, sums = sums_of(label, p, weight)
    assert ratios(sums)["log_loss"] == pytest.approx(log_loss(label, p, sample_weight=weight))
    exact = roc_auc_score(label, p, sample_weight=weight)
    assert auc(statistics.bins) == pytest.approx(exact, abs=2e-4)


@pytest.mark.parametrize(("k", "n"), [(0, 50), (1, 50), (20, 1_000), (50, 50)])
def test_the_interval_of_a_rate_is_wilsons(k, n):
    """Also where no label is positive, or all are."""
    _, sums = sums_of([1] * k + [0] * (n - k), [0.1] * n)
    found, expected = rate_interval(sums), stats.binomtest(k, n).proportion_ci(method="wilson")
    assert found.as_json() == pytest.approx([expected.low, expected.high], abs=1e-12)


@pytest.mark.parametrize("k", [1, 7, 400])
def test_the_interval_of_positives_is_exact_for_poisson(k):
    """In one of 40 cases there would be as many if so many were expected, at either end."""
    _, sums = sums_of([1] * k + [0] * 600, [0.1] * (k + 600))
    ratio, interval = against_expected(sums)
    expected = 0.1 * (k + 600)
    assert ratio == pytest.approx(k / expected)
    assert stats.poisson.sf(k - 1, interval.low * expected) == pytest.approx(0.025)
    assert stats.poisson.cdf(k, interval.high * expected) == pytest.approx(0.025)
    inverse = calibration_interval(sums)
    assert inverse.as_json() == pytest.approx([1 / interval.high, 1 / interval.low])


def test_without_positives_there_is_an_upper_end():
    """A dead stream of actions is told from a young one by what was expected."""
    _, sums = sums_of([0] * 100, [0.1] * 100)
    ratio, interval = against_expected(sums)
    assert (ratio, interval.low) == (0.0, 0.0)
    assert interval.high == pytest.approx(-np.log(0.025) / 10)
    assert calibration_interval(sums) is None
    assert against_expected(np.zeros(len(SUMS))) is None
    hardly = sums.copy()
    hardly[[3, 4, 7]] = 1e6, 1e-304, 1e6  # a ratio of both would be no number
    assert against_expected(hardly) is None


def test_equal_weights_say_what_their_samples_say():
    """A weight of 3 for all changes no interval."""
    label, p = drawn(500)
    statistics, sums = sums_of(label, p)
    tripled, three = sums_of(label, p, np.full(500, 3.0))
    for of in (rate_interval, calibration_interval):
        assert of(sums).as_json() == pytest.approx(of(three).as_json())
    same = auc_interval(statistics.bins, sums), auc_interval(tripled.bins, three)
    assert same[0].as_json() == pytest.approx(same[1].as_json())


def kept(label, p, seed, rate=0.25):
    """Return samples of which one negative in four is kept, with weights."""
    random = np.random.default_rng(seed)
    chosen = (label > 0) | (random.random(label.size) < rate)
    weight = np.where(label > 0, 1.0, 1 / rate)
    return label[chosen], p[chosen], weight[chosen]


def test_intervals_hold_the_truth_in_nineteen_of_twenty_logs():
    """Negatives sampled one in four; of 400 logs 95 % is 380, give or take 9 (two deviations)."""
    label, p = drawn(400_000, seed=99)
    rate, area = p.mean(), roc_auc_score(label, p)
    inside = np.zeros(3)
    for seed in range(400):
        statistics, sums = sums_of(*kept(*drawn(1_500, seed=seed), seed))
        found = (
            rate_interval(sums), calibration_interval(sums), auc_interval(statistics.bins, sums),
        )  # fmt: skip
        for at, (interval, truth) in enumerate(zip(found, (rate, 1.0, area), strict=True)):
            inside[at] += interval.low <= truth <= interval.high
    assert (inside / 400 > 0.92).all(), inside
    assert (inside / 400 < 0.99).all(), inside


def test_delongs_interval_counted_by_hand():
    """Two positives above one of two negatives each, or both: placements 1/2 and 1, 1 and 1/2."""
    label, p = np.array([0, 1, 0, 1]), np.array([0.1, 0.3, 0.5, 0.7])
    statistics, sums = sums_of(label, p)
    assert auc(statistics.bins) == 0.75
    # Of positives (1/2, 1), of negatives (1, 1/2): variances 1/8 each, over 2 each.
    half = 1.959964 * np.sqrt(1 / 8 / 2 + 1 / 8 / 2)
    expected = [0.75 - half, min(1, 0.75 + half)]
    assert auc_interval(statistics.bins, sums).as_json() == pytest.approx(expected, abs=1e-6)


def test_what_is_certain_by_its_count_alone_has_no_auc_interval():
    """All pairs in order, or a single positive."""
    for label, p in (([0, 0, 1, 1], [0.1, 0.2, 0.6, 0.7]), ([0, 1, 0, 0], [0.1, 0.2, 0.3, 0.4])):
        statistics, sums = sums_of(label, p)
        assert auc_interval(statistics.bins, sums) is None


def test_calibration_error_is_that_of_groups_of_log_odds():
    """The oracle groups the exact predictions."""
    label, p = drawn(20_000, factor=0.7, spread=2.0)
    statistics, _ = sums_of(label, p)
    group = np.floor(np.log(p / (1 - p)))
    gaps = [abs((label - p)[group == of].sum()) for of in np.unique(group)]
    assert calibration_error(statistics.bins) == pytest.approx(sum(gaps) / label.size, rel=1e-3)
    assert calibration_error(np.zeros_like(statistics.bins)) is None


def test_a_perfect_model_has_little_calibration_error():
    """What remains is noise."""
    assert calibration_error(sums_of(*drawn(100_000))[0].bins) < 0.005


def test_the_interval_of_log_loss_is_students_over_windows():
    """Windows of equal weight are observations of the mean."""
    random = np.random.default_rng(3)
    windows = np.zeros((12, len(SUMS)))
    windows[:, 2] = 100
    windows[:, 3] = 10
    windows[:, 5] = random.normal(30, 3, 12)
    of_loss, of_entropy = entropy_interval(windows)
    expected = stats.t.interval(
        0.95, 11, loc=windows[:, 5].mean() / 100, scale=stats.sem(windows[:, 5]) / 100
    )
    assert of_loss.as_json() == pytest.approx(list(expected))
    assert of_entropy.as_json() == pytest.approx(np.array(expected) / entropy(0.1))
    assert entropy_interval(windows[: FEWEST_WINDOWS - 1]) is None
    assert entropy_interval(np.zeros((12, len(SUMS)))) is None


def test_a_rate_that_varies_moves_both_log_loss_and_its_entropy():
    """A model that knows each window's rate has a normalised entropy surer than its log loss."""
    rates = np.linspace(0.05, 0.15, 40)
    windows = np.zeros((40, len(SUMS)))
    windows[:, 2] = 1_000
    windows[:, 3] = 1_000 * rates
    windows[:, 5] = [1_000 * entropy(rate) for rate in rates]
    of_loss, of_entropy = entropy_interval(windows)
    loss = windows[:, 5].sum() / 40_000
    ratio = loss / entropy(0.1)
    assert (of_entropy.high - ratio) / ratio < 0.3 * (of_loss.high - loss) / loss


def test_sums_of_a_slice_have_intervals_too():
    """A slice is a row of sums like any other."""
    label, p = drawn(1_000)
    statistics = Statistics(100, ("device",))
    times, device = np.zeros(1_000, np.int64), pa.array(["a", "b"] * 500)
    margin = np.log(p / (1 - p))
    statistics.observe(Observation(times, label, np.ones(1_000), margin, {"device": device}))
    whole = rate_interval(statistics.totals()[""])
    part = rate_interval(statistics.totals("device")["a"])
    assert part.high - part.low > whole.high - whole.low


def test_rounded_sums_of_positives_alone_have_an_interval():
    """Their weight may come out larger than that of all samples."""
    sums = np.zeros(len(SUMS))
    sums[[0, 1]] = 3
    sums[[2, 3]] = 2.1, 2.1 * (1 + 1e-15)
    sums[[6, 7]] = 1.47, 1.47
    interval = rate_interval(sums)
    assert 0.4 < interval.low < 0.6
    assert interval.high == 1.0
