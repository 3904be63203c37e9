"""Checkpoints of a replay: everything needed to continue after a crash.

The in-process runner keeps no state, so a replay writes its own from time to
time, between two bundles: how far every source was read, the state of every
shard and of the trainer, and the rows that outputs hold back for their next
file. A checkpoint is written under a temporary name, flushed to disk, and renamed;
after that the older one is renamed and deleted. On resuming, outputs that were
finished since are removed and written again, byte for byte the same: they are a
function of the log.

Its manifest has a checksum of itself, of every file beside it, and of every output
that was finished by then. If one of them differs, the checkpoint is refused:
there is no older one to fall back on, and starting over is always right.

The state itself is kept, and not only the position in the log from which it could
be built again, because no finite stretch of the log is enough: whether an
impression is a duplicate depends on the one before it that was kept, that one on
the one before, and so on.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
from pydantic import Field

from headrace.joiner.join import ShardJoin
from headrace.joiner.plan.plans import JoinPlan
from headrace.joiner.samples.expected import expect_held_samples
from headrace.joiner.tally import received
from headrace.monitoring.guard import QUARANTINE
from headrace.pipelines.beam.run import Run
from headrace.pipelines.jobs.identity import check_identity
from headrace.pipelines.jobs.runstate import (
    expect_whole,
    read_joins,
    read_training,
    write_join,
    write_training,
)
from headrace.pipelines.run.disk import describe, files_under, flush, flush_tree, writing
from headrace.pipelines.run.manifest import MANIFEST, check_files, read_manifest, refusing
from headrace.pipelines.run.place import CHECKPOINT, LETTERS, Place
from headrace.pipelines.run.signing import write_signed
from headrace.pipelines.run.spill import Spill
from headrace.pipelines.sinks.outputs import SAMPLES
from headrace.pipelines.sinks.sink import Mark
from headrace.pipelines.sources.inputs import Inputs
from headrace.pipelines.sources.source import SourceState
from headrace.pipelines.training.job import TrainJob
from headrace.pipelines.training.state import TrainingState
from headrace.schemas.records.envelope import CORRECTIONS
from headrace.schemas.records.restored import Count, Sum, Text, checked, expect, restoring, written
from headrace.schemas.records.signatures import Sign

_PARTIAL = "checkpoint.partial"
_HINT = "run without --resume to start over"
_SHARE = 20
"""A replay spends at most about one part in this many of its time on checkpoints."""


@dataclass(frozen=True)
class Resumed:
    """Where a replay continues; by default at the beginning.

    Parameters
    ----------
    block
        Number of the next block to read.
    states
        How far each source was read, by its number.
    marks
        The mark of each sink, by its name.
    joins, training
        The state of each shard, and of the training step.
    events, elapsed_s
        Events read and seconds taken so far.
    """

    block: int = 0
    states: dict[int, SourceState] = field(default_factory=dict)
    marks: dict[str, Mark] = field(default_factory=dict)
    joins: dict[int, ShardJoin] = field(default_factory=dict)
    training: TrainingState | None = None
    events: int = 0
    elapsed_s: float = 0.0


class Checkpointer:
    """Takes checkpoints of a run when they are due.

    Parameters
    ----------
    run
        The run.
    place
        Its folder.
    identity
        Identity of the run; one that resumes must have the same, see
        `headrace.pipelines.jobs.identity`.
    every_s
        Least number of seconds from one checkpoint to the next; 0 takes one at every offer.
    resumed
        Where the run began.
    kept
        How many checkpoints to keep.
    sign
        Signs them; None for no signature.
    """

    def __init__(
        self,
        run: Run,
        place: Place,
        identity: dict[str, Any],
        every_s: float,
        resumed: Resumed,
        kept: int = 1,
        sign: Sign | None = None,
    ) -> None:
        self.sign = sign
        self.run, self.place, self.every_s = run, place, every_s
        self.identity, self.kept = identity, kept
        self.last = resumed.block
        self.started = time.monotonic() - resumed.elapsed_s
        self.due = time.monotonic() + every_s
        self.taking = threading.Lock()
        self.closed = False

    def offer(self, block: int, states: Mapping[int, SourceState]) -> bool:
        """Take a checkpoint before block number `block`, if one is due; the run goes on."""
        if self.is_due(block):
            self.take(block, states)
        return True

    def is_due(self, block: int) -> bool:
        """Return whether a checkpoint before block number `block` is due."""
        return block != self.last and time.monotonic() >= self.due

    def take(self, block: int, states: Mapping[int, SourceState]) -> None:
        """Take a checkpoint before block number `block`."""
        self.last = block
        began = time.monotonic()
        with self.taking:
            if self.closed:
                return
            self._take(block, states)
        ended = time.monotonic()
        if self.every_s:
            self.due = ended + max(self.every_s, _SHARE * (ended - began))

    def _take(self, block: int, states: Mapping[int, SourceState]) -> None:
        folder = self.place.partial / _PARTIAL
        if folder.exists():
            shutil.rmtree(folder)
        with writing(folder):
            folder.mkdir()
            described = write_join(self.run, folder)
            write_training(self.run, folder)
            committed = self._write_sinks(folder)
            manifest = {
                "identity": self.identity,
                "block": block,
                "sources": {number: asdict(state) for number, state in states.items()},
                "join": described,
                "sinks": committed,
                "events": self.run.board.events,
                "elapsed_s": time.monotonic() - self.started,
                "files": {name: describe(path) for name, path in files_under(folder).items()},
            }
            write_signed(folder / MANIFEST, manifest, self.sign)
        flush_tree(folder)
        target = self.place.partial / f"{CHECKPOINT}{block:012d}"
        if target.exists():  # of a run that came as far, and was resumed from one before
            self.place.retire(target)
        with writing(folder):
            os.rename(folder, target)
        flush(self.place.partial)
        for path in sorted(self.place.partial.glob(f"{CHECKPOINT}*"))[: -self.kept]:
            self.place.retire(path)

    def _write_sinks(self, folder: Path) -> dict[str, Any]:
        committed = {}
        for name, sink in self.run.sinks.items():
            mark = sink.commit()
            committed[name] = mark.committed
            path, schema = folder / _file_of(name), mark.held.schema
            with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, schema) as writer:
                writer.write_table(mark.held)
        return committed

    def close(self) -> None:
        """Take no more checkpoints, and wait for one that is being taken."""
        with self.taking:
            self.closed = True


def _file_of(sink: str) -> str:
    return f"held-{sink.replace('/', '-')}.arrow"


def resume(
    folder: Path,
    place: Place,
    inputs: Inputs,
    identity: dict[str, Any],
    job: TrainJob,
    sinks: Collection[str],
    journals: Spill,
) -> Resumed:
    """Restore the state of a replay from a checkpoint, and remove outputs written after it.

    Parameters
    ----------
    folder
        The checkpoint.
    place, inputs, identity, job
        The run that resumes.
    sinks
        The names of its sinks.
    journals
        Its journals, still empty; they are filled.

    Raises
    ------
    ConfigError
        If the configuration or the log files differ from those of the checkpoint.
    CheckpointError
        If the checkpoint or an output that was finished before it is damaged.
    """
    saved = SavedRun(folder, _HINT, job.sign)
    with refusing(folder, _HINT):
        expect(
            set(saved.sinks) == set(sinks), "sinks", f"are others ({', '.join(saved.sinks)})"[:200]
        )
        check_identity(saved.identity, identity, inputs.config.file, _HINT)
    saved.check_files()
    finished = {
        f"{sink}/{part}": noted
        for sink, inventory in saved.sinks.items()
        for part, noted in inventory.items()
        if sink != LETTERS
    }
    letters = saved.sinks[LETTERS]
    for folder_of, noted in ((place.result, finished), (place.partial / LETTERS, letters)):
        for path in check_files(folder_of, noted, _HINT):
            path.unlink()
    resumed = saved.restore(inputs.join, job, journals)
    with refusing(folder, _HINT):
        joined = received([join.tally for join in resumed.joins.values()], inputs.join.stream_names)
        read = _records_read(inputs, resumed.states)
        expect(joined == read, "join", f"counts {joined} where {read} were read")
    return resumed


def _records_read(inputs: Inputs, states: Mapping[int, SourceState]) -> dict[str, int]:
    """Return how many records of each stream the join should have had."""
    past = inputs.past
    read = Counter({} if past is None else past.carried)
    for log in inputs.own_logs:
        if (state := states.get(log.number)) is not None:
            read[inputs.streams[log.stream].name] += state.records - state.rejected
    return {name: read[name] for name in inputs.join.stream_names}


@written
class _Manifest:
    identity: dict[Text, Any]
    block: Count
    sources: dict[Annotated[str, Field(pattern=r"^(0|[1-9]\d{0,8})$")], dict[Text, Any]]
    join: dict[Text, Any]
    sinks: dict[Text, dict[Text, Any]]
    events: Count
    elapsed_s: Sum
    files: dict[Text, dict[Text, Any]]


class SavedRun:
    """A checkpoint that is read.

    Parameters
    ----------
    folder
        The checkpoint.
    hint
        What to do if it cannot be used.
    sign
        What must have signed it; None for nothing.

    Raises
    ------
    CheckpointError
        If it is damaged.

    Attributes
    ----------
    identity
        The identity of the run that took it.
    states
        How far each source was read, by its number.
    sinks
        What each sink had committed, by its name.
    """

    def __init__(self, folder: Path, hint: str, sign: Sign | None = None) -> None:
        self.folder, self.hint = folder, hint
        self.manifest = manifest = read_manifest(folder, hint, sign)
        with refusing(folder, hint):
            checked(_Manifest, manifest, MANIFEST)
            self.identity: dict[str, Any] = manifest["identity"]
            self.sinks: dict[str, dict[str, Any]] = manifest["sinks"]
            self.states = {
                int(number): SourceState.restored(state)
                for number, state in manifest["sources"].items()
            }

    def check_files(self) -> None:
        """Refuse a checkpoint of which a file is damaged.

        Raises
        ------
        CheckpointError
            Which names it.
        """
        check_files(self.folder, self.manifest["files"], self.hint, MANIFEST)

    def restore(self, plan: JoinPlan, job: TrainJob, journals: Spill) -> Resumed:
        """Return the state; fill journals, which are empty.

        Raises
        ------
        CheckpointError
            If it is not what is written, although its checksums are right.
        """
        with refusing(self.folder, self.hint):
            return self._restored(plan, job, journals)

    def _restored(self, plan: JoinPlan, job: TrainJob, journals: Spill) -> Resumed:
        folder, manifest = self.folder, self.manifest
        expect(
            self.states.keys() <= set(range(plan.sources)), "sources", "are others than the logs"
        )
        marks = {
            sink: _read_mark(folder, sink, committed) for sink, committed in self.sinks.items()
        }
        for sink in {SAMPLES, CORRECTIONS, QUARANTINE} & marks.keys():
            expect_held_samples(marks[sink].held, plan)
        joins = read_joins(folder, manifest["join"], plan, journals)
        training = read_training(folder, plan, job)
        expect_whole(joins, training)
        for number, position in enumerate(joins[0].tally.position):
            state = self.states.get(number)
            read = plan.starts.get(number, 0) if state is None else state.position
            fact = f"was read up to {read}, and joined up to {position}"
            expect(position == read, f"source {number}", fact)
        return Resumed(
            manifest["block"], self.states, marks, joins, training,
            manifest["events"], manifest["elapsed_s"],
        )  # fmt: skip


def _read_mark(folder: Path, sink: str, committed: dict[str, Any]) -> Mark:
    name = _file_of(sink)
    with restoring(name), pa.OSFile(str(folder / name), "rb") as file:
        held = pa.ipc.open_stream(file).read_all()
        held.validate(full=True)
        return Mark(committed, held)
