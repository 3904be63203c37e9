"""Checkpoints of a replay: everything that it takes to go on after a crash.

The in-process runner keeps no state, so a replay writes its own from time to
time, between two bundles: how far every source was read, the state of every
shard and of the trainer, and the rows that outputs hold back for their next
file. A checkpoint is written aside, flushed to disk, and renamed; the one
before it is deleted after that. Outputs that were finished since are removed on
resuming and come again, byte for byte: they are a function of the log.

The state itself is kept, and not only the place in the log from which it could
be read again, because no finite place would do: whether an impression is a
duplicate depends on the one before it that was kept, that one on the one
before, and so on.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from joiner.join import ShardJoin
from joiner.recovery import LAYOUT_VERSION, export_join, restore_join
from pipelines import runtime
from pipelines.durable import CACHE, INITIAL
from pipelines.inputs import Inputs
from pipelines.merge import ReaderState
from pipelines.sinks import Sink
from pipelines.spill import FileJournal
from pipelines.training import TrainingState, TrainJob
from schemas.envelope import SampleEnvelope
from schemas.errors import ConfigError

_PREFIX = "checkpoint-"
_ASIDE = "checkpoint.partial"
_MANIFEST = "manifest.json"
_PIECES = pa.schema(
    [("shard", pa.int32()), ("ring", pa.string()), ("cell", pa.int32()), ("data", pa.binary())]
)
_SHARE = 20
"""A replay spends at most about one part in so many on checkpoints."""


def latest_checkpoint(staging: Path) -> Path | None:
    """Return the newest complete checkpoint of an unfinished replay."""
    found = sorted(staging.glob(f"{_PREFIX}*"))
    return found[-1] if found else None


def _identity(inputs: Inputs) -> dict[str, Any]:
    """Return what must be equal for a replay to go on from a checkpoint."""
    config = inputs.config.model_dump(mode="json")
    config["replay"].pop("checkpoint")
    files = {}
    for source in inputs.sources:
        stat = Path(source.path).stat()
        files[source.path] = [stat.st_size, stat.st_mtime_ns]
    return {"layout": LAYOUT_VERSION, "config": config, "files": files}


@dataclass(frozen=True)
class Resumed:
    """Where a replay goes on.

    Parameters
    ----------
    block
        Number of the next block to read.
    readers
        How far each source was read, by its number.
    sinks
        Per folder of outputs, the number of finished files and the rows held back.
    events, elapsed_s
        Events and seconds so far.
    """

    block: int
    readers: dict[int, ReaderState]
    sinks: dict[str, tuple[int, pa.Table | None]] | None
    events: int
    elapsed_s: float


class Checkpointer:
    """Takes checkpoints of a run when they are due.

    Parameters
    ----------
    name, run, inputs
        The run.
    every_s
        Seconds from one to the next, at least; 0 takes one at every chance.
    resumed
        Where the run began.
    """

    def __init__(
        self, name: str, run: runtime.Run, inputs: Inputs, every_s: float, resumed: Resumed
    ) -> None:
        self.name, self.run, self.inputs, self.every_s = name, run, inputs, every_s
        self.last = resumed.block
        self.started = time.monotonic() - resumed.elapsed_s
        self.due = time.monotonic() + every_s

    def offer(self, block: int, readers: dict[int, ReaderState]) -> None:
        """Take a checkpoint before block number `block`, if one is due."""
        if block == self.last or time.monotonic() < self.due:
            return
        self.last = block
        began = time.monotonic()
        self._take(block, readers)
        ended = time.monotonic()
        if self.every_s:
            self.due = ended + max(self.every_s, _SHARE * (ended - began))

    def _take(self, block: int, readers: dict[int, ReaderState]) -> None:
        aside = self.run.staging / _ASIDE
        if aside.exists():
            shutil.rmtree(aside)
        aside.mkdir()
        described = self._write_join(aside)
        self._write_training(aside)
        sinks = self._write_sinks(aside)
        manifest = {
            "identity": _identity(self.inputs),
            "block": block,
            "readers": {number: asdict(state) for number, state in readers.items()},
            "join": described,
            "sinks": sinks,
            "events": self.run.board.events,
            "elapsed_s": time.monotonic() - self.started,
        }
        (aside / _MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
        for path in aside.rglob("*"):
            _flush(path)
        _flush(aside)
        older = list(self.run.staging.glob(f"{_PREFIX}*"))
        os.replace(aside, self.run.staging / f"{_PREFIX}{block:012d}")
        _flush(self.run.staging)
        for path in older:
            shutil.rmtree(path)

    def _write_join(self, folder: Path) -> dict[int, Any]:
        shards: dict[int, ShardJoin] = CACHE.values(f"{self.name}/join")
        described = {}
        with (
            pa.OSFile(str(folder / "join.arrow"), "wb") as file,
            pa.ipc.new_stream(file, _PIECES) as writer,
        ):
            for shard, join in shards.items():
                journal = self.run.resources["spill"].of(shard)
                described[shard], pieces = export_join(join, journal)
                for ring, cell, data in pieces:
                    row = [[shard], [ring], [cell], [data]]
                    writer.write_batch(pa.record_batch(row, schema=_PIECES))
        return described

    def _write_training(self, folder: Path) -> None:
        training: dict[int, TrainingState] = CACHE.values(f"{self.name}/train")
        for state in training.values():
            state.save(folder / "train")
            (folder / "unlearned").write_bytes(state.trainer.unlearned().encode())

    def _write_sinks(self, folder: Path) -> dict[str, int]:
        finished = {}
        for name, sink in self._sinks():
            finished[name], held = sink.pause()
            path = folder / _file_of(name)
            with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, held.schema) as writer:
                writer.write_table(held)
        return finished

    def _sinks(self) -> Iterator[tuple[str, Sink]]:
        for name, resource in self.run.resources.items():
            if isinstance(resource, Sink):
                yield name, resource

    def close(self) -> None:
        """Nothing is open."""


def _file_of(sink: str) -> str:
    return f"held-{sink.replace('/', '-')}.arrow"


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def resume(folder: Path, name: str, run: runtime.Run, inputs: Inputs, job: TrainJob) -> Resumed:
    """Set up the state of a run as a checkpoint has it.

    Parameters
    ----------
    folder
        The checkpoint.
    name, run, inputs, job
        The run, with its resource ``spill`` open.

    Raises
    ------
    ConfigError
        If the configuration or the files are not those of the checkpoint.
    """
    manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
    _check_identity(manifest["identity"], _identity(inputs), inputs.file)
    with pa.OSFile(str(folder / "join.arrow"), "rb") as file:
        for batch in pa.ipc.open_stream(file):
            (piece,) = batch.to_pylist()
            run.resources["spill"].of(piece["shard"]).append(
                piece["ring"], piece["cell"], piece["data"]
            )
    for shard, described in manifest["join"].items():
        journal: FileJournal = run.resources["spill"].of(int(shard))
        cache = run.resources["spill"].cache_bytes
        join = restore_join(inputs.join, int(shard), described, journal, cache)
        join.queue.warm(journal)
        CACHE.put(f"{name}/join", int(shard), INITIAL, join)
    if (folder / "train").exists():
        state = TrainingState(job)
        unlearned = SampleEnvelope.decode((folder / "unlearned").read_bytes())
        state.load(folder / "train", unlearned)
        CACHE.put(f"{name}/train", 0, INITIAL, state)
    sinks = {}
    for sink, files in manifest["sinks"].items():
        path = folder / _file_of(sink)
        with pa.OSFile(str(path), "rb") as file:
            held = pa.ipc.open_stream(file).read_all()
        sinks[sink] = (files, held if held.num_rows else None)
    return Resumed(
        manifest["block"],
        {int(number): ReaderState(**state) for number, state in manifest["readers"].items()},
        sinks,
        manifest["events"],
        manifest["elapsed_s"],
    )


def _check_identity(then: dict[str, Any], now: dict[str, Any], file: str) -> None:
    hint = "run without --resume to start over"
    if then["layout"] != now["layout"]:
        raise ConfigError(file, "", "the checkpoint is of another version of Headrace", hint=hint)
    for key, value in _differences(then["config"], now["config"]):
        fact = "is not what it was when the checkpoint was taken"
        raise ConfigError(file, key, fact, value, hint)
    for path in [*now["files"], *then["files"]]:
        if then["files"].get(path) != now["files"].get(path):
            raise ConfigError(file, "", f"{path} has changed since the checkpoint", hint=hint)


def _differences(then: Any, now: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(then, dict) and isinstance(now, dict):
        for name in [*now, *(name for name in then if name not in now)]:
            yield from _differences(then.get(name), now.get(name), f"{key}.{name}".lstrip("."))
    elif then != now:
        yield key, now
