"""The trainer: puts what all shards send in order, and has it learned.

Its parts are the ordering (`headrace.learners.ordering`), a guard and the learning
step (`headrace.learners.learning`), a hand-over between the two
(`headrace.learners.handover`), and a ledger of what shards tell
(`headrace.learners.ledger`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from headrace.learners.handover import Handover, Inline, Learn
from headrace.learners.learner import Learner
from headrace.learners.learning import Everything, Guard, Learned, LearningStep, TrainPlan
from headrace.learners.ledger import Ledger
from headrace.learners.ordering import EpochOrder
from headrace.learners.snapshot import load_snapshot, save_snapshot
from headrace.schemas.records.envelope import SampleEnvelope


@dataclass(frozen=True)
class Received:
    """What an envelope came to.

    Parameters
    ----------
    repeated
        Whether it had come before; then it changed nothing.
    samples
        Epochs that have been learned since the last envelope, in order. They may be of
        envelopes before this one, for the hand-over may lag behind.
    beside
        The rows beside the samples that it completed, by their name, each in
        `headrace.schemas.records.events.ACTION_ORDER`.
    """

    repeated: bool = False
    samples: list[Learned] = field(default_factory=list)
    beside: dict[str, pa.RecordBatch] = field(default_factory=dict)


class Trainer:
    """Order samples and learn them.

    Parameters
    ----------
    shards
        How many shards send samples.
    epoch
        Length of an epoch of emit time, microseconds.
    plan
        What to learn.
    guard
        What may hold samples back from the learners.
    handover
        Makes the hand-over to the learning step.
    """

    def __init__(
        self,
        shards: int,
        epoch: int,
        plan: TrainPlan,
        guard: Guard | None = None,
        handover: Callable[[Learn], Handover] = Inline,
    ) -> None:
        self.order = EpochOrder(shards, epoch)
        self.step = LearningStep(plan, Everything() if guard is None else guard)
        self.handover = handover(self.step.learn)
        self.ledger = Ledger(shards)

    @property
    def learners(self) -> dict[str, Learner]:
        """The learners by name."""
        return self.step.learners

    @property
    def ended(self) -> bool:
        """Whether every shard has sent all it will."""
        return self.order.ended

    def receive(self, envelope: SampleEnvelope) -> Received:
        """Take in an envelope and hand over the epochs that it completes.

        Raises
        ------
        ValueError
            If an envelope is missing before this one.
        """
        ordered = self.order.receive(envelope)
        if ordered.repeated:
            return Received(repeated=True)
        self.ledger.note(envelope)
        samples = []
        if ordered.epoch is not None:
            self.ledger.samples += ordered.epoch.order.size
            samples = self.handover.put(ordered.epoch)
        return Received(samples=samples, beside=ordered.beside)

    def flush(self) -> list[Learned]:
        """Have all that was received learned; return what was not returned before."""
        return self.handover.flush()

    def unlearned(self) -> SampleEnvelope:
        """Return what waits for its epoch to be complete."""
        return self.order.unreleased()

    # The state is that of the parts. Nothing may be on its way to the learning step: whoever
    # saves must have taken what `flush` returns.

    def save(self, folder: Path, about: dict[str, Any]) -> dict[str, Any]:
        """Write a snapshot of every learner below a folder; return the rest as JSON types.

        Parameters
        ----------
        folder
            Each snapshot has the name of its learner there.
        about
            Further entries of the manifests.
        """
        if self.handover.flush():
            raise RuntimeError("samples were on their way to the learners: flush before saving")
        self.save_models(lambda name: folder / name, about)
        return {"order": self.order.export(), "ledger": self.ledger.export()}

    def load(self, folder: Path, state: dict[str, Any], unlearned: SampleEnvelope) -> None:
        """Take over what `save` wrote and returned, and what `unlearned` returned then."""
        self.order.restore(state["order"], unlearned)
        self.ledger.restore(state["ledger"])
        for name, plan in self.step.plan.learners.items():
            known = {plan.algorithm: plan.kind}
            self.step.learners[name], _ = load_snapshot(folder / name, known)

    def save_models(
        self, folder_of: Callable[[str], Path], about: dict[str, Any]
    ) -> dict[str, dict[str, Any]]:
        """Write a snapshot of every learner; return the manifests by learner."""
        counted = {"samples": self.ledger.samples, "positions": self.ledger.positions}
        return {
            name: save_snapshot(
                folder_of(name), self.step.plan.learners[name].algorithm, learner,
                {"learner": name, **about, **counted},
            )
            for name, learner in self.learners.items()
        }  # fmt: skip
