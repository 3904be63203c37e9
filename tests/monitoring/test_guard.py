"""The guard of a label: when it alarms, what it holds back, how it recovers."""

import json

import numpy as np
import pyarrow as pa
import pytest

from headrace.monitoring.guard import (
    DISCONNECTED,
    GUARD_SCHEMA,
    GuardPlan,
    LabelGuard,
    Scopes,
)
from headrace.schemas.config.durations import DAY, HOUR, MINUTE, SECOND

START = 1_700_000_000 * SECOND
PER_SECOND, RATE = 10, 0.1
"""So that one positive a second is expected."""


class Traffic:
    """Rows at a steady rate, whose labels come as predicted or not."""

    def __init__(self, guard, per_second=PER_SECOND, rate=RATE, seed=0, cut=5000):
        self.guard, self.gap, self.rate, self.cut = guard, SECOND // per_second, rate, cut
        self.random = np.random.default_rng(seed)
        self.now = START
        self.expected = 0.0

    def go_on(self, duration, factor=1.0, ads=10, bad=(), bad_factor=1.0, until_event=None):
        """Let rows come for a while; odds of bad ads are those of the others times a factor."""
        end = self.now + duration
        held = []
        while self.now < end:
            count = min(self.cut, (end - self.now) // self.gap)
            if count == 0:
                break
            emit = self.now + np.arange(count) * self.gap
            ad = self.random.integers(0, ads, count)
            odds = np.full(count, self.rate / (1 - self.rate))
            true = odds * np.where(np.isin(ad, bad), bad_factor, factor)
            positive = self.random.random(count) < true / (1 + true)
            held.append(self.show(emit, positive, odds, ad))
            self.now += count * self.gap
            if until_event is not None and any(
                row["event"] == until_event for row in self.guard.journal
            ):
                break
        return np.concatenate(held)

    def show(self, emit, positive, odds, ad):
        texts = pa.array([f"ad{n}" for n in ad])
        columns = dict.fromkeys(self.guard.columns, texts)
        self.guard.begin()
        encoded = self.guard.encode(columns, np.arange(len(ad)))
        holders, at = [], 0
        while at < len(ad):
            some = slice(at, min(at + self.guard.remaining, len(ad)))
            scopes = self.guard.look_up(encoded, some)
            holders.append(self.guard.holder(scopes))
            self.guard.observe(emit[some], positive[some], odds[some], scopes)
            at = some.stop
        return np.concatenate(holders)


def settled(columns=("ad",), seed=0, settle=6 * HOUR, **plan):
    """Return healthy traffic whose guard is armed, and the journal until then."""
    guard = LabelGuard("click", GuardPlan(settle=settle, **plan), columns)
    traffic = Traffic(guard, seed=seed)
    traffic.go_on(settle + 2 * HOUR)
    return traffic, guard.take_journal()


def expected_at(rows, event):
    return next(row for row in rows if row["event"] == event)


def test_it_is_armed_when_labels_have_been_in_the_band_for_long_enough():
    """And not before: a young model may be wrong in any way."""
    _traffic, journal = settled()
    assert [row["event"] for row in journal] == ["armed"]
    assert 6 * HOUR <= journal[0]["time"] - START < 7 * HOUR
    guard = LabelGuard("click", GuardPlan(settle=6 * HOUR), ())
    young = Traffic(guard)
    young.go_on(12 * HOUR, factor=3.0)
    assert guard.take_journal() == []
    assert guard.summary()["state"] == "young"
    assert guard.summary()["ratio"] == pytest.approx(3.0, rel=0.5)


def test_standings_are_all_samples_and_then_the_worst_values():
    """What is disconnected comes before what is only further from what was predicted."""
    traffic, _ = settled()
    traffic.go_on(2 * HOUR, bad=[3], bad_factor=6.0)
    traffic.guard.arrays.last[traffic.guard.found[0]["ad5"]] = [0, 90.0]
    found = traffic.guard.standings(4)
    assert [(of["slice"], of["value"]) for of in found[:3]] == [
        ("", ""), ("ad", "ad3"), ("ad", "ad5"),
    ]  # fmt: skip
    assert [of["state"] for of in found] == ["watching", "disconnected", "watching", "watching"]
    by_value = {of["value"]: of for of in traffic.guard.summary()["slices"]}
    assert found[1:] == [by_value[of["value"]] for of in found[1:]]
    assert len(traffic.guard.standings(50)) == 11


def test_standings_of_a_guard_that_saw_nothing_are_those_of_all_samples():
    """There is a state, and no block."""
    (found,) = LabelGuard("click", GuardPlan(), ("ad",)).standings(50)
    assert (found["state"], found["positives"], found["expected"]) == ("young", None, None)


def test_a_stream_that_stops_disconnects_within_25_expected_positives():
    """All samples are held back from the next chunk on; the reason says what was seen."""
    traffic, _ = settled()
    stopped = traffic.now
    held = traffic.go_on(2 * MINUTE, factor=0.0)
    disconnect = expected_at(traffic.guard.take_journal(), "disconnect")
    assert disconnect["slice"] is None
    assert disconnect["direction"] == "fewer"
    assert (disconnect["time"] - stopped) / SECOND < 25
    assert disconnect["expected"] < 30
    assert "click:" in disconnect["reason"]
    assert "were expected" in disconnect["reason"]
    assert (held == 0).sum() > 0.5 * held.size
    assert np.flatnonzero(held == 0)[0] * RATE < 35
    assert guard_states(traffic) == {"click": "disconnected"}


def guard_states(traffic):
    summary = traffic.guard.summary()
    states = {traffic.guard.label: summary["state"]}
    states |= {
        of["value"]: of["state"]
        for of in summary["slices"]
        if of["state"] not in ("young", "watching")
    }
    return states


@pytest.mark.parametrize(("factor", "most"), [(2.0, 150), (3.0, 25), (10.0, 3)])
def test_more_positives_than_predicted_disconnect_too(factor, most):
    """The more of them, the sooner: medians over seeds, in expected positives."""
    needed = []
    for seed in range(25):
        guard = LabelGuard("click", GuardPlan(), (), armed=True)
        traffic = Traffic(guard, per_second=50, rate=0.02, seed=seed)
        traffic.go_on(5 * MINUTE)
        begun = traffic.now
        traffic.go_on(HOUR, factor=factor, until_event="disconnect")
        row = expected_at(guard.take_journal(), "disconnect")
        assert row["direction"] == "more"
        needed.append((row["time"] - begun) / SECOND)
    assert np.median(needed) < most


def test_what_is_within_the_band_is_learned():
    """A legitimate step of 15 %, for a week, and a noise of few rows."""
    traffic, _ = settled()
    held = traffic.go_on(3 * DAY, factor=1.15)
    assert traffic.guard.take_journal() == []
    assert (held < 0).all()
    held = traffic.go_on(DAY, factor=0.87)
    assert traffic.guard.take_journal() == []
    assert (held < 0).all()


@pytest.mark.parametrize(("factor", "direction"), [(1.7, "more"), (0.6, "fewer")])
def test_a_change_after_days_is_told_from_when_it_began(factor, direction):
    """What the mildest alternatives gather while all is well does not count."""
    traffic, _ = settled()
    traffic.go_on(2 * DAY)
    begun = traffic.now
    traffic.go_on(2 * HOUR, factor=factor, until_event="disconnect")
    warn, disconnect = traffic.guard.take_journal()
    for row in (warn, disconnect):
        assert row["direction"] == direction
        elapsed = (row["time"] - begun) / SECOND
        assert 0.5 * elapsed < row["expected"] < elapsed + 100
        assert row["positives"] / row["expected"] == pytest.approx(factor, rel=0.25)


def test_a_value_that_goes_wrong_is_held_back_alone():
    """Rows of others are learned on, and all samples together stay watched."""
    traffic, _ = settled()
    traffic.go_on(4 * HOUR)
    traffic.guard.take_journal()
    held = traffic.go_on(HOUR, bad=(3,), bad_factor=4.0, ads=40)
    disconnect = traffic.guard.take_journal()[-1]
    assert disconnect["event"] == "disconnect"
    assert (disconnect["slice"], disconnect["value"]) == ("ad", "ad3")
    assert "ad = ad3" in disconnect["reason"]
    assert guard_states(traffic) == {"click": "watching", "ad3": "disconnected"}
    assert traffic.guard.summary()["worst"]["value"] == "ad3"
    share = (held > 0).mean()
    assert 0.01 < share < 0.03


def test_three_blocks_within_the_band_reconnect_and_none_during_the_fault():
    """Blocks are of thirty expected positives and five minutes."""
    traffic, _ = settled()
    traffic.go_on(2 * HOUR, factor=0.0)
    assert traffic.guard.take_journal()[-1]["event"] == "disconnect"
    repaired = traffic.now
    traffic.go_on(HOUR)
    (reconnect,) = traffic.guard.take_journal()
    assert reconnect["event"] == "reconnect"
    assert 10 * MINUTE < reconnect["time"] - repaired < 25 * MINUTE
    summary = traffic.guard.summary()
    assert summary["state"] == "watching"
    assert 2 * HOUR < summary["disconnected_s"] * SECOND < 2.5 * HOUR


def test_a_long_disconnect_asks_and_an_answer_is_taken():
    """A moment in guard.accept makes the guard young again: labels are as they are."""
    accept = START + 12 * HOUR
    traffic, _ = settled(cap=2 * HOUR, accepted=(accept,))
    traffic.go_on(3 * HOUR, factor=0.3)
    events = [row["event"] for row in traffic.guard.take_journal()]
    assert events[-2:] == ["disconnect", "ask"]
    assert traffic.guard.summary()["state"] == "asking"
    held = traffic.go_on(4 * HOUR, factor=0.3)
    (accepted,) = traffic.guard.take_journal()
    assert accepted["event"] == "accept"
    assert accept <= accepted["time"] < accept + 5 * MINUTE
    assert traffic.guard.summary()["state"] == "young"
    assert held[0] == 0
    assert held[-1] == -1


def test_a_guard_that_only_warns_holds_nothing_back():
    """It says what it would have held back."""
    traffic, _ = settled(holds=False)
    held = traffic.go_on(HOUR, factor=0.0)
    events = [row["event"] for row in traffic.guard.take_journal()]
    assert events[-1] == "disconnect"
    assert (held < 0).all()


@pytest.mark.parametrize("cut", [1, 777, 100_000])
def test_decisions_depend_neither_on_cuts_nor_on_a_restart(cut):
    """Rows are the same; they are shown in other parts, and the guard is saved in between."""

    def journal(cut, restart):
        guard = LabelGuard("click", GuardPlan(settle=HOUR), ("ad", "place"))
        traffic = Traffic(guard, per_second=5, rate=0.2)
        count = 5 * 3600 * 6
        emit = START + np.arange(count) * traffic.gap
        ad = traffic.random.integers(0, 5, count)
        odds = np.full(count, 0.25)
        fault = (emit > START + 3 * HOUR) & (emit < START + 4 * HOUR)
        true = np.where(fault & (ad == 2), 2.0, odds)
        positive = traffic.random.random(count) < true / (1 + true)
        rows, held = [], []
        for at in range(0, count, cut):
            some = slice(at, at + cut)
            held.append(traffic.show(emit[some], positive[some], odds[some], ad[some]))
            rows += guard.take_journal()
            if restart and at // cut % 7 == 3:
                again = LabelGuard("click", GuardPlan(settle=HOUR), ("ad", "place"))
                again.restore(json.loads(json.dumps(guard.export())))
                traffic.guard = guard = again
        return rows, np.concatenate(held).tolist(), guard.export()

    rows, held, state = journal(1000, False)
    assert {row["event"] for row in rows} >= {"armed", "disconnect", "reconnect"}
    if cut == 1:
        assert journal(50, True) == (rows, held, state)
    else:
        assert journal(cut, True) == (rows, held, state)


def test_what_settles_during_a_disconnect_is_told():
    """Rows beside the samples have emit times in between."""
    traffic, _ = settled()
    traffic.go_on(MINUTE, factor=0.0, until_event="disconnect")
    guard = traffic.guard
    ((_, scope, off),) = guard.changes
    assert (scope, off) == (0, True)
    at = guard.changes[0][0]
    emit = np.array([at - 1, at, at + 1])
    columns = {"ad": pa.array(["ad1"] * 3)}
    assert guard.held_at(emit, columns).tolist() == [False, False, True]
    guard.begin()
    assert guard.held_at(emit, columns).all()


def test_a_full_table_of_values_makes_room_for_new_ones_after_a_day():
    """Beyond a thousand values the others are one, until old ones have not come for a day."""
    guard = LabelGuard("click", GuardPlan(), ("ad",))

    def show(values, emit):
        encoded = guard.encode({"ad": pa.array(values)}, np.arange(len(values)))
        for at in range(0, len(values), 100):
            some = slice(at, min(at + 100, len(values)))
            scopes = guard.look_up(encoded, some)
            times = np.full(some.stop - at, emit)
            guard.observe(
                times, np.zeros(some.stop - at, bool), np.full(some.stop - at, 0.1), scopes
            )
        return scopes[-1, 0]

    assert show([f"a{n}" for n in range(1000)], START) > 1
    assert show(["new"] * 100, START) == 1
    for hour in range(26):
        last = show(["new"] * 4096, START + hour * HOUR)
    assert last > 1
    assert len(guard.found[0]) == 1


def test_bernoulli_rows_of_a_sampled_log_alarm_as_soon():
    """Odds among samples are higher; the number of expected positives to see a stop is not."""
    guard = LabelGuard("click", GuardPlan(settle=HOUR), (), armed=True)
    traffic = Traffic(guard, rate=0.5)
    traffic.go_on(HOUR)
    assert guard.take_journal() == []
    begun = traffic.now
    traffic.go_on(10 * MINUTE, factor=0.0, until_event="disconnect")
    row = expected_at(guard.take_journal(), "disconnect")
    assert (row["time"] - begun) / SECOND * 5 < 25
    assert guard.state == DISCONNECTED


def test_the_journal_fits_its_schema():
    """Every row of the journal is a row of the output."""
    traffic, journal = settled()
    traffic.go_on(HOUR, factor=0.0)
    rows = journal + traffic.guard.take_journal()
    table = pa.Table.from_pylist(
        [{n: r[n] for n in GUARD_SCHEMA.names} for r in rows], GUARD_SCHEMA
    )
    assert table.num_rows == len(rows) >= 2
    assert table.column("reason").null_count == 0


def test_scopes_are_in_canonical_order():
    """The dictionary may be in any: whoever comes first gets the place in a full table."""
    column = pa.array(["b", "a", None, "b"]).dictionary_encode()
    scopes = Scopes({"x": column}, np.array([2, 1, 0, 3]))
    values = [scopes.values[0][code] for code in scopes.codes[:, 0]]
    assert values == ["(null)", "a", "b", "b"]
