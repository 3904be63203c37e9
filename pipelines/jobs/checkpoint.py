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
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from headrace.joiner.join import ShardJoin
from headrace.joiner.plan.plans import JoinPlan
from headrace.joiner.recovery import export_join, restore_join
from headrace.pipelines.beam.run import Run
from headrace.pipelines.run.disk import describe, files_under, flush, flush_tree, writing
from headrace.pipelines.run.place import CHECKPOINT, LETTERS, Place
from headrace.pipelines.run.signing import read_signed, write_signed
from headrace.pipelines.run.spill import Spill
from headrace.pipelines.sinks.sink import Mark
from headrace.pipelines.sources.inputs import Inputs
from headrace.pipelines.sources.source import SourceState
from headrace.pipelines.training.job import TrainJob
from headrace.pipelines.training.state import TrainingState
from headrace.schemas.config.durations import iso_moment
from headrace.schemas.errors import CheckpointError, ConfigError
from headrace.schemas.records.envelope import SampleEnvelope

_PARTIAL = "checkpoint.partial"
_MANIFEST = "manifest.json"
_PIECES = pa.schema(
    [("shard", pa.int32()), ("ring", pa.string()), ("cell", pa.int32()), ("data", pa.binary())]
)
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
    """

    def __init__(
        self,
        run: Run,
        place: Place,
        identity: dict[str, Any],
        every_s: float,
        resumed: Resumed,
        kept: int = 1,
    ) -> None:
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
            described = self._write_join(folder)
            self._write_training(folder)
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
            write_signed(folder / _MANIFEST, manifest)
        flush_tree(folder)
        target = self.place.partial / f"{CHECKPOINT}{block:012d}"
        if target.exists():  # of a run that came as far, and was resumed from one before
            self.place.retire(target)
        with writing(folder):
            os.rename(folder, target)
        flush(self.place.partial)
        for path in sorted(self.place.partial.glob(f"{CHECKPOINT}*"))[: -self.kept]:
            self.place.retire(path)

    def _write_join(self, folder: Path) -> dict[int, Any]:
        shards: dict[int, ShardJoin] = self.run.joins.values()
        described = {}
        with (
            pa.OSFile(str(folder / "join.arrow"), "wb") as file,
            pa.ipc.new_stream(file, _PIECES) as writer,
        ):
            for shard, join in shards.items():
                cells = self.run.journals.of(shard)

                def put(ring: str, cell: int, data: bytes, shard: int = shard) -> None:
                    row = [[shard], [ring], [cell], [data]]
                    writer.write_batch(pa.record_batch(row, schema=_PIECES))

                described[shard] = export_join(join, cells, put)
        return described

    def _write_training(self, folder: Path) -> None:
        training: dict[int, TrainingState] = self.run.training.values()
        for state in training.values():
            state.save(folder / "train")
            (folder / "unlearned").write_bytes(state.trainer.unlearned().encode())

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
    journals: Spill,
) -> Resumed:
    """Restore the state of a replay from a checkpoint, and remove outputs written after it.

    Parameters
    ----------
    folder
        The checkpoint.
    place, inputs, identity, job
        The run that resumes.
    journals
        Its journals, still empty; they are filled.

    Raises
    ------
    ConfigError
        If the configuration or the log files differ from those of the checkpoint.
    CheckpointError
        If the checkpoint or an output that was finished before it is damaged.
    """
    saved = SavedRun(folder, _HINT)
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
        for path in _check_files(folder_of, noted, _HINT):
            path.unlink()
    return saved.restore(inputs.join, job, journals)


class SavedRun:
    """A checkpoint that is read.

    Parameters
    ----------
    folder
        The checkpoint.
    hint
        What to do if it cannot be used.

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

    def __init__(self, folder: Path, hint: str) -> None:
        self.folder, self.hint = folder, hint
        self.manifest = manifest = _read_manifest(folder, hint)
        self.identity: dict[str, Any] = manifest["identity"]
        self.sinks: dict[str, dict[str, Any]] = manifest["sinks"]
        self.states = {
            int(number): SourceState(**state) for number, state in manifest["sources"].items()
        }

    def check_files(self) -> None:
        """Refuse a checkpoint of which a file is damaged.

        Raises
        ------
        CheckpointError
            Which names it.
        """
        _check_files(self.folder, self.manifest["files"], self.hint, _MANIFEST)

    def restore(self, plan: JoinPlan, job: TrainJob, journals: Spill) -> Resumed:
        """Return the state; fill journals, which are empty."""
        folder, manifest = self.folder, self.manifest
        return Resumed(
            manifest["block"],
            self.states,
            {sink: _read_mark(folder, sink, committed) for sink, committed in self.sinks.items()},
            _read_joins(folder, manifest["join"], plan, journals),
            _read_training(folder, job),
            manifest["events"],
            manifest["elapsed_s"],
        )


def _read_joins(
    folder: Path, described: dict[str, Any], plan: JoinPlan, journals: Spill
) -> dict[int, ShardJoin]:
    with pa.OSFile(str(folder / "join.arrow"), "rb") as file:
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


def _read_training(folder: Path, job: TrainJob) -> TrainingState | None:
    if not (folder / "train").exists():
        return None
    state = TrainingState(job)
    state.load(folder / "train", SampleEnvelope.decode((folder / "unlearned").read_bytes()))
    return state


def _read_mark(folder: Path, sink: str, committed: dict[str, Any]) -> Mark:
    with pa.OSFile(str(folder / _file_of(sink)), "rb") as file:
        return Mark(committed, pa.ipc.open_stream(file).read_all())


def _read_manifest(folder: Path, hint: str) -> dict[str, Any]:
    try:
        return read_signed(folder / _MANIFEST)
    except FileNotFoundError:
        raise CheckpointError(folder, f"is damaged ({_MANIFEST} is missing)", hint) from None
    except ValueError as error:
        raise CheckpointError(folder, f"is damaged ({_MANIFEST}: {error})", hint) from error


def _check_files(folder: Path, noted: dict[str, Any], hint: str, *beside: str) -> list[Path]:
    """Compare files with their entries; return the files without one, except those `beside`."""
    found = files_under(folder)
    for name, expected in noted.items():
        if name not in found:
            raise CheckpointError(folder / name, "is missing", hint)
        try:
            damaged = not describe(found[name]).items() <= expected.items()
        except OSError as error:
            fact = f"cannot be read ({error.strerror})"
            raise CheckpointError(found[name], fact, hint) from error
        if damaged:
            raise CheckpointError(found[name], "has changed since the checkpoint", hint)
    return [path for name, path in found.items() if name not in noted and name not in beside]


def check_identity(then: dict[str, Any], now: dict[str, Any], file: str, hint: str) -> None:
    """Compare the identity of a run with that of one that would go on from it.

    Raises
    ------
    ConfigError
        Which names `file`, and what has changed.
    """
    if then["layout"] != now["layout"]:
        fact = "the checkpoint was written by another version of Headrace"
        raise ConfigError(file, "", fact, hint=hint)
    for key, value in _differences(then["config"], now["config"]):
        if key == "guard.accept":
            value = [iso_moment(moment) for moment in value]
        raise ConfigError(file, key, "has changed since the checkpoint", value, hint)
    for path in [*now["files"], *then["files"]]:
        if then["files"].get(path) != now["files"].get(path):
            fact = f"{path} has changed since the checkpoint"
            raise ConfigError(file, "", fact, hint=hint)


def _differences(then: Any, now: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(then, dict) and isinstance(now, dict):
        for name in [*now, *(name for name in then if name not in now)]:
            yield from _differences(then.get(name), now.get(name), f"{key}.{name}".lstrip("."))
    elif then != now:
        yield key, now
