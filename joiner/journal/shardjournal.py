"""The journal of a shard: what is written of its state, where, and how it is read.

==============  ========================================================
ring            what its cells hold
==============  ========================================================
``impressions`` event envelopes of impressions that have not settled
``segments``    a `Segment` for each of those envelopes
``keys``        `KeptKeys` as they settled
``retained``    Arrow batches of settled impressions, all columns; only if they
                are retained for corrections
``actions``     event envelopes of actions; and `Marks`: what became of them since
``held``        Arrow batches of settled rows that wait for their group; and
                `Positives`: those of rows that have left
``known``       `KeptKeys` and `ShadowedRows` as they became known; only if
                something leaves before it settles
``scheduled``   Arrow batches of impressions that wait for their first
                emission, with its time
==============  ========================================================

Envelopes that came ahead of their turn lie in the one cell of ``ahead``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa

from headrace.joiner.journal.cells import Cells
from headrace.joiner.journal.pieces import (
    KeptKeys,
    Marks,
    Positives,
    ShadowedRows,
    from_batch,
    is_of,
    to_bytes,
)
from headrace.joiner.journal.rings import AHEAD, Rings
from headrace.joiner.journal.segments import Name, Segment
from headrace.schemas.records.envelope import EventEnvelope, batch_from_bytes, batch_to_bytes
from headrace.schemas.records.events import EMIT, NEVER, TIME
from headrace.schemas.records.hashing import Int64s
from headrace.schemas.records.restored import expect, expect_columns

LAYOUT_VERSION = 8
"""Of what this module writes, and of `headrace.joiner.recovery.describe_join`."""

_SHADOWED = dict.fromkeys(("source", "begin", "row"), pa.int64())


class ShardJournal:
    """What a shard writes down, each kind of thing by its verb, and reads again.

    Verbs that are told of state do nothing unless the cells are durable; but for
    `waiting`, which writes what memory has no room for in any case.

    Parameters
    ----------
    rings
        Which cell holds what; kept with the state of the shard.
    cells
        Where to write and read; on Beam others at every call.
    """

    def __init__(self, rings: Rings, cells: Cells) -> None:
        self._rings = rings
        self._cells = cells

    @property
    def durable(self) -> bool:
        """Whether what is written outlives the process."""
        return self._cells.durable

    def expire(self, clock: int) -> None:
        """Clear the cells of which nothing is of use any more."""
        self._rings.expire(self._cells, clock)

    # --- writing --------------------------------------------------------------------------

    def segment(self, source: int, begin: int, batch: pa.RecordBatch) -> Segment:
        """Describe an envelope's impressions, and which cell is for them."""
        latest = int(batch.column(TIME).to_numpy()[-1])
        return Segment.of(source, begin, batch, self._rings["impressions"].cell(latest))

    def waiting(self, segment: Segment, batch: pa.RecordBatch, in_memory: bool = False) -> None:
        """Write impressions that wait to settle.

        Parameters
        ----------
        segment, batch
            From `segment`, and its rows.
        in_memory
            Whether memory holds the rows until they settle, so that they are
            written only for another process.
        """
        if self.durable or not in_memory:
            data = self._envelope(0, segment.source, segment.begin, batch)
            self._rings["impressions"].append(self._cells, segment.last_time, data)
        if self.durable:
            self._rings["segments"].append(self._cells, segment.last_time, segment.encode())

    def kept(self, keys: KeptKeys) -> None:
        """Write the keys of impressions that were kept when they settled."""
        self._write("keys", keys)

    def retained(self, batch: pa.RecordBatch) -> None:
        """Write settled impressions that are retained, in order of event time."""
        self._write_batch("retained", batch, int(batch.column(TIME)[-1].as_py()))

    def acted(self, stream: int, source: int, batch: pa.RecordBatch) -> None:
        """Write actions of stream ``1 + stream``."""
        if self.durable:
            data = self._envelope(1 + stream, source, 0, batch)
            latest = int(batch.column(TIME).to_numpy().max())
            self._rings["actions"].append(self._cells, latest, data)

    def marked(self, marks: Marks, latest: int) -> None:
        """Write what is known of actions by now; `latest` is the last of their event times."""
        if self.durable:
            self._rings["actions"].append(self._cells, latest, to_bytes(marks))

    def held(self, batch: pa.RecordBatch) -> None:
        """Write samples that wait for their group, in order of event time."""
        latest = batch.column("event_time")[-1].cast(pa.int64()).as_py()
        self._write_batch("held", batch, latest)

    def released(self, positives: Positives) -> None:
        """Write the positives of rows that have left, whose group may still ask for them."""
        self._write("held", positives)

    def known(self, keys: KeptKeys) -> None:
        """Write the keys of impressions that were kept when they became known."""
        self._write("known", keys)

    def shadowed(self, rows: ShadowedRows, latest: int) -> None:
        """Write which impressions were not; `latest` is the last of their event times."""
        if self.durable:
            name = (np.full(rows.rows.size, part) for part in rows.name)
            columns = [pa.array(column) for column in (*name, rows.rows)]
            data = batch_to_bytes(pa.RecordBatch.from_arrays(columns, list(_SHADOWED)))
            self._rings["known"].append(self._cells, latest, data)

    def scheduled(self, batch: pa.RecordBatch, emit: Int64s) -> None:
        """Write impressions that wait for a first emission, in order of its time."""
        if self.durable:
            whole = batch.append_column(EMIT, pa.array(emit))
            self._write_batch("scheduled", whole, int(emit[-1]))

    def ahead(self, envelope: EventEnvelope) -> None:
        """Write an envelope that came ahead of its turn."""
        if self.durable:
            self._cells.append(AHEAD, 0, envelope.encode(self._cells.compressed))

    def still_ahead(self, envelopes: Iterable[EventEnvelope]) -> None:
        """Write which envelopes are left of those that came ahead of their turn."""
        if self.durable:
            self._cells.clear(AHEAD, 0)
            for envelope in envelopes:
                self.ahead(envelope)

    def _envelope(self, stream: int, source: int, begin: int, batch: pa.RecordBatch) -> bytes:
        # Of its header only stream and source are read again, and `begin` of impressions.
        end = begin + batch.num_rows
        envelope = EventEnvelope(stream, source, 0, begin, end, NEVER, 0, batch)
        return envelope.encode(self._cells.compressed)

    def _write(self, ring: str, piece: KeptKeys | Positives) -> None:
        if self.durable and piece.time.size:
            self._rings[ring].append(self._cells, int(piece.time.max()), to_bytes(piece))

    def _write_batch(self, ring: str, batch: pa.RecordBatch, latest: int) -> None:
        if self.durable:
            data = batch_to_bytes(batch, self._cells.compressed)
            self._rings[ring].append(self._cells, latest, data)

    # --- reading --------------------------------------------------------------------------

    def read_segments(self) -> Iterator[Segment]:
        """Read what `waiting` wrote of segments."""
        return (Segment.decode(data) for data in self._read("segments"))

    def read_rows(self, cell: int, names: set[Name]) -> Iterator[tuple[Name, pa.RecordBatch]]:
        """Read the rows of some segments of a cell."""
        missing = set(names)

        def wanted(head: bytes) -> bool:
            return bool(missing) and EventEnvelope.place_of(head) in missing

        for data in self._cells.read("impressions", cell, wanted):
            envelope = EventEnvelope.decode(data)
            if envelope.batch is not None:
                name = (envelope.source, envelope.begin)
                missing.remove(name)  # what a journal holds twice is read once
                yield name, envelope.batch
            if not missing:
                return

    def read_kept(self) -> KeptKeys:
        """Read what `kept` wrote, in any order."""
        return KeptKeys.together(from_batch(KeptKeys, b) for b in self._read_batches("keys"))

    def read_retained(self) -> Iterator[pa.RecordBatch]:
        """Read what `retained` wrote, in any order."""
        return self._read_batches("retained")

    def read_actions(self) -> tuple[list[tuple[int, int, pa.RecordBatch]], Marks]:
        """Read what `acted` wrote, in any order, and all that `marked` wrote."""
        actions, marks = [], []
        for data in self._read("actions"):
            if EventEnvelope.recognizes(data):
                envelope = EventEnvelope.decode(data)
                expect(envelope.batch is not None, "actions", "an envelope has no rows")
                actions.append((envelope.stream - 1, envelope.source, envelope.batch))
            else:
                marks.append(from_batch(Marks, batch_from_bytes(data)))
        return actions, Marks.together(marks)

    def read_held(self) -> tuple[list[pa.RecordBatch], list[Positives]]:
        """Read what `held` and `released` wrote, each in any order."""
        batches = list(self._read_batches("held"))
        rows = [batch for batch in batches if not is_of(Positives, batch)]
        return rows, [from_batch(Positives, batch) for batch in batches if is_of(Positives, batch)]

    def read_known(self) -> tuple[KeptKeys, list[ShadowedRows]]:
        """Read what `known` and `shadowed` wrote, each in any order."""
        batches = list(self._read_batches("known"))
        keys = [from_batch(KeptKeys, batch) for batch in batches if is_of(KeptKeys, batch)]
        shadowed = []
        for batch in batches:
            if not is_of(KeptKeys, batch):
                expect_columns(batch, _SHADOWED, "duplicates", exactly=True)
                expect(batch.num_rows, "duplicates", "a batch has no rows")
                name = (batch.column("source")[0].as_py(), batch.column("begin")[0].as_py())
                shadowed.append(ShadowedRows(name, batch.column("row").to_numpy()))
        return KeptKeys.together(keys), shadowed

    def read_scheduled(self) -> Iterator[tuple[pa.RecordBatch, Int64s]]:
        """Read what `scheduled` wrote, in any order."""
        for batch in self._read_batches("scheduled"):
            expect_columns(batch, {EMIT: pa.int64()}, "scheduled impressions")
            yield batch.drop_columns([EMIT]), batch.column(EMIT).to_numpy()

    def read_ahead(self) -> Iterator[EventEnvelope]:
        """Read which envelopes came ahead of their turn."""
        return (EventEnvelope.decode(data) for data in self._cells.read(AHEAD, 0))

    def _read(self, ring: str) -> Iterable[bytes]:
        return self._rings[ring].read(self._cells)

    def _read_batches(self, ring: str) -> Iterator[pa.RecordBatch]:
        return (batch_from_bytes(data) for data in self._read(ring))
