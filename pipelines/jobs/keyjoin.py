"""The join of a job, over the records of one key alone.

No rule is stated a second time here: the logs are read as a run reads them, so that every record
has its arrival progress, and `headrace.joiner.join.ShardJoin` gets those of the key. What it
decides of them depends on no other record.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headrace.joiner.join import ShardJoin
from headrace.joiner.journal.cells import MemoryCells
from headrace.joiner.plan.plans import JoinPlan
from headrace.joiner.plan.served import ServedPlan
from headrace.joiner.samples.output import DeadRows
from headrace.pipelines.run.spill import CACHE_BYTES
from headrace.pipelines.sources.inputs import Inputs
from headrace.pipelines.sources.logevents import read_events
from headrace.pipelines.sources.merge import read_blocks
from headrace.schemas.errors import ArgumentError
from headrace.schemas.records.events import (
    GROUP0,
    GROUP1,
    IMPRESSIONS,
    KEY0,
    KEY1,
    NEVER,
    OFFSET,
    RECORD,
)
from headrace.schemas.records.hashing import Bools, hash_columns
from headrace.schemas.types import type_name


@dataclass(frozen=True)
class WantedKey:
    """A key, as records are compared with it.

    Parameters
    ----------
    values
        Its values as texts, in the order of the key columns.
    digest
        The two halves of its digest.
    group
        Those of its group; None without one.
    """

    values: tuple[str, ...]
    digest: tuple[int, int]
    group: tuple[int, int] | None

    @classmethod
    def of(cls, inputs: Inputs, values: Sequence[str]) -> WantedKey:
        """Return a key from its values as they are typed.

        Raises
        ------
        ArgumentError
            If there are more or fewer than key columns, or one is not of its column's type.
        """
        key = inputs.streams[IMPRESSIONS].events.key
        check_values(key, values)
        schema, columns = inputs.schema_of(IMPRESSIONS), {}
        for name, value in zip(key, values, strict=True):
            kind = schema.field(name).type
            try:
                columns[name] = pa.array([value]).cast(kind)
            except pa.ArrowException as error:
                fact = f"must be {type_name(kind)}, as {name} is"
                raise ArgumentError("KEY", value, fact, "give another value") from error
        group = [columns[name] for name in inputs.config.join.group]
        return cls(
            tuple(values), _digest(list(columns.values())), _digest(group) if group else None
        )

    def among(self, batch: pa.RecordBatch) -> Bools:
        """Tell which events are of the key, shape (n,)."""
        return _equal(batch, (KEY0, KEY1), self.digest)

    def beside(self, batch: pa.RecordBatch) -> Bools:
        """Tell which events are of its group, or of itself without one; shape (n,)."""
        if self.group is None:
            return self.among(batch)
        return _equal(batch, (GROUP0, GROUP1), self.group)


def check_values(key: Sequence[str], values: Sequence[str]) -> None:
    """Make sure that there is a value for each key column.

    Raises
    ------
    ArgumentError
        If not.
    """
    if len(values) != len(key):
        fact = f"expected a value for each of {', '.join(key)}"
        raise ArgumentError("KEY", " ".join(values), fact, "give them in this order")


def _digest(columns: list[pa.Array]) -> tuple[int, int]:
    first, second = hash_columns(columns)
    return int(first[0]), int(second[0])


def _equal(batch: pa.RecordBatch, names: tuple[str, str], digest: tuple[int, int]) -> Bools:
    first, second = (batch.column(name).to_numpy() == half
                     for name, half in zip(names, digest, strict=True))  # fmt: skip
    equal: Bools = first & second
    return equal


@dataclass
class KeyJoin:
    """What became of the records of a key.

    Parameters
    ----------
    plan
        The join, of one shard.
    clock
        Where the clock has stopped, microseconds.
    events
        Events of the key by source, each in the order of the source.
    rejects
        Records of the key that are no events, as dead letters.
    dead
        What left no sample.
    samples
        Batches of the samples that leave.
    undecided
        Sources and positions of actions without an outcome.
    """

    plan: JoinPlan
    clock: int = NEVER
    events: list[tuple[int, pa.RecordBatch]] = field(default_factory=list)
    rejects: list[dict[str, Any]] = field(default_factory=list)
    dead: list[DeadRows] = field(default_factory=list)
    samples: list[pa.RecordBatch] = field(default_factory=list)
    undecided: set[tuple[int, int]] = field(default_factory=set)


def join_key(inputs: Inputs, wanted: WantedKey, scratch: str) -> KeyJoin:
    """Join the records of a key, and those of its group if samples depend on it.

    Reads all logs.

    Parameters
    ----------
    inputs
        The job.
    wanted
        The key.
    scratch
        Folder for sorting on disk.
    """
    plan = replace(inputs.join, shards=1, served=ServedPlan())
    chosen = wanted.beside if plan.sampling.by_group else wanted.among
    join, cells, found = ShardJoin(plan, 0, CACHE_BYTES), MemoryCells(), KeyJoin(plan)
    whole = replace(inputs, join=plan)
    for block in read_blocks(whole, inputs.config.batch_rows, scratch):
        envelope = block.envelopes[0]
        if envelope.batch is not None:
            rows = envelope.batch.filter(pa.array(chosen(envelope.batch)))
            envelope = replace(envelope, batch=rows if rows.num_rows else None)
        if envelope.batch is not None:
            own = envelope.batch.filter(pa.array(wanted.among(envelope.batch)))
            found.events += [(block.source, own)] if own.num_rows else []
        if block.letters is not None:
            key = inputs.streams[block.stream].events.key
            found.rejects += _rejects_of(block.letters, key, wanted.values)
        output = join.apply(envelope, cells)
        found.dead += [dead for dead in output.dead if wanted.among(dead.batch).any()]
        found.samples += output.samples
    found.clock = join.clock
    undecided = np.flatnonzero(~join.actions.decided[: join.actions.count])
    found.undecided = set(zip(
        join.actions.source[undecided].tolist(), join.actions.offset[undecided].tolist(),
        strict=True,
    ))  # fmt: skip
    return found


def _rejects_of(
    letters: pa.RecordBatch, key: tuple[str, ...], values: tuple[str, ...]
) -> Iterator[dict[str, Any]]:
    """Yield the letters whose record shows the key."""
    near = pc.match_substring(letters.column("record"), text_in_record(values[0]))
    for letter in letters.filter(near).to_pylist():
        if has_key(letter["record"], key, values):
            yield letter


def text_in_record(value: str) -> str:
    """Return how a value stands in the text of a record that has it."""
    return json.dumps(value, ensure_ascii=False)[1:-1]


def has_key(record: str, key: Sequence[str], values: Sequence[str]) -> bool:
    """Tell whether the text of a record, as dead letters have it, shows a key."""
    try:
        shown = json.loads(record)
    except ValueError:  # a line that could not be decoded
        return False
    return isinstance(shown, Mapping) and all(
        name in shown and str(shown[name]) == value for name, value in zip(key, values, strict=True)
    )


def key_at(
    inputs: Inputs, stream: str, source: str, offset: int, row: int, scratch: str
) -> tuple[str, ...]:
    """Return the key of one record, as texts.

    Parameters
    ----------
    inputs, scratch
        See `join_key`.
    stream, source, offset, row
        Where it is, as dead letters have it; of `source` its last part is enough.

    Raises
    ------
    ArgumentError
        If there is no such record, or it has no key.
    """
    streams = {plan.name: plan for plan in inputs.streams}
    if stream not in streams:
        raise ArgumentError("--stream", stream, "is no stream", f"use {', '.join(streams)}")
    plan = streams[stream]
    logs = {log.name: log for log in inputs.logs_of(plan.number)}
    named = [name for name in logs if name == source or name.endswith(f"/{source}")]
    if len(named) != 1:
        fact = "is the name of several" if named else "is no source of the stream"
        raise ArgumentError("--source", source, fact, f"use one of {', '.join(named or logs)}")
    number = plan.numbering.first(offset) + row
    for batch in read_events(inputs, logs[named[0]], inputs.config.batch_rows, scratch):
        numbers = batch.column(RECORD if RECORD in batch.schema.names else OFFSET).to_numpy()
        at = np.flatnonzero(numbers == number)
        if at.size:
            texts = (batch.column(name).cast(pa.string()) for name in plan.events.key)
            return tuple(text[int(at[0])].as_py() for text in texts)
    fact = f"has no record in {named[0]} that is an event"
    raise ArgumentError("--offset", offset, fact, "see its dead letters, or give another one")
