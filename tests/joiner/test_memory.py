"""What a join holds in memory."""

from collections import Counter
from random import Random

import numpy as np
import pyarrow as pa
import pytest

from headrace.joiner.join import ShardJoin
from headrace.joiner.journal.cells import MemoryCells
from headrace.joiner.journal.pieces import KeptKeys
from headrace.joiner.journal.rings import Rings
from headrace.joiner.journal.segments import Segment
from headrace.joiner.journal.shardjournal import ShardJournal
from headrace.joiner.recovery import export_join
from headrace.joiner.state import remembered
from headrace.joiner.state.hashqueue import HashQueue
from headrace.joiner.state.known import KnownImpressions
from headrace.joiner.state.remembered import RememberedKeys
from headrace.schemas.records.envelope import EventEnvelope
from headrace.schemas.records.events import ARRIVAL, KEY0, KEY1, OFFSET, TIME
from tests.joiner.harness import Rows, envelopes, make_plan, play


def rows(begin, end):
    number = np.arange(begin, end)
    return pa.RecordBatch.from_pydict(
        {
            TIME: pa.array(number), ARRIVAL: pa.array(number - 1), OFFSET: pa.array(number),
            KEY0: pa.array(number.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)),
            KEY1: pa.array(number.astype(np.uint64)),
            "payload": ["x" * 100] * (end - begin),
        }
    )  # fmt: skip


def test_a_waiting_impression_takes_no_memory_besides_the_cache():
    """An envelope of waiting impressions leaves nothing of its rows in memory."""
    queue = HashQueue(cache_bytes=0)
    for begin in range(0, 100_000, 5_000):
        batch = rows(begin, begin + 5_000)
        assert not queue.push(Segment.of(0, begin, batch, 0), batch)
    assert sum(segment.rows for segment in queue.waiting.values()) == 100_000
    assert (queue.cached_bytes, queue.payloads) == (0, {})


def test_many_small_segments_become_few():
    """As of a live source; their rows stay, in order, and settle when they are due."""
    queue = HashQueue(cache_bytes=1 << 30)
    journal = ShardJournal(Rings(make_plan()), MemoryCells())
    moves = []
    most = 0
    for begin in range(0, 20_000, 10):
        batch = rows(begin, begin + 10)
        assert queue.push(Segment.of(0, begin, batch, 0), batch)
        queue.compact(begin, lambda segments, merged, order: moves.append(merged.rows))
        most = max(most, len(queue.waiting))
    assert max(moves) > 4_096
    assert most < 60
    assert queue.cached_bytes == sum(segment.nbytes for segment in queue.waiting.values())
    settled = [
        part.batch.column(OFFSET).to_numpy()
        for bound in (7, 5_000, 5_000, 19_998, 20_000)
        for part in queue.pop_until(bound, journal)
    ]
    assert np.concatenate(settled).tolist() == list(range(20_000))
    assert (queue.cached_bytes, queue.payloads, queue.waiting) == (0, {}, {})


@pytest.mark.parametrize(
    ("cache_bytes", "places"),
    [(1 << 20, {"memory"}), (4_000, {"memory", "journal"}), (0, {"journal"})],
)
def test_impressions_of_joined_actions_are_found_in_memory_or_in_the_journal(cache_bytes, places):
    """Wherever they are the same rows leave, and how many were found where is counted."""
    plan = make_plan(windows=(300,), joined=True)
    sources = [
        Rows(0, [(t, f"g/{t}") for t in range(300)]),
        Rows(1, [(t, f"g/{t - 10}", "") for t in range(10, 300)]),
    ]
    blocks = envelopes(plan, sources, 0, Random(1))
    join, cells, rows = ShardJoin(plan, 0, cache_bytes), MemoryCells(), []
    feed = sorted(
        (EventEnvelope.decode(data) for source in blocks for _, data in source),
        key=lambda envelope: (envelope.progress, envelope.source),
    )
    for envelope in feed:
        for batch in join.apply(envelope, cells).joined.get(0, []):
            rows += batch.column("number").to_pylist()
    assert sorted(rows) == list(range(290))
    assert join.tally.looked_up.keys() == places
    assert sum(join.tally.looked_up.values()) == 290


def test_the_index_of_known_impressions_takes_at_most_forty_bytes_each():
    """And it does not grow past the lifetime of its entries."""
    index = KnownImpressions(horizon=100_000, lifetime=200_000)
    for begin in range(0, 1_000_000, 5_000):
        batch = rows(begin, begin + 5_000)
        index.make_room(5_000, begin)
        columns = (batch.column(name).to_numpy() for name in (KEY0, TIME, TIME))
        index.restore(KeptKeys(*columns), clock=begin)
        if begin >= 200_000:
            assert index.nbytes / 200_000 <= 40


def test_payload_beyond_the_cache_is_read_back_from_the_journal():
    """Rows come back whole and in order, and the cache ends empty."""
    journal = ShardJournal(Rings(make_plan()), MemoryCells())
    queue = HashQueue(cache_bytes=1_500_000)
    for begin in range(0, 40_000, 5_000):
        batch = rows(begin, begin + 5_000)
        segment = journal.segment(0, begin, batch)
        journal.waiting(segment, batch)
        queue.push(segment, batch)
    got = []
    for bound in (2_000, 17_000, 39_999):
        for part in queue.pop_until(bound, journal):
            got += part.batch.column(OFFSET).to_pylist()
    assert got == list(range(40_000))
    assert (queue.cached_bytes, queue.payloads, queue.waiting) == (0, {}, {})


def settle(remembered, begin, end, spread=1):
    number = np.arange(begin, end).astype(np.uint64)
    key1 = number * np.uint64(0x9E3779B97F4A7C15)
    time = np.arange(begin, end) * spread
    return remembered.keep_first(key1, time, time)[0]


def test_keys_past_their_horizon_make_room():
    """Memory for remembered keys follows the horizon, not the length of the log."""
    remembered = RememberedKeys(horizon=10_000)
    sizes = []
    for begin in range(0, 400_000, 2_000):
        assert settle(remembered, begin, begin + 2_000).all()
        sizes.append(remembered.nbytes)
    assert max(sizes[100:]) <= max(sizes[:20])


@pytest.mark.parametrize(("large", "most"), [(remembered._LARGE, 29), (1 << 18, 16)])
def test_a_remembered_key_takes_few_bytes(monkeypatch, large, most):
    """While a large table fills, and when as many keys leave the horizon as come."""
    monkeypatch.setattr(remembered, "_LARGE", large)
    table = RememberedKeys(horizon=1_000_000)
    for begin in range(0, 3_000_000, 50_000):
        assert settle(table, begin, begin + 50_000).all()
        if begin >= 500_000:
            assert table.nbytes / min(begin + 50_000, 1_000_000) <= most


def test_disordered_keys_are_forgotten_too():
    """What is kept of impressions known after their time follows the horizon as well."""
    remembered = RememberedKeys(horizon=10_000)
    for begin in range(0, 200_000, 1_000):
        number = np.arange(begin, begin + 1_000)
        key1 = number.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        assert remembered.keep_first(key1, number, number + 5)[0].all()
        assert len(remembered.known) <= 25_000
        # Those long past may be found still, but never fail.
        first = np.arange(1, 1_000).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        found, time, known = remembered.find(first)
        assert (known[found] >= time[found]).all()


def test_times_beyond_what_a_table_holds_at_once():
    """A gap of years moves the table's zero; what is in the horizon stays."""
    day = 86_400_000_000
    remembered = RememberedKeys(horizon=2 * day)
    key = np.array([5, 6, 7, 5, 6], np.uint64) << np.uint64(40)
    time = np.array([0, day, 400 * day, 400 * day + 1, 20_000 * day])
    assert remembered.keep_first(key, time, time)[0].all()
    assert not remembered.keep_first(key[4:], time[4:] + day, time[4:] + day)[0].any()
    found, then, _ = remembered.find(key[4:])
    assert (found.tolist(), then.tolist()) == ([True], [20_000 * day])


@pytest.mark.parametrize("mode", ["window", "elapsed"])
def test_writing_a_join_down_reads_each_cell_once(mode):
    """However many segments lie in a cell, which on disk is read as a whole."""

    class Counting(MemoryCells):
        def read(self, ring, cell, wanted=None):
            reads[ring, cell] += 1
            return super().read(ring, cell, wanted)

    reads = Counter()
    plan = make_plan(windows=(300,), mode=mode)
    sources = [Rows(0, [(t, f"g/{t}") for t in range(300)]), Rows(1, [])]
    join, cells = ShardJoin(plan, 0, 0), Counting()
    for _, data in envelopes(plan, sources, 0, Random(1))[0][:-1]:
        join.apply(EventEnvelope.decode(data), cells)
    assert len(join.queue.waiting) > 20
    reads.clear()
    written = []
    export_join(join, cells, lambda ring, cell, data: written.append(ring))
    assert written.count("impressions") == len(join.queue.waiting)
    assert set(reads.values()) == {1}


@pytest.mark.parametrize("horizon", [50, 7 * 86_400_000_000])
def test_remembered_keys_equal_a_dictionary(horizon):
    """Kept or not, and when known, as with a plain dictionary over random streams."""
    random = np.random.default_rng(4)
    remembered, last = RememberedKeys(horizon), {}
    now = 0
    for _ in range(300):
        count = int(random.integers(1, 40))
        key = random.integers(1, 200, count).astype(np.uint64) << np.uint64(40)
        step = horizon // 20 + 1
        time = now + np.sort(random.integers(0, step, count))
        known = time + random.integers(0, 2, count) * random.integers(0, 5, count)
        now = int(time[-1])
        expected = []
        for k, t, p in zip(key.tolist(), time.tolist(), known.tolist(), strict=True):
            expected.append(k not in last or t >= last[k][0] + horizon)
            if expected[-1]:
                last[k] = (t, p)
        assert remembered.keep_first(key, time, known)[0].tolist() == expected
        found, then, p = remembered.find(key)
        fresh = np.array([last[k][0] > now - horizon for k in key.tolist()])
        assert (found >= fresh).all()
        rows = zip(key[found].tolist(), then[found].tolist(), p[found].tolist(), strict=True)
        assert all(last[k] == (t, p) for k, t, p in rows)


def test_a_hot_key_costs_no_more_than_others():
    """A hundred thousand impressions of one key settle as fast as of many: no chain is walked."""
    time = np.arange(100_000)
    same = np.full(100_000, 7 << 40, np.uint64)
    kept = RememberedKeys(horizon=10).keep_first(same, time, time)[0]
    assert np.flatnonzero(kept).tolist() == list(range(0, 100_000, 10))


def test_a_join_that_need_not_survive_journals_only_what_its_cache_cannot_hold():
    """With room in the cache nothing is written, without it payloads alone are."""

    class Brief(MemoryCells):
        durable = False

    plan = make_plan(sources=2)
    sources = [
        Rows(0, [(t, f"g/{t}") for t in range(50)]),
        Rows(1, [(t, f"g/{t}", "") for t in range(50)]),
    ]
    blocks = envelopes(plan, sources, 0, Random(1))
    expected = play(plan, blocks, Random(2))
    for cache_bytes, written in ((1 << 20, set()), (0, {"impressions"})):
        cells, join, samples = Brief(), ShardJoin(plan, 0, cache_bytes), []
        rings = set()
        for source in blocks:
            for _, data in source:
                samples += join.apply(EventEnvelope.decode(data), cells).samples
                rings |= {name for (name, _), cell in cells.contents.items() if cell}
        assert rings == written
        assert sum(batch.num_rows for batch in samples) == len(expected.samples) == 50
