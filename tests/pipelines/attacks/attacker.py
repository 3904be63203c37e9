"""``python -m tests.pipelines.attacks.attacker FOLDER FIRST COUNT``: readers of changed folders.

FOLDER has what `prepare` has made; the cases ``[FIRST, FIRST + COUNT)`` are played in one process,
each announced before it is: a process that dies says at which. A case is well if nothing happens,
or if there is one error of ours, in one line.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import shutil
import sys
import tempfile
from pathlib import Path
from random import Random

from headrace.pipelines.app.commands import quiet_beam

quiet_beam()

import numpy as np  # noqa: E402
import pyarrow as pa  # noqa: E402

from headrace.learners import snapshot  # noqa: E402
from headrace.learners.features import FeatureRows  # noqa: E402
from headrace.learners.models.small import SmallModel  # noqa: E402
from headrace.pipelines.app.cli import main  # noqa: E402
from headrace.pipelines.beam import reading  # noqa: E402
from headrace.pipelines.jobs import checkpoint, prediction, replay  # noqa: E402
from headrace.pipelines.run.disk import describe, files_under  # noqa: E402
from headrace.pipelines.run.manifest import MANIFEST  # noqa: E402
from headrace.pipelines.run.signing import read_signed, write_signed  # noqa: E402
from headrace.schemas.errors import EnvelopeError, HeadraceError, SnapshotError  # noqa: E402
from headrace.schemas.records.envelope import EventEnvelope, SampleEnvelope  # noqa: E402
from tests.pipelines.attacks import mutations  # noqa: E402
from tests.pipelines.direct import run_directly  # noqa: E402

MOST_MEMORY = 12 << 30
KINDS = ("snapshot", "snapshot", "snapshot", "envelope", "checkpoint", "state")


class RefusedError(HeadraceError):
    """What the command line says when it refuses."""


def change_snapshot(folder, random):
    """Change a snapshot, and write the checksum that it should have."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    if random.random() < 0.5:
        manifest = mutations.mutated_json(manifest, random)
    else:
        data = (folder / "arrays.arrow").read_bytes()
        (folder / "arrays.arrow").write_bytes(changed_arrays(data, random))
    with contextlib.suppress(Exception):
        what = {name: manifest.get(name) for name in ("algorithm", "version", "bits", "parameters")}
        for name in ("table", "small", "calibration", "theta"):
            if name in manifest:
                what[name] = manifest[name]
        manifest["sha256"] = snapshot._digest(what, snapshot._read_arrays(folder))
    path.write_text(json.dumps(manifest))


def changed_arrays(data, random):
    """Return the arrays of a snapshot with one that is shorter, of another type, or other."""
    if random.random() < 0.3:
        return mutations.mutated_bytes(data, random)
    (row,) = [pa.ipc.open_file(data).get_batch(0)]
    columns = {name: row.column(name).values.to_numpy().copy() for name in row.schema.names}
    name = random.choice(list(columns))
    array = columns[name]
    match random.randrange(6):
        case 0:
            del columns[name]
        case 1:
            columns[name] = array[: random.randrange(array.size + 1)]
        case 2:
            kind = random.choice([np.float32, np.int64, np.uint32, np.float64, np.bool_, np.uint8])
            columns[name] = array.astype(kind)
        case 3:
            columns[name] = np.concatenate([array, array])
        case _ if array.size:
            values = [0, 1, 2**31 - 1, 2**32 - 1, -1, 1e38]
            with np.errstate(all="ignore"):
                array[random.randrange(array.size) :] = np.array(random.choice(values)).astype(
                    array.dtype
                )
    whole = pa.record_batch({of: snapshot._as_row(array) for of, array in columns.items()})
    return mutations.written([whole], stream=False)


def play_snapshot(folder, random):
    """Load it; what can be loaded predicts and learns rows of any features that it may have."""
    learner, _ = snapshot.load_snapshot(folder)
    with contextlib.suppress(SnapshotError):
        prediction.load_model(folder)
    rng = np.random.default_rng(random.randrange(2**32))
    kind = np.uint64 if learner.bits == 64 else np.uint32
    indices = rng.integers(0, 2**learner.bits, 300, kind, endpoint=False)
    rows = FeatureRows(np.arange(0, 301, 3), indices, np.empty(0, np.float32))
    learner.predict(rows)
    if not isinstance(learner, SmallModel):
        one = np.ones(100)
        learner.learn(rows, np.arange(100), one * rng.integers(0, 2, 100), one, 0 * one)


def play_envelope(folder, random):
    """Decode an envelope of a journal that was changed."""
    data = random.choice(sorted(folder.iterdir())).read_bytes()
    kind = EventEnvelope if EventEnvelope.recognizes(data) else SampleEnvelope
    found = kind.decode(mutations.mutated_envelope(data, random))
    for batch in [found.batch] if kind is EventEnvelope else found.batches:
        str(batch.to_pylist() if batch is not None else "")


def change_state(folder, random):
    """Change a file of a checkpoint or a state, and write all checksums anew."""
    manifest = read_signed(folder / MANIFEST)
    names = [name for name in files_under(folder) if name != MANIFEST]
    name = random.choice(
        [MANIFEST, MANIFEST, "join.arrow", "join.arrow", "train/state.json", *names]
    )
    path = folder / name
    if name == MANIFEST:
        manifest = mutations.mutated_json(manifest, random)
    elif name.endswith("state.json"):
        changed = mutations.mutated_json(json.loads(path.read_text()), random)
        path.write_text(json.dumps(changed))
    elif name.endswith(("manifest.json", "arrays.arrow")):
        change_snapshot(path.parent, random)
    elif path.name == "join.arrow":
        path.write_bytes(mutations.mutated_pieces(path.read_bytes(), random))
    elif path.name == "unlearned":
        path.write_bytes(mutations.mutated_envelope(path.read_bytes(), random))
    else:
        path.write_bytes(mutations.mutated_arrow(path.read_bytes(), random))
    with contextlib.suppress(KeyError, TypeError, AttributeError):
        for of in list(manifest["files"]):
            if of in files_under(folder):
                manifest["files"][of] = {**manifest["files"][of], **describe(folder / of)}
    write_signed(folder / MANIFEST, manifest)


def play_run(config, *options):
    """Run the command line; return what it says if it says anything but one line."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        code = main(["replay", str(config), "--quiet", "--allow-invalid", *map(str, options)])
    text = said.getvalue()
    if code in (0, 3):
        return
    assert code in (1, 2), code
    assert text.startswith("headrace: "), text
    assert text.count("\n") == 1, text
    raise RefusedError(text)


def play(kind, folder, scratch, random):
    """Play one case."""
    config = folder / "log" / "headrace.toml"
    if kind == "snapshot":
        chosen = random.choice(sorted((folder / "snapshots").iterdir()))
        shutil.copytree(chosen, scratch / "s")
        change_snapshot(scratch / "s", random)
        play_snapshot(scratch / "s", random)
    elif kind == "envelope":
        play_envelope(folder / "envelopes", random)
    elif kind == "checkpoint":
        shutil.copytree(folder / "out", scratch / "out")
        (point,) = (scratch / "out/.headrace/partial").glob("checkpoint-*")
        change_state(point, random)
        play_run(config, "--out", scratch / "out", "--resume")
    else:
        shutil.copytree(folder / "day/state", scratch / "past/state")
        change_state(scratch / "past/state", random)
        play_run(folder / "log/day.toml", "--out", scratch / "next", "--continue", scratch / "past")


def run_alone():
    """Replay without Beam, and without drawing, for which a limit of memory is too low."""
    replay.run_graph = run_directly
    reading._BUNDLE_BLOCKS = 6
    replay.render_report = lambda *arguments: ""


def attack(folder, numbers):
    """Play cases; raise at the first that is not well."""
    run_alone()
    for number in numbers:
        kind, random = KINDS[number % len(KINDS)], Random(f"headrace {number}")
        print(number, kind, end=" ", flush=True)
        with tempfile.TemporaryDirectory(dir=folder / "scratch") as scratch:
            try:
                play(kind, folder, Path(scratch), random)
                print("used", flush=True)
            except (RefusedError, SnapshotError, EnvelopeError) as error:
                print("refused:", ascii(str(error))[:300], flush=True)


def take_only_some(number):
    """Let a replay end with its so many-th checkpoint."""
    take, taken = checkpoint.Checkpointer._take, []

    def counted(self, *arguments):
        take(self, *arguments)
        taken.append(1)
        if len(taken) == number:
            os._exit(9)

    checkpoint.Checkpointer._take = counted


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    if sys.argv[1] == "prepare":
        run_alone()
        take_only_some(2)
        sys.exit(main(sys.argv[2:]))
    attack(Path(sys.argv[1]), map(int, sys.argv[2:]))
