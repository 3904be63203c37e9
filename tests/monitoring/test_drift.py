"""Counts of hours: additive whatever the order; and what is said of an hour that differs."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import entropy

from headrace.monitoring import hourly
from headrace.monitoring.drift import (
    FEWEST_ROWS,
    Drift,
    DriftPlan,
    grouped,
    shape_of,
    stability_index,
    surely_apart,
)
from headrace.monitoring.driftwords import drift_figures, drift_findings
from headrace.monitoring.hourly import (
    CODES,
    MOST_ROWS,
    UNIT,
    Hour,
    Rows,
    Watched,
    coded,
    levels,
    number_codes,
    score_codes,
    value_codes,
)
from headrace.schemas.config.durations import DAY, HOUR
from headrace.schemas.errors import StateVersionError
from headrace.schemas.records.events import FOREVER

WATCHED = (
    Watched("device", "values"), Watched("price", "numbers"), Watched("tags", "items"),
    Watched("click", "scores"),
)  # fmt: skip
PLAN = DriftPlan(WATCHED, ("click",), delay=HOUR // 2)
N = 6_000


def rows_of(time, seed=0, **changes):
    """Rows with everything that is watched, of healthy traffic but for `changes`."""
    random = np.random.default_rng([seed, int(time[0]) % (1 << 31)])
    n = time.size
    columns = {
        "device": pa.array(random.choice(["phone", "desktop", "tv"], n, p=[0.6, 0.3, 0.1])),
        "price": pa.array(random.lognormal(2, 1, n)),
        "tags": pa.array([["a", "b"][: i % 3] for i in range(n)]),
    }
    key = random.integers(0, 2**63, n).astype(np.uint64)
    scores = {"click": random.normal(-3, 0.5, n)}
    rows = Rows(time, key, np.where(random.random(n) < 0.1, 1.0, 2.0), columns, scores)
    return replace(
        rows,
        columns={**columns, **{k: v for k, v in changes.items() if k in columns}},
        scores={**scores, **{k: v for k, v in changes.items() if k in scores}},
    )


def hour_of(number, n=N):
    return number * HOUR + np.arange(n) * (HOUR // n)


def part(rows, chosen):
    chosen = np.asarray(chosen)
    return Rows(
        rows.time[chosen], rows.key[chosen], rows.weight[chosen],
        {name: column.take(pa.array(chosen)) for name, column in rows.columns.items()},
        {name: margin[chosen] for name, margin in rows.scores.items()},
    )  # fmt: skip


def observed(drift, rows):
    chosen, level = drift.wanted(rows.time, rows.key)
    drift.observe(part(rows, chosen), level)


def counted(hour):
    """What an hour says of everything, as plain values."""
    return [
        (of.codes.tolist(), of.weights.tolist(), of.rows)
        for of in (hour.counts(watched) for watched in WATCHED)
    ]


def played(days, n=N, plan=PLAN, **by_hour):
    """Some days of healthy traffic, but for what `by_hour` changes in hour h under ``h12``."""
    drift = Drift(plan)
    for number in range(days * 24):
        time = hour_of(number, n)
        change = by_hour.get(f"h{number}", lambda rows: rows)
        observed(drift, change(rows_of(time)))
        positive = np.arange(n) % 20 == 0
        drift.count("click", time, positive, np.where(positive, 1, 0))
        drift.close_before((number + 1) * HOUR)
    drift.close_before(FOREVER)
    return drift


def said(drift):
    return {(line.name, line.measure) for line in drift.lines.values() if line.level == 2}


# --- distributions ------------------------------------------------------------------------


def test_the_stability_index_is_the_hand_computed_one():
    """With half a row added to each group: shares of 10 and 30 of 40 rows against 20 and 20."""
    a, b = (10.5 / 41, 30.5 / 41), (20.5 / 41, 20.5 / 41)
    expected = sum((p - q) * np.log(p / q) for p, q in zip(a, b, strict=True))
    found = stability_index(np.array([1.0, 3.0]), 40, np.array([5.0, 5.0]), 40)
    assert found == pytest.approx(expected, rel=1e-12)


@given(st.lists(st.integers(1, 50), min_size=2, max_size=9), st.integers(0, 100))
def test_the_stability_index_is_jeffreys_divergence(weights, seed):
    """The sum of both Kullback-Leibler divergences, as scipy has them."""
    now = np.array(weights, float)
    then = np.random.default_rng(seed).permutation(now) + 1
    found = stability_index(now, 1e15, then, 1e15)
    assert found == pytest.approx(entropy(now, then) + entropy(then, now), rel=1e-6, abs=1e-9)


def test_an_empty_group_is_finite():
    """In the hour, and in the one before."""
    empty, full = np.array([0.0, 1.0]), np.array([1.0, 1.0])
    for now, then in ((empty, full), (full, empty)):
        assert 1 < stability_index(now, 5000, then, 5000) < 10


def test_shares_are_apart_by_what_the_interval_leaves():
    """Agresti and Caffo's interval of 9 of 10 against 2 of 10: its lower end by hand."""
    p, q = 10 / 12, 3 / 12
    low = p - q - 1.96 * (p * (1 - p) / 12 + q * (1 - q) / 12) ** 0.5
    assert surely_apart(0.9, 10, 0.2, 10) == pytest.approx(low)
    assert surely_apart(0.2, 10, 0.9, 10) == pytest.approx(low)
    assert surely_apart(0.5, 10, 0.6, 10) == 0.0


def test_codes_keep_the_order_of_numbers_and_nulls_are_zero():
    """Also of negative ones and of both zeros; what is not finite is a null."""
    numbers = [-1e300, -5.0, -0.1, 0.0, 0.1, 1.0, 1.3, 100.0, 1e300]
    codes = number_codes(pa.array(numbers)).tolist()
    assert codes == sorted(codes)
    assert len(set(codes)) == len(codes)
    assert max(codes) < CODES
    assert number_codes(pa.array([0.0, -0.0]))[0] == number_codes(pa.array([-0.0]))[0]
    assert number_codes(pa.array([None, np.nan, np.inf])).tolist() == [0, 0, 0]
    assert number_codes(pa.array([7, None])).tolist() == [*number_codes(pa.array([7.0])), 0]
    assert score_codes(np.array([-99.0, -16.0, 0.0, 0.1, 99.0, np.nan])).tolist() == [
        1, 1, 129, 129, 257, 0,
    ]  # fmt: skip
    assert value_codes(pa.array(["a", None, "a"])).tolist()[1] == 0
    assert value_codes(pa.array(["a"]))[0] > 0


def test_items_are_counted_each_and_no_items_are_a_null():
    """Of lists and of text with a separator."""
    lists = pa.array([["a", "b"], [], None, ["a"]])
    texts = pa.array(["a b", None, None, "a"])
    one, time = np.ones(4), np.zeros(4, np.int64)
    found = []
    for column in (lists, texts):
        watched = (Watched("tags", "items"),)
        hour = Hour(watched)
        rows = Rows(time, np.arange(4, dtype=np.uint64), one, {"tags": column}, {})
        hour.add(coded(watched, rows, np.zeros(4, np.uint8)))
        found.append(hour.counts(watched[0]))
    a, b = (int(value_codes(pa.array([value]))[0]) for value in "ab")
    for counts in found:
        sums = dict(zip(counts.codes.tolist(), (counts.weights / UNIT).tolist(), strict=True))
        assert sums == {0: 2.0, a: 2.0, b: 1.0}
        assert counts.rows == 4


def test_groups_have_all_of_the_weight():
    """Of the most frequent values and the rest, and of neighbouring numbers."""
    rows = rows_of(hour_of(3))
    hour = Hour(WATCHED)
    hour.add(coded(WATCHED, rows, levels(rows.key)))
    total = rows.weight.sum() * UNIT
    for of in WATCHED:
        counts = hour.counts(of)
        shape = shape_of(counts, of.ordered)
        assert sum(shape.weights) == counts.weights.sum()
        assert of.kind == "items" or sum(shape.weights) == total
        assert len(shape.groups) <= 21
        groups = np.array(shape.groups)
        assert grouped(counts, groups, of.ordered).tolist() == shape.weights
    of_price = shape_of(hour.counts(WATCHED[1]), True).weights
    assert max(of_price) < 0.12 * total


def test_rows_of_unequal_weight_are_fewer():
    """As many as rows of equal weight that say as much."""
    rows = replace(rows_of(hour_of(0, 100)), weight=np.repeat([1.0, 3.0], 50))
    hour = Hour(WATCHED)
    hour.add(coded(WATCHED, rows, levels(rows.key)))
    assert hour.counts(WATCHED[0]).rows == pytest.approx(200**2 / (50 * 1 + 50 * 9))


# --- additive -----------------------------------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**31), st.lists(st.integers(1, 3_999), max_size=5))
def test_an_hour_is_the_same_however_its_rows_are_cut_and_ordered(seed, cuts):
    """Also one with more rows than are counted, and from its state."""
    rows = rows_of(hour_of(0, 4_000))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hourly, "MOST_ROWS", 1_000)
        whole = Hour(WATCHED)
        whole.add(coded(WATCHED, rows, levels(rows.key)))
        order = np.random.default_rng(seed).permutation(4_000)
        pieces = Hour(WATCHED)
        for some in np.split(order, sorted(cuts)):
            one = part(rows, some)
            pieces.add(coded(WATCHED, one, levels(one.key)))
            pieces = Hour.restored(WATCHED, json.loads(json.dumps(pieces.export())))
    assert whole.size == pieces.size <= 1_000
    assert whole.size > 780
    assert whole.level == pieces.level > 0
    assert counted(whole) == counted(pieces)


@settings(max_examples=15, deadline=None)
@given(st.permutations(range(4)))
def test_merging_is_associative_and_commutative(order):
    """Of four parts in any order, and in pairs."""
    rows = rows_of(hour_of(0, 4_000))

    def hours():
        found = []
        for number in range(4):
            one = part(rows, np.arange(number, 4_000, 4))
            found.append(Hour(WATCHED))
            found[-1].add(coded(WATCHED, one, levels(one.key)))
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hourly, "MOST_ROWS", 1_300)
        whole = Hour(WATCHED)
        whole.add(coded(WATCHED, rows, levels(rows.key)))
        a, b, c, d = (hours()[number] for number in order)
        a.merge(b)
        a.merge(c)
        a.merge(d)
        e, f, g, h = (hours()[number] for number in order)
        g.merge(h)
        f.merge(g)
        e.merge(f)
        assert counted(a) == counted(e) == counted(whole)


@settings(max_examples=5, deadline=None)
@given(st.lists(st.integers(1, 3 * 24 * 12), max_size=4))
def test_what_is_found_depends_neither_on_cuts_nor_on_resuming(cuts):
    """Rows come in five-minute steps, cut anywhere, and the state is written in between."""
    patch = pytest.MonkeyPatch()
    with patch.context() as small:
        small.setattr("headrace.monitoring.drift.FEWEST_ROWS", 50)
        found = []
        for edges in ([], sorted(set(cuts))):
            drift = Drift(PLAN)
            bounds = [0, *edges, 3 * 24 * 12]
            steps = np.arange(3 * 24 * 12 * 10) * (HOUR // 120)
            rows = rows_of(steps)
            for begin, end in itertools.pairwise(bounds):
                some = np.arange(begin * 10, end * 10)
                if some.size:
                    drift.close_before(int(rows.time[some[0]]))
                    observed(drift, part(rows, some))
                drift_again = Drift(PLAN)
                drift_again.restore(json.loads(json.dumps(drift.export())))
                drift = drift_again
            drift.close_before(FOREVER)
            found.append(drift_figures(drift))
    assert found[0] == found[1]
    assert found[0]["lines"]


@pytest.mark.parametrize("pieces", [1, 2, 7, 60])
def test_rows_that_are_not_looked_at_change_nothing(monkeypatch, pieces):
    """Of an hour of too many rows a drift counts what the hour alone would, in any pieces."""
    monkeypatch.setattr(hourly, "MOST_ROWS", 700)
    rows = rows_of(hour_of(2, 4_000))
    alone, drift = Hour(WATCHED), Drift(PLAN)
    alone.add(coded(WATCHED, rows, levels(rows.key)))
    looked_at = 0
    for some in np.array_split(np.arange(4_000), pieces):
        one = part(rows, some)
        looked_at += drift.wanted(one.time, one.key)[0].size
        observed(drift, one)
    assert counted(drift.hours[2 * HOUR]) == counted(alone)
    assert looked_at < 2_500


def test_a_state_of_another_version_is_refused():
    """The line says what to do."""
    state = {**Drift(PLAN).export(), "version": 99}
    with pytest.raises(StateVersionError) as refused:
        Drift(PLAN).restore(state)
    assert str(refused.value) == (
        "counts of hours must have version 1 (got 99); "
        "continue with the version that wrote the state, or start over"
    )


def test_memory_is_bounded():
    """However many hours there were, and however many rows an hour has."""
    drift = played(5, n=200)
    assert not drift.hours
    assert len(drift.shapes) <= 24
    drift = Drift(PLAN)
    for seed in range(6):
        observed(drift, rows_of(hour_of(0, 5_000), seed))
    assert drift.hours[0].size <= MOST_ROWS
    assert len(json.dumps(drift.export())) < 300_000


# --- what is said ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def healthy():
    return played(3)


def test_nothing_is_said_of_healthy_days(healthy):
    """Of all that is watched an index far below a shift."""
    assert drift_findings(healthy) == []
    assert healthy.start == 0
    worst = {line.name: line.worst.value for line in healthy.lines.values()
             if line.measure == "distribution"}  # fmt: skip
    assert worst.keys() == {"device", "price", "tags", "click"}
    assert max(worst.values()) < 0.027
    assert {line.judged for line in healthy.lines.values() if line.measure == "null"} == {48}


def null_devices(rows):
    return replace(rows, columns={**rows.columns, "device": pa.nulls(rows.time.size, pa.string())})


def test_a_column_that_becomes_null_is_said_once():
    """In words, with the hour, the value and the one before; nothing else is said."""
    drift = played(3, h60=null_devices, h61=null_devices)
    assert drift_findings(drift) == [
        "feature device: 100.0% is null at 1970-01-03 13:00 UTC, and 0.0% at 1970-01-02 13:00 "
        "(5,856 rows); so in hours from 1970-01-03 12:00 to 1970-01-03 14:00 UTC. "
        "Is it still logged?"
    ]
    (line,) = [line for line in drift.lines.values() if line.measure == "null" and line.hours]
    assert (line.hours, line.since, line.until) == (2, 60 * HOUR, 62 * HOUR)


def test_prices_in_cents_new_values_and_other_scores_are_said():
    """Each of the column, or learner, that it is about."""

    def cents(rows):
        price = pa.array(rows.columns["price"].to_numpy() * 100)
        return replace(rows, columns={**rows.columns, "price": price})

    def new(rows):
        device = pa.array([f"new-{i % 3}" for i in range(rows.time.size)])
        return replace(rows, columns={**rows.columns, "device": device})

    def scores(rows):
        return replace(rows, scores={"click": rows.scores["click"] + 0.5})

    assert said(played(3, h60=cents)) == {("price", "distribution")}
    assert said(played(3, h60=new)) == {("device", "unseen"), ("device", "distribution")}
    assert said(played(3, h60=scores)) == {("click", "distribution")}


def test_what_returns_to_the_reference_is_not_said():
    """After a day of a fault hours differ from the day before, but not from the first."""
    faulty = {f"h{number}": null_devices for number in range(24, 48)}
    drift = played(3, **faulty)
    (line,) = [line for line in drift.lines.values() if line.measure == "null" and line.hours]
    assert (line.hours, line.since, line.until) == (24, DAY, 2 * DAY)


def test_what_has_one_value_in_an_hour_is_a_clock():
    """The weekday differs from yesterday's all day, and nothing is said."""

    def today(rows):
        day = pa.array([str(int(rows.time[0] // DAY))] * rows.time.size)
        return replace(rows, columns={**rows.columns, "device": day})

    assert said(played(4, **{f"h{number}": today for number in range(96)})) == set()


def test_hours_with_few_rows_are_not_judged():
    """Neither they, nor others by them."""
    drift = played(3, n=FEWEST_ROWS // 2)
    assert drift.start is None
    assert not [line for line in drift.lines.values() if line.of != "action"]


def test_scores_of_a_fresh_learner_have_the_second_day_as_reference():
    """It learns most on the first, so that is not what it should stay like."""

    def young(rows):
        return replace(rows, scores={"click": rows.scores["click"] - 2})

    first = {f"h{number}": young for number in range(24)}
    assert said(played(3, **first)) == {("click", "distribution")}
    fresh = played(3, plan=replace(PLAN, fresh=frozenset(["click"])), **first)
    assert said(fresh) == set()
    assert fresh.lines["score", "click", "distribution"].judged == 24


def test_actions_that_are_doubled_are_said():
    """As duplicates if they have ids, and as actions of a positive if they have none."""
    drift = Drift(replace(PLAN, watched=()))
    for number in range(72):
        time, positive = hour_of(number, 4_000), np.arange(4_000) % 10 == 0
        times = 2 if number == 65 else 1
        drift.count("click", time, positive, positive * times)
        drift.start = 0
        if number == 60:
            drift.count_duplicates("click", 60 * HOUR + 5, 400)
        drift.close_before((number + 1) * HOUR)
    drift.close_before(FOREVER)
    assert drift_findings(drift) == [
        "click: 50.0% are duplicates at 1970-01-03 12:00 UTC, and 0.0% at 1970-01-01 12:00 "
        "(800 actions); so in hours from 1970-01-03 12:00 to 1970-01-03 13:00 UTC. "
        "Are records written twice?",
        "click: a positive has 2.00 actions at 1970-01-03 17:00 UTC, and 1.00 at 1970-01-01 17:00 "
        "(400 positives); so in hours from 1970-01-03 17:00 to 1970-01-03 18:00 UTC. "
        "Are they logged several times, under other ids?",
    ]
