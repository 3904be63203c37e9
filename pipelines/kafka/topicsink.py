"""Topics as outputs of a run that does not end."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa

from headrace.pipelines.kafka.delivery import Delivery, Messages
from headrace.pipelines.kafka.jsonrows import json_rows, key_texts, values_of
from headrace.pipelines.kafka.partitioning import key_hashes
from headrace.pipelines.kafka.tails import Position
from headrace.pipelines.sinks.sink import Mark
from headrace.schemas.errors import KafkaError
from headrace.schemas.records.events import EMIT, FOREVER, LETTER_ORDER, without_reserved
from headrace.schemas.records.restored import Count, checked

_SLICE_ROWS = 8192
"""Rows that are made messages at a time."""

_BATCH_BYTES = 900_000
"""Largest batch of Arrow before it is halved: brokers take a megabyte by default."""

Encode = Callable[[pa.Table, int], Messages]
"""Makes messages of rows, before which the run has written a number of others."""


def encode_json(columns: Sequence[str], rows: pa.Table, before: int) -> Messages:
    """Return a message for each row: those of one key in one partition.

    Parameters
    ----------
    columns
        The key of a message; without any it has none.
    rows, before
        The rows, and how many there are before them.
    """
    values = json_rows(_shown(rows))
    numbers = range(before + 1, before + rows.num_rows + 1)
    if not columns:  # in turn
        return Messages(values, None, numbers, np.array(numbers))
    keys = key_texts(rows, columns)
    return Messages(values, values_of(keys), numbers, key_hashes(keys))


def encode_arrow(rows: pa.Table, before: int, most_bytes: int = _BATCH_BYTES) -> Messages:
    """Return IPC streams of the rows, compressed by LZ4: halved until none is too large.

    How they are cut is a function of the rows. All are for the first partition, as their order
    is that of the run.
    """
    values: list[bytes] = []
    counts: list[int] = []
    waiting = [_shown(rows)] if rows.num_rows else []
    while waiting:
        part = waiting.pop()
        value = _stream(part)
        if len(value) > most_bytes and part.num_rows > 1:
            half = part.num_rows // 2
            waiting += [part.slice(half), part.slice(0, half)]
        else:
            values.append(value)
            counts.append(part.num_rows)
    ends = [before + n for n in itertools.accumulate(counts)]
    return Messages(values, None, ends, np.zeros(len(values), np.int64))


def _shown(rows: pa.Table) -> pa.Table:
    return without_reserved(rows)


def _stream(rows: pa.Table) -> bytes:
    out = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    with pa.ipc.new_stream(out, rows.schema, options=options) as writer:
        # A copy: a slice is written with some bytes of the rows that lie beside it in memory,
        # and one batch, so that the message is a function of the rows.
        writer.write_table(rows.combine_chunks().take(pa.array(np.arange(rows.num_rows))))
    return out.getvalue().to_pybytes()


class RowTopic:
    """A `LiveSink` that writes rows to a topic as soon as they are appended.

    Readers that read committed messages alone find each row once. Which transaction a row is
    in depends on the clock, and which messages there are does not.

    Parameters
    ----------
    delivery
        Writes the messages.
    schema
        Schema of the rows; columns with reserved names are not written.
    encode
        Makes messages of rows.

    Attributes
    ----------
    schema
        Schema of the rows to append.
    rows
        How many rows were handed to `delivery`.
    """

    def __init__(self, delivery: Delivery, schema: pa.Schema, encode: Encode) -> None:
        self.delivery, self.schema, self.encode = delivery, schema, encode
        self.rows = 0
        self.opened = False

    def resume(self, mark: Mark) -> None:
        """Continue from a mark: rows that the topic has are passed when they come again.

        Raises
        ------
        KafkaError
            See `Delivery.open`.
        """
        noted = dict(mark.committed)
        rows = checked(Count, noted.pop("handed", None), "rows")
        self.delivery.open(Position.from_json(noted))
        self.opened, self.rows = True, rows

    def open(self) -> None:
        """Begin at the first row; another first call than this and `resume` does it too.

        Raises
        ------
        KafkaError
            See `Delivery.open`.
        """
        if not self.opened:
            self.delivery.open()
            self.opened = True

    def append(self, rows: pa.Table) -> None:
        """Write rows."""
        self.open()
        self._send(rows)

    def _send(self, rows: pa.Table) -> None:
        for at in range(0, rows.num_rows, _SLICE_ROWS):
            part = rows.slice(at, _SLICE_ROWS)
            self.delivery.send(self.encode(part, self.rows))
            self.rows += part.num_rows

    def complete_until(self, emit: int) -> None:
        """Do nothing but open the topic: rows do not wait for what is complete."""
        self.open()

    def commit(self) -> Mark:
        """End the transaction; return how far the topic has come, and how far this run."""
        self.open()
        # Before it was killed the run may have written more than it has come to again.
        noted = {**self.delivery.mark().as_json(), "handed": self.rows}
        return Mark(noted, self.schema.empty_table())

    def confirm(self) -> None:
        """Do nothing: the topic says itself what it has."""

    def close(self) -> None:
        """Write what was appended."""
        self.delivery.close()


class BatchTopic(RowTopic):
    """A `LiveSink` that writes the rows of each epoch of emit time as batches.

    Parameters
    ----------
    delivery, schema, encode
        See `RowTopic`; the schema has the emit time, by which rows are in order.
    epoch
        Length of an epoch, microseconds.
    """

    def __init__(self, delivery: Delivery, schema: pa.Schema, encode: Encode, epoch: int) -> None:
        super().__init__(delivery, schema, encode)
        self.epoch = epoch
        self.held = schema.empty_table()

    def resume(self, mark: Mark) -> None:
        """See `RowTopic`."""
        super().resume(mark)
        self.held = mark.held

    def append(self, rows: pa.Table) -> None:
        """Keep rows until their epoch is complete."""
        self.open()
        self.held = pa.concat_tables([self.held, rows])

    def complete_until(self, emit: int) -> None:
        """Write the epochs that end at `emit` or before."""
        self.open()
        until = FOREVER if emit >= FOREVER else emit // self.epoch * self.epoch
        emitted = self.held.column(EMIT).to_numpy()
        count = int(np.searchsorted(emitted, until))
        # Transactions, marks and appends must not cut what a message has: epochs alone do.
        cuts = np.flatnonzero(np.diff(emitted[:count] // self.epoch)) + 1
        for begin, end in itertools.pairwise([0, *cuts.tolist(), count] if count else []):
            self._send(self.held.slice(begin, end - begin))
        self.held = self.held.slice(count)

    def commit(self) -> Mark:
        """End the transaction; return the rows of incomplete epochs."""
        return Mark(super().commit().committed, self.held)


class LetterTopic(RowTopic):
    """A `LiveSink` of dead letters, which come from all shards in no order.

    They are written when the mark that holds them is confirmed. Then their order is that of
    the mark, so that they can be counted; before, it might be another after a crash.
    """

    def __init__(self, delivery: Delivery, schema: pa.Schema, encode: Encode) -> None:
        super().__init__(delivery, schema, encode)
        self.held = schema.empty_table()
        self.new: list[pa.Table] = []

    def resume(self, mark: Mark) -> None:
        """Continue from a mark, and write its letters unless the topic has them.

        Raises
        ------
        KafkaError
            See `Delivery.open`; or if an older mark than the last confirmed one is given.
        """
        super().resume(mark)
        if self.delivery.rows > self.rows + mark.held.num_rows:
            raise KafkaError.older_checkpoint(self.delivery.topic)
        self.held = mark.held
        self.confirm()

    def append(self, rows: pa.Table) -> None:
        """Keep letters until their mark is confirmed."""
        self.open()
        self.new.append(rows)

    def commit(self) -> Mark:
        """Return the letters that were not written yet, those since the last mark by place."""
        if self.new:
            order = [(name, "ascending") for name in LETTER_ORDER]
            new, self.new = pa.concat_tables(self.new).sort_by(order), []
            self.held = pa.concat_tables([self.held, new])
        return Mark(super().commit().committed, self.held)

    def confirm(self) -> None:
        """Write the letters of the last mark."""
        held, self.held = self.held, self.schema.empty_table()
        self._send(held)
        self.delivery.flush()

    def close(self) -> None:
        """Let letters that no mark has come again."""
        self.delivery.close()
