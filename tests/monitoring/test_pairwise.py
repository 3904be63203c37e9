"""Pairwise accuracy by slice: against all pairs, scikit-learn, and what is truly relevant."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.monitoring.pairwise import (
    FEWEST_EFFECTIVE,
    MOST_VALUES,
    MOST_WEIGHT,
    Pairwise,
    accuracy,
    effective,
    pairwise_figures,
)
from headrace.monitoring.report.pairwise import pairwise_tables
from headrace.monitoring.statistics import OTHER
from headrace.schemas.errors import StateVersionError

BIN = 1 / 32


def impressions(rows, seed=0, values=3):
    """Return log-odds in the middles of bins, labels, propensities and values of a column."""
    random = np.random.default_rng(seed)
    margin = (random.integers(-60, 20, rows) + 0.5) * BIN
    label = (random.random(rows) < 1 / (1 + np.exp(-margin))).astype(float)
    propensity = random.choice([1.0, 0.6, 0.25, 0.001, 0.0, -1.0, 1.5, np.nan], rows)
    value = random.integers(0, values, rows)
    propensity[(propensity == 0.001) & (value > 0)] = 0.5  # of few effective clicks is one value
    return margin, label, propensity, [None if v == 0 else f"v{v}" for v in value]


def pairwise_of(margin, label, propensity, values, edges=()):
    found = Pairwise(("device",))
    for begin, end in itertools.pairwise(sorted({0, *edges, margin.size})):
        here = slice(begin, end)
        found.observe(
            margin[here], label[here], propensity[here],
            {"device": pa.array(values[here], pa.string())},
        )  # fmt: skip
    return found


def by_all_pairs(clicked, unclicked):
    """Return the accuracy over all pairs, of (log-odds, weight) each."""
    right = sum(
        weight * ((high > low) + 0.5 * (high == low))
        for high, weight in clicked for low in unclicked
    )  # fmt: skip
    return right / (sum(weight for _, weight in clicked) * len(unclicked))


def test_figures_are_those_over_all_pairs():
    """Within a value and against all others; clicks weigh by propensity, at most 100."""
    margin, label, propensity, values = impressions(1500)
    figures = pairwise_figures(pairwise_of(margin, label, propensity, values))
    rows = [
        (m, y > 0, 1 / max(p, 0.01), "(null)" if v is None else v)
        for m, y, p, v in zip(margin, label, propensity, values, strict=True) if 0 < p <= 1
    ]  # fmt: skip
    assert figures["samples"] == len(rows)
    assert figures["left_out"] == 1500 - len(rows)
    assert figures["clipped"] == sum(y and w == MOST_WEIGHT for _, y, w, _ in rows)
    assert {of["value"] for of in figures["slices"]} == {"(null)", "v1", "v2"}
    compared = 0
    for of in figures["slices"]:
        clicked = [(m, w) for m, y, w, v in rows if y and v == of["value"]]
        own, others = ([m for m, y, _, v in rows if not y and (v == of["value"]) == same]
                       for same in (True, False))  # fmt: skip
        weights = np.array([w for _, w in clicked])
        assert of["positives"] == len(clicked)
        assert of["unclicked"] == len(own)
        kish = weights.sum() ** 2 / (weights**2).sum()
        assert of["effective_positives"] == pytest.approx(kish)
        if kish < FEWEST_EFFECTIVE:
            assert of["intra"] is of["inter"] is None
        else:
            compared += 1
            assert of["intra"] == pytest.approx(by_all_pairs(clicked, own))
            assert of["inter"] == pytest.approx(by_all_pairs(clicked, others))
    assert compared == 2


def test_of_all_impressions_it_is_the_weighted_auc_of_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    random = np.random.default_rng(1)
    margin = random.normal(-2, 1, 20_000)
    label = (random.random(20_000) < 1 / (1 + np.exp(-margin))).astype(float)
    propensity = random.choice([1.0, 0.5, 0.2], 20_000)
    figures = pairwise_figures(pairwise_of(margin, label, propensity, ["a"] * 20_000))
    weight = np.where(label > 0, 1 / propensity, 1.0)
    area = metrics.roc_auc_score(label, margin, sample_weight=weight)
    assert figures["accuracy"] == pytest.approx(area, abs=2e-4)  # of pairs in one bin
    assert figures["slices"][0]["intra"] == figures["accuracy"]
    assert figures["slices"][0]["inter"] is None  # there are no others


def examined(seed, rows=6_000):
    """Return a log in which the policy shows group ``b`` low, and what of it is relevant.

    Within ``b`` the better ones are shown higher: clicks alone are of those.
    """
    random = np.random.default_rng(seed)
    group = random.random(rows) < 0.5
    score = random.normal(-1.5, 1, rows)
    relevant = random.random(rows) < 1 / (1 + np.exp(-score))
    propensity = np.where(group & (score < -1.0), 0.15, 1.0)
    label = (relevant & (random.random(rows) < propensity)).astype(float)
    return score, label, propensity, np.where(group, "b", "a").tolist(), relevant


def test_weights_find_the_accuracy_that_clicks_alone_do_not():
    """The mean of many logs is that of what is relevant, and intervals hold it as often as told."""
    off, naive, held = [], [], 0
    for seed in range(100):
        score, label, propensity, values, relevant = examined(seed)
        own = np.array(values) == "b"
        unclicked = score[own & (label == 0)]
        # What is relevant is compared with the same impressions.
        ranks = np.searchsorted(np.sort(unclicked), score[own & relevant])
        truth = ranks.mean() / unclicked.size
        found = []
        for given_ in (propensity, np.ones_like(propensity)):
            figures = pairwise_figures(pairwise_of(score, label, given_, values))
            found.append(next(of for of in figures["slices"] if of["value"] == "b"))
        off.append(found[0]["intra"] - truth)
        naive.append(found[1]["intra"] - truth)
        low, high = found[0]["intra_interval"]
        held += low <= truth <= high
    assert np.mean(off) == pytest.approx(0.0, abs=4 * np.std(off) / 10)
    assert np.mean(naive) > 0.05
    assert held >= 88


def test_an_interval_has_the_spread_of_many_logs():
    """Of independent logs with one distribution."""
    spread, told = [], []
    for seed in range(200):
        score, label, propensity, values, _ = examined(seed, 3_000)
        figures = pairwise_figures(pairwise_of(score, label, propensity, values))
        of = next(of for of in figures["slices"] if of["value"] == "b")
        spread.append(of["inter"])
        told.append((of["inter_interval"][1] - of["inter_interval"][0]) / 2 / 1.96)
    assert np.mean(told) == pytest.approx(np.std(spread), rel=0.15)


@pytest.mark.parametrize(("clicks", "said"), [(49, False), (50, True)])
def test_fewer_than_fifty_effective_clicks_say_nothing(clicks, said):
    margin = np.concatenate([np.ones(clicks), np.zeros(10), np.full(10, 2.0)])
    label = np.concatenate([np.ones(clicks), np.zeros(20)])
    propensity = np.full(margin.size, 0.5)
    found = pairwise_of(margin, label, propensity, ["a"] * margin.size)
    figures = {"propensity": "theta", **pairwise_figures(found)}
    assert figures["accuracy"] == (0.5 if said else None)
    shown = pairwise_tables(figures)
    ((name, ((value, intra, inter, *counts),)),) = shown["tables"]
    assert (name, value, counts) == ("device", "a", [str(clicks), f"{clicks}.0", "20"])
    assert intra.startswith("0.500 (" if said else "fewer than 50 effective clicks")
    assert inter == ("undefined" if said else "fewer than 50 effective clicks")
    assert "Left out for want of a theta above 0 and at most 1: 0." in shown["note"]


def test_all_pairs_in_order_have_no_interval():
    clicked, unclicked = np.zeros((4, 1024)), np.zeros(1024)
    clicked[1:, 600], unclicked[500] = 60, 9
    assert effective(clicked) == 60
    assert accuracy(clicked, unclicked) == (1.0, None)


def text(found):
    return json.dumps([found.export(), pairwise_figures(found)])


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(0, 20_000), max_size=4), st.integers(0, 3))
def test_cuts_change_nothing(edges, seed):
    """Not a bit of it, also with more values than have histograms, and resumed at each cut."""
    rows = 20_000
    margin, label, propensity, values = impressions(rows, seed, values=200)
    whole = pairwise_of(margin, label, propensity, values)
    parts = Pairwise(("device",))
    for begin, end in itertools.pairwise(sorted({0, *edges, rows})):
        here = slice(begin, end)
        parts.observe(margin[here], label[here], propensity[here],
                      {"device": pa.array(values[here], pa.string())})  # fmt: skip
        resumed = Pairwise(("device",))
        resumed.restore(json.loads(json.dumps(parts.export())))
        parts = resumed
    assert text(parts) == text(whole)


def test_only_the_most_frequent_values_have_histograms_and_nothing_is_lost():
    """One that becomes frequent late is among them, and the rest is together."""
    random = np.random.default_rng(2)
    early = [f"v{n}" for n in random.integers(0, 300, 40_000)]
    values = early + ["late" if chosen else "v1" for chosen in random.random(20_000) < 0.8]
    margin, label, _, _ = impressions(len(values))
    found = pairwise_of(margin, label, np.ones(len(values)), values)
    own = found.histograms("device")
    assert len(own) <= MOST_VALUES + 1
    assert {"late", OTHER} < own.keys()
    np.testing.assert_array_equal(sum(own.values()), found.histograms()[""])
    assert OTHER not in {of["value"] for of in pairwise_figures(found)["slices"]}


def test_merging_adds_and_its_order_does_not_matter():
    logs = [impressions(3_000, seed) for seed in range(3)]

    def merged(order):
        first = pairwise_of(*logs[order[0]])
        for number in order[1:]:
            first.merge(pairwise_of(*logs[number]))
        return first

    found = [pairwise_figures(merged(order)) for order in itertools.permutations(range(3))]
    whole = pairwise_figures(pairwise_of(
        *(np.concatenate(of) for of in list(zip(*logs, strict=True))[:3]),
        [value for log in logs for value in log[3]],
    ))  # fmt: skip
    for of in found:
        for one, other in zip(of["slices"], whole["slices"], strict=True):
            assert one.keys() == other.keys()
            assert all(one[name] == pytest.approx(other[name]) for name in one)
        assert of["left_out"] == whole["left_out"]
    with pytest.raises(ValueError, match=r"slices must be \('device',\) \(got \(\)\)"):
        pairwise_of(*logs[0]).merge(Pairwise(()))


def test_a_state_of_another_version_is_refused():
    with pytest.raises(StateVersionError, match=r"must have version 1 \(got 0\)"):
        Pairwise(()).restore({"version": 0})


def test_without_impressions_there_are_counts_alone():
    figures = pairwise_figures(Pairwise(("device",)))
    assert figures["samples"] == figures["positives"] == 0
    assert figures["accuracy"] is None
    assert figures["slices"] == []
    assert not math.isnan(figures["effective_positives"])
