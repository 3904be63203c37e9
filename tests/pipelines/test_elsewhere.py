"""A checkpoint, a kept state or a snapshot from somebody else cannot attack its reader.

Whoever writes one can write its checksums. So folders are changed in every way that comes to mind,
with checksums that are right: each is used as it is, or is refused in one line.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from headrace.learners.exact import ExactTable
from headrace.learners.models.ftrl import FtrlModel, FtrlParameters
from headrace.learners.registry import ALGORITHMS
from headrace.learners.shrinking import small
from headrace.learners.snapshot import load_snapshot, save_snapshot
from headrace.pipelines.app.cli import main
from headrace.pipelines.jobs import replay, stream
from headrace.pipelines.jobs.generate import Traffic, write_traffic
from headrace.pipelines.jobs.identity import layout
from headrace.pipelines.jobs.prediction import load_model
from headrace.pipelines.run.signing import write_signed
from headrace.pipelines.run.spill import FileCells
from headrace.schemas.errors import CheckpointError, EnvelopeError, SnapshotError
from headrace.schemas.records.envelope import EventEnvelope
from headrace.schemas.records.signatures import Signer
from tests.learners.test_ftrl import samples
from tests.pipelines.direct import run_directly

ROOT = Path(__file__).parents[2]
ATTACKER = "tests.pipelines.attacks.attacker"


def attacker(*arguments):
    return subprocess.run(
        [sys.executable, "-m", ATTACKER, *map(str, arguments)], cwd=ROOT, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True,
    )  # fmt: skip


def write_snapshots(folder):
    """Write one of each algorithm, with a table of either kind, and small ones."""
    rows, label = samples(200, 4, 120, seed=1)
    for name, algorithm in ALGORITHMS.items():
        for kind, table in (("hashed", None), ("exact", ExactTable(admit=2, expire=10**6))):
            learner = algorithm.make(algorithm.parameters(), 7, table)
            learner.learn(rows, np.arange(200), label, np.ones(200), np.zeros(200))
            save_snapshot(folder / f"{name}-{kind}", name, learner, {"samples": 200})
            if name != "ffm":
                save_snapshot(folder / f"{name}-{kind}-small", name, small(learner), {})


TABLES = """
[join]
shards = 2
joined = true
emission = "elapsed"
retention = "5m"
"""
LEARNERS = """
[learners.second]
label = "click"
bits = 8
features.categorical = ["os"]
[learners.third]
like = "second"
table = "exact"
admit = 2
features.categorical = ["ad", "site"]
[replay]
batch_rows = 60
checkpoint = "0s"
"""


def write_config(folder):
    write_traffic(Traffic(impressions=400, rate=0.5, seed=3, click_rate=0.2), folder)
    text = (folder / "headrace.toml").read_text()
    text = text.replace("bits = 20", "bits = 7").replace("[learner", "[learners.first")
    text = text.replace("[join]\n", TABLES.strip() + "\n") + LEARNERS
    (folder / "headrace.toml").write_text(text)
    text = text.replace('end_of_log = "close"', 'end_of_log = "open"')
    text = text.replace(".parquet", "*.parquet").replace('checkpoint = "0s"', "state = true")
    (folder / "day.toml").write_text(text)


def write_more(folder):
    """Write a second file of each stream: the same a day later, by other keys."""
    for name in ("impressions", "clicks"):
        table = pq.read_table(folder / f"{name}.parquet")
        at = table.schema.names.index("time")
        time = pc.add(table.column("time").cast(pa.int64()), 3_600_000_000)
        table = table.set_column(at, "time", time.cast(table.schema.field("time").type))
        at = table.schema.names.index("request_id")
        key = pc.binary_join_element_wise(table.column("request_id"), "b", "-")
        pq.write_table(table.set_column(at, "request_id", key), folder / f"{name}-2.parquet")


def write_envelopes(folder, checkpoint):
    """Write some of the envelopes that a checkpoint has, each to a file."""
    folder.mkdir()
    pieces = pa.ipc.open_stream((checkpoint / "join.arrow").read_bytes()).read_all()
    found = [data for data in pieces.column("data").to_pylist() if EventEnvelope.recognizes(data)]
    for number, data in enumerate([*found[:8], (checkpoint / "unlearned").read_bytes()]):
        (folder / str(number)).write_bytes(data)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A checkpoint, a kept state, snapshots and envelopes, all whole."""
    folder = tmp_path_factory.mktemp("elsewhere")
    prepare(folder)
    return folder


def prepare(folder):
    log, options = folder / "log", ("--quiet", "--allow-invalid")
    write_config(log)
    done = attacker("prepare", "replay", log / "headrace.toml", "--out", folder / "out", *options)
    assert done.returncode == 9, done.stderr
    done = attacker("prepare", "replay", log / "day.toml", "--out", folder / "day", *options)
    assert done.returncode == 0, done.stderr
    write_more(log)
    (point,) = (folder / "out/.headrace/partial").glob("checkpoint-*")
    write_envelopes(folder / "envelopes", point)
    write_snapshots(folder / "snapshots")
    (folder / "scratch").mkdir()


def outside(folder):
    """Return what is beside the folders of runs, by path: what no case may change."""
    kept = (path for path in folder.rglob("*") if path.is_file() and "scratch" not in path.parts)
    return {path: path.read_bytes() for path in kept}


def play(folder, numbers):
    """Play cases in a process of their own; it must come to its end, and leave all as it was."""
    before = outside(folder)
    done = attacker(folder, *numbers)
    last = done.stdout.splitlines()[-1:]
    assert done.returncode == 0, (done.returncode, last, done.stderr[-3000:])
    said = {tuple(line.partition(":")[0].split()[1:]) for line in done.stdout.splitlines()}
    kinds = ("snapshot", "envelope", "checkpoint", "state")
    assert said == {(kind, how) for kind in kinds for how in ("used", "refused")}
    assert outside(folder) == before
    assert not list((folder / "scratch").iterdir())
    assert not Path("/tmp/headrace-evil").exists()


ONCE_HARMFUL = 3370, 3856, 4234, 5525, 8777
"""Cases that ended in another error: nulls in samples that are held, no files in an identity,
counts that do not agree, half of a character."""


def test_what_somebody_else_wrote_is_used_or_refused_in_one_line(folder):
    """Some hundred folders and envelopes with other contents and checksums that are right."""
    play(folder, [*range(180), *ONCE_HARMFUL])


@pytest.mark.slow
def test_ten_thousand_folders_of_somebody_else_do_no_harm(folder):
    """The same, for longer."""
    for first in range(180, 10_180, 500):
        play(folder, range(first, first + 500))


def test_a_piece_of_a_journal_makes_no_file_outside(tmp_path):
    """Names of rings and numbers of cells are parts of a path: only those that there are."""
    cells = FileCells(tmp_path / "cells")
    for ring, cell in (("../../evil", 0), ("/tmp/evil", 1), ("keys", 6), ("keys", -1), ("", 0)):
        with pytest.raises(ValueError, match="there is no cell"):
            cells.append(ring, cell, b"data")
    assert not list(tmp_path.rglob("*"))


def test_a_snapshot_of_another_size_is_not_taken_for_that_of_a_learner(tmp_path):
    """Kernels do not look whether an index is within the table for which rows were encoded."""
    few, many = (FtrlModel(FtrlParameters(), bits) for bits in (4, 10))
    save_snapshot(tmp_path / "s", "ftrl", few, {})
    assert load_snapshot(tmp_path / "s", like=few)[0].bits == 4
    with pytest.raises(SnapshotError, match=r"expected bits = 10 \(got 4\)"):
        load_snapshot(tmp_path / "s", like=many)


def test_an_envelope_whose_offsets_lie_is_refused():
    """They would be followed to wherever they point."""
    batch = pa.record_batch({"text": ["a text of a length"]})
    data = EventEnvelope(0, 0, 1, 0, 1, 0, 0, batch).encode()
    true, lie = (np.array([0, end], np.int32).tobytes() for end in (18, 2**30))
    assert EventEnvelope.decode(data).batch == batch
    # The last of such bytes are the offsets; those before them are of the description.
    head, _, rest = data.rpartition(true)
    with pytest.raises(EnvelopeError, match="an Arrow stream is damaged"):
        EventEnvelope.decode(head + lie + rest)


KEY = "a secret that nobody knows"


def test_a_signed_snapshot_is_that_of_who_has_the_key(tmp_path):
    """With a key, models without a signature or with another one are refused; without, none is."""
    model = FtrlModel(FtrlParameters(), 4)
    save_snapshot(tmp_path / "plain", "ftrl", model, {"samples": 1})
    save_snapshot(tmp_path / "ours", "ftrl", model, {"samples": 1}, sign=Signer(KEY.encode()))
    sign = Signer(KEY.encode())
    assert load_snapshot(tmp_path / "ours", sign=sign)[1]["samples"] == 1
    load_snapshot(tmp_path / "ours")
    with pytest.raises(SnapshotError, match="it is not signed"):
        load_snapshot(tmp_path / "plain", sign=sign)
    with pytest.raises(SnapshotError, match=r"with another key; set state\.key as it was"):
        load_snapshot(tmp_path / "ours", sign=Signer(b"another secret of that kind"))
    path = tmp_path / "ours/manifest.json"
    path.write_text(path.read_text().replace('"samples": 1', '"samples": 2'))
    load_snapshot(tmp_path / "ours")
    with pytest.raises(SnapshotError, match="it is signed with another key"):
        load_snapshot(tmp_path / "ours", sign=sign)


def test_a_run_with_a_key_goes_on_only_from_what_is_signed_with_it(tmp_path, monkeypatch, capsys):
    """A kept state and a model of a run with the key, without one, and with another one."""
    monkeypatch.setattr(replay, "run_graph", run_directly)
    monkeypatch.setattr(replay, "render_report", lambda *arguments: "")
    write_config(tmp_path)
    config, text = tmp_path / "day.toml", (tmp_path / "day.toml").read_text()

    def run(out, *options, key=""):
        config.write_text(text + (key and f'[state]\nkey = {{ env = "{key}" }}\n'))
        return main(["replay", str(config), "--out", str(tmp_path / out), "--quiet",
                     "--allow-invalid", *options])  # fmt: skip

    monkeypatch.setenv("OURS", KEY)
    monkeypatch.setenv("OTHER", KEY[::-1])
    assert run("plain") == run("ours", key="OURS") == 0
    write_more(tmp_path)
    past = "--continue", str(tmp_path / "ours")
    assert run("next", *past, key="OURS") == 0
    capsys.readouterr()
    for key, out, why, hint in (
        ("OURS", "plain", "it is not signed, and state.key is set", "unset state.key if you"),
        ("OTHER", "ours", "it is signed with another key", "set state.key as it was when"),
    ):
        assert run("no", "--continue", str(tmp_path / out), key=key) == 2
        said = capsys.readouterr().err
        assert f"cannot be trusted (manifest.json: {why}); {hint}" in said
        assert said.count("\n") == 1
    assert run("unsigned", *past) == 0
    model = tmp_path / "ours/model/first"
    assert load_model(model, key=KEY).name == "first"
    with pytest.raises(SnapshotError, match="another key"):
        load_model(model, key=KEY[::-1])
    written = b"".join(path.read_bytes() for path in (tmp_path / "ours").rglob("*.json"))
    assert KEY.encode() not in written
    monkeypatch.setenv("OURS", "short")
    assert run("short", key="OURS") == 2
    assert "state.key: is shorter than 16 characters" in capsys.readouterr().err


@pytest.mark.parametrize("kept", [{}, {"identity": {}}, {"identity": {"layout": None}}])
def test_where_a_live_run_began_is_read_or_refused_in_one_line(tmp_path, kept):
    """Also if what stands there has another form, under a checksum that is right."""
    place = SimpleNamespace(partial=tmp_path)
    write_signed(tmp_path / stream.BEGUN, {"run": "a", "starts": [0], **kept})
    identity = {"layout": layout(), "config": {}, "files": {}}
    with pytest.raises(CheckpointError, match="is damaged"):
        stream._begun(place, identity, None, "live.toml")
