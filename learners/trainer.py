"""The trainer: collects what all shards send, and learns the samples in one order.

The order is canonical and total: by emit time, join key, emission and event time.
An epoch is learned when every shard has told that it is past it, so that the model
is a function of the log alone. What leaves beside the samples (joined actions and
corrections) is put in an order of its own in the same way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headrace.learners.features import FeatureEncoder
from headrace.learners.models.ftrl import Floats, FtrlModel, FtrlParameters
from headrace.schemas.config.models import FeaturesConfig
from headrace.schemas.records.envelope import SampleEnvelope
from headrace.schemas.records.events import (
    ACTION_ORDER,
    EMIT,
    FOREVER,
    KEY0,
    KEY1,
    NEVER,
    RATE,
    without_reserved,
)
from headrace.schemas.records.hashing import Int64s

Correction = Literal["weight", "logit", "recalibrate", "none"]


@dataclass(frozen=True)
class TrainPlan:
    """What is learned from samples, and how.

    Parameters
    ----------
    label
        Name of the label column.
    features, parameters, bits
        Of the learner.
    epoch
        Length of an epoch of emit time, microseconds.
    correction
        How the learner is corrected for dropped negatives.
    """

    label: str
    features: FeaturesConfig
    parameters: FtrlParameters
    bits: int
    epoch: int
    correction: Correction


@dataclass(frozen=True)
class Learned:
    """Samples that were just learned.

    Parameters
    ----------
    parts
        The samples, in the order in which shards sent them.
    order
        Canonical order of the rows of all parts together, int64, shape (n,).
    margin
        Progressive log-odds in canonical order, corrected for sampling, float64,
        shape (n,); empty without a learner.
    """

    parts: list[pa.RecordBatch]
    order: Int64s
    margin: Floats

    def column(self, name: str) -> npt.NDArray[Any]:
        """Return a column in canonical order, shape (n,)."""
        return _column(self.parts, name)[self.order]

    def in_order(self) -> pa.Table:
        """Return the samples in canonical order, without internal columns."""
        visible = pa.Table.from_batches([without_reserved(part) for part in self.parts])
        return visible.take(pa.array(self.order))


def canonical_order(parts: list[pa.RecordBatch]) -> Int64s:
    """Order the samples of all parts together; shape (n,).

    They go by emit time, first and second half of the key's digest, emission (as in
    `headrace.joiner.plan.emission.EMISSIONS`) and event time. No two samples are equal in all of
    these: the kept impressions of a key differ in event time, and each leaves once an
    instant and emission.
    """
    emit = _column(parts, EMIT)
    # Shards send sorted runs, which a stable sort merges; ties are sorted apart.
    order = np.argsort(emit, kind="stable")
    ordered = emit[order]
    tied = np.zeros(emit.size, np.bool_)
    equal = ordered[1:] == ordered[:-1]
    tied[1:] |= equal
    tied[:-1] |= equal
    if tied.any():
        rows = order[tied]
        emission = np.concatenate([part.column("emission").indices.to_numpy() for part in parts])
        columns = [_column(parts, name)[rows] for name in (KEY1, KEY0)]
        columns = [_column(parts, "event_time")[rows], emission[rows], *columns, emit[rows]]
        order[tied] = rows[np.lexsort(columns)]
    return order


def _column(parts: list[pa.RecordBatch], name: str) -> npt.NDArray[Any]:
    return np.concatenate([part.column(name).to_numpy(zero_copy_only=False) for part in parts])


class Trainer:
    """Order samples and learn them.

    Parameters
    ----------
    shards
        How many shards send samples.
    epoch
        Length of an epoch, microseconds.
    plan
        What to learn; None only orders.
    """

    def __init__(self, shards: int, epoch: int, plan: TrainPlan | None) -> None:
        self.shards = shards
        self.epoch = epoch
        self.plan = plan
        self.sequence = [0] * shards
        self.progress = [NEVER] * shards
        self.learned_up_to = NEVER
        self.samples = 0
        self.waiting: list[pa.RecordBatch] = []
        self.beside: dict[str, list[pa.RecordBatch]] = {}
        self.complete_beside: dict[str, pa.RecordBatch] = {}
        if plan is not None:
            self.encoder = FeatureEncoder(plan.features, plan.bits)
            self.model = FtrlModel(plan.parameters, plan.bits)

    @property
    def ended(self) -> bool:
        """Whether every shard has sent all it will."""
        return self.learned_up_to >= FOREVER

    def receive(self, envelope: SampleEnvelope) -> Learned | None:
        """Take in an envelope and learn the epochs that it completes.

        Raises
        ------
        ValueError
            If an envelope is missing before this one. A repeated one is ignored.
        """
        expected = self.sequence[envelope.shard]
        if envelope.sequence < expected:
            return None
        if envelope.sequence > expected:
            raise ValueError(
                f"shard {envelope.shard} sent envelope {envelope.sequence} where {expected} was "
                "due: the runner lost or reordered data between join and trainer"
            )
        self.sequence[envelope.shard] += 1
        self.progress[envelope.shard] = envelope.progress
        self.waiting += envelope.batches
        for name, batches in envelope.beside.items():
            self.beside.setdefault(name, []).extend(batches)
        # Progress includes its own instant, so an epoch ends one after it.
        complete = min(self.progress) + 1
        bound = FOREVER if complete > FOREVER else complete // self.epoch * self.epoch
        if bound <= self.learned_up_to:
            return None
        self.learned_up_to = bound
        for name, batches in self.beside.items():
            ready, self.beside[name] = _split(batches, bound)
            if ready:
                self.complete_beside[name] = _in_action_order(ready)
        ready, self.waiting = _split(self.waiting, bound)
        return self._learn(ready)

    def take_beside(self) -> dict[str, pa.RecordBatch]:
        """Take out what the last envelope completed beside the samples, by name.

        Joined actions and corrections are in `ACTION_ORDER`.
        """
        complete, self.complete_beside = self.complete_beside, {}
        return complete

    def _learn(self, parts: list[pa.RecordBatch]) -> Learned | None:
        if not parts:
            return None
        order = canonical_order(parts)
        self.samples += order.size
        learned = Learned(parts, order, np.empty(0))
        if self.plan is None:
            return learned
        columns = list(self.plan.features.columns)
        rows = self.encoder.encode(pa.concat_batches([part.select(columns) for part in parts]))
        rate = learned.column(RATE)
        correction = self.plan.correction
        offset = -np.log(rate) if correction == "logit" else np.zeros(order.size)
        margin = self.model.learn(
            rows,
            order,
            learned.column(self.plan.label).astype(np.float64),
            learned.column("weight"),
            offset,
        )
        if correction == "recalibrate":
            # q = p / (p + (1 - p) / rate) is a shift of the log-odds by log(rate).
            margin = margin + np.log(rate)
        return Learned(parts, order, margin)

    def meta(self) -> dict[str, Any]:
        """Return what of the state is neither model nor waiting samples, as JSON types."""
        return {
            "sequence": self.sequence,
            "progress": self.progress,
            "learned_up_to": self.learned_up_to,
            "samples": self.samples,
        }

    def restore(self, meta: dict[str, Any], waiting: SampleEnvelope) -> None:
        """Take over what `meta` and `unlearned` returned; the model is restored apart."""
        self.sequence = list(meta["sequence"])
        self.progress = list(meta["progress"])
        self.learned_up_to = meta["learned_up_to"]
        self.samples = meta["samples"]
        self.waiting = list(waiting.batches)
        self.beside = dict(waiting.beside)

    def unlearned(self) -> SampleEnvelope:
        """Return what waits for its epoch to be complete."""
        return SampleEnvelope(0, self.shards, 0, NEVER, batches=self.waiting, beside=self.beside)


def _split(
    batches: list[pa.RecordBatch], bound: int
) -> tuple[list[pa.RecordBatch], list[pa.RecordBatch]]:
    """Split rows into those emitted before `bound` and the others."""
    ready, rest = [], []
    for batch in batches:
        count = int(np.searchsorted(batch.column(EMIT).to_numpy(), bound, side="left"))
        if count:
            ready.append(batch.slice(0, count))
        if count < batch.num_rows:
            rest.append(batch.slice(count))
    return ready, rest


def _in_action_order(parts: list[pa.RecordBatch]) -> pa.RecordBatch:
    rows = pa.concat_batches(parts)
    order = np.lexsort([rows.column(name).to_numpy() for name in reversed(ACTION_ORDER)])
    return rows.take(pa.array(order))
