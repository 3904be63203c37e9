"""The trainer as a stateful Beam step, with its statistics and snapshots."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa

from headrace.learners.snapshot import load_snapshot, save_snapshot
from headrace.learners.trainer import Learned, Trainer, TrainPlan
from headrace.monitoring.statistics import Observation, Statistics
from headrace.pipelines.beam.durable import Bundle, StepStates, with_cells
from headrace.schemas.errors import StateVersionError
from headrace.schemas.records.envelope import SampleEnvelope

TRAIN = "train"
FINISHED = "finished"

TRAINING_LAYOUT = 3
"""Version of the step's ``meta`` cell and of ``state.json``."""

_SNAPSHOTS_KEPT = 3
_PREFIX = "snapshot-"
_STATE = "state.json"


@dataclass(frozen=True)
class TrainJob:
    """What the training step does.

    Parameters
    ----------
    plan
        What to learn; None only orders samples.
    shards, epoch
        How many shards there are; length of an epoch, microseconds.
    window, slices
        Of the statistics.
    folder
        Where snapshots go.
    about
        What every snapshot's manifest says besides the model.
    durable
        Whether to keep a journal. On a runner that keeps no state beyond the
        process it would never be read.
    journal_bytes
        A snapshot is taken when the samples since the last exceed this.
    """

    plan: TrainPlan | None
    shards: int
    epoch: int
    window: int
    slices: tuple[str, ...]
    folder: str
    about: dict[str, Any] = field(default_factory=dict)
    durable: bool = True
    journal_bytes: int = 64 << 20


@dataclass(frozen=True)
class Finished:
    """What a training run came to."""

    manifest: dict[str, Any] | None
    snapshot: str | None
    statistics: Statistics
    positions: list[list[int]]
    outcomes: dict[str, dict[str, int]]
    dropped: int
    spans: list[tuple[int, int]]
    looked_up: dict[str, int]
    ends: list[int]
    samples: int


class TrainingState:
    """Trainer, statistics, and the newest word of every shard."""

    def __init__(self, job: TrainJob) -> None:
        self.job = job
        self.trainer = Trainer(job.shards, job.epoch, job.plan)
        self.statistics = Statistics(job.window, job.slices)
        self.positions: list[list[int]] = []
        self.outcomes: list[dict[str, dict[str, int]]] = [{} for _ in range(job.shards)]
        self.dropped = [0] * job.shards
        self.spans: list[list[list[int]]] = [[] for _ in range(job.shards)]
        self.looked_up: list[dict[str, int]] = [{} for _ in range(job.shards)]
        self.ends: list[int] = []
        self.snapshot: str | None = None
        self.journaled = 0

    def receive(self, envelope: SampleEnvelope) -> Learned | None:
        """Take in an envelope; learn and observe what it completes."""
        known = self.trainer.sequence[envelope.shard]
        learned = self.trainer.receive(envelope)
        if envelope.sequence >= known:
            # Every shard reads all sources, and none is behind its own clock.
            self.positions = envelope.positions
            self.outcomes[envelope.shard] = envelope.outcomes
            self.dropped[envelope.shard] = envelope.dropped
            self.spans[envelope.shard] = envelope.spans
            self.looked_up[envelope.shard] = envelope.looked_up
            # Every shard tells the same.
            self.ends = envelope.ends or self.ends
        if learned is not None and self.job.plan is not None:
            self.statistics.observe(_observation(learned, self.job))
        return learned

    def meta(self) -> dict[str, Any]:
        """Return what the ``meta`` cell holds, as JSON types."""
        return {
            "layout": TRAINING_LAYOUT,
            "snapshot": self.snapshot,
            "journaled": self.journaled,
        }

    # A snapshot is the model's own format, with the rest of the state beside it.

    def checkpoint(self) -> None:
        """Take a snapshot to go on from, and delete those that are too old to be asked for."""
        # Not by samples alone: what waits may change while none is learned, and an older
        # state that a runner restores must find the snapshot that it names.
        self.snapshot = f"{_PREFIX}{self.trainer.samples:015d}-{sum(self.trainer.sequence):09d}"
        self.save(Path(self.job.folder) / self.snapshot)
        self.journaled = 0
        for folder in sorted(Path(self.job.folder).glob(f"{_PREFIX}*"))[:-_SNAPSHOTS_KEPT]:
            shutil.rmtree(folder)

    def save(self, folder: Path) -> dict[str, Any] | None:
        """Write everything to a folder but what waits unlearned; return the model's manifest."""
        state = json.dumps(
            {
                "layout": TRAINING_LAYOUT,
                "trainer": self.trainer.meta(),
                "statistics": self.statistics.to_json(),
                "positions": self.positions,
                "outcomes": self.outcomes,
                "dropped": self.dropped,
                "spans": self.spans,
                "looked_up": self.looked_up,
                "ends": self.ends,
            }
        )
        if self.job.plan is None:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / _STATE).write_text(state, encoding="utf-8")
            return None
        return save_snapshot(folder, self.trainer.model, self._about(), {_STATE: state})

    def _about(self) -> dict[str, Any]:
        return {**self.job.about, "samples": self.trainer.samples, "positions": self.positions}

    def load(self, folder: Path, waiting: SampleEnvelope) -> None:
        """Take over what `save` wrote, and the samples that were waiting then.

        Raises
        ------
        StateVersionError
            If another version wrote it.
        """
        state = json.loads((folder / _STATE).read_text(encoding="utf-8"))
        _check_layout(state)
        self.trainer.restore(state["trainer"], waiting)
        if self.job.plan is not None:
            self.trainer.model, _ = load_snapshot(folder)
        self.statistics = Statistics.from_json(
            self.job.window, self.job.slices, state["statistics"]
        )
        self.positions = state["positions"]
        self.outcomes = state["outcomes"]
        self.dropped = state["dropped"]
        self.spans = state["spans"]
        self.looked_up = state["looked_up"]
        self.ends = state["ends"]

    def finish(self) -> Finished:
        """Write the model, without the state from which to go on, and sum up."""
        manifest = None
        if self.job.plan is not None:
            self.snapshot = f"{_PREFIX}{self.trainer.samples:015d}"
            folder = Path(self.job.folder) / self.snapshot
            manifest = save_snapshot(folder, self.trainer.model, self._about())
        outcomes: dict[str, dict[str, int]] = {}
        for of_shard in self.outcomes:
            for stream, counts in of_shard.items():
                total = outcomes.setdefault(stream, {})
                for outcome, count in counts.items():
                    total[outcome] = total.get(outcome, 0) + count
        return Finished(
            manifest,
            self.snapshot,
            self.statistics,
            self.positions,
            outcomes,
            sum(self.dropped),
            [
                (min(first for first, _ in of_stream), max(last for _, last in of_stream))
                for of_stream in zip(*self.spans, strict=True)
            ],
            dict(sum((Counter(found) for found in self.looked_up), Counter())),
            self.ends,
            self.trainer.samples,
        )


def _check_layout(state: dict[str, Any]) -> None:
    if state.get("layout") != TRAINING_LAYOUT:
        raise StateVersionError(
            f"training state has layout {state.get('layout')}, this version reads "
            f"{TRAINING_LAYOUT}; drain the job with the version that wrote it, then start anew"
        )


def _observation(learned: Learned, job: TrainJob) -> Observation:
    assert job.plan is not None
    batches = [part.select(list(job.slices)) for part in learned.parts]
    slices = {}
    if job.slices:
        rows = pa.Table.from_batches(batches).take(pa.array(learned.order))
        slices = {name: rows.column(name).combine_chunks() for name in job.slices}
    return Observation(
        learned.column("event_time").astype("datetime64[us]").astype(np.int64),
        learned.column(job.plan.label).astype(np.float64),
        1.0 / learned.column("sampling_rate"),
        learned.margin,
        slices,
    )


class TrainEpochs(beam.DoFn):
    """Learn sample envelopes, all under one key; emit what was learned, and what came beside.

    Parameters
    ----------
    job
        What to do.
    name
        Of the job.
    """

    def __init__(self, job: TrainJob, name: str) -> None:
        self.job = job
        self.states = StepStates(name, TRAIN)

    def start_bundle(self) -> None:
        """Forget what a failed bundle may have left."""
        self.bundle = Bundle(self.states)

    @with_cells("envelopes", "waiting")
    def process(self, element: tuple[int, SampleEnvelope], *cells: Any) -> Iterator[Any]:
        """Receive one envelope."""
        key, envelope = element
        meta, envelopes, waiting = cells

        def rebuild(known: dict[str, Any]) -> TrainingState:
            state = TrainingState(self.job)
            if known:
                _check_layout(known)
                if known["snapshot"] is not None:
                    (unlearned,) = waiting.read()
                    folder = Path(self.job.folder) / known["snapshot"]
                    state.load(folder, SampleEnvelope.decode(unlearned))
                    state.snapshot = known["snapshot"]
                sent = [SampleEnvelope.decode(data) for data in envelopes.read()]
                for again in sorted(sent, key=lambda e: (e.shard, e.sequence)):
                    state.receive(again)
                state.trainer.take_beside()  # it has left
                state.journaled = known["journaled"]
            return state

        state: TrainingState = self.bundle.touch(key, meta.read, rebuild)
        learned = state.receive(envelope)
        if self.job.durable:
            data = envelope.encode()
            envelopes.add(data)
            state.journaled += len(data)
        if state.journaled > self.job.journal_bytes:
            state.checkpoint()
            envelopes.clear()
            waiting.clear()
            waiting.add(state.trainer.unlearned().encode())
        meta.write(self.bundle.sealed(key, state.meta()))
        if learned is not None:
            yield learned
        for name, rows in state.trainer.take_beside().items():
            yield beam.pvalue.TaggedOutput(name, rows)
        if state.trainer.ended:
            yield beam.pvalue.TaggedOutput(FINISHED, state.finish())

    def finish_bundle(self) -> None:
        """Hand the state back."""
        self.bundle.finish()
