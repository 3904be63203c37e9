"""The gate between a new model and the one that serves, and going back."""

from __future__ import annotations

import json
import shutil

import pyarrow as pa
import pytest

import headrace
from headrace.learners.snapshot import load_snapshot
from headrace.pipelines.app.cli import main
from headrace.schemas.errors import SnapshotError
from tests.pipelines.test_start import configure, log, replay

__all__ = ["log"]

GATE = """
[publish]
positives = 20
entropy = 0.05
calibration = 0.5
auc = 0.05

[monitor]
served_share = 1
window = "10m"
"""
STRICT = GATE.replace("0.05", "0").replace("0.5", "0")


def gated(log, tmp_path, gate, features='["site", "os"]', table="", options=("--quiet",)):
    """Replay the second day beside the first one's model; return the code and the learner."""
    replay(log, tmp_path / "one", "one")
    start = f"start = '{tmp_path / 'one' / 'model'}'\n{table}"
    config = configure(log, "gated", "two", features, start)
    with (log / "gated.toml").open("a") as file:
        file.write(gate)
    out = tmp_path / "out"
    code = main(["replay", config, "--out", str(out), *options])
    return code, json.loads((out / "summary.json").read_text())["learners"]["click"]


def test_a_model_that_is_no_worse_is_published(log, tmp_path):
    """Its manifest and the summary have the figures that decided."""
    code, learner = gated(log, tmp_path, GATE)
    assert code == 0
    gate = learner["gate"]
    assert gate["accepted"]
    assert gate["reasons"] == []
    assert gate["positives"] >= 20
    assert gate["serving"]["log_loss"] > 0
    folder = tmp_path / "out" / learner["model"]["path"]
    assert folder.name.startswith("snapshot-")
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["gate"]["candidate"] == gate["candidate"]
    headrace.load_model(tmp_path / "out" / "model")


@pytest.mark.parametrize("options", [(), ("--quiet",)])
def test_a_model_that_is_worse_is_kept_and_named(log, tmp_path, capsys, options):
    """Not where a server looks; the run says so, and exits with 3."""
    broken, out = '["site", "os", "id"]', tmp_path / "out"
    code, learner = gated(log, tmp_path, STRICT, broken, "weight = 'id'", options)
    assert code == 3
    printed = capsys.readouterr()
    assert not learner["gate"]["accepted"]
    said = " ".join((printed.out + printed.err).split())
    assert "its model is not published" in said
    assert learner["gate"]["reasons"][0].split(" (")[0] in said
    folder = out / learner["model"]["path"]
    assert folder.name.startswith("refused-")
    load_snapshot(folder)
    with pytest.raises(SnapshotError, match="refused or withdrawn"):
        headrace.load_model(out / "model")
    headrace.load_model(folder)


def test_without_a_model_that_serves_nothing_is_judged(log, tmp_path):
    """The first model of all is published."""
    config = configure(log, "first", "one")
    with (log / "first.toml").open("a") as file:
        file.write(GATE)
    assert main(["replay", config, "--out", str(tmp_path / "out"), "--quiet"]) == 0
    learner = json.loads((tmp_path / "out" / "summary.json").read_text())["learners"]["click"]
    assert learner["gate"] is None
    assert "snapshot-" in learner["model"]["path"]


@pytest.fixture
def live(log, tmp_path):
    """A folder of three snapshots, as a run that goes on has it."""
    replay(log, tmp_path / "one", "one")
    (snapshot,) = (tmp_path / "one" / "model" / "click").iterdir()
    folder = tmp_path / "live" / "model" / "click"
    for number in (1, 2, 3):
        shutil.copytree(snapshot, folder / f"snapshot-{number:015d}")
    shutil.copy(tmp_path / "one" / "model" / "models.json", folder.parent)
    return folder


def test_a_rollback_withdraws_the_newest(live, capsys):
    """Scorers go back with it, and so does the file that says which belong together."""
    scorer = headrace.Scorer(live)
    assert scorer.snapshot == "snapshot-000000000000003"
    assert main(["rollback", str(live)]) == 0
    assert "snapshot-000000000000002 is the newest" in capsys.readouterr().out
    assert scorer.refresh()
    assert scorer.snapshot == "snapshot-000000000000002"
    together = json.loads((live.parent / "models.json").read_text())
    assert together["learners"]["click"]["path"] == "click/snapshot-000000000000002"
    assert (live / "withdrawn-000000000000003").is_dir()
    scorer.predict_proba(pa.table({"site": [1], "os": [1]}))
    assert main(["rollback", str(live), "--to", "snapshot-000000000000001"]) == 0
    assert main(["rollback", str(live)]) == 1
    assert "expected a snapshot to go back to" in capsys.readouterr().err


def test_a_rollback_to_what_is_not_there_or_damaged_changes_nothing(live, capsys):
    assert main(["rollback", str(live), "--to", "snapshot-9"]) == 1
    assert "has no snapshot snapshot-9" in capsys.readouterr().err
    (live / "snapshot-000000000000002" / "arrays.arrow").write_bytes(b"damaged")
    assert main(["rollback", str(live)]) == 1
    assert len(list(live.glob("snapshot-*"))) == 3
