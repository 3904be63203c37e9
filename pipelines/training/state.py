"""The state of the training step: trainer, statistics, and the snapshots of both."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headrace.learners.handover import Handover, Learn
from headrace.learners.learner import Floats
from headrace.learners.learning import Learned, judged_learners
from headrace.learners.serving import Scored
from headrace.learners.trainer import Received, Trainer
from headrace.monitoring.comparison import Comparison
from headrace.monitoring.drift import Drift
from headrace.monitoring.figures import (
    MOST_DECISIONS,
    MOST_SCOPES,
    Arrivals,
    Decision,
    GuardScope,
    Predictions,
    Running,
    logit_bins,
)
from headrace.monitoring.gate import Gate, Verdict
from headrace.monitoring.guard import LabelGuard
from headrace.monitoring.leadguard import LeadGuard
from headrace.monitoring.pairwise import Pairwise
from headrace.monitoring.statistics import STATISTICS_SCHEMA, Observation, Statistics
from headrace.pipelines.training.drifting import observe_drift
from headrace.pipelines.training.job import Finished, TrainJob
from headrace.pipelines.training.leaving import still_to_leave
from headrace.schemas.errors import StateVersionError
from headrace.schemas.records.envelope import SampleEnvelope
from headrace.schemas.records.events import EMIT, TIME
from headrace.schemas.records.restored import (
    Count,
    Moment,
    Text,
    checked,
    expect,
    restoring,
    written,
)
from headrace.schemas.records.slicing import as_texts

TRAINING_LAYOUT = 15
"""Version of the step's ``meta`` cell and of ``state.json``."""

TOGETHER = "models.json"
"""Name of the file that says which snapshots of all learners belong together."""

_PREFIX, REFUSED = "snapshot-", "refused-"
_STATES = ".headrace/training"
_STATE = "state.json"
_MODELS = "models"


@written
class _WrittenDecision:
    time: Moment
    label: Text
    slice: Text
    value: Text
    event: Text
    reason: Text


_ByLearner = dict[Literal["learned", "served", "calibrated"], dict[Text, dict[Text, Any]]]


@written
class _Written:
    layout: Count
    trainer: dict[Text, Any]
    statistics: _ByLearner
    guards: dict[Text, dict[Text, Any]]
    decisions: list[_WrittenDecision]
    running: _ByLearner
    gates: dict[Text, dict[Text, Any]]
    comparisons: dict[Text, list[Any]]
    drift: dict[Text, Any]
    pairwise: dict[Text, dict[Text, Any]]
    left: Moment | None


class TrainingState:
    """Trainer and statistics, and the last snapshot to continue from.

    Parameters
    ----------
    job
        What to train, and where to write models and snapshots.
    """

    def __init__(self, job: TrainJob) -> None:
        self.job = job
        self.guards = _guards(job)
        self.trainer = Trainer(
            job.shards, job.epoch, job.plan, self.guards, handover=self._observing, step=job.step
        )
        self.statistics = {name: Statistics(job.window, job.slices) for name in job.plan.learners}
        self.served = {name: Statistics(job.window, job.slices) for name in job.plan.learners}
        self.calibrated = {
            name: Statistics(job.window, job.slices)
            for name, learner in job.plan.learners.items()
            if learner.calibration is not None
        }
        self.running = {
            predicted: {name: Running() for name in statistics}
            for predicted, statistics in self._by_prediction.items()
        }
        self.comparisons = {name: Comparison(job.window) for name in job.plan.references}
        self.gates = {
            name: Gate(job.gate, job.window) for name in job.plan.learners if job.gate is not None
        }
        self.drift = Drift(job.drift)
        self.pairwise = {name: Pairwise(job.slices) for name in job.ranked}
        self.decisions: deque[Decision] = deque(maxlen=MOST_DECISIONS)
        self.snapshot: str | None = None
        self.journaled = 0
        self.left: int | None = None
        """Where the clock of the run that this one continues has stopped, microseconds."""

    @property
    def ended(self) -> bool:
        """Whether every shard has sent its last samples."""
        return self.trainer.ended

    def receive(self, envelope: SampleEnvelope) -> Received:
        """Receive an envelope; learn the epochs that it completes, and add up their statistics."""
        received = self.trainer.receive(envelope)
        beside = received.beside
        if self.left is not None:
            beside = {
                name: of.filter(pc.greater_equal(of.column(EMIT), self.left))
                for name, of in beside.items()
            }
        return replace(received, samples=self._to_leave(received.samples), beside=beside)

    def flush(self) -> list[Learned]:
        """Learn all complete epochs and add up their statistics; return those not yet returned."""
        learned = self.trainer.flush()
        self._count(self.trainer.ledger.take_copies())
        return self._to_leave(learned)

    def _to_leave(self, epochs: list[Learned]) -> list[Learned]:
        """Return the epochs that have samples, with those that are still to leave."""
        found = [learned for learned in epochs if learned.epoch.parts]
        if (clock := self.left) is not None:
            mode = self.job.plan.emission
            found = [still_to_leave(learned, clock, mode) for learned in found]
        return found

    # --- statistics: where learning is, on its thread if it has one; who reads them flushes ----

    def _observing(self, learn: Learn) -> Handover:
        return self.job.handover(lambda epoch: self._observed(learn(epoch)))

    def _observed(self, learned: Learned) -> Learned:
        """Add up the statistics of an epoch; return it as it is."""
        self._count(learned.epoch.copies)
        self.decisions.extend(
            Decision(
                row["time"], row["label"], row["slice"] or "", row["value"] or "",
                row["event"], row["reason"],
            )
            for row in learned.journal
        )  # fmt: skip
        if learned.epoch.parts:
            # Epochs come in order, so all before this one have been observed.
            first = int(learned.epoch.column(EMIT).min())
            self.drift.close_before(first // self.job.epoch * self.job.epoch)
            observe_drift(self.drift, learned)
            for name, observation in _observations(learned, self.job).items():
                self.statistics[name].observe(observation)
        if (scored := learned.scored) is not None:
            for statistics, margins in (
                (self.served, scored.margins),
                (self.calibrated, scored.calibrated),
            ):
                for name, observation in _served(scored.rows, margins, self.job).items():
                    statistics[name].observe(observation)
            self._compare(scored)
            self._judge(scored)
            self._rank(scored)
        return learned

    def _count(self, copies: list[list[Any]]) -> None:
        for stream, hour, count in copies:
            self.drift.count_duplicates(stream, hour, count)

    def go_on(self, clock: int) -> None:
        """Go on after the end of a log, as another run that adds to the outputs of the first.

        Windows of the statistics that are older than the job's `history` are told apart no more:
        they are in the outputs of runs before.

        Parameters
        ----------
        clock
            Where the clock of the first has stopped, microseconds: what left by then is in its
            outputs, and is not returned again.
        """
        self.trainer.go_on(self.job.slices)
        self.left = clock
        for statistics in self._by_prediction.values():
            for sums in statistics.values():
                sums.forget_before(clock - self.job.history)

    def _compare(self, scored: Scored) -> None:
        """Add the losses of learners beside those of the ones they are compared with."""
        time = scored.rows.column(TIME).to_numpy()
        for name, reference in self.job.plan.references.items():
            plan, margins = self.job.plan.learners[name], scored.margins
            both = np.isfinite(margins[name]) & np.isfinite(margins[reference])
            own = np.flatnonzero(both & plan.scores(scored.rows))
            sign = 1.0 - 2.0 * scored.rows.column(plan.label).cast(pa.float64()).to_numpy()[own]
            losses = (np.logaddexp(0.0, sign * margins[of][own]) for of in (name, reference))
            self.comparisons[name].observe(time[own], *losses)

    def _judge(self, scored: Scored) -> None:
        """Add the predictions of the learners and of the models that serve."""
        time = scored.rows.column(TIME).to_numpy()
        for name, gate in self.gates.items():
            plan, champion = self.job.plan.learners[name], scored.champions[name]
            margin = scored.calibrated.get(name, scored.margins[name])
            both = np.isfinite(margin) & np.isfinite(champion)
            own = np.flatnonzero(both & plan.scores(scored.rows))
            label = scored.rows.column(plan.label).cast(pa.float64()).to_numpy()[own]
            gate.observe(time[own], label, margin[own], champion[own])

    def _rank(self, scored: Scored) -> None:
        """Add the predictions of what was clicked and what was not."""
        for name, pairwise in self.pairwise.items():
            plan = self.job.plan.learners[name]
            margin = scored.calibrated.get(name, scored.margins[name])
            own = np.flatnonzero(np.isfinite(margin) & plan.scores(scored.rows))
            rows = scored.rows.take(pa.array(own))
            label = rows.column(plan.label).cast(pa.float64()).to_numpy()
            given = rows.column(self.job.ranked[name]).cast(pa.float64(), safe=False)
            propensity = given.to_numpy(zero_copy_only=False)  # NaN for null
            slices = {by: rows.column(by) for by in self.job.slices}
            pairwise.observe(margin[own], label, propensity, slices)

    def take_statistics(self, delay: int) -> pa.Table:
        """Take out the statistics of windows of which no sample comes any more.

        Parameters
        ----------
        delay
            The longest time from the event time of a sample to its emit time, microseconds.

        Returns
        -------
        pa.Table
            In `STATISTICS_SCHEMA` with `EMIT`, at which a window was complete; in order of that.
        """
        until = self.trainer.order.released - delay
        parts = []
        for predicted, statistics in self._by_prediction.items():
            for name, sums in statistics.items():
                part = sums.take_before(until, name, predicted)
                self.running[predicted][name].take(part, self.job.window)
                parts.append(part)
        rows = pa.concat_tables([STATISTICS_SCHEMA.empty_table(), *parts])
        emit = pc.add(rows.column("window").cast(pa.int64()), self.job.window + delay)
        # Stable: the order of learners and slices stays.
        order = np.argsort(emit.to_numpy(), kind="stable")
        return rows.append_column(EMIT, emit).take(pa.array(order))

    def predictions(self, delay: int) -> tuple[Predictions, ...]:
        """Return what learners predicted and what came, in sums over the log so far.

        Parameters
        ----------
        delay
            See `take_statistics`.
        """
        until = self.trainer.order.released - delay
        found = []
        for predicted, statistics in self._by_prediction.items():
            for name, sums in statistics.items():
                running, label = self.running[predicted][name], self.job.plan.learners[name].label
                totals, window = running.totals(sums), running.window(sums, until)
                bins = logit_bins(sums.bins)
                found.append(Predictions(name, label, predicted, totals, window, bins))
        return tuple(found)

    def guarded(self) -> tuple[GuardScope, ...]:
        """Return where the guards stand, of each all samples and then the worst values first."""
        return tuple(
            GuardScope(
                label, of["slice"], of["value"], of["state"], of["positives"], of["expected"],
                of["since"], of["reason"],
            )
            for label, guard in self.guards.items()
            for of in guard.standings(MOST_SCOPES)
        )  # fmt: skip

    def arrivals(self) -> tuple[Arrivals, ...]:
        """Return where the arrivals of actions stand, of the labels of which they are looked at."""
        standings = {
            label: guard.standing_of_arrivals()
            for label, guard in self.guards.items()
            if isinstance(guard, LeadGuard)
        }
        return tuple(
            Arrivals(
                label, of["state"], of["positives"], of["expected"], of["since"], of["reason"]
            )
            for label, of in standings.items()
        )  # fmt: skip

    @property
    def _by_prediction(self) -> dict[str, dict[str, Statistics]]:
        return {
            "learned": self.statistics, "served": self.served, "calibrated": self.calibrated,
        }  # fmt: skip

    def meta(self) -> dict[str, Any]:
        """Return the contents of the ``meta`` cell, as JSON types."""
        return {
            "layout": TRAINING_LAYOUT,
            "snapshot": self.snapshot,
            "journaled": self.journaled,
        }

    def take_up(self, meta: dict[str, Any], unlearned: list[bytes], envelopes: list[bytes]) -> None:
        """Rebuild the state from durable cells.

        Parameters
        ----------
        meta
            What `meta` returned.
        unlearned
            The samples that were waiting when the snapshot named in `meta` was taken, as the
            bytes of one envelope; empty if it names none.
        envelopes
            The envelopes received since, as bytes, in any order.

        Raises
        ------
        StateVersionError
            If the cells have another layout than this version's.
        """
        _check_layout(meta)
        if meta["snapshot"] is not None:
            (data,) = unlearned
            self._load_snapshot(meta["snapshot"], SampleEnvelope.decode(data))
        sent = [SampleEnvelope.decode(data) for data in envelopes]
        for envelope in sorted(sent, key=lambda e: (e.shard, e.sequence)):
            self.receive(envelope)  # the epochs it completes were returned before
        self.flush()
        self.journaled = meta["journaled"]

    def checkpoint(self) -> None:
        """Take a snapshot to continue from.

        It is never replaced or deleted: a runner may return to any older state, also to one
        after which it went on in another way. So its name has a checksum.
        """
        store = self.job.store
        assert store is not None
        samples = self.trainer.ledger.samples
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / _STATES
            self.save(folder)
            self.snapshot = f"{_PREFIX}{samples:015d}-{_checksum(folder)}"
            store.put(folder, f"{_STATES}/{self.snapshot}")
        self.journaled = 0

    def _load_snapshot(self, name: str, unlearned: SampleEnvelope) -> None:
        assert self.job.store is not None
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            try:
                self.job.store.fetch(f"{_STATES}/{name}", folder)
            except FileNotFoundError as error:
                raise StateVersionError(
                    f"the runner's state names the snapshot {error}, which is not there; never "
                    "delete one that a checkpoint or savepoint may name"
                ) from error
            # What the runner keeps of it is its name; so that names its contents.
            if not name.endswith(f"-{_checksum(folder)}"):
                raise StateVersionError(
                    f"the runner's state names the snapshot {name}, which has other contents than "
                    "when it was written; restore it, or start over"
                )
            self.load(folder, unlearned)
        self.snapshot = name

    def save(self, folder: Path) -> None:
        """Write everything except the waiting samples to a folder.

        The folder gets its name only when it is complete.
        """
        partial = folder.with_name(folder.name + ".partial")
        if partial.exists():
            shutil.rmtree(partial)
        partial.mkdir(parents=True)
        state = {
            "layout": TRAINING_LAYOUT,
            "trainer": self.trainer.save(partial / _MODELS, self.job.about),
            "statistics": {
                predicted: {name: sums.export() for name, sums in statistics.items()}
                for predicted, statistics in self._by_prediction.items()
            },
            "guards": {label: guard.export() for label, guard in self.guards.items()},
            "decisions": [vars(decision) for decision in self.decisions],
            "running": {
                predicted: {name: running.export() for name, running in of.items()}
                for predicted, of in self.running.items()
            },
            "gates": {name: gate.export() for name, gate in self.gates.items()},
            "comparisons": {name: of.export() for name, of in self.comparisons.items()},
            "drift": self.drift.export(),
            "pairwise": {name: of.export() for name, of in self.pairwise.items()},
            "left": self.left,
        }
        (partial / _STATE).write_text(json.dumps(state), encoding="utf-8")
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(partial, folder)

    def load(self, folder: Path, unlearned: SampleEnvelope) -> None:
        """Replace the state by what `save` wrote, and the samples that were waiting then.

        Raises
        ------
        StateVersionError
            If the folder has another layout than this version's.
        DamagedError
            If it is not what `save` writes.
        SnapshotError
            If a snapshot in it is damaged.
        """
        with restoring(_STATE):
            state = json.loads((folder / _STATE).read_text(encoding="utf-8"))
            expect(isinstance(state, dict), "state", "is no JSON object")
            _check_layout(state)
            checked(_Written, state, "state")
            self._restore(folder, state, unlearned)

    def _restore(self, folder: Path, state: dict[str, Any], unlearned: SampleEnvelope) -> None:
        self.trainer.load(folder / _MODELS, state["trainer"], unlearned)
        for predicted, statistics in self._by_prediction.items():
            for name, sums in statistics.items():
                sums.restore(state["statistics"][predicted][name])
                self.running[predicted][name].restore(state["running"][predicted][name])
        for label, guard in self.guards.items():
            guard.restore(state["guards"][label])
        self.decisions.clear()
        self.decisions.extend(Decision(**decision) for decision in state["decisions"])
        for name, gate in self.gates.items():
            gate.restore(state["gates"][name])
        for name, comparison in self.comparisons.items():
            comparison.restore(state["comparisons"][name])
        self.drift.restore(state["drift"])
        for name, pairwise in self.pairwise.items():
            pairwise.restore(state["pairwise"][name])
        self.left = state["left"]

    @property
    def verdicts(self) -> dict[str, Verdict]:
        """What the gate says of the models as they are, by learner; nothing of some."""
        found = {name: gate.verdict() for name, gate in self.gates.items()}
        return {name: verdict for name, verdict in found.items() if verdict is not None}

    @property
    def snapshot_names(self) -> dict[str, str]:
        """The name of each learner's snapshot to serve with, or of one that is refused."""
        refused = {name for name, verdict in self.verdicts.items() if not verdict.accepted}
        number = f"{self.trainer.ledger.published:015d}"
        return {
            name: f"{REFUSED if name in refused else _PREFIX}{number}"
            for name in self.job.plan.learners
        }

    def write_models(self) -> dict[str, dict[str, Any]]:
        """Write the models to serve with; return their manifests by learner.

        In a store, those that are there are left: the samples before a number, and so the model,
        are always the same.
        """
        root = Path(self.job.folder)
        if self.job.store is None:
            return self.save_models(root)
        with tempfile.TemporaryDirectory() as scratch:
            manifests = self.save_models(Path(scratch))
            for learner, name in self.snapshot_names.items():
                self.job.store.put(Path(scratch) / learner / name, str(root / learner / name))
        return manifests

    def save_models(self, root: Path) -> dict[str, dict[str, Any]]:
        """Write the models to serve with below a folder, and then which belong together.

        ``models.json`` names the snapshots of all learners after the same samples, when all of
        them are there. Those that the gate accepts are those that serve from now on.
        """
        names = self.snapshot_names
        verdicts = {name: verdict.as_json() for name, verdict in self.verdicts.items()}
        manifests = self.trainer.save_models(
            lambda learner: root / learner / names[learner], self.job.about, verdicts,
            self.job.sign,
        )  # fmt: skip
        together = {
            "format": 1,
            "samples": self.trainer.ledger.published,
            "learners": {
                learner: {"path": f"{learner}/{names[learner]}", "sha256": manifest["sha256"]}
                for learner, manifest in manifests.items()
            },
        }
        if manifests:
            partial = root / f".{TOGETHER}"
            partial.write_text(json.dumps(together, indent=2) + "\n", encoding="utf-8")
            os.replace(partial, root / TOGETHER)
        accepted = [name for name, of in names.items() if not of.startswith(REFUSED)]
        self.trainer.serve(accepted if self.gates else [])
        return manifests

    def finish(self) -> Finished:
        """Write the models, without the state to continue from, and return the results."""
        totals, snapshots = self.trainer.ledger.totals(), self.snapshot_names
        verdicts = {name: verdict.as_json() for name, verdict in self.verdicts.items()}
        manifests = self.write_models()
        step = self.trainer.step
        self.drift.close_before(self.trainer.order.released)
        return Finished(
            manifests, snapshots, verdicts, self.statistics, totals, step.clipped, step.refused,
            {name: of.found for name, of in step.outliers.items()},
            {name: step.mature[name] / max(of, 1) for name, of in step.learned.items()},
            {name: w**2 / max(squares, 1e-300) for name, (w, squares) in step.weights.items()},
            self.served, self.calibrated, step.serving.held.waiting,
            {name: of.difference() for name, of in self.comparisons.items()},
            {label: guard.summary() for label, guard in self.guards.items()},
            self.drift, self.pairwise,
        )  # fmt: skip


def _guards(job: TrainJob) -> dict[str, LabelGuard]:
    if job.guard is None:
        return {}
    learners = job.plan.learners
    guards: dict[str, LabelGuard] = {}
    for label, name in judged_learners(job.plan).items():
        known = label, job.guard, job.slices, learners[name].start is not None
        if label in job.leads:
            guards[label] = LeadGuard(*known, job.leads[label])
        else:
            guards[label] = LabelGuard(*known)
    return guards


def _checksum(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _check_layout(state: dict[str, Any]) -> None:
    if state.get("layout") != TRAINING_LAYOUT:
        raise StateVersionError(
            f"training state must have layout {TRAINING_LAYOUT} (got {state.get('layout')}); "
            "drain the job with the version that wrote the state, then start over"
        )


def _observations(learned: Learned, job: TrainJob) -> dict[str, Observation]:
    """Return the learned samples as observations for the statistics of each learner."""
    epoch = learned.epoch
    texts = {by: epoch.texts(by) for by in job.slices}
    time = epoch.column("event_time").astype("datetime64[us]").astype(np.int64)
    weight = 1.0 / epoch.column("sampling_rate")
    found = {}
    taken: dict[int, dict[str, pa.DictionaryArray]] = {}  # of learners with the same rows once
    for name, margin in learned.margins.items():
        own = learned.rows[name]
        if own.size:
            if id(own) not in taken:
                rows = pa.array(own)
                taken[id(own)] = {by: column.take(rows) for by, column in texts.items()}
            label = job.plan.learners[name].label
            found[name] = Observation(
                time[own], epoch.column(label)[own].astype(np.float64), weight[own], margin,
                taken[id(own)], epoch.column(f"{label}_mature")[own],
            )  # fmt: skip
    return found


def _served(
    rows: pa.RecordBatch, margins: dict[str, Floats], job: TrainJob
) -> dict[str, Observation]:
    """Return impressions that settled as observations of what was predicted when known."""
    time = rows.column(TIME).to_numpy()
    texts = {by: as_texts(rows.column(by)) for by in job.slices}
    found = {}
    for name, margin in margins.items():
        plan = job.plan.learners[name]
        own = np.flatnonzero(np.isfinite(margin) & plan.scores(rows))
        if own.size:
            label = rows.column(plan.label).cast(pa.float64()).to_numpy()[own]
            slices = {by: column.take(pa.array(own)) for by, column in texts.items()}
            found[name] = Observation(time[own], label, np.ones(own.size), margin[own], slices)
    return found
