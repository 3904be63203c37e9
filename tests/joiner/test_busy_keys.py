"""A key with any number of actions costs no more for each of them."""

from __future__ import annotations

import pytest

from headrace.joiner.join import ShardJoin
from headrace.joiner.journal.cells import MemoryCells
from headrace.joiner.samples.output import JoinOutput
from headrace.schemas.records.envelope import EventEnvelope
from tests.joiner.harness import Rows, envelopes, make_plan

CLICKS = 40_000
KEY, OTHER = "g/1", "g/2"
WINDOW = 100_000


class Uncut:
    """Cuts sources into blocks of one size, in place of chance."""

    def choice(self, _):
        return 8192


def join_all(sources, out_of_orderness=0, streams=1, **settings) -> list[JoinOutput]:
    plan = make_plan(
        windows=(WINDOW,) * streams, sources=1 + streams, wait_for_impression=WINDOW,
        dedup_horizon=10 * WINDOW, **settings,
    )  # fmt: skip
    blocks = envelopes(plan, sources, out_of_orderness, Uncut())
    join, cells = ShardJoin(plan, 0, 1 << 26), MemoryCells()
    feed = [EventEnvelope.decode(data) for source in blocks for _, data in source]
    return [join.apply(envelope, cells) for envelope in feed]


def clicks(begin):
    """Return clicks that each have an id of their own, but for the last, which has the first's."""
    return [(begin + n, KEY, f"id{n % (CLICKS - 1)}") for n in range(CLICKS)]


# Pairs of these clicks are 8e8: looking at each takes seconds, and keeping them 13 GB.
@pytest.mark.parametrize("mode", ["window", "elapsed"])
@pytest.mark.parametrize("wait", [0, WINDOW], ids=["impression first", "clicks first"])
def test_all_clicks_of_one_key_meet_their_impression(wait, mode):
    """But for the one whose id has; the sample, which leaves after them, has as many."""
    sources = [Rows(0, [(5, KEY), (9 * WINDOW, OTHER)]), *(Rows(1 + n, clicks(10)) for n in (0, 1))]
    outputs = join_all(sources, wait, streams=2, joined=True, mode=mode, elapsed=(1.0, 1.0))
    for stream in (0, 1):
        joined = [batch for output in outputs for batch in output.joined.get(stream, [])]
        assert sum(batch.num_rows for batch in joined) == CLICKS - 1
    rows = [row for output in outputs for batch in output.samples for row in batch.to_pylist()]
    (sample,) = [row for row in rows if row["item"] == "1"]
    assert (sample["emission"], sample["a0_count"], sample["a1_count"]) == (
        mode, CLICKS - 1, CLICKS - 1,
    )  # fmt: skip


def test_each_late_click_of_one_key_leaves_a_correction():
    """With those in time and those that came before it; but for the one whose id has."""
    late = [(10, KEY, ""), (3 * WINDOW, OTHER, ""), *clicks(20)]
    sources = [Rows(0, [(5, KEY), (9 * WINDOW, OTHER)]), Rows(1, late)]
    outputs = join_all(sources, retention=5 * WINDOW)
    batches = [batch for output in outputs for batch in output.corrections]
    counts = [count for batch in batches for count in batch.column("a0_count").to_pylist()]
    assert sorted(counts) == list(range(2, CLICKS + 1))
    assert {time for batch in batches for time in batch.column("a0_time").to_pylist()} == {
        batches[0].column("a0_time")[0].as_py()
    }
