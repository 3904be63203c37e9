"""Checkpoints of a replay: everything that it takes to go on after a crash.

The in-process runner keeps no state, so a replay writes its own from time to
time, between two bundles: how far every source was read, the state of every
shard and of the trainer, and the rows that outputs hold back for their next
file. A checkpoint is written aside, flushed to disk, and renamed; the one
before it loses its name after that, and is deleted. Outputs that were finished
since are removed on resuming and come again, byte for byte: they are a function
of the log.

Its manifest has a checksum of itself, of every file beside it, and of every output
that was finished by then. If one of them is another, the checkpoint is refused:
there is no older one to fall back on, and starting over is always right.

The state itself is kept, and not only the place in the log from which it could
be read again, because no finite place would do: whether an impression is a
duplicate depends on the one before it that was kept, that one on the one
before, and so on.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from headrace.joiner.join import ShardJoin
from headrace.joiner.recovery import export_join, restore_join
from headrace.pipelines.beam.durable import CACHE, INITIAL
from headrace.pipelines.beam.training import TrainingState, TrainJob
from headrace.pipelines.run import runtime
from headrace.pipelines.run.disk import describe, files_under, flush, flush_tree, writing
from headrace.pipelines.run.place import CHECKPOINT, LETTERS, Place
from headrace.pipelines.run.signing import read_signed, write_signed
from headrace.pipelines.run.spill import FileCells
from headrace.pipelines.sinks.parquet import Paused, Sink
from headrace.pipelines.sources.inputs import Inputs
from headrace.pipelines.sources.sourcereader import ReaderState
from headrace.schemas.errors import CheckpointError, ConfigError
from headrace.schemas.records.envelope import SampleEnvelope

_ASIDE = "checkpoint.partial"
_MANIFEST = "manifest.json"
_PIECES = pa.schema(
    [("shard", pa.int32()), ("ring", pa.string()), ("cell", pa.int32()), ("data", pa.binary())]
)
_HINT = "run without --resume to start over"
_SHARE = 20
"""A replay spends at most about one part in so many on checkpoints."""


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
        What the outputs had finished and held back; None of a run that begins.
    events, elapsed_s
        Events and seconds so far.
    """

    block: int
    readers: dict[int, ReaderState]
    sinks: Paused | None
    events: int
    elapsed_s: float


class Checkpointer:
    """Takes checkpoints of a run when they are due.

    Parameters
    ----------
    name, run
        The run.
    place
        Its folder.
    identity
        What a run must have that goes on from here, see `headrace.pipelines.jobs.identity`.
    every_s
        Seconds from one to the next, at least; 0 takes one at every chance.
    resumed
        Where the run began.
    """

    def __init__(
        self,
        name: str,
        run: runtime.Run,
        place: Place,
        identity: dict[str, Any],
        every_s: float,
        resumed: Resumed,
    ) -> None:
        self.name, self.run, self.place, self.every_s = name, run, place, every_s
        self.identity = identity
        self.last = resumed.block
        self.started = time.monotonic() - resumed.elapsed_s
        self.due = time.monotonic() + every_s
        self.taking = threading.Lock()
        self.closed = False

    def offer(self, block: int, readers: dict[int, ReaderState]) -> None:
        """Take a checkpoint before block number `block`, if one is due."""
        if block == self.last or time.monotonic() < self.due:
            return
        self.last = block
        began = time.monotonic()
        with self.taking:
            if self.closed:
                return
            self._take(block, readers)
        ended = time.monotonic()
        if self.every_s:
            self.due = ended + max(self.every_s, _SHARE * (ended - began))

    def _take(self, block: int, readers: dict[int, ReaderState]) -> None:
        aside = self.place.partial / _ASIDE
        if aside.exists():
            shutil.rmtree(aside)
        with writing(aside):
            aside.mkdir()
            described = self._write_join(aside)
            self._write_training(aside)
            ledgers = self._write_sinks(aside)
            manifest = {
                "identity": self.identity,
                "block": block,
                "readers": {number: asdict(state) for number, state in readers.items()},
                "join": described,
                "sinks": ledgers,
                "events": self.run.board.events,
                "elapsed_s": time.monotonic() - self.started,
                "files": {name: describe(path) for name, path in files_under(aside).items()},
            }
            write_signed(aside / _MANIFEST, manifest)
        flush_tree(aside)
        # The checkpoint counts on finished files, so their names must be on disk before it.
        for _, sink in self._sinks():
            flush(sink.files.folder)
        older = list(self.place.partial.glob(f"{CHECKPOINT}*"))
        with writing(aside):
            os.rename(aside, self.place.partial / f"{CHECKPOINT}{block:012d}")
        flush(self.place.partial)
        for path in older:
            self.place.retire(path)

    def _write_join(self, folder: Path) -> dict[int, Any]:
        shards: dict[int, ShardJoin] = CACHE.values(f"{self.name}/join")
        described = {}
        with (
            pa.OSFile(str(folder / "join.arrow"), "wb") as file,
            pa.ipc.new_stream(file, _PIECES) as writer,
        ):
            for shard, join in shards.items():
                cells = self.run.resources["spill"].of(shard)

                def put(ring: str, cell: int, data: bytes, shard: int = shard) -> None:
                    row = [[shard], [ring], [cell], [data]]
                    writer.write_batch(pa.record_batch(row, schema=_PIECES))

                described[shard] = export_join(join, cells, put)
        return described

    def _write_training(self, folder: Path) -> None:
        training: dict[int, TrainingState] = CACHE.values(f"{self.name}/train")
        for state in training.values():
            state.save(folder / "train")
            (folder / "unlearned").write_bytes(state.trainer.unlearned().encode())

    def _write_sinks(self, folder: Path) -> dict[str, Any]:
        ledgers = {}
        for name, sink in self._sinks():
            ledgers[name], held = sink.pause()
            path = folder / _file_of(name)
            with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, held.schema) as writer:
                writer.write_table(held)
        return ledgers

    def _sinks(self) -> Iterator[tuple[str, Sink]]:
        for name, resource in self.run.resources.items():
            if isinstance(resource, Sink):
                yield name, resource

    def close(self) -> None:
        """Take no further one, and wait for one that is being taken."""
        with self.taking:
            self.closed = True


def _file_of(sink: str) -> str:
    return f"held-{sink.replace('/', '-')}.arrow"


def resume(
    folder: Path,
    name: str,
    run: runtime.Run,
    inputs: Inputs,
    identity: dict[str, Any],
    job: TrainJob,
) -> Resumed:
    """Set up the state of a run as a checkpoint has it, and remove outputs from after it.

    Parameters
    ----------
    folder
        The checkpoint.
    name, run, inputs, identity, job
        The run, with its resource ``spill`` open.

    Raises
    ------
    ConfigError
        If the configuration or the files are not those of the checkpoint.
    CheckpointError
        If the checkpoint is damaged, or an output that was finished before it.
    """
    manifest = _read_manifest(folder)
    _check_identity(manifest["identity"], identity, inputs.file)
    _check_files(folder, manifest["files"], _MANIFEST)
    finished = {
        f"{sink}/{part}": noted
        for sink, ledger in manifest["sinks"].items()
        for part, noted in ledger.items()
        if sink != LETTERS
    }
    letters = manifest["sinks"][LETTERS]
    for folder_of, noted in ((run.result, finished), (run.staging / LETTERS, letters)):
        for path in _check_files(folder_of, noted):
            path.unlink()
    with pa.OSFile(str(folder / "join.arrow"), "rb") as file:
        for batch in pa.ipc.open_stream(file):
            (piece,) = batch.to_pylist()
            run.resources["spill"].of(piece["shard"]).append(
                piece["ring"], piece["cell"], piece["data"]
            )
    for shard, described in manifest["join"].items():
        cells: FileCells = run.resources["spill"].of(int(shard))
        cache = run.resources["spill"].cache_bytes
        join = restore_join(inputs.join, int(shard), described, cells, cache)
        join.warm(cells)
        CACHE.put(f"{name}/join", int(shard), INITIAL, join)
    if (folder / "train").exists():
        state = TrainingState(job)
        unlearned = SampleEnvelope.decode((folder / "unlearned").read_bytes())
        state.load(folder / "train", unlearned)
        CACHE.put(f"{name}/train", 0, INITIAL, state)
    sinks: Paused = {}
    for sink, ledger in manifest["sinks"].items():
        path = folder / _file_of(sink)
        with pa.OSFile(str(path), "rb") as file:
            held = pa.ipc.open_stream(file).read_all()
        sinks[sink] = (ledger, held if held.num_rows else None)
    return Resumed(
        manifest["block"],
        {int(number): ReaderState(**state) for number, state in manifest["readers"].items()},
        sinks,
        manifest["events"],
        manifest["elapsed_s"],
    )


def _read_manifest(folder: Path) -> dict[str, Any]:
    try:
        return read_signed(folder / _MANIFEST)
    except FileNotFoundError:
        raise CheckpointError(folder, f"is damaged ({_MANIFEST} is missing)", _HINT) from None
    except ValueError as error:
        raise CheckpointError(folder, f"is damaged ({_MANIFEST}: {error})", _HINT) from error


def _check_files(folder: Path, noted: dict[str, Any], *beside: str) -> list[Path]:
    """Compare files with what was noted of them; return others, but for those `beside`."""
    found = files_under(folder)
    for name, expected in noted.items():
        if name not in found:
            raise CheckpointError(folder / name, "is missing", _HINT)
        try:
            damaged = not describe(found[name]).items() <= expected.items()
        except OSError as error:
            fact = f"cannot be read ({error.strerror})"
            raise CheckpointError(found[name], fact, _HINT) from error
        if damaged:
            raise CheckpointError(found[name], "is not what the checkpoint noted of it", _HINT)
    return [path for name, path in found.items() if name not in noted and name not in beside]


def _check_identity(then: dict[str, Any], now: dict[str, Any], file: str) -> None:
    if then["layout"] != now["layout"]:
        raise ConfigError(file, "", "the checkpoint is of another version of Headrace", hint=_HINT)
    for key, value in _differences(then["config"], now["config"]):
        fact = "is not what it was when the checkpoint was taken"
        raise ConfigError(file, key, fact, value, _HINT)
    for path in [*now["files"], *then["files"]]:
        if then["files"].get(path) != now["files"].get(path):
            raise ConfigError(file, "", f"{path} has changed since the checkpoint", hint=_HINT)


def _differences(then: Any, now: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(then, dict) and isinstance(now, dict):
        for name in [*now, *(name for name in then if name not in now)]:
            yield from _differences(then.get(name), now.get(name), f"{key}.{name}".lstrip("."))
    elif then != now:
        yield key, now
