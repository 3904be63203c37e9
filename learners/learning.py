"""The learning step: encode an epoch, have every learner learn it, keep the margins."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headrace.learners.calibration import CalibrationPlan
from headrace.learners.delays import Delay, corrected, discount_of, positive_weight, true_share
from headrace.learners.discount import NONE
from headrace.learners.exact import ExactTable
from headrace.learners.features import FeatureEncoder, FeatureRows, Features
from headrace.learners.guarding import Held, Judging, LabelGuard, Showing, mask_of, tell_arrivals
from headrace.learners.learner import Floats, Learner
from headrace.learners.ordering import Epoch, has_trigger
from headrace.learners.outliers import Outliers
from headrace.learners.position import PositionPlan, Positions, Randomised
from headrace.learners.registry import Algorithm
from headrace.learners.serving import Scored, Serving
from headrace.learners.starting import Start
from headrace.learners.threads import side_by_side
from headrace.schemas.config.models import Model
from headrace.schemas.config.predicates import Predicate
from headrace.schemas.errors import LearningError
from headrace.schemas.records.events import EMIT, FOREVER, RATE
from headrace.schemas.records.hashing import Bools, Int64s

MOST_OFFSET = 100.0
"""Log-odds beyond which an offset says nothing more: such a sample is not learned."""

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
    delay
        The correction for delayed actions, see `headrace.learners.delays`.
    calibration
        How its predictions are calibrated after training; None for not at all.
    start
        What it begins with; None for nothing.
    table
        The exact table of its features; then `bits` is 64. None for a hashed one.
    position
        How it is corrected for positions; None for not at all.
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
    delay: Delay | None = None
    calibration: CalibrationPlan | None = None
    table: ExactTable | None = None
    position: PositionPlan | None = None
    start: Start | None = None

    @property
    def told_by(self) -> tuple[str, ...]:
        """Columns that are no features: that by which its calibration differs, and the position."""
        by = None if self.calibration is None else self.calibration.by
        position = None if self.position is None else self.position.column
        return tuple(name for name in (by, position) if name is not None)

    def tells(self, samples: pa.RecordBatch, emission: Mode) -> Bools:
        """Return which samples are for this learner to learn, shape (n,).

        Those that tell something new of its label, or of one that its filter asks for.
        """
        tells = tells_of((self.label, *self.among), samples, emission)
        return tells if self.filter is None else tells & self.filter.evaluate(samples)

    def scores(self, settled: pa.RecordBatch) -> Bools:
        """Return which impressions with final labels its predictions are scored on, shape (n,)."""
        if self.filter is None:
            return np.ones(settled.num_rows, np.bool_)
        return self.filter.evaluate(settled)

    def make(self) -> Learner:
        """Make a learner that has learned nothing in this run."""
        return self.fresh() if self.start is None else self.start.load({self.algorithm: self.kind})

    def fresh(self) -> Learner:
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
    gated
        Whether models that serve predict beside the learners, to be compared with them.
    """

    learners: Mapping[str, LearnerPlan]
    correction: Correction
    emission: Mode = "window"
    gated: bool = False

    @property
    def references(self) -> dict[str, str]:
        """With which each learner is compared: the first that predicts the same of the same."""
        first: dict[tuple[str, str | None], str] = {}
        found = {}
        for name, learner in self.learners.items():
            what = learner.label, None if learner.filter is None else learner.filter.text
            if what in first:
                found[name] = first[what]
            else:
                first[what] = name
        return found

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
        By learner, the rows that it was given, in order, int64, shape (m,): ``epoch.order``
        except for those that leave for the sake of another label. It has learned those that were
        not held back.
    margins
        By learner, the progressive log-odds of its rows, corrected for sampling; each
        float64, shape (m,).
    scored
        Impressions that settled, with what was predicted when they were known; None without any.
    held
        Rows that a guard held back, by label; without labels of which there are none.
    journal
        What guards decided, in the order in which they did.
    """

    epoch: Epoch
    rows: dict[str, Int64s]
    margins: dict[str, Floats]
    scored: Scored | None = None
    held: dict[str, Held] = field(default_factory=dict)
    journal: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class _Turns:
    """What a learner does with the rows of an epoch, one after the other; all of shape (m,).

    Parameters
    ----------
    order
        The rows.
    learned
        Which are learned; the others are only predicted, and weigh 0.
    label, weight, offset
        See `headrace.learners.learner.Learner.learn`.
    shift
        What is added to the log-odds that it returns: the offset that was given, log theta of
        the position, and what corrects for sampling.
    discount
        See `headrace.learners.learner.Learner.learn`; shape (0,) for none.
    later
        Which are positives that were negatives at first; shape (0,) if that is not asked for.
    """

    order: Int64s
    learned: Bools
    label: Floats
    weight: Floats
    offset: Floats
    shift: Floats
    discount: Floats
    later: Bools

    def __len__(self) -> int:
        return self.order.size

    def part(self, some: slice) -> _Turns:
        """Return some of the turns."""
        return _Turns(
            self.order[some], self.learned[some], self.label[some], self.weight[some],
            self.offset[some], self.shift[some], self.discount[some], self.later[some],
        )  # fmt: skip

    def take(self, learner: Learner, features: FeatureRows, some: slice = slice(None)) -> Floats:
        """Take some of the turns; return the log-odds that were predicted, not shifted."""
        return learner.learn(
            features, self.order[some], self.label[some], self.weight[some], self.offset[some],
            self.discount[some] if self.discount.size else NONE,
        )  # fmt: skip


@dataclass(frozen=True)
class _Lesson:
    """What came of an epoch for one learner.

    Parameters
    ----------
    rows, margins
        The rows that it learned, in order, and their log-odds, see `Learned`; each of shape (m,).
    served
        The log-odds of impressions that became known, float64, shape (k,).
    settled
        The learner as it was at the last impression, if that is in the epoch.
    champion
        The log-odds of the model that serves, float64, shape (k,); None if it is not asked for.
    held
        What the guard of its label holds back; None for nothing, or if it is not judged by it.
    """

    rows: Int64s
    margins: Floats
    served: Floats
    settled: Learner
    champion: Floats | None
    held: Held | None


class LearningStep:
    """Makes the learners, and has each of them learn all samples in the same order.

    Parameters
    ----------
    plan
        The learners.
    epoch
        Length of an epoch, microseconds.
    guards
        Decide which samples are learned, by label; labels without one are learned as they come.

    Attributes
    ----------
    learners
        The learners by name.
    clipped
        Values of numeric features that were clipped so far, by learner and column.
    refused
        Samples so far that were not learned because they have no weight or offset, a weight
        below zero, an offset beyond `MOST_OFFSET`, or a position whose theta is not known, by
        learner.
    outliers
        What is usual of numbers and weights, by learner: samples far beyond are not learned.
    positions
        What is known of theta, of learners that are corrected for positions, by name.
    later
        For each learner corrected by ``es-dfm``, another that tells later positives from first
        negatives.
    learned, mature
        Samples that were learned so far, and those whose label could not change any more, by
        learner.
    weights
        Sum of the weights of learned samples, and of their squares, by learner.
    champions
        The models that serve, by learner, if they are compared with the learners; without those
        that there are not yet.
    serving
        Predictions of impressions as they became known, and calibration by those that settled.
    settled
        The learners as they were at the last impression of the log, once more is learned
        that is not like what was learned before; until then None.
    """

    def __init__(
        self, plan: TrainPlan, epoch: int, guards: Mapping[str, LabelGuard] = MappingProxyType({})
    ) -> None:
        self.plan = plan
        self.guards = guards
        self.learners = {name: learner.make() for name, learner in plan.learners.items()}
        self.clipped: dict[str, Counter[str]] = {name: Counter() for name in plan.learners}
        self.refused = dict.fromkeys(plan.learners, 0)
        self.outliers = {
            name: Outliers(_measured(learner)) for name, learner in plan.learners.items()
        }
        self.positions = {
            name: Positions(learner.position) for name, learner in plan.learners.items()
            if learner.position is not None
        }  # fmt: skip
        self.encodings = _encodings(plan)
        self.judged = judged_learners(plan)
        self.later = {
            name: learner.fresh() for name, learner in plan.learners.items()
            if learner.delay == "es-dfm"
        }  # fmt: skip
        self.learned = dict.fromkeys(plan.learners, 0)
        self.mature = dict.fromkeys(plan.learners, 0)
        self.weights = {name: [0.0, 0.0] for name in plan.learners}
        self.serving = Serving(plan.learners, epoch, plan.gated)
        self.champions = {
            name: learner.make() for name, learner in plan.learners.items()
            if plan.gated and learner.start is not None
        }  # fmt: skip
        self.settled: dict[str, Learner] | None = None

    @property
    def published(self) -> dict[str, Learner]:
        """The learners to serve with, by name: as they were when a server would have had them."""
        return self.learners if self.settled is None else self.settled

    def learn(self, epoch: Epoch) -> Learned:
        """Predict, then learn, the rows of an epoch that the guard admits.

        Among them impressions are predicted as they become known, without being learned.

        Raises
        ------
        LearningError
            If a learner predicts what is not finite.
        """
        for guard in self.guards.values():
            if guard.lead is not None:
                tell_arrivals(guard.lead, epoch)
        if not epoch.parts and epoch.served is None:
            return Learned(epoch, {}, {}, self._observe(epoch, {}, {}))
        drain = FOREVER if epoch.drain is None else epoch.drain
        emit = _whole_column(epoch, EMIT)
        settles = not self.plan.drains and self.settled is None and bool(emit.max() >= drain)
        lessons: dict[str, _Lesson] = {}
        held: dict[str, Held | None] = {}
        for encoder, names in self.encodings:
            # Encoding comes first: it takes the most memory, and an epoch may be long.
            features = replace(_encode(encoder, epoch), times=emit)
            until = drain if settles else None
            for together in self._in_turn(names):
                learn = partial(self._learn, epoch, emit, features, until, held)
                # Learners share nothing that they change, so threads change nothing of this.
                found = side_by_side(learn, together)
                lessons.update(zip(together, found, strict=True))
                for name in together:
                    if self._guard_of(name) is not None:
                        held[self.plan.learners[name].label] = lessons[name].held
        if settles:
            self.settled = {name: lesson.settled for name, lesson in lessons.items()}
        served = {name: lesson.served for name, lesson in lessons.items()}
        champions = {name: lesson.champion for name, lesson in lessons.items()
                     if lesson.champion is not None}  # fmt: skip
        return Learned(
            epoch,
            {name: lesson.rows for name, lesson in lessons.items()},
            {name: lesson.margins for name, lesson in lessons.items()},
            self._observe(epoch, served, champions),
            {label: of for label, of in held.items() if of is not None},
            self._journal(),
        )

    def _journal(self) -> list[dict[str, Any]]:
        taken = [row for guard in self.guards.values() for row in guard.take_journal()]
        # Stable: decisions at one time are in order of labels, wherever epochs are cut.
        return sorted(taken, key=lambda row: row["decided"])

    def _observe(
        self, epoch: Epoch, served: dict[str, Floats], champions: dict[str, Floats]
    ) -> Scored | None:
        return self.serving.observe(epoch.served, served, epoch.mature, champions, self.guards)

    def _guard_of(self, name: str) -> LabelGuard | None:
        """Return the guard before which a learner is judged, None if it is not."""
        label = self.plan.learners[name].label
        return self.guards.get(label) if self.judged[label] == name else None

    def _in_turn(self, names: list[str]) -> list[list[str]]:
        """Return learners that may learn side by side: those that are judged before others.

        One whose filter asks for a label comes after those that are judged for that label.
        """
        judged = [name for name in names if self._guard_of(name) is not None]
        first = [name for name in judged if not self.plan.learners[name].among]
        then = [[name] for name in judged if name not in first]
        rest = [name for name in names if name not in judged]
        return [turn for turn in (first, *then, rest) if turn]

    def _learn(
        self,
        epoch: Epoch,
        emit: Int64s,
        features: FeatureRows,
        drain: int | None,
        held: Mapping[str, Held | None],
        name: str,
    ) -> _Lesson:
        """Have one learner predict and learn an epoch; keep it as it was at `drain`, if given."""
        plan, learner = self.plan.learners[name], self.learners[name]
        own = self._own(name, epoch)
        own, log_theta = self._examined(name, epoch, own, emit)
        turns = self._turns(name, epoch, own, emit, log_theta)
        guard, judging = self._guard_of(name), None
        if epoch.parts and guard is not None:
            true = epoch.column(plan.label).astype(np.float64)
            early = self.plan.emission != "window"
            judging = Judging(guard, epoch, own, true, early, plan.label)
        back = np.zeros(len(turns), np.bool_)
        back[turns.learned] = self._far(name, epoch, own, turns.weight[turns.learned])
        for label in (plan.label, *plan.among):
            found = held.get(label)
            if found is not None:
                back |= mask_of(found, emit.size)[turns.order]
        back &= turns.learned
        turns.weight[back] = 0.0
        cut = None if drain is None else int(np.searchsorted(emit[turns.order], drain))
        margin = np.empty(len(turns))
        settled, serves = None, bool(self.learned[name]) or plan.start is not None
        showing = None
        if guard is not None and guard.lead is not None:
            shown = np.flatnonzero(~turns.learned)
            known = emit[turns.order[shown]]
            showing = Showing(guard.lead, shown, known, -1 if serves else None)
        # Of what is certain the odds are infinite.
        with np.errstate(over="ignore"):
            for some, lessons in _pieces(turns, judging, cut):
                if some.start == cut:
                    settled = copy.deepcopy(learner)
                if judging is not None and lessons.size:
                    held_back = judging.hold(lessons.size)
                    if held_back is not None:
                        back[lessons[held_back]] = True
                        turns.weight[lessons[held_back]] = 0.0
                if name in self.later:
                    turns.weight[some] = self._later_weight(name, turns.part(some), features)
                margin[some] = turns.take(learner, features, some)
                if showing is not None:
                    if showing.since is None:
                        taught = np.flatnonzero(turns.learned[some] & ~back[some])
                        showing.taught(some.start + taught)
                    if (shown := showing.next(some.stop)).size:
                        showing.show(corrected(plan.delay, margin[shown] + turns.shift[shown]))
                if judging is not None and lessons.size:
                    judging.observe(corrected(plan.delay, margin[lessons] + turns.shift[lessons]))
        if judging is not None:
            judging.finish()
        if drain is not None and settled is None:
            settled = copy.deepcopy(learner)
        if not np.isfinite(margin).all():
            first = int(emit[(own if own.size else turns.order)[0]])
            since = np.datetime64(first // 1_000_000, "s")
            raise self.diverged(name, f"after the samples from {since} UTC on")
        if not self.learned[name] and plan.start is None:
            # What has learned nothing yet does not serve.
            margin[~np.logical_or.accumulate(turns.learned & ~back)] = np.nan
        margin = corrected(plan.delay, margin + turns.shift)
        self._count(name, epoch, own, turns, back, features)
        champion = self._champion(name, turns, features) if self.plan.gated else None
        return _Lesson(
            own, margin[turns.learned], margin[~turns.learned], settled or learner, champion,
            None if judging is None else judging.result,
        )  # fmt: skip

    def _champion(self, name: str, turns: _Turns, features: FeatureRows) -> Floats:
        """Return what the model that serves predicts of impressions as they become known."""
        served = np.flatnonzero(~turns.learned)
        if name not in self.champions:
            return np.full(served.size, np.nan)
        nothing = np.zeros(served.size)
        margin = self.champions[name].learn(
            features, turns.order[served], nothing, nothing, nothing
        )
        return corrected(self.plan.learners[name].delay, margin + turns.shift[served])

    def _own(self, name: str, epoch: Epoch) -> Int64s:
        """Return the rows for a learner, in order; those of no use to it are counted."""
        plan, order = self.plan.learners[name], epoch.order
        if not epoch.parts:
            return order
        tells = np.concatenate([plan.tells(part, self.plan.emission) for part in epoch.parts])
        return self._whole(name, epoch, order if tells.all() else order[tells[order]])

    def _examined(
        self, name: str, epoch: Epoch, own: Int64s, emit: Int64s
    ) -> tuple[Int64s, Floats]:
        """Return log theta of all rows, and of those to learn the ones that have it."""
        plan = self.plan.learners[name].position
        if plan is None:
            return own, np.zeros(emit.size)
        randomised = None
        if plan.randomised is not None and own.size:
            rows = own[_numbers(epoch, plan.randomised)[own] == 1.0]
            label = epoch.column(self.plan.learners[name].label)[rows].astype(np.float64)
            randomised = Randomised(rows, label, 1.0 / epoch.column("sampling_rate")[rows])
        position = _whole_column(epoch, plan.column)
        log_theta = self.positions[name].of(position, emit, randomised)
        known = np.isfinite(log_theta[own])
        self.refused[name] += int(own.size - np.count_nonzero(known))
        return own[known], log_theta

    def _turns(
        self, name: str, epoch: Epoch, own: Int64s, emit: Int64s, log_theta: Floats
    ) -> _Turns:
        """Return what a learner does with an epoch: own rows are learned, others predicted."""
        plan, correction = self.plan.learners[name], self.plan.correction
        samples = epoch.order.size
        # One that is known just when a sample is learned is predicted before.
        others = np.arange(samples, emit.size)
        order = np.insert(own, np.searchsorted(emit[own], emit[others]), others)
        learned = order < samples
        label, weight = np.zeros(order.size), np.zeros(order.size)
        given = np.zeros(order.size)
        if plan.offset is not None:
            given = _whole_column(epoch, plan.offset)[order]
        rate = np.log(_whole_column(epoch, RATE)[order])
        if own.size:
            label[learned] = epoch.column(plan.label)[own]
            weight[learned] = epoch.column("weight")[own]
            if plan.weight is not None:
                weight[learned] *= _numbers(epoch, plan.weight)[own]
            weight[label > 0] *= positive_weight(plan.delay)
        shown = given + log_theta[order]
        if plan.position is not None and plan.position.method == "clicks":
            clicked = label > 0
            most = plan.position.clip
            weight[clicked] *= np.minimum(np.exp(-log_theta[order][clicked]), most)
        else:
            given = shown
        offset = np.where(learned, given, 0.0)
        if correction == "logit":
            offset = offset - rate
        # q = p / (p + (1 - p) / rate) is a shift of the log-odds by log(rate).
        shift = shown + rate if correction == "recalibrate" else shown
        discount = discount_of(plan.delay, np.where(learned, shift, 0.0))
        later = np.zeros(order.size if name in self.later else 0, np.bool_)
        if later.size and own.size:
            later[learned] = _came_later(epoch, plan.label)[own]
        return _Turns(order, learned, label, weight, offset, shift, discount, later)

    def _far(self, name: str, epoch: Epoch, own: Int64s, weight: Floats) -> Bools:
        """Return which of a learner's own rows have a number far beyond the usual, shape (m,)."""
        far = np.zeros(own.size, np.bool_)
        for column in self.outliers[name].counts if own.size else ():
            numbers = _numbers(epoch, column)[own]
            if self.plan.learners[name].features.numeric.get(column) == "log":
                numbers = np.log1p(np.abs(numbers))
            far |= self.outliers[name].judge(column, numbers, weight)
        return far

    def _later_weight(self, name: str, turns: _Turns, features: FeatureRows) -> Floats:
        """Let another learner tell later positives from first negatives; weigh by that, (m,)."""
        if not turns.learned.any():
            return turns.weight
        # One that is positive at first was never a negative.
        told = replace(turns, weight=turns.weight * ((turns.label == 0) | turns.later))
        margin = told.take(self.later[name], features) + turns.shift
        share = np.where(turns.learned & (turns.label == 0), true_share(margin), 1.0)
        return turns.weight * share

    def _count(
        self,
        name: str,
        epoch: Epoch,
        own: Int64s,
        turns: _Turns,
        held: Bools,
        features: FeatureRows,
    ) -> None:
        """Count what was learned; of shape (m,) is which turns were held back."""
        self.clipped[name].update(features.clipped)
        own = own[~held[turns.learned]]
        self.learned[name] += own.size
        if own.size:
            weight, sums = turns.weight[turns.learned & ~held], self.weights[name]
            # One after the other, so that the sums do not depend on where epochs are cut.
            for power, total in enumerate(sums, start=1):
                sums[power - 1] = float(np.cumsum(np.append(total, weight**power))[-1])
            mature = epoch.column(f"{self.plan.learners[name].label}_mature")[own]
            self.mature[name] += int(np.count_nonzero(mature))

    def _whole(self, name: str, epoch: Epoch, rows: Int64s) -> Int64s:
        """Return the rows that have the learner's weight and offset, and count the others."""
        plan = self.plan.learners[name]
        if plan.weight is None and plan.offset is None:
            return rows
        good = np.ones(rows.size, np.bool_)
        for column, least, most in ((plan.weight, 0.0, np.inf),
                                    (plan.offset, -MOST_OFFSET, MOST_OFFSET)):  # fmt: skip
            if column is not None:
                values = _numbers(epoch, column)[rows]
                good &= np.isfinite(values) & (values >= least) & (values <= most)
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


def _measured(plan: LearnerPlan) -> list[str]:
    """Return the columns of a learner of which a single number could move its model far."""
    numbers = [name for name, form in plan.features.numeric.items() if isinstance(form, str)]
    weight = [] if plan.weight is None else [plan.weight]
    return list(dict.fromkeys([*numbers, *weight]))


def judged_learners(plan: TrainPlan) -> dict[str, str]:
    """Return by label the learner whose predictions its guard compares with labels.

    It is the first of its label among those that are encoded together.
    """
    found: dict[str, str] = {}
    for _, names in _encodings(plan):
        for name in names:
            found.setdefault(plan.learners[name].label, name)
    return found


def _pieces(
    turns: _Turns, judging: Judging | None, cut: int | None
) -> Iterator[tuple[slice, Int64s]]:
    """Yield pieces of the turns, with those that are learned: until a guard decides, or `cut`."""
    lessons = np.flatnonzero(turns.learned)
    begin, done = 0, 0
    while begin < len(turns):
        end, until = len(turns), lessons.size
        if judging is not None and done + judging.next < lessons.size:
            until = done + judging.next
            end = int(lessons[until - 1]) + 1
        if cut is not None and begin < cut < end:
            end, until = cut, int(lessons.searchsorted(cut))
        yield slice(begin, end), lessons[done:until]
        begin, done = end, until


def _came_later(epoch: Epoch, label: str) -> Bools:
    """Return which samples leave again because an action of a label came, shape (n,)."""
    came = [pc.equal(part.column("trigger").dictionary_decode(), label) for part in epoch.parts]
    later: Bools = pc.fill_null(pa.chunked_array(came), False).to_numpy()
    return later


def _encode(encoder: FeatureEncoder, epoch: Epoch) -> FeatureRows:
    """Encode samples, then impressions that became known."""
    columns = list(encoder.features.columns)
    parts = [part.select(columns) for part in epoch.parts]
    features = encoder.encode(pa.concat_batches(parts)) if parts else None
    if epoch.served is None:
        assert features is not None
        return features
    served = encoder.encode(epoch.served.select(columns))
    # Of a value that is clipped in a sample it is said; here it would be said again.
    served = replace(served, clipped={})
    return served if features is None else features.followed_by(served)


def _numbers(epoch: Epoch, column: str) -> Floats:
    """Return a numeric column of the samples as float64, NaN for null, shape (n,)."""
    return np.concatenate([_as_numbers(part, column) for part in epoch.parts])


def _whole_column(epoch: Epoch, column: str) -> Any:
    """Return a column of samples, then of impressions that became known, NaN for null."""
    parts = epoch.parts if epoch.served is None else [*epoch.parts, epoch.served]
    if column != EMIT:
        return np.concatenate([_as_numbers(part, column) for part in parts])
    return np.concatenate([part.column(column).to_numpy() for part in parts])


def _as_numbers(rows: pa.RecordBatch, column: str) -> Floats:
    numbers: Floats = (
        rows.column(column).cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    )
    return numbers


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
