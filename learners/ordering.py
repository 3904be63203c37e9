"""From the envelopes of all shards, in any order, to whole epochs in canonical order.

A runner may deliver the envelopes of a shard in another order than they were sent, and some
of them again. One that comes before its turn waits for those before it; how many wait is
bounded by what the runner has under way.

The order of samples is total: by emit time, join key, emission and event time. An
epoch is released when the progress of every shard is past it, so that what follows
is a function of the log alone. Rows that leave beside the samples are released in
the same way, in their own order; they can be released in steps shorter than an epoch.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headrace.schemas.records.envelope import ARRIVALS, MATURE, SERVED, SampleEnvelope
from headrace.schemas.records.events import (
    ACTION_ORDER,
    ARRIVALS_ORDER,
    EMIT,
    FOREVER,
    KEY0,
    KEY1,
    MATURE_ORDER,
    NEVER,
    SERVED_ORDER,
    without_reserved,
)
from headrace.schemas.records.hashing import Int64s
from headrace.schemas.records.restored import Count, Moment, Text, checked, expect, written
from headrace.schemas.records.slicing import as_texts

_WITH_SAMPLES = {SERVED: SERVED_ORDER, MATURE: MATURE_ORDER, ARRIVALS: ARRIVALS_ORDER}
"""Order of the rows beside the samples that are released with them, in the same epochs."""

_ROWS = 1 << 17
"""About so many samples are learned at once, if so many are completed at once."""


@written
class _Written:
    sequence: list[Count]
    progress: list[Moment]
    released: Moment
    last: list[Moment]
    early: list[Text]


@dataclass(frozen=True)
class Epoch:
    """The samples of an epoch, and their order.

    Parameters
    ----------
    parts
        The samples in order of receipt; no part if there is none.
    order
        Canonical order of the rows of all parts together, int64, shape (n,).
    drain
        Emit time from which on samples were emitted after the last impression of the log,
        microseconds; None if that is not known yet.
    served, mature
        Impressions that became known in the epoch and are to be predicted, and final labels by
        which earlier ones are scored, each in its order; None without any.
    arrivals
        How many actions became known in the epoch, by stream and step, in their order.
    copies
        Duplicates of actions that were noted since the epoch before: stream, hour, how many.
    """

    parts: list[pa.RecordBatch]
    order: Int64s
    drain: int | None = None
    served: pa.RecordBatch | None = None
    mature: pa.RecordBatch | None = None
    arrivals: pa.RecordBatch | None = None
    copies: list[list[Any]] = field(default_factory=list)
    _texts: dict[str, pa.DictionaryArray] = field(default_factory=dict, init=False, repr=False)

    def texts(self, name: str) -> pa.DictionaryArray:
        """Return a slice column of all parts as texts, not put in order, shape (n,).

        Guards and statistics share them, so each column is encoded once.
        """
        if name not in self._texts:
            parts = pa.chunked_array([part.column(name) for part in self.parts])
            self._texts[name] = as_texts(parts.combine_chunks())
        return self._texts[name]

    def column(self, name: str) -> npt.NDArray[Any]:
        """Return a column of all parts, not put in order, shape (n,)."""
        return _column(self.parts, name)

    def in_order(self, columns: list[str] | None = None) -> pa.Table:
        """Return the samples in canonical order.

        Parameters
        ----------
        columns
            Which columns; None for all but internal ones.
        """
        if columns is None:
            parts = [without_reserved(part) for part in self.parts]
        else:
            parts = [part.select(columns) for part in self.parts]
        return pa.Table.from_batches(parts).take(pa.array(self.order))


@dataclass(frozen=True)
class Ordered:
    """What an envelope released.

    Parameters
    ----------
    repeated
        Whether it had been received before; then it changed nothing.
    in_turn
        The envelopes whose turn has come: with it those that had come early.
    epochs
        The samples that they completed, in order: some epochs at a time.
    beside
        The rows beside the samples that they completed, by their name.
    """

    repeated: bool = False
    in_turn: list[SampleEnvelope] = field(default_factory=list)
    epochs: list[Epoch] = field(default_factory=list)
    beside: dict[str, pa.RecordBatch] = field(default_factory=dict)


class EpochOrder:
    """Holds samples until their epoch is complete, and puts them in order.

    Parameters
    ----------
    shards
        How many shards send samples.
    epoch
        Length of an epoch of emit time, microseconds.
    step
        Length of the steps in which rows beside the samples are released, microseconds; that
        of an epoch is a multiple of it. None for an epoch.
    """

    def __init__(self, shards: int, epoch: int, step: int | None = None) -> None:
        self.shards = shards
        self.epoch = epoch
        self.step = epoch if step is None else step
        self.sequence = [0] * shards
        self.progress = [NEVER] * shards
        self.released = self.stepped = NEVER
        self.waiting: list[pa.RecordBatch] = []
        self.beside: dict[str, list[pa.RecordBatch]] = {}
        self.last = [NEVER] * shards
        self.early: dict[tuple[int, int], SampleEnvelope] = {}
        """Envelopes that came before their turn, by shard and sequence."""

    @property
    def received(self) -> int:
        """How many envelopes have had their turn."""
        return sum(self.sequence)

    @property
    def ended(self) -> bool:
        """Whether every shard has sent its last samples."""
        return self.released >= FOREVER

    def receive(self, envelope: SampleEnvelope) -> Ordered:
        """Receive an envelope and release what it completes."""
        shard, sequence = envelope.shard, envelope.sequence
        if sequence < self.sequence[shard] or (shard, sequence) in self.early:
            return Ordered(repeated=True)
        self.early[shard, sequence] = envelope
        in_turn = []
        while (due := self.early.pop((shard, self.sequence[shard]), None)) is not None:
            in_turn.append(due)
            self._take(due)
        return self._release(in_turn)

    def _take(self, envelope: SampleEnvelope) -> None:
        self.sequence[envelope.shard] += 1
        self.progress[envelope.shard] = envelope.progress
        self.last[envelope.shard] = envelope.last
        self.waiting += envelope.batches
        for name, batches in envelope.beside.items():
            self.beside.setdefault(name, []).extend(batches)

    def _release(self, in_turn: list[SampleEnvelope]) -> Ordered:
        # Progress is inclusive: samples are complete before the next microsecond.
        complete = min(self.progress) + 1
        beside = {}
        if (bound := _floor(complete, self.step)) > self.stepped:
            self.stepped = bound
            for name, batches in self.beside.items():
                if name in _WITH_SAMPLES:
                    continue
                ready, self.beside[name] = _split(batches, bound)
                if ready:
                    beside[name] = _put_in_order(ready, ACTION_ORDER)
        epochs: list[Epoch] = []
        if (bound := _floor(complete, self.epoch)) > self.released:
            # Until all shards know the last impression the clock is not past it.
            drain = None if NEVER in self.last else max(self.last) + 1
            # The end of a log completes all that waits; nothing is gained by learning it at once.
            for until in [*self._cuts(bound), bound]:
                epochs += self._completed(until, drain)
            self.released = bound
        return Ordered(in_turn=in_turn, epochs=epochs, beside=beside)

    def _cuts(self, bound: int) -> list[int]:
        """Return ends of epochs before `bound` that leave about `_ROWS` samples between them."""
        if sum(batch.num_rows for batch in self.waiting) <= _ROWS:
            return []
        emit = np.sort(_column(self.waiting, EMIT))
        due = emit[: emit.searchsorted(bound)]
        return sorted({_floor(int(time), self.epoch) for time in due[_ROWS::_ROWS]})

    def _completed(self, bound: int, drain: int | None) -> Iterator[Epoch]:
        """Yield the samples emitted before `bound` as one epoch, if there are any."""
        ready, self.waiting = _split(self.waiting, bound)
        others: dict[str, Any] = {}
        for name, order in _WITH_SAMPLES.items():
            with_them, self.beside[name] = _split(self.beside.get(name, []), bound)
            others[name] = _put_in_order(with_them, order) if with_them else None
        if ready or any(rows is not None for rows in others.values()):
            yield Epoch(ready, canonical_order(ready), drain, **others)

    def unreleased(self) -> SampleEnvelope:
        """Return the rows that wait for their epoch to be complete, as one envelope."""
        return SampleEnvelope(0, self.shards, 0, NEVER, batches=self.waiting, beside=self.beside)

    def export(self) -> dict[str, Any]:
        """Return the state without the rows of `unreleased`, as JSON types."""
        return {
            "sequence": self.sequence,
            "progress": self.progress,
            "released": self.released,
            "last": self.last,
            "early": [
                base64.b64encode(envelope.encode()).decode() for envelope in self.early.values()
            ],
        }

    def restore(self, state: dict[str, Any], unreleased: SampleEnvelope) -> None:
        """Replace the state by what `export` and `unreleased` returned.

        Raises
        ------
        DamagedError
            If it is not what they return.
        EnvelopeError
            If an envelope is damaged.
        """
        checked(_Written, state, "order")
        for name in ("sequence", "progress", "last"):
            fact = f"{name} must have {self.shards} shards"
            expect(len(state[name]) == self.shards, "order", fact)
        expect(state["released"] <= min(state["progress"]) + 1, "order", "has released too much")
        self.sequence = list(state["sequence"])
        self.progress = list(state["progress"])
        self.released = state["released"]
        self.last = list(state["last"])
        self.waiting = list(unreleased.batches)
        self.beside = {name: list(batches) for name, batches in unreleased.beside.items()}
        early = [SampleEnvelope.decode(base64.b64decode(data)) for data in state["early"]]
        self.early = {(envelope.shard, envelope.sequence): envelope for envelope in early}


def _floor(time: int, step: int) -> int:
    return FOREVER if time > FOREVER else time // step * step


def canonical_order(parts: list[pa.RecordBatch]) -> Int64s:
    """Return the canonical order of the samples of all parts together, shape (n,).

    They are ordered by emit time, first and second half of the key's digest, emission (as in
    `headrace.joiner.plan.emission.EMISSIONS`), event time and trigger (as streams are). No two
    samples are equal in all of these: the kept impressions of a key differ in event time, and
    each leaves at most once for an emit time, emission and trigger.
    """
    if not parts:
        return np.empty(0, np.int64)

    def others(rows: Int64s) -> list[npt.NDArray[Any]]:
        names = ["trigger"] if has_trigger(parts[0].schema) else []
        codes = [_codes(parts, name)[rows] for name in ("emission", *names)]
        emission, trigger = codes[0], codes[1:]
        columns = [_column(parts, name)[rows] for name in (KEY0, KEY1)]
        return [*columns, emission, _column(parts, "event_time")[rows], *trigger]

    return _order(_column(parts, EMIT), others)


def _order(emit: Int64s, others: Callable[[Int64s], list[npt.NDArray[Any]]]) -> Int64s:
    """Return the order of rows by emit time, and of those that are emitted at one by the others.

    Parameters
    ----------
    emit
        Emit times, shape (n,).
    others
        Returns what is compared next of some rows, the most important first.
    """
    # Parts are sorted by emit time, so a stable sort merges them; ties are sorted separately.
    order = np.argsort(emit, kind="stable")
    ordered = emit[order]
    tied = np.zeros(emit.size, np.bool_)
    equal = ordered[1:] == ordered[:-1]
    tied[1:] |= equal
    tied[:-1] |= equal
    if tied.any():
        rows = order[tied]
        order[tied] = rows[np.lexsort([*reversed(others(rows)), emit[rows]])]
    return order


def _column(parts: list[pa.RecordBatch], name: str) -> npt.NDArray[Any]:
    return np.concatenate([part.column(name).to_numpy(zero_copy_only=False) for part in parts])


def has_trigger(samples: pa.Schema) -> bool:
    """Return whether samples say for which stream they leave.

    A column of the impressions may have this name where none does; it is never a dictionary.
    """
    return "trigger" in samples.names and pa.types.is_dictionary(samples.field("trigger").type)


def _codes(parts: list[pa.RecordBatch], name: str) -> npt.NDArray[Any]:
    """Return the codes of a dictionary column, -1 for null; all parts have one dictionary."""
    codes = [part.column(name).indices.fill_null(-1).to_numpy() for part in parts]
    return np.concatenate(codes)


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


def _put_in_order(parts: list[pa.RecordBatch], by: tuple[str, ...]) -> pa.RecordBatch:
    if any(part.schema != parts[0].schema for part in parts):
        # What an earlier run has left may lack a column that was not asked for then.
        tables = [pa.Table.from_batches([part]) for part in parts]
        whole = pa.concat_tables(tables, promote_options="default")
        parts = whole.combine_chunks().to_batches()
    rows = pa.concat_batches(parts)
    emit, *others = (rows.column(name).to_numpy() for name in by)
    return rows.take(pa.array(_order(emit, lambda tied: [column[tied] for column in others])))
