"""The learning step: encode an epoch, have every learner learn it, keep the margins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headrace.learners.features import FeatureEncoder, Features
from headrace.learners.learner import Floats, Learner
from headrace.learners.ordering import Epoch
from headrace.learners.registry import Algorithm
from headrace.schemas.config.models import Model
from headrace.schemas.records.events import RATE
from headrace.schemas.records.hashing import Int64s

Correction = Literal["weight", "logit", "recalibrate", "none"]


@dataclass(frozen=True)
class LearnerPlan:
    """One learner of a run.

    Parameters
    ----------
    label
        Name of the label column.
    features, bits
        What it learns from.
    algorithm, kind
        The kind of learner: its name, and what that stands for.
    parameters
        Of the learner, an instance of ``kind.parameters``.
    """

    label: str
    features: Features
    bits: int
    algorithm: str
    kind: Algorithm
    parameters: Model

    def make(self) -> Learner:
        """Make a learner that has learned nothing."""
        return self.kind.learner(self.parameters, self.bits)


@dataclass(frozen=True)
class TrainPlan:
    """What is learned from samples, and how.

    Parameters
    ----------
    learners
        By name; without any, samples are only put in order.
    correction
        How learners are corrected for dropped negatives.
    """

    learners: Mapping[str, LearnerPlan]
    correction: Correction


@dataclass(frozen=True)
class Learned:
    """An epoch after the learning step.

    Parameters
    ----------
    epoch
        The samples.
    rows
        The rows that were learned, in order, int64, shape (m,): all of ``epoch.order``, but
        for what a `Guard` held back.
    margins
        By learner, progressive log-odds of ``rows``, corrected for sampling, float64,
        each of shape (m,).
    """

    epoch: Epoch
    rows: Int64s
    margins: dict[str, Floats]

    def column(self, name: str) -> npt.NDArray[Any]:
        """Return a column of the learned rows in order, shape (m,)."""
        return self.epoch.column(name)[self.rows]


class Guard(Protocol):
    """Stands between order and learning, and can hold samples back."""

    def admit(self, epoch: Epoch) -> Int64s:
        """Return the rows of an epoch that may be learned.

        It is asked once an epoch, in their order, so that what it returns may depend
        on the epochs before. What it holds back is a sample all the same.

        Returns
        -------
        array
            The whole of ``epoch.order``, or what is left of it, int64, shape (m,).
        """


class Everything:
    """A `Guard` that holds nothing back."""

    def admit(self, epoch: Epoch) -> Int64s:
        """Return all rows."""
        return epoch.order


class LearningStep:
    """Have every learner learn the samples, each in the same order.

    Parameters
    ----------
    plan
        The learners.
    guard
        What stands before them.
    """

    def __init__(self, plan: TrainPlan, guard: Guard) -> None:
        self.plan = plan
        self.guard = guard
        self.learners = {name: learner.make() for name, learner in plan.learners.items()}
        self.encodings = _encodings(plan)

    def learn(self, epoch: Epoch) -> Learned:
        """Learn what the guard admits of an epoch."""
        rows = self.guard.admit(epoch)
        if not self.learners or not rows.size:
            return Learned(epoch, rows, dict.fromkeys(self.learners, np.empty(0)))
        margins = {}
        for encoder, names in self.encodings:
            columns = list(encoder.features.columns)
            # First, for encoding takes the most memory, and an epoch may be long.
            features = encoder.encode(
                pa.concat_batches([part.select(columns) for part in epoch.parts])
            )
            rate, weight = epoch.column(RATE)[rows], epoch.column("weight")[rows]
            logit = self.plan.correction == "logit"
            offset = -np.log(rate) if logit else np.zeros(rows.size)
            for name in names:
                label = epoch.column(self.plan.learners[name].label)[rows].astype(np.float64)
                margin = self.learners[name].learn(features, rows, label, weight, offset)
                if self.plan.correction == "recalibrate":
                    # q = p / (p + (1 - p) / rate) is a shift of the log-odds by log(rate).
                    margin = margin + np.log(rate)
                margins[name] = margin
        return Learned(epoch, rows, margins)


def _encodings(plan: TrainPlan) -> list[tuple[FeatureEncoder, list[str]]]:
    """Return encoders with the learners that share them: those of equal features and bits."""
    found: list[tuple[LearnerPlan, list[str]]] = []
    for name, learner in plan.learners.items():
        for first, names in found:
            if (first.features, first.bits) == (learner.features, learner.bits):
                names.append(name)
                break
        else:
            found.append((learner, [name]))
    return [(FeatureEncoder(first.features, first.bits), names) for first, names in found]
