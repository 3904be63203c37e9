"""What the training step of a run does, and its results."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from headrace.learners.handover import Handover, Inline, Learn
from headrace.learners.learning import TrainPlan
from headrace.learners.ledger import Totals
from headrace.monitoring.comparison import Difference
from headrace.monitoring.drift import Drift, DriftPlan
from headrace.monitoring.gate import GatePlan
from headrace.monitoring.guard import GuardPlan
from headrace.monitoring.lead import LeadPlan
from headrace.monitoring.pairwise import Pairwise
from headrace.monitoring.statistics import Statistics
from headrace.schemas.records.events import FOREVER


class Store(Protocol):
    """Keeps folders where all processes of a job find them."""

    def put(self, folder: Path, name: str) -> None:
        """Copy a folder to a name that stands for its contents."""

    def fetch(self, name: str, folder: Path) -> None:
        """Copy what `put` has written to a folder here."""


@dataclass(frozen=True)
class TrainJob:
    """What the training step does.

    Parameters
    ----------
    plan
        What to learn.
    shards, epoch
        How many shards there are; length of an epoch, microseconds.
    window, slices
        Length of a window of the statistics, microseconds; their slice columns.
    folder
        Where models are written, as ``NAME/snapshot-SAMPLES`` for each learner; in the store,
        if there is one.
    about
        More entries of every snapshot's manifest.
    store
        Where models and snapshots are written on a runner that keeps the state. None if the
        state is kept by others: then there is no journal, which would never be read.
    journal_bytes
        A snapshot is taken when the envelopes since the last exceed this, bytes.
    handover
        Makes the hand-over between ordering and learning.
    step
        Rows beside the samples leave in steps of this length, microseconds; None for an epoch.
    guard
        When learning is disconnected; None if nothing is guarded.
    leads
        By label, where the arrivals of its actions are; without labels of which they are not
        guarded.
    gate
        How much worse than the model that serves a new one may be; None for no such gate.
    drift
        Features and scores whose distributions are watched.
    history
        Of a run that goes on from others, how long windows of statistics are kept, microseconds.
    ranked
        Learners of which pairwise accuracy is kept, each with the column of propensities.
    """

    plan: TrainPlan
    shards: int
    epoch: int
    window: int
    slices: tuple[str, ...]
    folder: str
    about: dict[str, Any] = field(default_factory=dict)
    store: Store | None = None
    journal_bytes: int = 64 << 20
    handover: Callable[[Learn], Handover] = Inline
    step: int | None = None
    guard: GuardPlan | None = None
    leads: Mapping[str, LeadPlan] = field(default_factory=dict)
    gate: GatePlan | None = None
    drift: DriftPlan = field(default_factory=DriftPlan)
    ranked: Mapping[str, str] = field(default_factory=dict)
    history: int = FOREVER


@dataclass(frozen=True)
class Finished:
    """The results of the training step of a run.

    Parameters
    ----------
    manifests
        Manifests of the models, by learner.
    snapshots
        Name of each learner's snapshot in the folder of its models.
    verdicts
        What the gate says of each model, by learner; without those that it says nothing of.
    statistics
        Statistics by learner.
    totals
        Counts of all shards together.
    clipped
        Values of numeric features that were clipped, by learner and column.
    refused
        Samples that were not learned for want of a weight or an offset, by learner.
    outliers
        Samples that were not learned for a number far beyond the usual, by learner and column.
    mature
        Share of the learned samples whose label could not change any more, by learner.
    effective
        The number of samples of equal weight that would say as much, by learner (Kish 1965).
    served
        Statistics by learner of what was predicted when impressions were known, with their
        final labels; each impression weighs 1.
    calibrated
        The same of calibrated predictions, by learners that have a calibration.
    open
        Impressions that were predicted when known, and have not settled.
    differences
        Of the log loss, as served, from that of the learner that each is compared with
        (`headrace.learners.learning.TrainPlan.references`).
    guards
        Where each guard stands, by label.
    drift
        How features, scores and actions of an hour differ from those of earlier ones.
    pairwise
        Whether what is clicked ranks above what is not, by learner; empty without propensities.
    """

    manifests: dict[str, dict[str, Any]]
    snapshots: dict[str, str]
    verdicts: dict[str, dict[str, Any]]
    statistics: dict[str, Statistics]
    totals: Totals
    clipped: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    refused: Mapping[str, int] = field(default_factory=dict)
    outliers: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    mature: Mapping[str, float] = field(default_factory=dict)
    effective: Mapping[str, float] = field(default_factory=dict)
    served: Mapping[str, Statistics] = field(default_factory=dict)
    calibrated: Mapping[str, Statistics] = field(default_factory=dict)
    open: int = 0
    differences: Mapping[str, Difference | None] = field(default_factory=dict)
    guards: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    drift: Drift | None = None
    pairwise: Mapping[str, Pairwise] = field(default_factory=dict)
