"""The learning step: encode an epoch, have every learner learn it, keep the margins."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headrace.learners.exact import ExactTable
from headrace.learners.features import FeatureEncoder, FeatureRows, Features
from headrace.learners.learner import Floats, Learner
from headrace.learners.ordering import Epoch, has_trigger
from headrace.learners.registry import Algorithm
from headrace.schemas.config.models import Model
from headrace.schemas.config.predicates import Predicate
from headrace.schemas.errors import LearningError
from headrace.schemas.records.events import EMIT, FOREVER, RATE
from headrace.schemas.records.hashing import Bools, Int64s

Mode = Literal["window", "immediate", "elapsed", "window_and_immediate"]
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
    filter
        A condition that samples must meet to be learned, on their columns; None for all.
    among
        The labels that `filter` asks for.
    weight
        A column by whose values samples weigh more or less, besides what sampling demands.
    offset
        A column that is added to the log-odds of what is learned and predicted.
    table
        The exact table of its features; then `bits` is 64. None for a hashed one.
    """

    label: str
    features: Features
    bits: int
    algorithm: str
    kind: Algorithm
    parameters: Model
    filter: Predicate | None = None
    among: tuple[str, ...] = ()
    weight: str | None = None
    offset: str | None = None
    table: ExactTable | None = None

    def tells(self, samples: pa.RecordBatch, emission: Mode) -> Bools:
        """Return which samples are for this learner to learn, shape (n,).

        Those that tell something new of its label, or of one that its filter asks for.
        """
        tells = tells_of((self.label, *self.among), samples, emission)
        return tells if self.filter is None else tells & self.filter.evaluate(samples)

    def make(self) -> Learner:
        """Make a learner that has not learned anything."""
        return self.kind.make(self.parameters, self.bits, self.table)


@dataclass(frozen=True)
class TrainPlan:
    """What is learned from samples, and how.

    Parameters
    ----------
    learners
        The learners by name; if there are none, samples are only put in order.
    correction
        How learners are corrected for dropped negatives.
    emission
        When samples leave, see `headrace.joiner.plan.emission`.
    """

    learners: Mapping[str, LearnerPlan]
    correction: Correction
    emission: Mode = "window"

    @property
    def drains(self) -> bool:
        """Whether what is learned after the last impression is like what was learned before.

        With an early emission it is not: those are positives alone, or mostly negatives.
        """
        return self.emission == "window"


@dataclass(frozen=True)
class Learned:
    """An epoch after the learning step.

    Parameters
    ----------
    epoch
        The samples.
    rows
        By learner, the rows that it learned, in order, int64, shape (m,): ``epoch.order`` except
        for those that a `Guard` held back, and those that leave for the sake of another label.
    margins
        By learner, the progressive log-odds of its rows, corrected for sampling; each
        float64, shape (m,).
    """

    epoch: Epoch
    rows: dict[str, Int64s]
    margins: dict[str, Floats]


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
    refused
        Samples so far that were not learned because they have no weight or offset, or a
        weight below zero, by learner.
    settled
        The learners as they were at the last impression of the log, once more is learned
        that is not like what was learned before; until then None.
    """

    def __init__(self, plan: TrainPlan, guard: Guard) -> None:
        self.plan = plan
        self.guard = guard
        self.learners = {name: learner.make() for name, learner in plan.learners.items()}
        self.clipped: dict[str, Counter[str]] = {name: Counter() for name in plan.learners}
        self.refused = dict.fromkeys(plan.learners, 0)
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
        admitted = self.guard.admit(epoch)
        rows = {}
        for name, plan in self.plan.learners.items():
            parts = [plan.tells(part, self.plan.emission) for part in epoch.parts]
            tells = np.concatenate(parts)
            own = admitted if tells.all() else admitted[tells[admitted]]
            rows[name] = self._whole(name, epoch, own)
        emit, drain = epoch.column(EMIT), FOREVER if epoch.drain is None else epoch.drain
        settles = not self.plan.drains and self.settled is None and bool(emit.max() >= drain)
        if not admitted.size:
            if settles:
                self.settled = copy.deepcopy(self.learners)
            return Learned(epoch, rows, dict.fromkeys(self.learners, np.empty(0)))
        margins, settled = {}, {}
        for encoder, names in self.encodings:
            columns = list(encoder.features.columns)
            # Encoding comes first: it takes the most memory, and an epoch may be long.
            features = replace(
                encoder.encode(pa.concat_batches([part.select(columns) for part in epoch.parts])),
                times=emit,
            )
            rates, weights = epoch.column(RATE), epoch.column("weight")
            for name in names:
                own, plan = rows[name], self.plan.learners[name]
                rate, weight = rates[own], weights[own]
                if plan.weight is not None:
                    weight = weight * _numbers(epoch, plan.weight)[own]
                given = np.zeros(own.size)
                if plan.offset is not None:
                    given = _numbers(epoch, plan.offset)[own]
                offset = given - np.log(rate) if self.plan.correction == "logit" else given
                label = epoch.column(plan.label)[own].astype(np.float64)
                learner = self.learners[name]
                # Rows are in order of emit time: the drain is the last of them.
                cut = int(np.searchsorted(emit[own], drain)) if settles else own.size
                here = slice(0, cut)
                margin = learner.learn(features, own[here], label[here], weight[here], offset[here])
                if settles:
                    settled[name] = copy.deepcopy(learner)
                    rest = slice(cut, None)
                    more = learner.learn(
                        features, own[rest], label[rest], weight[rest], offset[rest]
                    )
                    margin = np.concatenate([margin, more])
                margin = margin + given
                if not np.isfinite(margin).all():
                    since = np.datetime64(int(emit[own[0]]) // 1_000_000, "s")
                    raise self.diverged(name, f"after the samples from {since} UTC on")
                self.clipped[name].update(features.clipped)
                if self.plan.correction == "recalibrate":
                    # q = p / (p + (1 - p) / rate) is a shift of the log-odds by log(rate).
                    margin = margin + np.log(rate)
                margins[name] = margin
        if settles:
            self.settled = settled
        return Learned(epoch, rows, margins)

    def _whole(self, name: str, epoch: Epoch, rows: Int64s) -> Int64s:
        """Return the rows that have the learner's weight and offset, and count the others."""
        plan = self.plan.learners[name]
        if plan.weight is None and plan.offset is None:
            return rows
        good = np.ones(rows.size, np.bool_)
        for column, least in ((plan.weight, 0.0), (plan.offset, -np.inf)):
            if column is not None:
                values = _numbers(epoch, column)[rows]
                good &= np.isfinite(values) & (values >= least)
        self.refused[name] += int(rows.size - np.count_nonzero(good))
        return rows[good]

    def diverged(self, name: str, when: str) -> LearningError:
        """Return the error for a learner whose model is not finite, and the columns at fault.

        Those are the numeric ones that it cannot predict from alone; if it cannot from the
        intercept either, it is not for their numbers.
        """
        plan = self.plan.learners[name]
        encoder = FeatureEncoder(plan.features, plan.bits)
        intercept, index = encoder.coordinates()
        alone = FeatureRows(
            np.arange(len(index) + 2, dtype=np.int64),
            np.array([intercept, *index.values()], encoder.dtype),
            np.ones(len(index) + 1, np.float32),
        )
        sound, *finite = np.isfinite(self.learners[name].predict(alone))
        columns = [column for column, fine in zip(index, finite, strict=True) if not fine]
        return LearningError.diverged(name, when, columns if sound else ())


def _numbers(epoch: Epoch, column: str) -> Floats:
    """Return a numeric column of all parts as float64, NaN for null, shape (n,)."""
    numbers = [part.column(column).cast(pa.float64(), safe=False) for part in epoch.parts]
    return np.concatenate([part.to_numpy(zero_copy_only=False) for part in numbers])


def tells_of(labels: Sequence[str], samples: pa.RecordBatch, emission: Mode) -> Bools:
    """Return which samples tell something new of labels, shape (n,).

    One that leaves again for an action of another stream does not; nor one that leaves again
    because others are negative, but not the first of these labels.
    """
    if not has_trigger(samples.schema):
        return np.ones(samples.num_rows, np.bool_)
    trigger = samples.column("trigger").dictionary_decode()
    tells = pc.or_(pc.is_null(trigger), pc.is_in(trigger, value_set=pa.array(labels)))
    if emission == "window_and_immediate":
        again = pc.equal(samples.column("emission"), "window")
        tells = pc.and_not(tells, pc.and_(again, samples.column(labels[0])))
    found: Bools = tells.to_numpy(zero_copy_only=False)
    return found


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
