"""The state of the steps of a run as files of a folder: of checkpoints, and of finished runs.

No bundle may be under way while it is written.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from headrace.joiner.join import ShardJoin
from headrace.joiner.plan.plans import JoinPlan
from headrace.joiner.recovery import export_join, restore_join
from headrace.pipelines.beam.run import Run
from headrace.pipelines.run.spill import Spill
from headrace.pipelines.training.job import TrainJob
from headrace.pipelines.training.state import TrainingState
from headrace.schemas.records.envelope import SampleEnvelope

_JOIN, _TRAIN, _UNLEARNED = "join.arrow", "train", "unlearned"
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

    Parameters
    ----------
    folder, described
        What `write_join` wrote and returned.
    plan
        The join.
    journals
        Of the run, still empty; they are filled.
    """
    with pa.OSFile(str(folder / _JOIN), "rb") as file:
        for batch in pa.ipc.open_stream(file):
            (piece,) = batch.to_pylist()
            journals.of(piece["shard"]).append(piece["ring"], piece["cell"], piece["data"])
    joins = {}
    for number, of_shard in described.items():
        shard = int(number)
        cells = journals.of(shard)
        joins[shard] = restore_join(plan, shard, of_shard, cells, journals.cache_bytes)
        joins[shard].warm(cells)
    return joins


def read_training(folder: Path, job: TrainJob) -> TrainingState | None:
    """Restore the training step; None if it had no state."""
    if not (folder / _TRAIN).exists():
        return None
    state = TrainingState(job)
    state.load(folder / _TRAIN, SampleEnvelope.decode((folder / _UNLEARNED).read_bytes()))
    return state
