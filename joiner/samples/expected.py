"""What the rows of a restored training step must be like: what a join sends to it."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headrace.joiner.plan.emission import EMISSIONS
from headrace.joiner.plan.plans import JoinPlan
from headrace.joiner.samples.joined import joined_schema
from headrace.joiner.samples.labels import TIMESTAMP
from headrace.joiner.samples.rows import sample_schema
from headrace.schemas.records.envelope import (
    ARRIVALS,
    CORRECTIONS,
    JOINED,
    MATURE,
    SERVED,
    SampleEnvelope,
)
from headrace.schemas.records.events import (
    ACTION_OFFSET,
    ACTION_SOURCE,
    ACTION_TIME,
    COUNT,
    EARLIEST,
    EMIT,
    KEY0,
    KEY1,
    LATEST,
    OFFSET,
    RATE,
    SOURCE,
    STREAM,
    TIME,
)
from headrace.schemas.records.restored import expect, expect_columns, expect_within

_KEY = {EMIT: pa.int64(), KEY0: pa.uint64(), KEY1: pa.uint64()}
_ACTION = {ACTION_TIME: pa.int64(), ACTION_SOURCE: pa.int32(), ACTION_OFFSET: pa.int64()}
_ARRIVED = {EMIT: pa.int64(), STREAM: pa.int32(), COUNT: pa.int64()}
_EVENT = {TIME: pa.int64()}


def expect_samples(envelope: SampleEnvelope, plan: JoinPlan, slices: Collection[str] = ()) -> None:
    """Go on if rows are what a join sends.

    Parameters
    ----------
    envelope, plan
        What a shard has sent, and the join.
    slices
        Columns that rows may lack: an earlier run may not have been asked for them.

    Raises
    ------
    DamagedError
        If they are not.
    """
    expect(envelope.shard < plan.shards, "envelope", f"there is no shard {envelope.shard}")
    expected = _Expected(plan, frozenset(slices))
    for batch in envelope.batches:
        expected.samples(batch, "samples")
    for name, batches in envelope.beside.items():
        for batch in batches:
            expected.beside(batch, name)


def expect_held_samples(held: pa.Table, plan: JoinPlan) -> None:
    """Go on if rows that were to be written are samples, as readers see them.

    Raises
    ------
    DamagedError
        If they are not.
    """
    expected = _Expected(plan, frozenset())
    for batch in held.to_batches():
        if batch.num_rows:
            expected.seen(batch, "held samples")


class _Expected:
    """What the rows of a join are like.

    Parameters
    ----------
    plan, slices
        See `expect_samples`.
    """

    def __init__(self, plan: JoinPlan, slices: frozenset[str]) -> None:
        self.plan, self.slices = plan, slices
        self.labels = [action.name for action in plan.actions]
        self.types = {of.name: of.type for of in plan.types}

    def samples(self, batch: pa.RecordBatch, what: str) -> None:
        """Go on if rows are samples in order of emit time."""
        self._in_order(batch, {**_KEY, RATE: pa.float64()}, what)
        self.seen(batch, what)

    def seen(self, batch: pa.RecordBatch, what: str) -> None:
        """Go on if rows have what readers see of samples."""
        numbers = (
            "weight",
            "sampling_rate",
            *(f"weight_{of}" for of in self.plan.sampling.published),
        )
        of_labels: dict[str, pa.DataType] = {}
        for name in self.labels:
            of_labels |= {
                name: pa.bool_(),
                f"{name}_mature": pa.bool_(),
                f"{name}_count": pa.int32(),
            }
        needed = {"event_time": TIMESTAMP, **dict.fromkeys(numbers, pa.float64()), **of_labels}
        expect_columns(batch, needed, what)
        for name in numbers:
            column = batch.column(name).to_numpy()
            expect(np.isfinite(column).all() and (column >= 0).all(), what, f"{name} is no weight")
        expect((batch.column("sampling_rate").to_numpy() > 0).all(), what, "a sampling rate is 0")
        time = pc.cast(batch.column("event_time"), pa.int64()).to_numpy()
        expect_within(time, EARLIEST, LATEST, what)
        self._coded(batch, "emission", EMISSIONS, what)
        if self.plan.triggers:
            self._coded(batch, "trigger", self.plan.stream_names[1:], what)
        if self.types:
            self._known(batch, sample_schema(self.plan, self.plan.types), what)

    def beside(self, batch: pa.RecordBatch, name: str) -> None:
        """Go on if rows are those that leave under a name beside the samples."""
        plan, served = self.plan, self.plan.served
        joined = {f"{JOINED}{stream}": action for stream, action in enumerate(plan.actions)}
        if name == CORRECTIONS:
            self.samples(batch, name)
            expect_columns(batch, _ACTION, name)
        elif name in joined:
            self._in_order(batch, {**_KEY, **_ACTION}, name)
            if self.types:
                self._known(batch, joined_schema(plan, joined[name], plan.types), name)
        elif name == SERVED:
            more = {OFFSET: pa.int64(), SOURCE: pa.int32(), RATE: pa.float64()}
            self._in_order(batch, {**_KEY, **_EVENT, **more}, name)
            self._carried(batch, served.columns, name)
        elif name == MATURE:
            labels = dict.fromkeys((of for of in served.labelled if of in self.labels), pa.bool_())
            self._in_order(batch, {**_KEY, **_EVENT, **labels}, name)
            self._carried(batch, (of for of in served.labelled if of not in labels), name)
        else:
            expect(name == ARRIVALS, "envelope", f"there are no rows {name!r}"[:100])
            self._in_order(batch, _ARRIVED, name)
            expect_within(batch.column(STREAM).to_numpy(), 0, len(plan.actions), name)
            expect_within(batch.column(COUNT).to_numpy(), 0, 1 << 40, name)

    def _in_order(self, batch: pa.RecordBatch, kinds: dict[str, pa.DataType], what: str) -> None:
        expect_columns(batch, kinds, what)
        expect(batch.num_rows, what, "a batch has no rows")
        emit = batch.column(EMIT).to_numpy()
        expect((emit[1:] >= emit[:-1]).all(), what, "emit times are not in order")
        # Not by more after the last event time than anything waits.
        for name in {EMIT, TIME, ACTION_TIME} & kinds.keys():
            expect_within(batch.column(name).to_numpy(), EARLIEST, 2 * LATEST, what)

    def _coded(self, batch: pa.RecordBatch, name: str, values: tuple[str, ...], what: str) -> None:
        expect(name in batch.schema.names, what, f"has no column {name}")
        kind = batch.schema.field(name).type
        coded = pa.types.is_dictionary(kind) and pa.types.is_int8(kind.index_type)
        expect(coded, what, f"column {name} is not coded (got {kind})")
        found = batch.column(name).dictionary.to_pylist()
        expect(found == list(values), what, f"column {name} has other values ({found})"[:200])

    def _known(self, batch: pa.RecordBatch, schema: pa.Schema, what: str) -> None:
        """Go on if a batch has all columns of a schema, but for slices, with their types."""
        for field in schema:
            there = field.name in batch.schema.names
            expect(there or field.name in self.slices, what, f"has no column {field.name}")
            if there:
                found = batch.schema.field(field.name).type
                expect(found == field.type, what, f"column {field.name} is {found}"[:200])

    def _carried(self, batch: pa.RecordBatch, names: Iterable[str], what: str) -> None:
        if self.types:
            fields = [pa.field(of, self.types[of]) for of in names if of in self.types]
            self._known(batch, pa.schema(fields), what)
