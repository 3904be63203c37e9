"""What each part of a join's state exports, another takes over."""

from __future__ import annotations

import json
from dataclasses import replace
from random import Random

import numpy as np
import pyarrow as pa
import pytest

from headrace.joiner.join import ShardJoin
from headrace.joiner.journal.cells import MemoryCells
from headrace.joiner.journal.pieces import KeptKeys, Marks, Positives, ShadowedRows
from headrace.joiner.journal.rings import RINGS, Rings, lifetimes
from headrace.joiner.journal.segments import Segment
from headrace.joiner.journal.shardjournal import LAYOUT_VERSION, ShardJournal
from headrace.joiner.recovery import describe_join, export_join, restore_join
from headrace.joiner.state.actions import PendingActions
from headrace.joiner.state.arrivals import Arrivals
from headrace.joiner.state.groups import HeldRows
from headrace.joiner.state.hashqueue import HashQueue
from headrace.joiner.state.impressions import Impressions
from headrace.joiner.state.remembered import RememberedKeys
from headrace.joiner.state.retained import Retained
from headrace.joiner.state.scheduled import Scheduled
from headrace.joiner.tally import Tally
from headrace.schemas.errors import StateVersionError
from headrace.schemas.records.envelope import EventEnvelope
from headrace.schemas.records.events import (
    ARRIVAL,
    GROUP0,
    GROUP1,
    ID0,
    ID1,
    KEY0,
    KEY1,
    NEVER,
    OFFSET,
    TIME,
    Outcome,
)
from tests.joiner.harness import Rows, envelopes, make_plan

SPREAD = np.uint64(0x9E3779B97F4A7C15)


def digests(numbers):
    return np.array(numbers, np.uint64) * SPREAD


def events(times, keys=None, arrival=None, first=0):
    """Make events of one source: times, and if they are others keys and arrival progress."""
    time = np.array(times)
    keys = digests(times if keys is None else keys)
    arrived = time - 1 if arrival is None else np.array(arrival)
    none = np.zeros(time.size, np.uint64)
    return pa.RecordBatch.from_pydict(
        {
            TIME: time, ARRIVAL: arrived, OFFSET: first + np.arange(time.size),
            KEY0: keys, KEY1: keys, ID0: none, ID1: none, "note": [""] * time.size,
        }
    )  # fmt: skip


def journal_of(plan):
    return ShardJournal(Rings(plan), MemoryCells())


def columns(piece):
    return [column.tolist() for column in piece]


def test_waiting_impressions_are_restored_from_their_segments():
    """Those that have settled do not come again, of a segment that has settled in part neither."""
    plan, times = make_plan(windows=(10,)), ([0, 4, 9], [2, 3], [20, 30])
    journal, queue = journal_of(plan), HashQueue(1 << 20)
    for source, batch in enumerate(map(events, times)):
        segment = journal.segment(source, 0, batch)
        journal.waiting(segment, batch)
        queue.push(segment, batch)
    assert [part.batch.num_rows for part in queue.pop_until(4, journal)] == [2, 2]
    restored = HashQueue(1 << 20)
    restored.restore(journal.read_segments(), settled_until=4)
    assert restored.waiting.keys() == queue.waiting.keys() == {(0, 0), (2, 0)}
    for each in (queue, restored):
        assert [segment.rows for segment, _ in each.export(journal)] == [3, 2]
        slices = [(part.name, part.first, part.is_last) for part in each.pop_until(20, journal)]
        assert slices == [((0, 0), 2, True), ((2, 0), 0, False)]


def test_a_segment_is_as_it_was_written():
    """All of its figures, as plain bytes."""
    segment = Segment.of(3, 70, events([5, 8, 13], arrival=[20, 1, 2]), 4)
    again = Segment.decode(segment.encode())
    assert [getattr(again, name) for name in Segment.__slots__] == [
        3, 70, 5, 13, 20, 4, 3, segment.nbytes,
    ]  # fmt: skip


@pytest.mark.parametrize("parts", [1, 3])
def test_remembered_keys_take_over_what_others_exported(parts):
    """In any order, with when each was known."""
    remembered = RememberedKeys(horizon=1_000)
    time = np.arange(0, 3_000, 10)
    known = time + np.arange(time.size) % 3
    assert remembered.keep_first(digests(time), time, known)[0].all()
    keys = remembered.export(bound=1_990)
    assert sorted(keys.time.tolist()) == list(range(2_000, 3_000, 10))
    restored = RememberedKeys(horizon=1_000)
    pieces = [keys.select(np.arange(keys.time.size) % parts == part) for part in range(parts)]
    restored.restore(KeptKeys.together(pieces[::-1]))
    found = restored.find(digests(keys.time))
    assert found[0].all()
    assert columns(found[1:]) == columns(keys[1:])
    again = restored.export(1_990)
    assert columns(again.select(np.argsort(again.time))) == columns(
        keys.select(np.argsort(keys.time))
    )


def test_actions_keep_what_is_known_of_them():
    """Decided or not, seen, and met; what nothing asks for is left behind."""
    plan = make_plan(windows=(10,), retention=30, dedup_horizon=40, wait_for_impression=20)
    actions, nothing = PendingActions(plan), RememberedKeys(plan.dedup_horizon)
    batch = events([5, 6, 7, 30], keys=[1, 2, 3, 4], arrival=[0, 40, 5, 6])
    assert [found.size for found in actions.add(0, 1, batch, nothing)] == [0, 0]
    shown = np.array([1, 2, 3, 4])
    time = np.array([0, 0, 0, 0])
    matches, seen = actions.match(Impressions(digests(shown), digests(shown), time, time))
    assert (matches.entry.tolist(), seen.tolist()) == ([0, 2], [3])
    journal = journal_of(plan)
    rows, marked = actions.export(clock=20)
    for stream, source, part in rows:
        journal.acted(stream, source, part)
    actions.write_marks(marked, journal)
    restored = PendingActions(plan)
    restored.restore(*journal.read_actions(), clock=20)
    assert restored.count == 4
    for each in (actions, restored):
        assert each.decided[:4].tolist() == [True, False, True, False]
        assert each.seen[:4].tolist() == [NEVER, NEVER, NEVER, 0]
        assert each.met[:4].tolist() == [0, NEVER, 0, NEVER]
        assert each.expire(clock=40).tolist() == [1]
        assert each.expire(clock=60).tolist() == [3]
    later = PendingActions(plan)
    later.restore(*journal.read_actions(), clock=36)
    assert later.offset[: later.count].tolist() == [0, 2, 3]


def test_an_action_that_was_decided_as_late_is_corrected_after_a_restart():
    """Once it is known; what its outcome is follows from what it met."""
    plan = make_plan(windows=(10,), retention=30, dedup_horizon=40)
    actions, remembered = PendingActions(plan), RememberedKeys(plan.dedup_horizon)
    remembered.keep_first(digests([1]), np.array([0]), np.array([0]))
    late, _ = actions.add(0, 1, events([5], keys=[1], arrival=[25]), remembered)
    actions.note_late(late)
    journal = journal_of(plan)
    journal.acted(0, 1, events([5], keys=[1], arrival=[25]))
    actions.write_marks(late, journal)
    restored = PendingActions(plan)
    restored.restore(*journal.read_actions(), clock=20)
    for each in (actions, restored):
        assert each.late(np.array([0])).tolist() == [True]
        assert each.take_uncorrected(25).tolist() == []
        assert each.take_uncorrected(26).tolist() == [0]


def test_later_marks_of_an_action_add_to_earlier_ones():
    """In whatever order they are read; of an action without a mark nothing is known."""

    def marks(source, offset, decided, seen, met):
        kinds = (np.int32, np.int64, np.bool_, np.int64, np.int64)
        values = (source, offset, decided, seen, met)
        return Marks(*(np.array([v], kind) for v, kind in zip(values, kinds, strict=True)))

    parts = [
        marks(2, 7, False, 20, NEVER), marks(1, 7, True, NEVER, NEVER),
        marks(2, 7, True, 10, 30), marks(2, 7, False, NEVER, NEVER),
    ]  # fmt: skip
    for order in (parts, parts[::-1]):
        whole = Marks.together(order)
        assert columns(whole.of(2, np.array([6, 7]))) == [
            [False, True], [NEVER, 20], [NEVER, 30]
        ]  # fmt: skip
        assert columns(whole.of(1, np.array([7]))) == [[True], [NEVER], [NEVER]]
    assert columns(Marks.together([]).of(1, np.array([7]))) == [[False], [NEVER], [NEVER]]


def held_rows(times, positive):
    time = np.array(times)
    group = np.full(time.size, 5, np.uint64)
    return pa.RecordBatch.from_pydict(
        {
            "event_time": pa.array(time).cast(pa.timestamp("us", tz="UTC")),
            "a0": positive, GROUP0: group, GROUP1: group,
        }
    )  # fmt: skip


def test_held_rows_keep_the_positives_near_them():
    """Those of rows that have left too, as long as others may ask."""
    plan = make_plan(windows=(10,), group_span=4, by_group=True)
    held = HeldRows(plan)
    held.push(held_rows([0, 3, 6], [False, True, False]))
    held.push(held_rows([7, 20], [False, False]))
    clock = 3 + plan.release_delay
    assert held.release(clock)[0].num_rows == 2
    journal = journal_of(plan)
    batches, positives = held.export(clock)
    for batch in batches:
        journal.held(batch)
    journal.released(positives)
    restored = HeldRows(plan)
    restored.restore(*journal.read_held(), clock)
    for each in (held, restored):
        rows, positive = each.release(20 + plan.release_delay)
        assert rows.num_rows == 3
        assert positive.tolist() == [True, True, False]


def test_held_rows_that_left_count_for_their_group_alone():
    """A journal that has the rows still, and no positives yet, says as much."""
    plan = make_plan(windows=(10,), group_span=4, by_group=True)
    restored = HeldRows(plan)
    restored.restore([held_rows([0, 3, 6], [False, True, False])], [], 3 + plan.release_delay)
    rows, positive = restored.release(6 + plan.release_delay)
    assert (rows.num_rows, positive.tolist()) == (1, [True])


def test_retained_impressions_come_back_in_order_of_time():
    """In whatever order the journal has them."""
    plan = make_plan(windows=(10,), retention=10)
    retained = Retained(plan)
    for times in ([0, 5], [7, 8], [9]):
        retained.push(events(times))
    restored = Retained(plan)
    restored.restore(retained.export()[::-1])
    for each in (retained, restored):
        each.expire(clock=27)
        assert [batch.column(TIME).to_pylist() for batch in each.batches] == [[7, 8], [9]]


def test_first_emissions_come_back_unless_they_have_left():
    """Each at its time."""
    scheduled = Scheduled()
    scheduled.push(events([1, 2, 3]), np.array([10, 20, 30]))
    scheduled.push(events([4]), np.array([15]))
    restored = Scheduled()
    restored.restore(reversed(scheduled.export()), clock=15)
    assert scheduled.pop_before(15)[1].tolist() == [10]
    for each in (scheduled, restored):
        batch, emit = each.pop_before(25)
        assert (batch.column(TIME).to_pylist(), emit.tolist()) == ([4, 2], [15, 20])
        assert each.pop_before(31)[1].tolist() == [30]


def test_what_became_known_stays_known_and_duplicates_stay_duplicates():
    """Restored from the pieces, an action meets the same impression."""
    plan = make_plan(windows=(10,), joined=True, dedup_horizon=20)
    actions, arrivals = PendingActions(plan), Arrivals(plan)
    batch = events([0, 3, 5], keys=[1, 1, 2])
    arrivals.push((0, 0), batch, NEVER)
    came = arrivals.meet(NEVER, 6, actions)
    assert [part.rows.tolist() for part in came.shadowed] == [[1]]
    assert came.keys.time.tolist() == [0, 5]
    journal = journal_of(plan)
    segment = journal.segment(0, 0, batch)
    keys, shadowed = arrivals.export(6)
    journal.known(keys)
    for part in shadowed:
        journal.shadowed(part, 6)
    restored = Arrivals(plan)
    restored.restore(*journal.read_known(), {segment.name: segment}, 6)
    assert restored.shadowed[0, 0].tolist() == [False, True, False]
    for each in (arrivals, restored):
        acted = PendingActions(plan)
        acted.add(0, 1, events([7, 8], keys=[2, 1]), RememberedKeys(20))
        encounters = each.meet(6, 9, acted).encounters
        assert (encounters.entry.tolist(), encounters.time.tolist()) == ([0, 1], [5, 0])
    gone = Arrivals(plan)
    gone.restore(KeptKeys.none(), [ShadowedRows((0, 0), np.array([1]))], {}, 6)
    assert not gone.shadowed, "of segments that have settled nothing is kept"


def test_a_tally_is_as_it_was_described():
    """As JSON, all of it."""
    tally = Tally.empty(make_plan(windows=(10, 20), sources=3))
    tally.receive(1, events([4, 9]))
    tally.outcomes[1, Outcome.LATE] += 1
    tally.looked_up["memory"] += 3
    tally = replace(tally, clock=5, sequence=2, dropped=7)
    assert Tally.restore(json.loads(json.dumps(tally.describe()))) == tally
    counts = tally.outcome_counts(("impressions", "a0", "a1"))
    assert counts == {"impressions": {"open": 0}, "a0": {"late": 1, "open": 1}, "a1": {"open": 0}}


def test_a_ring_clears_a_cell_when_all_of_it_has_expired():
    """And never before; a described ring goes on as it was."""
    plan = make_plan(windows=(10,), dedup_horizon=40)
    assert lifetimes(plan).keys() == set(RINGS)
    rings, cells = Rings(plan), MemoryCells()
    journal, now = ShardJournal(rings, cells), 0
    for now in range(60, 400, 3):
        time = np.array([now - 10])  # as it settles
        journal.kept(KeptKeys(digests(time), time, time))
        journal.expire(now)
        again = Rings(plan)
        again.restore(json.loads(json.dumps(rings.describe())))
        live = ShardJournal(again, cells).read_kept().time.tolist()
        assert {time for time in range(50, now - 9, 3) if time > now - 50} <= set(live)
        assert min(live) > now - 50 - 3 * rings["keys"].width
    journal.expire(now + 100)
    assert not any(cells.contents.values())


def test_a_join_of_another_layout_is_refused():
    """With a sentence that says what to do."""
    plan = make_plan()
    described = {**describe_join(ShardJoin(plan, 0, 0)), "layout": 3}
    says = f"join state has layout 3, this version reads {LAYOUT_VERSION}; drain the job with the"
    with pytest.raises(StateVersionError, match=says):
        restore_join(plan, 0, described, MemoryCells(), 0)


@pytest.mark.parametrize("mode", ["window", "elapsed"])
def test_a_join_written_down_twice_is_the_same(mode):
    """What is restored from an export exports the same pieces."""
    plan = make_plan(windows=(30,), mode=mode, joined=mode != "window", retention=5)
    sources = [
        Rows(0, [(t, f"g/{t % 40}") for t in range(60)]),
        Rows(1, [(t, f"g/{t % 50}", "x") for t in range(60)]),
    ]
    blocks = envelopes(plan, sources, 2, Random(1))
    join, cells = ShardJoin(plan, 0, 1 << 20), MemoryCells()
    for impressions, actions in zip(blocks[0][:-1], blocks[1][:-1], strict=False):
        for _, data in (impressions, actions):
            join.apply(EventEnvelope.decode(data), cells)
    written = []
    for _ in range(2):
        moved = MemoryCells()
        described = export_join(join, cells, moved.append)
        written.append((described, {at: sorted(found) for at, found in moved.contents.items()}))
        join, cells = restore_join(plan, 0, described, moved, 1 << 20), moved
    assert written[0] == written[1]


def test_positives_are_in_order_of_group_and_time():
    """However they come together."""

    def positives(group, time):
        return Positives(np.array(group, np.uint64), np.array(group, np.uint64), np.array(time))

    whole = positives([2, 1], [5, 9]).ordered_with(positives([1, 2], [3, 4]))
    assert columns(whole) == [[1, 1, 2, 2], [1, 1, 2, 2], [3, 9, 4, 5]]


PLANS = {
    "window": {},
    "group": {"group_span": 4, "by_group": True, "rate": 0.3},
    "retained": {"retention": 15, "dedup_horizon": 60, "wait_for_impression": 15},
    "joined": {"joined": True, "retention": 15, "dedup_horizon": 60},
    "elapsed": {"mode": "elapsed", "joined": True, "early": 3},
    "twice": {"mode": "window_and_immediate", "retention": 5},
}


def busy_log(seed):
    """Make five sources of a few keys, out of order, with repetitions and stragglers."""
    random = Random(seed)
    keys = [f"{group}/{item}" for group in "ghij" for item in range(3)]

    def times():
        return sorted(range(150), key=lambda time: time + random.choice((0, 0, 0, 4, 9, 60)))

    impressions = [
        Rows(0, [(t, random.choice(keys)) for t in times() if random.random() < 0.4])
        for _ in range(2)
    ]
    ids = ("", "", "x", "y")
    actions = [
        Rows(1 + number % 2, [(t, random.choice(keys), random.choice(ids)) for t in times()[::5]])
        for number in range(3)
    ]
    return impressions + sorted(actions, key=lambda rows: rows.stream)


def outputs(plan, feed, how):
    """Return all that leaves a join which is rebuilt between any two envelopes, in a form."""
    join, cells, left = ShardJoin(plan, 0, 2_000), MemoryCells(), []
    for data in feed:
        output = join.apply(EventEnvelope.decode(data), cells)
        parts = [*output.samples, *output.corrections]
        parts += [batch for batches in output.joined.values() for batch in batches]
        left += [str(row) for batch in parts for row in batch.to_pylist()]
        left += [
            f"{dead.outcome} {dead.source} {offset}"
            for dead in output.dead
            for offset in dead.batch.column(OFFSET).to_pylist()
        ]
        if how == "journal":
            described = json.dumps(describe_join(join))
            join = restore_join(plan, 0, json.loads(described), cells, 2_000)
        elif how == "export":
            moved = MemoryCells()
            described = export_join(join, cells, moved.append)
            join, cells = restore_join(plan, 0, described, moved, 2_000), moved
    return sorted(left), join.tally


@pytest.mark.parametrize("how", ["journal", "export"])
@pytest.mark.parametrize("kind", PLANS)
def test_a_join_that_is_rebuilt_at_every_envelope_does_what_it_would_have_done(kind, how):
    """From its journal, or written down anew, nothing that leaves is another."""
    plan = make_plan(windows=(10, 25), sources=5, **PLANS[kind])
    for seed in range(3):
        blocks = envelopes(plan, busy_log(seed), 6, Random(seed))
        order = Random(seed)
        sources = [[data for _, data in blocks_of] for blocks_of in blocks]
        feed = []
        while any(sources):
            feed.append(order.choice([source for source in sources if source]).pop(0))
        left, tally = outputs(plan, feed, how)
        expected, counted = outputs(plan, feed, "")
        assert left == expected
        # Where impressions were found may be another: the cache is not restored.
        assert replace(tally, looked_up=counted.looked_up) == counted
        assert sum(tally.looked_up.values()) == sum(counted.looked_up.values())
        outcomes = {outcome for _, outcome in tally.outcomes}
        assert {Outcome.SETTLED, Outcome.DUPLICATE, Outcome.LATE, Outcome.ORPHAN} <= outcomes
