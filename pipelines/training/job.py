"""What the training of a run is to do, and what it came to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from headrace.learners.handover import Handover, Inline, Learn
from headrace.learners.learning import TrainPlan
from headrace.learners.ledger import Totals
from headrace.monitoring.statistics import Statistics


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
        Of the statistics.
    folder
        Where models go: ``NAME/snapshot-SAMPLES`` of each learner.
    about
        What every snapshot's manifest says besides the model.
    durable
        Whether to keep a journal. On a runner that keeps no state beyond the
        process it would never be read.
    journal_bytes
        A snapshot is taken when the samples since the last exceed this.
    handover
        Makes the hand-over between ordering and learning.
    """

    plan: TrainPlan
    shards: int
    epoch: int
    window: int
    slices: tuple[str, ...]
    folder: str
    about: dict[str, Any] = field(default_factory=dict)
    durable: bool = True
    journal_bytes: int = 64 << 20
    handover: Callable[[Learn], Handover] = Inline


@dataclass(frozen=True)
class Finished:
    """What a training run came to.

    Parameters
    ----------
    manifests
        Of the models, by learner.
    snapshot
        Name of each learner's snapshot in the folder of its models.
    statistics
        By learner.
    totals
        What shards told.
    """

    manifests: dict[str, dict[str, Any]]
    snapshot: str
    statistics: dict[str, Statistics]
    totals: Totals
