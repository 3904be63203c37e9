"""Choosing a window: what each would catch and cost."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from headrace.joiner.join import ShardJoin
from headrace.monitoring.delays import USUAL_WINDOWS, Delays, Survival, nice_window
from headrace.monitoring.ending import Ending
from headrace.pipelines.run.spill import CACHE_BYTES, Spill
from headrace.pipelines.sources.inputs import Inputs
from headrace.pipelines.sources.merge import read_blocks
from headrace.schemas.config.delays import settle_delay
from headrace.schemas.config.durations import HOUR, SECOND
from headrace.schemas.config.models import Config, MonitorConfig, SamplingConfig
from headrace.schemas.records.events import IMPRESSIONS, NEVER

REMEMBERED_KEY_BYTES, KNOWN_IMPRESSION_BYTES = 16, 37
"""Memory of a remembered key, and of an impression that actions may meet; see docs/state.md."""

SHARD_STATE_MB = 256
"""With up to this much waiting in a shard no cell of its journal exceeds 64 MB."""


@dataclass(frozen=True)
class Choice:
    """One window of an action stream, and what it would catch and cost.

    Parameters
    ----------
    window
        Length of the window, microseconds.
    coverage
        Part of the actions that it catches, None if there is none.
    open
        Impressions that a replay with this window leaves open at the end of the log.
    waiting
        Impressions that wait at the busiest hour.
    state_mb, memory_mb
        Size of their columns in the runner's state or on disk, and memory for them
        without the cache; an MB is 10^6 bytes.
    shards
        Least number of shards that the join should have.
    note
        ``configured``, ``recommended``, both, or empty.
    """

    window: int
    coverage: float | None
    open: int
    waiting: int
    state_mb: float
    memory_mb: float
    shards: int
    note: str


@dataclass(frozen=True)
class Measured:
    """Delays and windows of one action stream.

    Parameters
    ----------
    stream
        Name of the stream.
    survival
        Share of impressions without an action, by delay.
    impressions
        How many impressions were read and kept.
    choices
        Windows to choose from, shortest first.
    recommended
        The recommended window, microseconds; None if there is no action.
    """

    stream: str
    survival: Survival
    impressions: int
    choices: list[Choice]
    recommended: int | None


def measure_windows(
    full: Inputs,
    longest: int | None,
    coverage: float,
    watch: Callable[[int], None] = lambda events: None,
) -> list[Measured]:
    """Join the logs with a long window and measure how long after impressions actions come.

    Parameters
    ----------
    full
        The job; its windows are replaced by the longest one.
    longest
        The longest window to consider, microseconds; None is ten times the longest
        configured one.
    coverage
        The part of the actions that the window should catch, in (0, 1].
    watch
        Called with the number of events read so far, after each block.
    """
    config = full.config
    longest = 10 * config.longest_window if longest is None else longest
    inputs = full.replanned(_only_keys(config, longest))
    delays = {action.name: Delays(longest) for action in inputs.join.actions}
    progress = dict.fromkeys(inputs.join.stream_names, NEVER)
    with tempfile.TemporaryDirectory(prefix="headrace-") as scratch:
        spill = Spill(Path(scratch), CACHE_BYTES // inputs.join.shards)
        row_bytes = _row_bytes(full, scratch)
        joins = [
            ShardJoin(inputs.join, shard, spill.cache_bytes) for shard in range(inputs.join.shards)
        ]
        events = 0
        for block in read_blocks(inputs, config.batch_rows, scratch):
            for join, envelope in zip(joins, block.envelopes, strict=True):
                output = join.apply(envelope, spill.of(join.shard))
                for batch in output.samples:
                    _observe(batch, delays)
            name = inputs.streams[block.stream].name
            progress[name] = max(progress[name], block.state.progress)
            events += block.records
            watch(events)
        spill.close()
    # The end of the log as in a replay, which does not close every window as this join does.
    ending = Ending(
        {
            name: full.final_progress(stream, progress[name])
            for stream, name in enumerate(full.join.stream_names)
        }
    )
    return [_choices(name, delays[name], ending, full, row_bytes, coverage) for name in delays]


def _only_keys(config: Config, longest: int) -> Config:
    """Return the configuration with long windows, carrying nothing but keys and times."""
    actions = {
        name: action.model_copy(update={"window": longest, "columns": ()})
        for name, action in config.actions.items()
    }
    # Duplicates within the configured horizon are duplicates here too, but a key must be
    # remembered until its impression has settled.
    join = config.join.model_copy(
        update={
            "end_of_log": "close",
            "dedup_horizon": max(
                config.dedup_horizon,
                settle_delay([longest], config.group_span) + config.join.early,
            ),
            "wait_for_impression": None, "retention": 0, "joined": False, "emission": "window",
        }
    )  # fmt: skip
    return config.model_copy(
        update={
            "impressions": config.impressions.model_copy(update={"columns": ()}),
            "actions": actions, "join": join, "sampling": SamplingConfig(), "learner": None,
            "learners": {}, "monitor": MonitorConfig(),
        }
    )  # fmt: skip


def _row_bytes(inputs: Inputs, scratch: str) -> float:
    """Return how many bytes an impression takes in the journal, judging by the first ones."""
    for block in read_blocks(inputs, 10_000, scratch):
        if block.stream == IMPRESSIONS and block.records > 1:
            sent = [e for e in block.envelopes if e.batch is not None]
            rows = sum(envelope.batch.num_rows for envelope in sent if envelope.batch is not None)
            if rows:
                return sum(len(envelope.encode()) for envelope in sent) / rows
    return 0.0


def _observe(batch: pa.RecordBatch, delays: dict[str, Delays]) -> None:
    time = batch.column("event_time").cast(pa.int64()).to_numpy()
    for name, of_stream in delays.items():
        action = batch.column(f"{name}_time").cast(pa.int64()).fill_null(-1).to_numpy()
        # An early action counts as one without delay.
        of_stream.add(time, np.where(action < 0, -1, np.maximum(action - time, 0)))


def _choices(
    name: str, delays: Delays, ending: Ending, full: Inputs, row_bytes: float, coverage: float
) -> Measured:
    survival = delays.survival(ending.complete_until[name])
    configured = next(action.window for action in full.join.actions if action.name == name)
    exact = survival.window_for(coverage)
    recommended = None if exact is None else min(nice_window(exact), survival.longest)
    by_hour = delays.impressions_by_hour()
    busiest = max(by_hour.values(), default=0) / (HOUR // SECOND)
    windows = {w for w in USUAL_WINDOWS if w <= survival.longest} | {configured, survival.longest}
    if recommended is not None:
        windows.add(recommended)
    total = sum(by_hour.values())
    choices = []
    for window in sorted(windows):
        settling = settle_delay([window], full.join.group_span)
        delay = settling / SECOND
        waiting = min(round(busiest * delay), total)
        remembered = min(round(busiest * max(delay, full.join.dedup_horizon / SECOND)), total)
        note = "recommended" if window == recommended else ""
        if window == configured:
            note = f"configured, {note}" if note else "configured"
        memory = remembered * REMEMBERED_KEY_BYTES
        if full.join.meets:
            memory += min(waiting + remembered, total) * KNOWN_IMPRESSION_BYTES
        state_mb = waiting * row_bytes / 1e6
        choices.append(
            Choice(
                window, survival.coverage(window),
                delays.unwatched(ending.clock - settling),
                waiting, state_mb, memory / 1e6,
                max(1, math.ceil(state_mb / SHARD_STATE_MB)), note,
            )
        )  # fmt: skip
    return Measured(name, survival, total, choices, recommended)


def as_json(measured: list[Measured]) -> dict[str, Any]:
    """Return the figures as JSON types, durations in seconds."""
    return {
        found.stream: {
            "impressions": found.impressions,
            "first_actions": int(found.survival.actions.sum()),
            "longest_s": found.survival.longest / SECOND,
            "recommended_s": None if found.recommended is None else found.recommended / SECOND,
            "windows": [
                {**vars(choice), "window": choice.window / SECOND} for choice in found.choices
            ],
        }
        for found in measured
    }
