"""The state of the steps of a run as files of a folder: of checkpoints, and of finished runs.

No bundle may be under way while it is written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from headrace.joiner.join import ShardJoin
from headrace.joiner.journal.rings import is_cell
from headrace.joiner.journal.segments import Name, Segment
from headrace.joiner.plan.plans import JoinPlan
from headrace.joiner.recovery import export_join, restore_join
from headrace.joiner.samples.expected import expect_samples
from headrace.joiner.state.expected import expect_impressions
from headrace.pipelines.beam.run import Run
from headrace.pipelines.run.spill import Spill
from headrace.pipelines.training.job import TrainJob
from headrace.pipelines.training.state import TrainingState
from headrace.schemas.records.envelope import EventEnvelope, SampleEnvelope
from headrace.schemas.records.restored import Text, checked, expect, restoring

_JOIN, _TRAIN, _UNLEARNED = "join.arrow", "train", "unlearned"
_IMPRESSIONS = "impressions"
_PIECES = pa.schema(
    [("shard", pa.int32()), ("ring", pa.string()), ("cell", pa.int32()), ("data", pa.binary())]
)

_COMPRESSED = pa.ipc.IpcWriteOptions(compression="lz4")


def write_join(run: Run, folder: Path) -> dict[int, Any]:
    """Write the state of every shard; return the rest of it by shard, as JSON types."""
    shards: dict[int, ShardJoin] = run.joins.values()
    described = {}
    with (
        pa.OSFile(str(folder / _JOIN), "wb") as file,
        pa.ipc.new_stream(file, _PIECES, options=_COMPRESSED) as writer,
    ):
        for shard, join in shards.items():
            cells = run.journals.of(shard)

            def put(ring: str, cell: int, data: bytes, shard: int = shard) -> None:
                row = [[shard], [ring], [cell], [data]]
                writer.write_batch(pa.record_batch(row, schema=_PIECES))

            described[shard] = export_join(join, cells, put)
    return described


def write_training(run: Run, folder: Path) -> None:
    """Write the state of the training step, if it has one."""
    training: dict[int, TrainingState] = run.training.values()
    for state in training.values():
        state.save(folder / _TRAIN)
        (folder / _UNLEARNED).write_bytes(state.trainer.unlearned().encode())


def read_joins(
    folder: Path, described: dict[str, Any], plan: JoinPlan, journals: Spill
) -> dict[int, ShardJoin]:
    """Restore every shard.

    What the journals are filled with is compared with the plan first: on resuming nothing has been
    read of the log, but of a folder that anybody may have written.

    Parameters
    ----------
    folder, described
        What `write_join` wrote and returned.
    plan
        The join.
    journals
        Of the run, still empty; they are filled.

    Raises
    ------
    DamagedError
        If something is not what is written.
    """
    shards = [str(shard) for shard in range(plan.shards)]
    checked(dict[Text, dict[Text, Any]], described, "join")
    expect(sorted(described, key=int) == shards, "join", f"must have {plan.shards} shards")
    waiting: dict[tuple[int, Name], Segment] = {}
    with restoring(_JOIN):
        for shard, ring, cell, data in _pieces(folder / _JOIN, plan):
            if ring == _IMPRESSIONS:
                segment = _waiting(data, cell, plan)
                waiting[shard, segment.name] = segment
            journals.of(shard).append(ring, cell, data)
    joins = {}
    for shard in range(plan.shards):
        cells = journals.of(shard)
        join = restore_join(plan, shard, described[str(shard)], cells, journals.cache_bytes)
        for segment in join.queue.waiting.values():
            _expect_rows(segment, waiting.get((shard, segment.name)))
        join.warm(cells)
        joins[shard] = join
    return joins


def _pieces(path: Path, plan: JoinPlan) -> Iterator[tuple[int, str, int, bytes]]:
    """Read the pieces of all journals, each as shard, ring, cell and bytes."""
    with pa.OSFile(str(path), "rb") as file:
        for batch in pa.ipc.open_stream(file):
            batch.validate(full=True)
            expect(batch.schema.equals(_PIECES), "pieces", "have other columns")
            for piece in batch.to_pylist():
                shard, ring, cell, data = (piece[name] for name in _PIECES.names)
                expect(is_cell(ring, cell), "pieces", f"there is no cell {cell!r} of {ring!r}")
                expect(0 <= shard < plan.shards, "pieces", f"there is no shard {shard!r}")
                yield shard, ring, cell, data


def _waiting(data: bytes, cell: int, plan: JoinPlan) -> Segment:
    """Return what a piece has of impressions that wait to settle, from its rows."""
    envelope = EventEnvelope.decode(data)
    expect(envelope.batch is not None, "impressions", "an envelope has no rows")
    expect_impressions(envelope.batch, plan)
    return Segment.of(envelope.source, envelope.begin, envelope.batch, cell)


def _expect_rows(segment: Segment, rows: Segment | None) -> None:
    """Go on if the rows of a segment are there, and are as it says."""
    expect(rows is not None, "segment", f"the rows of {segment.name} are missing")
    for name in ("cell", "rows", "last_time", "last_known"):
        said, found = getattr(segment, name), getattr(rows, name)
        expect(said == found, "segment", f"{name} of {segment.name} is {said} (got {found})")


def read_training(folder: Path, plan: JoinPlan, job: TrainJob) -> TrainingState | None:
    """Restore the training step; None if it had no state.

    Raises
    ------
    DamagedError
        If something is not what is written.
    """
    if not (folder / _TRAIN).exists():
        return None
    state = TrainingState(job)
    with restoring(_UNLEARNED):
        unlearned = SampleEnvelope.decode((folder / _UNLEARNED).read_bytes())
        expect_samples(unlearned, plan, job.slices)
    with restoring(_TRAIN):
        state.load(folder / _TRAIN, unlearned)
        for envelope in state.trainer.order.early.values():
            expect_samples(envelope, plan, job.slices)
    return state


def expect_whole(joins: Mapping[int, ShardJoin], training: TrainingState | None) -> None:
    """Go on if the parts of a run stand where the others think that they do.

    Raises
    ------
    DamagedError
        If they do not: the run would wait for what never comes.
    """
    for shard, join in joins.items():
        sent = join.tally.sequence
        received = 0 if training is None else training.trainer.order.sequence[shard]
        fact = f"has {received} of the {sent} envelopes of shard {shard}"
        expect(sent == received, _TRAIN, fact)
        expect(join.tally.position == joins[0].tally.position, f"shard {shard}", "is elsewhere")
