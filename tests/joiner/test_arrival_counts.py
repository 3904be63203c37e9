"""How many actions became known when is told once, in time, whatever the cuts and shards."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from random import Random

import pytest

from headrace.joiner.join import ShardJoin
from headrace.joiner.journal.cells import MemoryCells
from headrace.joiner.plan.served import ServedPlan
from headrace.schemas.records.envelope import ARRIVALS, EventEnvelope, SampleEnvelope
from headrace.schemas.records.events import COUNT, EMIT, NEVER, STREAM
from tests.joiner.harness import Rows, envelopes, event_rows, make_plan

STEP = 3


def told(plan, blocks):
    """Play all envelopes, some of them twice; return counts by stream and step."""
    found = Counter()
    for shard in range(plan.shards):
        join, cells, progress = ShardJoin(plan, shard, 1 << 20), MemoryCells(), NEVER
        for source in blocks:
            for data in [data for of, data in source if of == shard]:
                for _ in range(2):
                    sent = join.emit(join.apply(EventEnvelope.decode(data), cells))
                    if sent is None:
                        continue
                    sent = SampleEnvelope.decode(sent.encode())
                    for rows in sent.beside.get(ARRIVALS, []):
                        emit = rows.column(EMIT).to_pylist()
                        assert emit == sorted(emit)
                        assert all(time > progress for time in emit)
                        assert all(time % STEP == STEP - 1 for time in emit)
                        for time, stream, count in zip(
                            emit, rows.column(STREAM).to_pylist(), rows.column(COUNT).to_pylist(),
                            strict=True,
                        ):  # fmt: skip
                            found[stream, time // STEP] += count
                    progress = sent.progress
    return found


@pytest.mark.parametrize("seed", range(10))
def test_each_action_counts_in_the_step_in_which_it_becomes_known(seed):
    """The later of its event time and the progress of its source then: see rule 3."""
    random = Random(seed)
    late = random.choice((0, 4))
    sources = []
    for stream in (0, 1, 1, 2):
        rows = [(random.randint(0, 60), f"g{random.randint(0, 3)}/1", "") for _ in range(40)]
        if stream == 0:
            rows = [row[:2] for row in rows]
        sources.append(Rows(stream, rows if late else sorted(rows)))
    _, actions = event_rows(sources, late)
    expected = Counter((of.stream, max(of.time, of.arrival) // STEP) for of in actions)
    for shards in (1, 3):
        plan = make_plan((10, 5), sources=len(sources), shards=shards)
        plan = replace(plan, served=ServedPlan(step=STEP))
        assert told(plan, envelopes(plan, sources, late, random)) == expected
        assert (
            told(replace(plan, served=ServedPlan()), envelopes(plan, sources, late, random)) == {}
        )
