"""The join as a table: events at literal times, and what becomes of them.

The window is 10, the horizon 20, unless a case says otherwise. Impressions are
(time, key), actions (time, key, id), in the order of their one source each.
"""

from dataclasses import replace
from random import Random

import pytest

from headrace.joiner.join import ShardJoin
from headrace.joiner.journal.cells import MemoryCells
from headrace.joiner.state import actions
from headrace.schemas.records.envelope import EventEnvelope
from tests.joiner.harness import Rows, envelopes, make_plan, play

YES, NO = True, False


def outcomes_of(impressions, actions, **plan):
    settings = make_plan(**plan)
    sources = [Rows(0, impressions), Rows(1, actions)]
    played = play(settings, envelopes(settings, sources, 0, Random(0)), Random(0))
    labels = {name[1]: label[0] for name, label in played.samples.items()}
    return labels, dict(sorted(played.outcomes.items())), played


CASES = {
    "a click at the impression's own time counts": (
        [(5, "g/1")], [(5, "g/1", "")], {}, {5: (YES, 5, 1)}, {},
    ),
    "a click at the end of the window does not": (
        [(5, "g/1")], [(15, "g/1", "")], {}, {5: (NO, None, 0)}, {(1, 0): "outside_window"},
    ),
    "a click one before the end does": (
        [(5, "g/1")], [(14, "g/1", "")], {}, {5: (YES, 14, 1)}, {},
    ),
    "a click before the impression does not": (
        [(5, "g/1")], [(4, "g/1", "")], {}, {5: (NO, None, 0)}, {(1, 0): "outside_window"},
    ),
    "unless clocks may disagree": (
        [(5, "g/1")], [(4, "g/1", "")], {"early": 1}, {5: (YES, 4, 1)}, {},
    ),
    "a click of another key is an orphan": (
        [(5, "g/1")], [(6, "g/2", "")], {}, {5: (NO, None, 0)}, {(1, 0): "orphan"},
    ),
    "several clicks count, the first one has the time": (
        [(5, "g/1")], [(7, "g/1", ""), (6, "g/1", ""), (8, "g/1", "")], {}, {5: (YES, 6, 3)}, {},
    ),
    "an id counts once, the earliest in time is kept": (
        [(5, "g/1")], [(8, "g/1", "x"), (7, "g/1", "x"), (9, "g/1", "y")], {},
        {5: (YES, 7, 2)}, {(1, 0): "duplicate"},
    ),
    "no id is no duplicate": (
        [(5, "g/1")], [(8, "g/1", ""), (8, "g/1", "")], {}, {5: (YES, 8, 2)}, {},
    ),
    "an impression repeated within the horizon is a duplicate": (
        [(5, "g/1"), (24, "g/1")], [], {}, {5: (NO, None, 0)}, {(0, 1): "duplicate"},
    ),
    "and at the horizon's end it is a new one": (
        [(5, "g/1"), (25, "g/1")], [], {}, {5: (NO, None, 0), 25: (NO, None, 0)}, {},
    ),
    "the earliest of repeated impressions is kept, not the first to come": (
        [(7, "g/1"), (5, "g/1")], [], {}, {5: (NO, None, 0)}, {(0, 0): "duplicate"},
    ),
    "a duplicate does not prolong the horizon": (
        [(0, "g/1"), (15, "g/1"), (20, "g/1")], [], {},
        {0: (NO, None, 0), 20: (NO, None, 0)}, {(0, 1): "duplicate"},
    ),
    "an impression is late when its source is past its settling": (
        [(20, "g/2"), (10, "g/1")], [], {}, {20: (NO, None, 0)}, {(0, 1): "late"},
    ),
    "and disordered, not late, one before that": (
        [(20, "g/2"), (11, "g/1")], [], {}, {11: (NO, None, 0), 20: (NO, None, 0)}, {},
    ),
    "a click is late when its source is past the settling": (
        [(5, "g/1")], [(15, "g/2", ""), (6, "g/1", "")], {},
        {5: (NO, None, 0)}, {(1, 0): "orphan", (1, 1): "late"},
    ),
    "and counts one before that": (
        [(5, "g/1")], [(14, "g/2", ""), (6, "g/1", "")], {},
        {5: (YES, 6, 1)}, {(1, 0): "orphan"},
    ),
    "a click whose impression is forgotten is an orphan": (
        [(5, "g/1")], [(25, "g/2", ""), (6, "g/1", "")], {},
        {5: (NO, None, 0)}, {(1, 0): "orphan", (1, 1): "orphan"},
    ),
    "a click waits for its impression": (
        [(0, "g/9"), (8, "g/1")], [(9, "g/1", "")], {},
        {0: (NO, None, 0), 8: (YES, 9, 1)}, {},
    ),
    "but not for ever": (
        [(13, "g/9"), (8, "g/1")], [(9, "g/1", "")], {"wait_for_impression": 4},
        {8: (NO, None, 0), 13: (NO, None, 0)}, {(1, 0): "orphan"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_join(case):
    """Labels are (positive, time of the first action, count)."""
    impressions, actions, plan, labels, outcomes = case
    assert outcomes_of(impressions, actions, **plan)[:2] == (labels, outcomes)


def test_negatives_come_when_a_stream_has_ended():
    """A click stream without a single event holds no sample back."""
    labels, _, played = outcomes_of([(1, "g/1"), (2, "g/2")], [])
    assert labels == {1: (NO, None, 0), 2: (NO, None, 0)}
    assert played.counts["impressions"] == {"settled": 2, "open": 0}


def test_without_actions_impressions_of_one_time_are_all_samples():
    """None is late because another of its time came before."""
    plan = make_plan(windows=(), sources=1)
    sources = [Rows(0, [(5, "g/1"), (5, "g/2"), (5, "g/3")])]
    played = play(plan, envelopes(plan, sources, 0, Random(0)), Random(0))
    assert played.samples == {(f"g/{n}", 5): () for n in (1, 2, 3)}


def test_a_late_click_leaves_a_correction_while_retained():
    """The label stays as it was, and the correction names the click."""
    clicks = [(17, "g/2", ""), (6, "g/1", ""), (20, "g/3", ""), (7, "g/1", "")]
    labels, outcomes, played = outcomes_of([(5, "g/1")], clicks, retention=4)
    assert labels == {5: (NO, None, 0)}
    # Emit time, key, event time of the impression; event time, source, offset of the click.
    assert played.corrections == {(17, "g/1", 5, 6, 1, 1): ((YES, 6, 1),)}
    assert outcomes[1, 1] == outcomes[1, 3] == "late"


def test_a_correction_is_the_sample_as_it_stands():
    """It has what counted, for all streams, and the late actions before it."""
    plan = make_plan(windows=(10, 30), sources=3, retention=20, dedup_horizon=60)
    clicks = [(6, "g/1", ""), (40, "g/9", ""), (7, "g/1", ""), (5, "g/1", "")]
    sources = [Rows(0, [(5, "g/1")]), Rows(1, clicks), Rows(2, [(20, "g/1", "")])]
    played = play(plan, envelopes(plan, sources, 0, Random(0)), Random(0))
    assert played.samples == {("g/1", 5): ((YES, 6, 1), (YES, 20, 1))}
    # Both late clicks are known at 40, the earlier one first.
    assert played.corrections == {
        (40, "g/1", 5, 5, 1, 3): ((YES, 5, 2), (YES, 20, 1)),
        (40, "g/1", 5, 7, 1, 2): ((YES, 5, 3), (YES, 20, 1)),
    }


def test_a_repeated_id_is_not_corrected_again():
    """Whether the id was counted before settling, or by a correction."""
    clicks = [(6, "g/1", "x"), (17, "g/2", ""), (6, "g/1", "x"), (7, "g/1", "y"), (8, "g/1", "y")]
    _, outcomes, played = outcomes_of([(5, "g/1")], clicks, retention=4)
    assert [outcomes[1, n] for n in (2, 3, 4)] == ["late"] * 3
    assert played.corrections == {(17, "g/1", 5, 7, 1, 3): ((YES, 6, 2),)}


def test_a_late_action_never_sets_an_early_label():
    """Though an `elapsed` sample that waits for the whole window leaves at the settle time."""
    plan = make_plan(mode="elapsed", elapsed=(1.0, 1.0), retention=5)
    sources = [Rows(0, [(5, "g/1")]), Rows(1, [(15, "g/2", ""), (6, "g/1", "")])]
    played = play(plan, envelopes(plan, sources, 0, Random(0)), Random(0))
    assert played.outcomes[1, 1] == "late"
    assert played.early == {("elapsed", "g/1", 5, 15, None): ((NO, None, 0),)}
    assert played.corrections == {(15, "g/1", 5, 6, 1, 1): ((YES, 6, 1),)}


def test_a_label_is_mature_only_when_its_impression_has_settled():
    """A click window of 10 has passed when the impression is known, and yet a click comes."""
    plan = make_plan(windows=(10, 60), sources=3, mode="immediate")
    impressions, clicks = [(25, "g/9"), (5, "g/1")], [(26, "g/9", ""), (7, "g/1", "")]
    sources = [Rows(0, impressions), Rows(1, clicks), Rows(2, [])]
    played = play(plan, envelopes(plan, sources, 0, Random(0)), Random(0))
    mature = {
        (row["emission"], row["__emit"]): (row["a0"], row["a0_mature"], row["a1_mature"])
        for row in played.rows
        if row["item"] == "1"
    }
    assert mature == {("immediate", 25): (NO, NO, NO), ("positive", 26): (YES, YES, NO)}


def test_two_samples_of_one_key_and_instant_have_an_order():
    """A key that comes again after exactly one horizon settles as its repetition appears."""
    plan = make_plan(mode="window_and_immediate", dedup_horizon=10)
    sources = [Rows(0, [(5, "g/1"), (15, "g/1")]), Rows(1, [])]
    played = play(plan, envelopes(plan, sources, 0, Random(0)), Random(0))
    here = {(row["__emit"], row["emission"]) for row in played.rows if row["__emit"] == 15}
    assert here == {(15, "window"), (15, "immediate")}


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("joined", [NO, YES])
def test_of_equal_copies_the_one_with_the_least_place_is_shown_everywhere(joined, seed):
    """In samples, joined actions and corrections, through crashes and any cuts."""
    plan = make_plan(sources=4, joined=joined, retention=20)
    copies = [(5, "g/1"), (6, "g/2"), (7, "g/3"), (8, "g/1")]
    clicks = [(6, "g/1", ""), (17, "g/9", ""), (7, "g/1", "")]
    sources = [Rows(0, [(0, "g/0"), *copies]), Rows(0, copies), Rows(0, copies), Rows(1, clicks)]
    blocks = envelopes(plan, sources, 0, Random(seed))
    played = play(plan, blocks, Random(seed), crashes=0.5)
    assert len(played.corrections) == 1
    assert played.copies["g/1", 5] == {(0, 1)}


def test_emit_times_say_when_a_sample_was_known():
    """A sample is known at its settling, later by the group's span if the group decides."""
    _, _, played = outcomes_of([(5, "g/1")], [])
    assert played.rows[0]["__emit"] == 15
    _, _, played = outcomes_of([(5, "g/1")], [], group_span=4, by_group=True)
    assert played.rows[0]["__emit"] == 5 + 10 + 4 + 4


def test_two_windows_label_one_impression():
    """Each action stream has its own window and its own columns."""
    plan = make_plan(windows=(5, 30), sources=3)
    sources = [Rows(0, [(0, "g/1")]), Rows(1, [(6, "g/1", "")]), Rows(2, [(6, "g/1", "")])]
    played = play(plan, envelopes(plan, sources, 0, Random(0)), Random(0))
    assert played.samples == {("g/1", 0): ((NO, None, 0), (YES, 6, 1))}
    assert played.outcomes == {(1, 0): "outside_window"}


def test_an_idle_source_tells_its_progress_in_an_envelope_of_its_own():
    """Without a row, and without having ended, a source lets windows close."""
    plan = make_plan(sources=2)
    join, cells = ShardJoin(plan, 0, 1 << 20), MemoryCells()
    sources = [Rows(0, [(5, "g/1"), (100, "g/2")]), Rows(1, [])]
    for _, data in envelopes(plan, sources, 0, Random(0))[0][:-1]:
        assert not join.apply(EventEnvelope.decode(data), cells).samples
    idle = EventEnvelope(1, 1, 2, 0, 0, 14)
    assert not join.apply(idle, cells).samples
    assert [b.num_rows for b in join.apply(replace(idle, progress=15), cells).samples] == [1]


@pytest.mark.parametrize("mode", ["window", "immediate", "elapsed", "window_and_immediate"])
def test_state_does_not_grow_with_the_log(mode, monkeypatch):
    """After ten times as many events, journal and memory are as they were (Beam 12733)."""
    monkeypatch.setattr(actions, "COMPACTED_FROM", 32)
    plan = make_plan(mode=mode, joined=True, retention=5, early=1)
    rows = [(t, f"g/{t}") for t in range(4_000)]
    clicks = [(t + 3, f"g/{t}", "x") for t in range(0, 4_000, 3)]
    sources = [Rows(0, rows), Rows(1, clicks)]
    join, cells = ShardJoin(plan, 0, 1 << 20), MemoryCells()
    blocks = envelopes(plan, sources, 0, Random(5))
    feed = sorted(
        (EventEnvelope.decode(data) for source in blocks for _, data in source[:-1]),
        key=lambda envelope: (envelope.progress, envelope.source),
    )
    sizes = []
    for envelope in feed:
        join.apply(envelope, cells)
        held = sum(len(data) for cell in cells.contents.values() for data in cell)
        memory = join.actions.nbytes + join.remembered.nbytes + join.meeting.arrivals.index.nbytes
        parts = (
            join.meeting.scheduled.parts,
            join.retained.batches,
            join.meeting.arrivals.unknown,
            join.meeting.arrivals.shadowed,
        )
        sizes.append((held, memory, len(join.queue.waiting) + sum(map(len, parts))))
    early, late = sizes[len(sizes) // 10 : len(sizes) // 5], sizes[-len(sizes) // 5 :]
    for before, after in zip(zip(*early, strict=True), zip(*late, strict=True), strict=True):
        assert max(after) <= 1.5 * max(before)


def test_an_action_meets_its_impression_when_both_are_known():
    """At once if the impression is there, else when it comes; a repeated id does not leave."""
    plan = make_plan(joined=True, wait_for_impression=8)
    impressions = [(5, "g/1"), (12, "g/9"), (8, "g/2")]
    clicks = [(6, "g/1", "x"), (7, "g/1", "x"), (9, "g/2", ""), (11, "g/2", "")]
    sources = [Rows(0, impressions), Rows(1, clicks)]
    played = play(plan, envelopes(plan, sources, 0, Random(0)), Random(0))
    # Columns: source and offset of the impression, of the action, and when both were known.
    assert sorted(played.joined) == [(0, 0, 1, 0, 6), (0, 2, 1, 2, 12), (0, 2, 1, 3, 12)]


def test_of_waiting_actions_with_one_id_the_first_leaves():
    """Both came before their impression; which of them leaves is not left to chance."""
    plan = make_plan(joined=True, early=3, wait_for_impression=5)
    sources = [Rows(0, [(1, "g/2")]), Rows(1, [(0, "g/2", "x"), (0, "g/2", "x")])]
    played = play(plan, envelopes(plan, sources, 0, Random(0)), Random(0))
    assert played.joined == [(0, 0, 1, 0, 1)]


def test_the_copy_that_is_known_first_is_met_and_kept():
    """If something leaves before it settles, that is the copy of samples and joined actions."""
    plan = make_plan(joined=True)
    impressions = [(9, "g/1"), (12, "g/9"), (7, "g/1")]
    clicks = [(9, "g/1", ""), (18, "g/1", "")]
    sources = [Rows(0, impressions), Rows(1, clicks)]
    played = play(plan, envelopes(plan, sources, 0, Random(0)), Random(0))
    assert sorted(played.joined) == [(0, 0, 1, 0, 9), (0, 0, 1, 1, 18)]
    assert played.samples["g/1", 9] == ((YES, 9, 2),)
    assert played.outcomes == {(0, 2): "duplicate"}


def test_without_that_the_copy_of_the_earliest_event_time_is_kept():
    """A click that belongs to the other copy alone, known too late for this one, is an orphan."""
    impressions, clicks = [(9, "g/1"), (18, "g/9"), (7, "g/1")], [(18, "g/1", "")]
    labels, outcomes, _ = outcomes_of(impressions, clicks, wait_for_impression=0, windows=(12,))
    assert labels == {7: (NO, None, 0), 18: (NO, None, 0)}
    assert outcomes == {(0, 0): "duplicate", (1, 0): "orphan"}


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("immediate", [("immediate", 5, NO), ("positive", 8, YES)]),
        ("window_and_immediate", [("immediate", 5, NO), ("positive", 8, YES)]),
    ],
)
def test_a_positive_leaves_again_when_its_action_comes(mode, expected):
    """A second action changes nothing more; only a true negative leaves after the window."""
    plan = make_plan(mode=mode)
    sources = [Rows(0, [(5, "g/1"), (6, "g/2")]), Rows(1, [(8, "g/1", ""), (9, "g/1", "")])]
    played = play(plan, envelopes(plan, sources, 0, Random(0)), Random(0))
    own = sorted(
        (emission, emit, labels[0][0])
        for (emission, key, _, emit, _), labels in played.early.items()
        if key == "g/1"
    )
    assert own == expected
    settled = {("g/2", 6): ((NO, None, 0),)} if mode == "window_and_immediate" else {}
    assert played.samples == settled


def test_each_stream_makes_a_positive_of_its_own():
    """Also at one instant; and what stays negative for one stream leaves again for it."""
    plan = make_plan(windows=(10, 20), sources=3, mode="window_and_immediate")
    impressions = [(5, "g/1"), (6, "g/2"), (7, "g/3")]
    clicks, buys = [(8, "g/1", ""), (9, "g/2", ""), (9, "g/1", "")], [(8, "g/1", "")]
    sources = [Rows(0, impressions), Rows(1, clicks), Rows(2, buys)]
    played = play(plan, envelopes(plan, sources, 0, Random(0)), Random(0))
    left = sorted(
        (row["item"], row["emission"], row["trigger"] or "", row["a0"], row["a1"])
        for row in played.rows
    )
    assert left == [
        ("1", "immediate", "", NO, NO),
        ("1", "positive", "a0", YES, YES),
        ("1", "positive", "a1", YES, YES),
        ("2", "immediate", "", NO, NO),
        ("2", "positive", "a0", YES, NO),
        ("2", "window", "", YES, NO),
        ("3", "immediate", "", NO, NO),
        ("3", "window", "", NO, NO),
    ]


def test_a_unit_is_positive_if_a_member_within_the_span_is():
    """Both ends of the span are in; a negative of the group further away is on its own."""
    plan = make_plan(group_span=4, by_group=True, rate=1e-12)
    impressions = [(10, "g/1"), (14, "g/2"), (15, "g/3"), (16, "h/4")]
    sources = [Rows(0, impressions), Rows(1, [(11, "g/1", "")])]
    played = play(plan, envelopes(plan, sources, 0, Random(0)), Random(0))
    assert played.samples == {("g/1", 10): ((YES, 11, 1),), ("g/2", 14): ((NO, None, 0),)}
    assert played.counts["impressions"] == {"settled": 4, "open": 0}


def test_the_choice_is_that_of_the_key():
    """A negative that was kept at once is kept when its window has closed, on any shard."""
    chosen = []
    for shards in (1, 3):
        plan = make_plan(mode="window_and_immediate", rate=0.5, shards=shards)
        sources = [Rows(0, [(n, f"g/{n}") for n in range(100)]), Rows(1, [])]
        played = play(plan, envelopes(plan, sources, 0, Random(0)), Random(0))
        keys = {"immediate": set(), "window": set()}
        for row in played.rows:
            keys[row["emission"]].add(row["item"])
        assert keys["immediate"] == keys["window"]
        chosen.append(keys["window"])
    assert chosen[0] == chosen[1]
    assert 30 < len(chosen[0]) < 70


@pytest.mark.parametrize("wait", [0, 10])
def test_actions_are_known_until_the_sample_that_they_label_has_left(monkeypatch, wait):
    """At the settle time they are decided, but an `elapsed` sample leaves only after it."""
    monkeypatch.setattr(actions, "COMPACTED_FROM", 1)
    plan = make_plan(mode="elapsed", elapsed=(1.0, 1.0), wait_for_impression=wait, dedup_horizon=10)
    impressions = [(4, "g/8"), (5, "g/1"), (15, "g/9"), (16, "g/7")]
    clicks = [(5, "g/6", ""), (5, "g/1", ""), (15, "g/5", ""), (16, "g/4", "")]
    sources = [Rows(0, impressions), Rows(1, clicks)]
    label = ((YES, 5, 1),) if wait else ((NO, None, 0),)
    for seed in range(40):
        blocks = envelopes(plan, sources, 0, Random(seed))
        played = play(plan, blocks, Random(seed), crashes=0.4)
        assert played.early["elapsed", "g/1", 5, 15, None] == label
