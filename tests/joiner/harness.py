"""Play sources of events through shards, as rough as a runner may be."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, field
from datetime import timedelta
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa

from headrace.joiner.join import ShardJoin
from headrace.joiner.journal.cells import MemoryCells
from headrace.joiner.plan.emission import EmissionPlan
from headrace.joiner.plan.plans import ActionPlan, JoinPlan
from headrace.joiner.plan.sampling import SamplingPlan
from headrace.joiner.recovery import describe_join, export_join, restore_join
from headrace.pipelines.sources.sourcereader import partition
from headrace.schemas.records.decoding import Records
from headrace.schemas.records.envelope import EventEnvelope, SampleEnvelope
from headrace.schemas.records.eventing import EventBuilder, EventPlan, TimePlan
from headrace.schemas.records.events import FOREVER, NEVER, OFFSET
from tests.joiner.reference import Action, Impression


@dataclass
class Rows:
    """Rows of one source: (time, key) for impressions, (time, key, id) for actions."""

    stream: int
    rows: list[tuple]


def make_plan(
    windows: tuple[int, ...] = (10,),
    sources: int = 2,
    shards: int = 1,
    group_span: int = 0,
    rate: float = 1.0,
    by_group: bool = False,
    mode: str = "window",
    joined: bool = False,
    elapsed: tuple[float, float] = (0.0, 1.0),
    **times: int,
) -> JoinPlan:
    delay = max(windows, default=0) + group_span
    horizon = max(delay + times.get("early", 0), 20)
    defaults = {"wait_for_impression": max(windows, default=0), "dedup_horizon": horizon}
    actions = tuple(
        ActionPlan(f"a{i}", window, pa.schema([("note", pa.string())]))
        for i, window in enumerate(windows)
    )
    return JoinPlan(
        actions=actions,
        columns=("group", "item", "source", "number"),
        keys=2,
        sources=sources,
        shards=shards,
        epoch=7,
        sampling=SamplingPlan(rate=rate, by_group=by_group, seed=3),
        group_span=group_span,
        emission=EmissionPlan(mode, *elapsed, seed=3),
        joined=joined,
        **{**defaults, **times},
    )


def event_rows(sources: list[Rows], out_of_orderness: int) -> tuple[list, list]:
    """Return the rows as the reference wants them, arrival progress computed anew."""
    impressions, actions = [], []
    for number, source in enumerate(sources):
        greatest = None
        for offset, row in enumerate(source.rows):
            arrival = NEVER if greatest is None else greatest - out_of_orderness
            greatest = row[0] if greatest is None else max(greatest, row[0])
            if source.stream == 0:
                impressions.append(Impression(row[0], arrival, row[1], number, offset))
            else:
                actions.append(
                    Action(source.stream - 1, row[0], arrival, row[1], row[2], number, offset)
                )
    return impressions, actions


def final_progress(sources: list[Rows], out_of_orderness: int) -> dict[int, int]:
    """Return the time until which each stream's log is complete, by the greatest time read."""
    finals = {source.stream: NEVER for source in sources}
    for source in sources:
        if source.rows:
            greatest = max(row[0] for row in source.rows) - out_of_orderness
            finals[source.stream] = max(finals[source.stream], greatest)
    return finals


def envelopes(
    plan: JoinPlan,
    sources: list[Rows],
    out_of_orderness: int,
    cuts: Random,
    finals: dict[int, int] | None = None,
) -> list[list[tuple[int, bytes]]]:
    """Cut every source into blocks at random; return (shard, envelope) pairs a source.

    The last source of a stream tells the stream's final progress at its end, if `finals`
    are given; all others, and all without it, that nothing will follow.
    """
    grouped = plan.group_span > 0 or plan.sampling.by_group
    out = []
    for number, source in enumerate(sources):
        event_plan = EventPlan(
            stream=source.stream,
            key=("group", "item"),
            time=TimePlan(column="time", unit="us"),
            carried=("source", "number") if source.stream == 0 else ("note",),
            group=("group",) if grouped else (),
            id=None if source.stream == 0 else "id",
        )
        builder = EventBuilder(event_plan, out_of_orderness)
        begin = 0
        blocks: list[tuple[int, bytes]] = []
        while begin < len(source.rows):
            end = min(len(source.rows), begin + cuts.choice((1, 1, 2, 3, 5, 50)))
            batch = builder.finish(
                builder.check(
                    Records(_batch(source, number, begin, end), np.arange(begin, end))
                ).batch
            )
            for shard, part in enumerate(partition(batch, plan.shards)):
                blocks.append((shard, EventEnvelope(
                    source.stream, number, plan.sources, begin, end, builder.progress, 0, part,
                ).encode()))  # fmt: skip
            begin = end
        last = all(other.stream != source.stream for other in sources[number + 1 :])
        final = FOREVER if finals is None or not last else finals[source.stream]
        for shard in range(plan.shards):
            blocks.append((shard, EventEnvelope(
                source.stream, number, plan.sources, begin, begin, final, ended=True,
                exhausted=True,
            ).encode()))  # fmt: skip
        out.append(blocks)
    return out


def _batch(source: Rows, number: int, begin: int, end: int) -> pa.RecordBatch:
    rows = source.rows[begin:end]
    keys = [row[1].split("/") for row in rows]
    columns: dict[str, Any] = {
        "group": [key[0] for key in keys],
        "item": [key[1] for key in keys],
        "time": pa.array([row[0] for row in rows], pa.int64()),
    }
    if source.stream == 0:
        columns["source"] = pa.array([number] * (end - begin), pa.int64())
        columns["number"] = pa.array(range(begin, end), pa.int64())
    else:
        columns["id"] = pa.array([row[2] or None for row in rows], pa.string())
        columns["note"] = [f"{row[0]}:{row[1]}" for row in rows]
    return pa.RecordBatch.from_pydict(columns)


@dataclass
class Played:
    """All that came out."""

    samples: dict[tuple[str, int], tuple] = field(default_factory=dict)
    rows: list[dict] = field(default_factory=list)
    corrections: dict[tuple, tuple] = field(default_factory=dict)
    outcomes: dict[tuple[int, int], str] = field(default_factory=dict)
    about: dict[tuple[int, int], tuple] = field(default_factory=dict)
    copies: dict[tuple[str, int], set[tuple[int, int]]] = field(default_factory=dict)
    mature: dict[tuple[str, int], dict[int, set[bool]]] = field(default_factory=dict)
    order: set[tuple] = field(default_factory=set)
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    notes: dict[tuple[str, int], tuple] = field(default_factory=dict)
    joined: list[tuple] = field(default_factory=list)
    early: dict[tuple[str, str, int, int], tuple] = field(default_factory=dict)


def play(
    plan: JoinPlan,
    blocks: list[list[tuple[int, bytes]]],
    roughness: Random,
    crashes: float = 0.0,
    repeats: float = 0.0,
    cache_bytes: int = 1 << 20,
) -> Played:
    """Feed envelopes in a random order that keeps most of each source's own.

    With `crashes`, a shard loses its memory now and then and is rebuilt from
    what was committed; with `repeats`, envelopes come again.
    """
    queues: list[list[tuple[int, bytes]]] = [[] for _ in range(plan.shards)]
    for source in blocks:
        for shard, data in source:
            queues[shard].append((shard, data))
    played = Played()
    for shard in range(plan.shards):
        order = [list(source_blocks) for source_blocks in _by_source(blocks, shard)]
        feed: list[bytes] = []
        while any(order):
            source = roughness.choice([queue for queue in order if queue])
            # Envelopes of one source may even overtake each other.
            at = 1 if len(source) > 1 and roughness.random() < repeats else 0
            feed.append(source.pop(at))
            if roughness.random() < repeats:
                feed.append(roughness.choice(feed))
        _play_shard(plan, shard, feed, roughness, crashes, cache_bytes, played)
    return played


def _by_source(blocks: list[list[tuple[int, bytes]]], shard: int) -> list[list[bytes]]:
    return [[data for s, data in source if s == shard] for source in blocks]


def _play_shard(
    plan: JoinPlan,
    shard: int,
    feed: list[bytes],
    roughness: Random,
    crashes: float,
    cache_bytes: int,
    played: Played,
) -> None:
    cells = MemoryCells()
    join = ShardJoin(plan, shard, cache_bytes)
    last: SampleEnvelope | None = None
    for data in feed:
        while True:
            before = copy.deepcopy(cells.contents)
            meta = json.dumps(describe_join(join))
            output = join.apply(EventEnvelope.decode(data), cells)
            envelope = join.emit(output)
            if roughness.random() >= crashes:
                break
            # The attempt fails before its commit: all it did is gone.
            cells.contents = before
            join = restore_join(plan, shard, json.loads(meta), cells, cache_bytes)
        if roughness.random() < crashes:
            # Shut down in order: all is written down anew.
            moved = MemoryCells()
            meta = json.dumps(export_join(join, cells, moved.append))
            cells = moved
            join = restore_join(plan, shard, json.loads(meta), cells, cache_bytes)
        elif roughness.random() < crashes:
            meta = json.dumps(describe_join(join))
            join = restore_join(plan, shard, json.loads(meta), cells, cache_bytes)
        if envelope is not None:
            last = SampleEnvelope.decode(envelope.encode())
        _collect(plan, output, played)
    assert last is not None
    for stream, counts in last.outcomes.items():
        total = played.counts.setdefault(stream, {})
        for outcome, count in counts.items():
            total[outcome] = total.get(outcome, 0) + count
    assert last.progress == FOREVER
    if join.clock == FOREVER:
        leftover = {name: cell for name, cell in cells.contents.items() if cell}
        assert not leftover, "the journal must be empty when all windows have closed"


def _collect(plan: JoinPlan, output: Any, played: Played) -> None:
    for stream, batches in output.joined.items():
        for batch in batches:
            for row in batch.to_pylist():
                note = f"{_micros(row[f'a{stream}_time'])}:{row['group']}/{row['item']}"
                assert row[f"a{stream}_note"] == note
                name = (f"{row['group']}/{row['item']}", _micros(row["event_time"]))
                played.copies.setdefault(name, set()).add((row["source"], row["number"]))
                played.joined.append(
                    (row["source"], row["number"], row["__action_source"],
                     row["__action_offset"], row["__emit"])
                )  # fmt: skip
    for batch in output.samples:
        for row in batch.to_pylist():
            name = (f"{row['group']}/{row['item']}", _micros(row["event_time"]))
            observed = row["observed_for"] // timedelta(microseconds=1)
            if row["emission"] == "window":
                assert observed == plan.release_delay == row["__emit"] - name[1]
            else:
                assert observed == row["__emit"] - name[1]
            trigger = row.get("trigger")
            assert (trigger is not None) == (row["emission"] == "positive")
            if plan.emission.mode == "elapsed" and row["emission"] == "elapsed":
                waited = row["drawn_wait"] // timedelta(microseconds=1)
                assert (
                    observed
                    >= waited
                    == int(
                        plan.emission.wait(
                            np.array([row["__key0"]], np.uint64), plan.longest_window
                        )[0]
                    )
                )
            order = (row["__emit"], *name, row["emission"], trigger)
            assert order not in played.order, "two samples tie"
            played.order.add(order)
            for stream, action in enumerate(plan.actions):
                mature = row[action.name] or observed >= plan.settle_delay
                assert row[f"{action.name}_mature"] == mature
                if mature:
                    said = played.mature.setdefault(name, {}).setdefault(stream, set())
                    said.add(row[action.name])
            played.rows.append(row)
            played.copies.setdefault(name, set()).add((row["source"], row["number"]))
            if row["emission"] != "window":
                stream = None if trigger is None else int(trigger[1:])
                early = (row["emission"], *name, row["__emit"], stream)
                assert early not in played.early, "a sample came twice"
                played.early[early] = _labels(plan, row)
                continue
            assert name not in played.samples, "a sample came twice"
            played.samples[name] = _labels(plan, row)
            played.notes[name] = tuple(row[f"{a.name}_note"] for a in plan.actions)
    for batch in output.corrections:
        for row in batch.to_pylist():
            name = (f"{row['group']}/{row['item']}", _micros(row["event_time"]))
            assert row["emission"] == "correction"
            assert row["trigger"] in [action.name for action in plan.actions]
            assert all(row[f"{action.name}_mature"] for action in plan.actions)
            place = tuple(row[f"__action_{what}"] for what in ("time", "source", "offset"))
            played.corrections[row["__emit"], *name, *place] = _labels(plan, row)
            played.copies.setdefault(name, set()).add((row["source"], row["number"]))
    for dead in output.dead:
        for row, offset in enumerate(dead.batch.column(OFFSET).to_pylist()):
            assert (dead.source, offset) not in played.outcomes, "a record was buried twice"
            played.outcomes[dead.source, offset] = dead.outcome.value
            about = None if dead.impression is None else int(dead.impression[row])
            counted = dead.counted and tuple(int(column[row]) for column in dead.counted)
            played.about[dead.source, offset] = (about, counted)


def _labels(plan: JoinPlan, row: dict) -> tuple:
    return tuple(
        (row[a.name], _micros(row[f"{a.name}_time"]), row[f"{a.name}_count"]) for a in plan.actions
    )


def _micros(moment: Any) -> int | None:
    if moment is None:
        return None
    return round(moment.timestamp() * 1_000_000)
