"""The trainer: puts the samples of all shards in order, and has them learned.

Its parts are the ordering (`headrace.learners.ordering`), the learning step, which asks
guards (`headrace.learners.learning`), a hand-over between the two
(`headrace.learners.handover`), and a ledger of the shards' counts
(`headrace.learners.ledger`).
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa

from headrace.learners.guarding import LabelGuard
from headrace.learners.handover import Handover, Inline, Learn
from headrace.learners.learner import Learner
from headrace.learners.learning import Learned, LearningStep, TrainPlan
from headrace.learners.ledger import Ledger
from headrace.learners.ordering import EpochOrder
from headrace.learners.snapshot import load_snapshot, save_snapshot
from headrace.schemas.errors import SnapshotError
from headrace.schemas.records.envelope import MATURE, SampleEnvelope
from headrace.schemas.records.events import EMIT, NEVER
from headrace.schemas.records.restored import Count, Flag, Sum, Text, checked, expect, written
from headrace.schemas.records.signatures import Sign

_SETTLED = ".settled"
"""Folder of the learners to serve with, if more was learned since; no learner has this name."""
_LATER = ".later"
"""Folder of the learners that tell later positives from first negatives."""
_CHAMPIONS = ".champions"
"""Folder of the models that serve."""
_SERVED = ".served"
"""Folder of the predictions that wait for their impressions to settle."""


@written
class _Written:
    order: dict[Text, Any]
    ledger: dict[Text, Any]
    clipped: dict[Text, dict[Text, Count]]
    outliers: dict[Text, dict[Text, Any]]
    settled: Flag
    refused: dict[Text, Count]
    learned: dict[Text, Sum]
    mature: dict[Text, Sum]
    weights: dict[Text, tuple[Sum, Sum]]
    champions: list[Text]
    calibrators: dict[Text, dict[Text, Any]]
    positions: dict[Text, dict[Text, Any]]


@dataclass(frozen=True)
class Received:
    """What receiving an envelope returned.

    Parameters
    ----------
    repeated
        Whether it had been received before; then it changed nothing.
    samples
        Epochs that were learned since the last envelope, in order. An earlier envelope may
        have completed them, because the hand-over may lag behind.
    beside
        The rows beside the samples that it completed, by their name, each in
        `headrace.schemas.records.events.ACTION_ORDER`.
    """

    repeated: bool = False
    samples: list[Learned] = field(default_factory=list)
    beside: dict[str, pa.RecordBatch] = field(default_factory=dict)


class Trainer:
    """Orders samples and learns them.

    Parameters
    ----------
    shards
        How many shards send samples.
    epoch
        Length of an epoch of emit time, microseconds.
    plan
        What to learn.
    guards
        See `headrace.learners.learning.LearningStep`.
    handover
        Makes the hand-over to the learning step.
    step
        See `headrace.learners.ordering.EpochOrder`.
    """

    def __init__(
        self,
        shards: int,
        epoch: int,
        plan: TrainPlan,
        guards: Mapping[str, LabelGuard] = MappingProxyType({}),
        handover: Callable[[Learn], Handover] = Inline,
        step: int | None = None,
    ) -> None:
        self.order = EpochOrder(shards, epoch, step)
        self.step = LearningStep(plan, epoch, guards)
        self.handover = handover(self.step.learn)
        self.ledger = Ledger(shards)

    @property
    def learners(self) -> dict[str, Learner]:
        """The learners by name, with what they have learned so far."""
        return self.step.learners

    @property
    def ended(self) -> bool:
        """Whether every shard has sent its last samples."""
        return self.order.ended

    def receive(self, envelope: SampleEnvelope) -> Received:
        """Receive an envelope and hand over the epochs that it completes.

        One that comes before its turn is kept, and completes nothing yet.
        """
        ordered = self.order.receive(envelope)
        if ordered.repeated:
            return Received(repeated=True)
        for due in ordered.in_turn:
            self.ledger.note(due)
        samples: list[Learned] = []
        for epoch in ordered.epochs:
            self.ledger.samples += epoch.order.size
            published = epoch.order.size
            if epoch.parts and epoch.drain is not None and not self.step.plan.drains:
                published = int(np.count_nonzero(epoch.column(EMIT) < epoch.drain))
            self.ledger.published += published
            # They are counted before what the epoch says, however far learning lags behind.
            samples += self.handover.put(replace(epoch, copies=self.ledger.take_copies()))
        return Received(samples=samples, beside=ordered.beside)

    @property
    def put_in_order(self) -> int:
        """Samples that were put in order, and those that wait for their epoch."""
        return self.ledger.samples + sum(batch.num_rows for batch in self.order.waiting)

    def go_on(self, slices: Sequence[str] = ()) -> None:
        """Go on after the last impression of a log: others follow.

        Learners go on with the parameters of the plan, if these are others than theirs.

        Parameters
        ----------
        slices
            Columns by which final labels are told apart; those that wait may lack some.
        """
        waiting = self.order.beside.get(MATURE, [])
        for at, batch in enumerate(waiting):
            for name in slices:
                if name not in batch.schema.names:
                    batch = batch.append_column(name, pa.nulls(batch.num_rows))
            waiting[at] = batch
        self.order.last = [NEVER] * self.order.shards
        self.ledger.published = self.ledger.samples
        self.step.settled = None
        for name, plan in self.step.plan.learners.items():
            for learners in (self.step.learners, self.step.later):
                if name in learners and learners[name].parameters != plan.parameters:
                    arrays = learners[name].export()
                    learners[name] = plan.fresh()
                    learners[name].restore(arrays)

    def flush(self) -> list[Learned]:
        """Learn all complete epochs; return those not returned before."""
        return self.handover.flush()

    def unlearned(self) -> SampleEnvelope:
        """Return the samples that wait for their epoch to be complete, as one envelope."""
        return self.order.unreleased()

    # The state is that of the parts. No epoch may be pending in the hand-over: call `flush`
    # and use what it returns before saving.

    def save(self, folder: Path, about: dict[str, Any]) -> dict[str, Any]:
        """Write a snapshot of every learner below a folder; return the rest as JSON types.

        Parameters
        ----------
        folder
            Each snapshot has the name of its learner there.
        about
            More entries of the manifests.

        Raises
        ------
        RuntimeError
            If an epoch was pending in the hand-over; it would be lost.
        """
        if self.handover.flush():
            raise RuntimeError("samples were pending in the hand-over; flush before saving")
        self._save(self.learners, folder, about)
        if self.step.settled is not None:
            self._save(self.step.settled, folder / _SETTLED, about)
        self.step.serving.held.save(folder / _SERVED)
        self._save(self.step.later, folder / _LATER, about)
        self._save(self.step.champions, folder / _CHAMPIONS, about)
        clipped = {name: dict(counts) for name, counts in self.step.clipped.items()}
        return {
            "order": self.order.export(), "ledger": self.ledger.export(), "clipped": clipped,
            "settled": self.step.settled is not None, "refused": self.step.refused,
            "learned": self.step.learned, "mature": self.step.mature,
            "weights": self.step.weights, "champions": list(self.step.champions),
            "calibrators": self.step.serving.export(),
            "positions": {name: of.export() for name, of in self.step.positions.items()},
            "outliers": {name: of.export() for name, of in self.step.outliers.items()},
        }  # fmt: skip

    def load(self, folder: Path, state: dict[str, Any], unlearned: SampleEnvelope) -> None:
        """Replace the state by what `save` wrote and returned, and `unlearned` returned then.

        Raises
        ------
        DamagedError
            If it is not what they return.
        SnapshotError
            If a snapshot is damaged, or of another learner than that of the plan.
        """
        self._check(state)
        self.order.restore(state["order"], unlearned)
        self.ledger.restore(state["ledger"])
        self.step.serving.held.load(folder / _SERVED)
        self.step.serving.restore(state["calibrators"])
        for name, plan in self.step.plan.learners.items():
            self.step.clipped[name].update(state["clipped"][name])
            self.step.refused[name] = state["refused"][name]
            self.step.outliers[name].restore(state["outliers"][name])
            self.step.learned[name] = state["learned"][name]
            self.step.mature[name] = state["mature"][name]
            self.step.weights[name] = state["weights"][name]
            algorithms, like = {plan.algorithm: plan.kind}, self.step.learners[name]
            load = partial(load_snapshot, algorithms=algorithms, like=like)
            self.step.learners[name], _ = load(folder / name)
            if name in state["champions"]:
                self.step.champions[name], _ = load(folder / _CHAMPIONS / name)
            if name in self.step.positions:
                self.step.positions[name].restore(state["positions"][name])
            if name in self.step.later:
                self.step.later[name], _ = load(folder / _LATER / name)
            if state["settled"]:
                settled, _ = load(folder / _SETTLED / name)
                self.step.settled = {**(self.step.settled or {}), name: settled}

    def _check(self, state: dict[str, Any]) -> None:
        """Go on if a state is of these learners."""
        checked(_Written, state, "trainer")
        names, step = self.step.learners.keys(), self.step
        for part, wanted in (
            ("clipped", names), ("outliers", names), ("refused", names), ("learned", names),
            ("mature", names),
            ("weights", names), ("calibrators", step.serving.calibrators.keys()),
            ("positions", step.positions.keys()),
        ):  # fmt: skip
            expect(state[part].keys() >= wanted, part, "lacks a learner")
        expect(names >= set(state["champions"]), "champions", "has others than the learners")

    def serve(self, names: Sequence[str]) -> None:
        """Let the learners to serve with predict as the models that serve, from now on."""
        for name in names:
            self.step.champions[name] = copy.deepcopy(self.step.published[name])

    def save_models(
        self,
        folder_of: Callable[[str], Path],
        about: dict[str, Any],
        verdicts: Mapping[str, dict[str, Any]] = MappingProxyType({}),
        sign: Sign | None = None,
    ) -> dict[str, dict[str, Any]]:
        """Write the learners to serve with, each to its folder; return the manifests by name.

        What is said of each in `verdicts` goes into its manifest, as ``gate``; `sign` signs it.

        Raises
        ------
        LearningError
            If a model is not finite; it is not written.
        """
        learners, samples = self.step.published, self.ledger.published
        return self._write(learners, samples, folder_of, about, verdicts, sign)

    def _save(
        self, learners: Mapping[str, Learner], folder: Path, about: dict[str, Any]
    ) -> dict[str, dict[str, Any]]:
        return self._write(learners, self.ledger.samples, lambda name: folder / name, about, {})

    def _write(
        self,
        learners: Mapping[str, Learner],
        samples: int,
        folder_of: Callable[[str], Path],
        about: dict[str, Any],
        verdicts: Mapping[str, dict[str, Any]],
        sign: Sign | None = None,
    ) -> dict[str, dict[str, Any]]:
        counted = {"samples": samples, "positions": self.ledger.positions}
        manifests = {}
        for name, learner in learners.items():
            algorithm = self.step.plan.learners[name].algorithm
            described = {"learner": name, **about, **counted}
            if mark := self.step.plan.learners[name].features.by.mark:
                described["hash_key"] = mark
            if name in verdicts:
                described["gate"] = verdicts[name]
            positions = self.step.positions.get(name)
            with contextlib.suppress(SnapshotError):  # it is not finite: say so by its columns
                manifests[name] = save_snapshot(
                    folder_of(name), algorithm, learner, described,
                    self.step.serving.map_of(name), None if positions is None else positions.theta,
                    sign,
                )  # fmt: skip
            if name not in manifests:
                raise self.step.diverged(name, f"after {samples:,} samples")
        return manifests
