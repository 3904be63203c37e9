"""The learning step: encode an epoch, have every learner learn it, keep the margins."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headrace.learners.features import FeatureEncoder, FeatureRows, Features
from headrace.learners.learner import Floats, Learner
from headrace.learners.ordering import Epoch
from headrace.learners.registry import Algorithm
from headrace.schemas.config.models import Model
from headrace.schemas.errors import LearningError
from headrace.schemas.records.events import EMIT, RATE
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
        The columns it learns from, hashed to indices below ``2^bits``.
    algorithm, kind
        Name of the algorithm, and the entry of the registry under it.
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
        """Make a learner that has not learned anything."""
        return self.kind.learner(self.parameters, self.bits)


@dataclass(frozen=True)
class TrainPlan:
    """What is learned from samples, and how.

    Parameters
    ----------
    learners
        The learners by name; if there are none, samples are only put in order.
    correction
        How learners are corrected for dropped negatives.
    drains
        Whether what is learned after the last impression is like what was learned before.
        With an early emission it is not: those are positives alone, or mostly negatives.
    """

    learners: Mapping[str, LearnerPlan]
    correction: Correction
    drains: bool = True


@dataclass(frozen=True)
class Learned:
    """An epoch after the learning step.

    Parameters
    ----------
    epoch
        The samples.
    rows
        The rows that were learned, in order, int64, shape (m,): ``epoch.order`` except for
        the rows that a `Guard` held back.
    margins
        By learner, the progressive log-odds of ``rows``, corrected for sampling; each
        float64, shape (m,).
    """

    epoch: Epoch
    rows: Int64s
    margins: dict[str, Floats]

    def column(self, name: str) -> npt.NDArray[Any]:
        """Return a column of the learned rows in order, shape (m,)."""
        return self.epoch.column(name)[self.rows]


class Guard(Protocol):
    """Decides, between ordering and learning, which samples may be learned."""

    def admit(self, epoch: Epoch) -> Int64s:
        """Return the rows of an epoch that may be learned.

        Called once for each epoch, in order, so the answer may depend on earlier epochs.
        A row that is held back is still written as a sample.

        Returns
        -------
        array
            ``epoch.order``, without the rows that are held back, int64, shape (m,).
        """


class AdmitAll:
    """A `Guard` that holds nothing back."""

    def admit(self, epoch: Epoch) -> Int64s:
        """Return ``epoch.order`` unchanged."""
        return epoch.order


class LearningStep:
    """Makes the learners, and has each of them learn all samples in the same order.

    Parameters
    ----------
    plan
        The learners.
    guard
        Decides which samples they learn.

    Attributes
    ----------
    learners
        The learners by name.
    clipped
        Values of numeric features that were clipped so far, by learner and column.
    settled
        The learners as they were at the last impression of the log, once more is learned
        that is not like what was learned before; until then None.
    """

    def __init__(self, plan: TrainPlan, guard: Guard) -> None:
        self.plan = plan
        self.guard = guard
        self.learners = {name: learner.make() for name, learner in plan.learners.items()}
        self.clipped: dict[str, Counter[str]] = {name: Counter() for name in plan.learners}
        self.encodings = _encodings(plan)
        self.settled: dict[str, Learner] | None = None

    @property
    def published(self) -> dict[str, Learner]:
        """The learners to serve with, by name: as they were when a server would have had them."""
        return self.learners if self.settled is None else self.settled

    def learn(self, epoch: Epoch) -> Learned:
        """Predict, then learn, the rows of an epoch that the guard admits.

        Raises
        ------
        LearningError
            If a learner predicts what is not finite.
        """
        rows = self.guard.admit(epoch)
        if epoch.drained and not self.plan.drains and self.settled is None:
            self.settled = copy.deepcopy(self.learners)
        if not self.learners or not rows.size:
            return Learned(epoch, rows, dict.fromkeys(self.learners, np.empty(0)))
        margins = {}
        for encoder, names in self.encodings:
            columns = list(encoder.features.columns)
            # Encoding comes first: it takes the most memory, and an epoch may be long.
            features = encoder.encode(
                pa.concat_batches([part.select(columns) for part in epoch.parts])
            )
            rate, weight = epoch.column(RATE)[rows], epoch.column("weight")[rows]
            logit = self.plan.correction == "logit"
            offset = -np.log(rate) if logit else np.zeros(rows.size)
            for name in names:
                label = epoch.column(self.plan.learners[name].label)[rows].astype(np.float64)
                margin = self.learners[name].learn(features, rows, label, weight, offset)
                if not np.isfinite(margin).all():
                    since = np.datetime64(int(epoch.column(EMIT)[rows[0]]) // 1_000_000, "s")
                    raise self.diverged(name, f"after the samples from {since} UTC on")
                self.clipped[name].update(features.clipped)
                if self.plan.correction == "recalibrate":
                    # q = p / (p + (1 - p) / rate) is a shift of the log-odds by log(rate).
                    margin = margin + np.log(rate)
                margins[name] = margin
        return Learned(epoch, rows, margins)

    def diverged(self, name: str, when: str) -> LearningError:
        """Return the error for a learner whose model is not finite, and the columns at fault.

        Those are the numeric ones that it cannot predict from alone; if it cannot from the
        intercept either, it is not for their numbers.
        """
        plan = self.plan.learners[name]
        intercept, index = FeatureEncoder(plan.features, plan.bits).coordinates()
        alone = FeatureRows(
            np.arange(len(index) + 2, dtype=np.int64),
            np.array([intercept, *index.values()], np.uint32),
            np.ones(len(index) + 1, np.float32),
        )
        sound, *finite = np.isfinite(self.learners[name].predict(alone))
        columns = [column for column, fine in zip(index, finite, strict=True) if not fine]
        return LearningError.diverged(name, when, columns if sound else ())


def _encodings(plan: TrainPlan) -> list[tuple[FeatureEncoder, list[str]]]:
    """Return each encoder with the learners that share it: those of equal features and bits."""
    found: list[tuple[LearnerPlan, list[str]]] = []
    for name, learner in plan.learners.items():
        for first, names in found:
            if (first.features, first.bits) == (learner.features, learner.bits):
                names.append(name)
                break
        else:
            found.append((learner, [name]))
    return [(FeatureEncoder(first.features, first.bits), names) for first, names in found]
