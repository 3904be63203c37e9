"""The arrivals of actions: when they are suspected, what an expectation is, how learning waits."""

import json

import numpy as np
import pyarrow as pa
import pytest

from headrace.monitoring.guard import DISCONNECTED, GUARD_SCHEMA, WATCHING, YOUNG, GuardPlan
from headrace.monitoring.lead import FEWER, MORE, SILENCE, YOUNG_SILENCE, Lead, LeadPlan, step_for
from headrace.monitoring.leadguard import LeadGuard
from headrace.schemas.config.durations import DAY, HOUR, MINUTE, SECOND

WINDOW = 600
START = 1_700_000_000
PLAN = LeadPlan(0, 0.1, SECOND, WINDOW * SECOND, WINDOW * SECOND)


def log_odds(p):
    return np.log(p) - np.log1p(-p)


class Traffic:
    """Impressions with unequal p, of which a tenth is predicted, and their clicks.

    There are four times as many at noon as at midnight. A seventh of the arrivals is of no
    impression that is predicted, as copies and orphans are.
    """

    def __init__(self, rate, p, seed, lasts, fault=lambda second, came, random: came):
        self.random = np.random.default_rng(seed)
        self.rate, self.p, self.fault = rate, p, fault
        self.coming = np.zeros(lasts + 3 * WINDOW, np.int64)
        self.now = 0
        self.lead = Lead(PLAN, 1.5, (1e5, 1e6))

    def go_on(self, seconds, armed=False, every=60, until_found=False):
        """Show and tell everything; return what was suspected, in the seconds when it was."""
        found, end = [], self.now + seconds
        while self.now < end:
            second = np.arange(self.now, min(self.now + 600, end))
            daily = 1 + 0.6 * np.sin(2 * np.pi * second / 86_400)
            shown = np.repeat(second, self.random.poisson(self.rate * daily))
            p = np.minimum(self.p * np.exp(self.random.normal(-0.5, 1.0, shown.size)), 0.9)
            clicked = self.random.random(shown.size) < p
            delay = self.random.exponential(WINDOW / 10, int(clicked.sum())).astype(int) % WINDOW
            np.add.at(self.coming, shown[clicked] + delay, 1)
            more = self.random.random(delay.size) < 0.15
            np.add.at(self.coming, shown[clicked][more] + delay[more], 1)
            chosen = self.random.random(shown.size) < PLAN.share
            self.lead.show((START + shown[chosen]) * SECOND, log_odds(p[chosen]))
            came = self.fault(second, self.coming[second], self.random)
            self.lead.arrive((START + second) * SECOND, came)
            self.lead.settle(delay * SECOND)
            for now in range(int(second[0]) + every, int(second[-1]) + 2, every):
                silence = SILENCE if armed else YOUNG_SILENCE
                self.lead.advance((START + now) * SECOND, armed, False, silence)
                suspicion = self.lead.suspicion()
                if suspicion is not None:
                    found.append((now, suspicion))
                    self.lead.reset()
                    if until_found:
                        return found
            self.now = int(second[-1]) + 1
        return found


def from_second(begin, change):
    def fault(second, came, random):
        return np.where(second >= begin, change(came, random), came)

    return fault


FAULTS = {
    "stop": lambda came, random: 0 * came,
    "half": lambda came, random: random.binomial(came, 0.5),
    "doubled": lambda came, random: 2 * came,
    "ten times": lambda came, random: 10 * came,
}


@pytest.mark.parametrize(
    ("rate", "p", "fault", "side", "seconds", "expected"),
    [
        (1000, 0.02, "stop", FEWER, 5, 60),
        (1000, 0.02, "half", FEWER, 60, 1500),
        (1000, 0.02, "doubled", MORE, 40, 600),
        (1000, 0.02, "ten times", MORE, 5, 30),
        (10, 0.02, "stop", FEWER, 400, 40),
        (10, 0.005, "stop", FEWER, 1200, 30),
        (10, 0.02, "doubled", MORE, 4000, 600),
    ],
)  # fmt: skip
def test_a_fault_is_seen_within_some_expected_arrivals(rate, p, fault, side, seconds, expected):
    """Of three runs all; none is suspected before."""
    trained = 3 * HOUR // SECOND if rate == 10 else 1800
    for seed in range(3):
        change = from_second(trained, FAULTS[fault])
        traffic = Traffic(rate, p, seed, 2 * trained + 7200, change)
        assert traffic.go_on(trained // 2) == []
        assert traffic.go_on(trained // 2, armed=True) == []
        ((now, found),) = traffic.go_on(7200, armed=True, every=1, until_found=True)
        assert found.side == side
        assert now - trained <= seconds
        assert found.time == (START + now) * SECOND
        assert found.since <= (START + now) * SECOND
        assert found.expected <= expected
        if fault == "stop":
            assert found.arrivals == 0
            assert found.since - (START + trained) * SECOND < 60 * SECOND


def test_a_lag_is_seen_while_it_lasts():
    """Nine of ten clicks come an hour later than they would."""
    lag = from_second(5 * 3600, lambda came, random: random.binomial(came, 0.1))
    traffic = Traffic(50, 0.02, 5, 8 * 3600, lag)
    traffic.go_on(3 * 3600)
    assert traffic.go_on(2 * 3600, armed=True) == []
    ((now, found),) = traffic.go_on(3600, armed=True, every=1, until_found=True)
    assert found.side == FEWER
    assert now - 5 * 3600 < 120


@pytest.mark.parametrize(("rate", "p", "days"), [(10, 0.005, 5), (10, 0.3, 2), (300, 0.02, 1)])
def test_healthy_nights_are_not_suspected(rate, p, days):
    """Where 30,000 to 500,000 arrive, on the noise of a tenth of the impressions."""
    lasts = days * DAY // SECOND
    traffic = Traffic(rate, p, 7, lasts)
    assert traffic.go_on(3 * 3600) == []
    assert traffic.go_on(lasts - 3 * 3600, armed=True) == []
    assert traffic.lead.usual == pytest.approx(1.15, abs=0.06)


def test_silence_is_suspected_before_anything_is_settled():
    """A model that predicts four times too little, or too much, only makes it earlier or later."""
    for wrong in (0.25, 1.0, 4.0):
        traffic = Traffic(20, 0.02, 3, 5 * 3600, from_second(3 * 3600, FAULTS["stop"]))
        show = traffic.lead.show
        traffic.lead.show = lambda known, odds, show=show, of=wrong: show(known, odds + np.log(of))
        assert traffic.go_on(3 * 3600) == []
        ((_, found),) = traffic.go_on(7200, every=1, until_found=True)
        assert (found.arrivals, found.evidence) == (0, None)
        assert 80 <= found.expected < 250


def test_what_is_expected_follows_the_delays():
    """Of two delays, half of the actions each, ten impressions lead to arrivals at two times."""
    plan = LeadPlan(0, 1.0, SECOND, 8 * SECOND, 8 * SECOND)
    lead = Lead(plan, 1.5, (1e5, 1e6))
    lead.settle(np.array([2, 5] * 100) * SECOND)
    # The first shows from when on predictions are known, and is forgotten after the window.
    lead.show(np.array([0]), log_odds(np.array([1e-12])))
    lead.show(np.full(10, 20) * SECOND, log_odds(np.full(10, 0.5)))
    expected = []
    for second in range(1, 40):
        before = float(lead.state.sums[2])
        lead.advance(second * SECOND, armed=False, frozen=True, silence=100.0)
        expected.append(float(lead.state.sums[2]) - before)
    assert {step: of for step, of in enumerate(expected) if of > 1e-9} == {
        22: pytest.approx(2.5), 25: pytest.approx(2.5),
    }  # fmt: skip


def test_nothing_depends_on_cuts_or_on_going_on_from_a_copy():
    """Neither those of what is shown nor those of the steps."""
    random = np.random.default_rng(0)
    known = np.sort(random.integers(0, 7200 * SECOND, 20_000))
    odds = random.normal(-3, 1, known.size)
    step, count = np.unique(known[random.random(known.size) < 0.06] // SECOND, return_counts=True)
    found = []
    for cut in (10_000, 601, 60):
        lead = Lead(PLAN, 1.5, (30.0, 30.0))
        lead.settle(random.permutation(np.repeat(np.arange(0, 300, 3), 3)) * SECOND)
        said = []
        for begin in range(0, 7200, cut):
            now, then = begin * SECOND, (begin + cut) * SECOND
            some = slice(*np.searchsorted(known, (now, then)))
            lead.show(known[some], odds[some])
            own = slice(*np.searchsorted(step, (begin, begin + cut)))
            lead.arrive(step[own] * SECOND + SECOND - 1, count[own])
            for at in range(begin - begin % 300 + 300, begin + cut + 1, 300):
                lead.advance(min(at, 7200) * SECOND, True, False, 20.0)
                said.append(lead.suspicion())
            if cut == 60:
                copy = Lead(PLAN, 1.5, (30.0, 30.0))
                copy.restore(json.loads(json.dumps(lead.export())))
                lead = copy
        found.append((lead.export(), [of for of in dict.fromkeys(said) if of is not None]))
    assert found[0] == found[1] == found[2]
    assert found[0][1]


def test_steps_of_a_long_window_are_longer():
    assert step_for(0) == step_for(MINUTE) == step_for(18 * HOUR) == SECOND
    assert step_for(30 * DAY) == 40 * SECOND


def test_a_gap_of_a_year_takes_no_time_and_leaves_nothing():
    lead = Lead(PLAN, 1.5, (1e5, 1e6))
    lead.settle(np.full(200, 30 * SECOND))
    lead.show(np.arange(2000) * SECOND, np.zeros(2000))
    lead.advance(2000 * SECOND, armed=False, frozen=True, silence=1e9)
    lead.show(np.array([400 * DAY]), np.zeros(1))
    lead.advance(400 * DAY + 2 * WINDOW * SECOND, armed=False, frozen=True, silence=1e9)
    # Five for each impression, but for those that come before predictions have a window.
    assert lead.state.sums[2] == pytest.approx(5 * (2000 - (WINDOW + 1 - 30)) + 5, rel=0.002)


class Rows:
    """A guard whose rows leave a window after they were shown, in chunks."""

    def __init__(self, armed=True, **plan):
        self.guard = LeadGuard("click", GuardPlan(**plan), (), armed, PLAN)
        self.random = np.random.default_rng(1)
        self.coming = np.zeros(20 * 3600, np.int64)
        self.labels = np.zeros((20 * 3600, 20), np.bool_)
        self.second = 0
        self.journal, self.held = [], {}

    def go_on(self, seconds, lost=False, unjoined=False):
        """Twenty impressions a second, of which one is clicked; what is not joined arrives."""
        for _ in range(seconds):
            self._second(lost, unjoined)

    def _second(self, lost, unjoined):
        guard, now = self.guard, self.second
        guard.begin()
        shown = np.full(20, (START + now) * SECOND)
        chosen = self.random.random(20) < PLAN.share
        clicked = self.random.random(20) < 0.05
        delay = self.random.exponential(30, int(clicked.sum())).astype(int) % WINDOW
        np.add.at(self.coming, now + delay, 1)
        self.labels[now] = clicked
        came = 0 if lost else int(self.coming[now])
        if lost or unjoined:
            # So many impressions have no label now: those whose clicks would have come.
            for _ in range(int(self.coming[now])):
                back = max(0, now - int(self.random.exponential(30)))
                where = np.flatnonzero(self.labels[back])
                self.labels[back, where[:1]] = False
        guard.lead.arrive(np.array([(START + now) * SECOND]), np.array([came]))
        guard.lead.show(shown[chosen], np.full(chosen.sum(), log_odds(0.05)))
        guard.lead.settle(delay * SECOND)
        if now >= WINDOW:
            label = self.labels[now - WINDOW]
            scopes = np.empty((20, 0), np.int32)
            holder = guard.holder(scopes)
            for reason in {guard.reason(of) for of in holder.tolist() if of >= 0}:
                self.held.setdefault(reason, []).append(now)
            guard.observe(shown, label, np.full(20, 0.05 / 0.95), scopes)
        self.journal += guard.take_journal()
        self.second += 1

    def go_on_until(self, event):
        """Go on in good health until this is the last event; return the second of it."""
        while self.events()[-1][0] != event:
            self._second(lost=False, unjoined=False)
        return self.second

    def events(self):
        return [(row["event"], row["time"] // SECOND - START) for row in self.journal]


def test_learning_waits_from_the_first_seconds_until_no_lost_action_is_missing_any_more():
    """The arrivals disconnect first; labels follow when windows close."""
    rows = Rows(settle=HOUR)
    rows.go_on(7200)
    assert [event for event, _ in rows.events()] == ["lead-armed"]
    rows.go_on(1200, lost=True)
    repaired = rows.second
    rows.go_on(3600)
    events = dict(rows.events())
    assert [event for event in events if event != "warn"] == [
        "lead-armed", "lead-disconnect", "disconnect", "lead-reconnect", "reconnect",
    ]  # fmt: skip
    assert events["lead-disconnect"] - 7200 < 60
    assert events["disconnect"] - 7200 > WINDOW - 60
    # A probe of 30 expected arrivals says when; then a window passes, and labels have 90.
    assert repaired + WINDOW < events["lead-reconnect"] < repaired + WINDOW + 100
    assert events["reconnect"] < events["lead-reconnect"] + 90 + 2 * 32
    assert min(of[0] for of in rows.held.values()) < 7200 + 90
    lead = next(row for row in rows.journal if row["event"] == "lead-disconnect")
    assert lead["slice"] is lead["value"] is None
    assert (lead["positives"], lead["direction"]) == (0, "fewer")
    assert lead["reason"].startswith("click: no arrivals since 2023-11-15 00:13:")
    assert lead["reason"].endswith("the source is idle, or lost")
    arrivals = rows.guard.summary()["arrivals"]
    assert arrivals["state"] == "watching"
    assert arrivals["disconnected_s"] == pytest.approx(
        events["lead-reconnect"] - events["lead-disconnect"], abs=45
    )


def test_actions_that_arrive_but_are_not_joined_connect_no_labels():
    """The block that would be enough is not within the band; then it takes three long ones."""
    rows = Rows(settle=HOUR)
    rows.go_on(4000)
    rows.go_on(1200, lost=True)
    rows.go_on(3600, unjoined=True)
    assert [event for event, _ in rows.events()][-2:] == ["disconnect", "lead-reconnect"]
    assert not rows.guard.trial
    right = rows.second + WINDOW
    rows.go_on(2400)
    event, second = rows.events()[-1]
    assert event == "reconnect"
    assert right + 900 - 300 < second < right + 1500
    assert "3 blocks in a row" in rows.journal[-1]["reason"]


def test_actions_that_stop_again_connect_no_labels():
    """Not until they have been right for another window."""
    rows = Rows(settle=HOUR)
    rows.go_on(4000)
    rows.go_on(1200, lost=True)
    rows.go_on_until("lead-reconnect")
    assert rows.guard.trial
    rows.go_on(300, lost=True)
    assert rows.events()[-1][0] == "lead-disconnect"
    assert not rows.guard.trial
    repaired = rows.second
    assert rows.go_on_until("lead-reconnect") > repaired + WINDOW
    assert rows.guard.state == DISCONNECTED


def test_a_source_that_comes_and_goes_is_one_fault():
    """Four minutes each: blocks in a row are never right."""
    rows = Rows(settle=HOUR)
    rows.go_on(4000)
    for _ in range(6):
        rows.go_on(240, lost=True)
        rows.go_on(240)
    own = [event for event, _ in rows.events() if event.startswith("lead-")]
    assert own == ["lead-armed", "lead-disconnect"]


def test_a_young_guard_waits_too_and_warns_of_nothing():
    """It is never armed here; learning waits nevertheless."""
    rows = Rows(armed=False, settle=20 * HOUR)
    rows.go_on(3600)
    assert rows.journal == []
    assert rows.guard.standing == YOUNG
    rows.go_on(600, lost=True)
    assert [event for event, _ in rows.events()] == ["lead-disconnect"]
    assert rows.guard.standing == DISCONNECTED
    rows.go_on(3600)
    assert [event for event, _ in rows.events()] == ["lead-disconnect", "lead-reconnect"]
    assert rows.guard.standing == YOUNG


def test_what_settles_meanwhile_falls_into_the_disconnect_too():
    rows = Rows(settle=HOUR)
    rows.go_on(4000)
    rows.go_on(120, lost=True)
    guard = rows.guard
    assert guard.standing == DISCONNECTED
    guard.begin()
    emit = np.array([rows.second + START]) * SECOND
    assert guard.held_at(emit, {}).all()
    assert not Rows(settle=HOUR).guard.held_at(emit, {}).any()


def test_a_guard_that_only_warns_says_so_and_holds_nothing():
    rows = Rows(settle=HOUR, holds=False)
    rows.go_on(4000)
    rows.go_on(120, lost=True)
    assert rows.guard.standing == DISCONNECTED
    assert rows.held == {}
    rows.guard.begin()
    assert not rows.guard.held_at(np.array([2**60]), {}).any()


def test_an_end_of_actions_can_be_accepted():
    """After the cap it asks; what is accepted is learned from then on, until one arrives."""
    accepted = (START + 9000) * SECOND
    rows = Rows(settle=HOUR, cap=20 * MINUTE, accepted=(accepted,))
    rows.go_on(6000)
    rows.go_on(6000, lost=True)
    own = [event for event, _ in rows.events() if event.startswith("lead-")]
    assert own[:4] == ["lead-armed", "lead-disconnect", "lead-ask", "lead-accept"]
    assert rows.guard.standing in (YOUNG, WATCHING)
    assert own.count("lead-disconnect") == 1


@pytest.mark.parametrize(
    ("healthy", "trial"), [(0, False), (400, False), (None, True)],
    ids=["while nothing arrives", "while arrivals are right again", "while labels are tried"],
)  # fmt: skip
def test_a_guard_goes_on_from_a_copy(healthy, trial):
    """In the middle of a disconnect."""
    rows, copied = Rows(settle=HOUR), Rows(settle=HOUR)
    for of in (rows, copied):
        of.go_on(4000)
        of.go_on(1200, lost=True)
        if healthy is None:
            of.go_on_until("lead-reconnect")
        else:
            of.go_on(healthy)
    assert copied.guard.trial == trial
    copy = LeadGuard("click", copied.guard.plan, (), True, PLAN)
    copy.restore(json.loads(json.dumps(copied.guard.export())))
    copied.guard = copy
    summary = copy.summary()
    (standing,) = copy.standings(1)
    assert {
        name: summary[name] for name in ("state", "since", "reason")
    }.items() <= standing.items()
    assert summary["state"] == "disconnected"
    assert summary["arrivals"]["state"] == ("watching" if trial else "disconnected")
    for of in (rows, copied):
        of.go_on(1800)
    assert rows.events()[-1][0] == "reconnect"
    assert rows.journal == copied.journal
    assert rows.guard.summary() == copied.guard.summary()
    assert json.dumps(rows.guard.export()) == json.dumps(copied.guard.export())


def test_the_journal_has_the_schema_of_a_guard():
    rows = Rows(settle=HOUR)
    rows.go_on(4000)
    rows.go_on(120, lost=True)
    names = GUARD_SCHEMA.names
    table = pa.Table.from_pylist(
        [{name: row[name] for name in names} for row in rows.journal], GUARD_SCHEMA
    )
    assert table.column("event").to_pylist() == ["lead-armed", "lead-disconnect"]
