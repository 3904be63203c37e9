"""The state of the training step: trainer, statistics, and the snapshots of both."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from headrace.learners.learning import Learned
from headrace.learners.trainer import Received, Trainer
from headrace.monitoring.statistics import Observation, Statistics
from headrace.pipelines.training.job import Finished, TrainJob
from headrace.schemas.errors import StateVersionError
from headrace.schemas.records.envelope import SampleEnvelope

TRAINING_LAYOUT = 4
"""Version of the step's ``meta`` cell and of ``state.json``."""

_SNAPSHOTS_KEPT = 3
_PREFIX = "snapshot-"
_STATES = ".state"
_STATE = "state.json"
_MODELS = "models"


class TrainingState:
    """Trainer and statistics, and the last snapshot to go on from.

    Parameters
    ----------
    job
        What to do.
    """

    def __init__(self, job: TrainJob) -> None:
        self.job = job
        self.trainer = Trainer(job.shards, job.epoch, job.plan, handover=job.handover)
        self.statistics = {name: Statistics(job.window, job.slices) for name in job.plan.learners}
        self.snapshot: str | None = None
        self.journaled = 0

    @property
    def ended(self) -> bool:
        """Whether every shard has sent all it will."""
        return self.trainer.ended

    def receive(self, envelope: SampleEnvelope) -> Received:
        """Take in an envelope; learn and observe what it completes."""
        received = self.trainer.receive(envelope)
        self._observe(received.samples)
        return received

    def flush(self) -> list[Learned]:
        """Have all that was received learned and observed; return what was not returned before."""
        samples = self.trainer.flush()
        self._observe(samples)
        return samples

    def _observe(self, samples: list[Learned]) -> None:
        for learned in samples:
            for name, seen in _observations(learned, self.job).items():
                self.statistics[name].observe(seen)

    def meta(self) -> dict[str, Any]:
        """Return what the ``meta`` cell holds, as JSON types."""
        return {
            "layout": TRAINING_LAYOUT,
            "snapshot": self.snapshot,
            "journaled": self.journaled,
        }

    def take_up(self, meta: dict[str, Any], unlearned: list[bytes], envelopes: list[bytes]) -> None:
        """Take over what durable cells hold.

        Parameters
        ----------
        meta
            What `meta` returned.
        unlearned
            The samples that were waiting when the snapshot was taken that it names, as the
            bytes of one envelope; none if it names none.
        envelopes
            Those that came since, as bytes, in any order.

        Raises
        ------
        StateVersionError
            If another version wrote it.
        """
        _check_layout(meta)
        if meta["snapshot"] is not None:
            (data,) = unlearned
            self.load(self._folder(meta["snapshot"]), SampleEnvelope.decode(data))
            self.snapshot = meta["snapshot"]
        sent = [SampleEnvelope.decode(data) for data in envelopes]
        for envelope in sorted(sent, key=lambda e: (e.shard, e.sequence)):
            self.receive(envelope)  # what it completes has left
        self.flush()
        self.journaled = meta["journaled"]

    def checkpoint(self) -> None:
        """Take a snapshot to go on from, and delete those that are too old to be asked for."""
        # Not by samples alone: what waits may change while none is learned, and an older
        # state that a runner restores must find the snapshot that it names.
        samples, received = self.trainer.ledger.samples, self.trainer.order.received
        self.snapshot = f"{_PREFIX}{samples:015d}-{received:09d}"
        folder = self._folder(self.snapshot)
        self.save(folder)
        self.journaled = 0
        for old in sorted(folder.parent.glob(f"{_PREFIX}*"))[:-_SNAPSHOTS_KEPT]:
            shutil.rmtree(old)

    def _folder(self, snapshot: str) -> Path:
        return Path(self.job.folder) / _STATES / snapshot

    def save(self, folder: Path) -> None:
        """Write everything to a folder but what waits unlearned; aside first, then renamed."""
        aside = folder.with_name(folder.name + ".partial")
        if aside.exists():
            shutil.rmtree(aside)
        aside.mkdir(parents=True)
        state = {
            "layout": TRAINING_LAYOUT,
            "trainer": self.trainer.save(aside / _MODELS, self.job.about),
            "statistics": {name: seen.export() for name, seen in self.statistics.items()},
        }
        (aside / _STATE).write_text(json.dumps(state), encoding="utf-8")
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(aside, folder)

    def load(self, folder: Path, unlearned: SampleEnvelope) -> None:
        """Take over what `save` wrote, and the samples that were waiting then.

        Raises
        ------
        StateVersionError
            If another version wrote it.
        """
        state = json.loads((folder / _STATE).read_text(encoding="utf-8"))
        _check_layout(state)
        self.trainer.load(folder / _MODELS, state["trainer"], unlearned)
        for name, statistics in self.statistics.items():
            statistics.restore(state["statistics"][name])

    def finish(self) -> Finished:
        """Write the models, without the state from which to go on, and sum up."""
        totals = self.trainer.ledger.totals()
        snapshot = f"{_PREFIX}{totals.samples:015d}"
        folder = Path(self.job.folder)
        manifests = self.trainer.save_models(lambda name: folder / name / snapshot, self.job.about)
        return Finished(manifests, snapshot, self.statistics, totals)


def _check_layout(state: dict[str, Any]) -> None:
    if state.get("layout") != TRAINING_LAYOUT:
        raise StateVersionError(
            f"training state has layout {state.get('layout')}, this version reads "
            f"{TRAINING_LAYOUT}; drain the job with the version that wrote it, then start anew"
        )


def _observations(learned: Learned, job: TrainJob) -> dict[str, Observation]:
    """Return what each learner's statistics are to see."""
    if not learned.margins or not learned.rows.size:
        return {}
    slices = {}
    if job.slices:
        batches = [part.select(list(job.slices)) for part in learned.epoch.parts]
        rows = pa.Table.from_batches(batches).take(pa.array(learned.rows))
        slices = {name: rows.column(name).combine_chunks() for name in job.slices}
    time = learned.column("event_time").astype("datetime64[us]").astype(np.int64)
    weight = 1.0 / learned.column("sampling_rate")
    return {
        name: Observation(
            time,
            learned.column(job.plan.learners[name].label).astype(np.float64),
            weight,
            margin,
            slices,
        )
        for name, margin in learned.margins.items()
    }
