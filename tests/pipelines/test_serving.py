"""A scorer predicts with the newest good snapshot while others are written."""

from __future__ import annotations

import os
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from random import Random

import numpy as np
import pyarrow as pa
import pytest

import headrace
from headrace.learners.features import FeatureEncoder, Features
from headrace.learners.models.ftrl import FtrlModel, FtrlParameters
from headrace.learners.snapshot import save_snapshot
from headrace.pipelines.app.cli import main
from headrace.pipelines.jobs import stream
from headrace.pipelines.jobs.livecheckpoints import Models
from headrace.schemas.errors import SnapshotError
from tests.pipelines.direct import run_directly
from tests.pipelines.growing import run_stream
from tests.pipelines.test_stream import written

ROWS = pa.table({"site": ["a", "b", "c", "d"] * 50})
ABOUT = {
    "learner": "click",
    "config": {
        "learners": {"click": {"label": "click", "features": {"categorical": ["site"]}}},
        "sampling": {},
        "impressions": {"key": ["id"], "time": {"column": "time", "unit": "us"}},
    },
    "columns": {"site": "string"},
}


def publish(folder, number, alpha=0.1):
    """Write the snapshot of a learner that has learned so many rows, of which all are positive."""
    learner = FtrlModel(FtrlParameters(alpha=alpha), 10)
    batch = ROWS.slice(0, 4).to_batches()[0]
    rows = FeatureEncoder(Features(("site",)), 10).encode(batch)
    order = np.zeros(number, np.int64)
    learner.learn(rows, order, np.ones(number), np.ones(number), np.zeros(number))
    name = f"snapshot-{number:015d}"
    save_snapshot(folder / name, "ftrl", learner, ABOUT)
    return name


def predictions(folder):
    """Return what each snapshot predicts, by name."""
    return {path.name: headrace.load_model(path).predict_proba(ROWS)
            for path in folder.glob("snapshot-*")}  # fmt: skip


def test_a_scorer_changes_to_the_newest_snapshot(tmp_path):
    """At its construction and at each refresh, not in between; older ones do not come back."""
    folder = tmp_path / "live" / "model" / "click"
    publish(folder, 1)
    second = publish(folder, 20)
    scorer = headrace.Scorer(tmp_path / "live")
    assert (scorer.snapshot, scorer.refresh()) == (second, False)
    before = scorer.current
    third = publish(folder, 300)
    publish(folder, 3)
    assert scorer.current is before
    assert scorer.refresh()
    assert (scorer.snapshot, scorer.model.manifest["sha256"]) == (
        third, headrace.load_model(folder / third).manifest["sha256"],
    )  # fmt: skip
    np.testing.assert_array_equal(scorer.predict_proba(ROWS), predictions(folder)[third])
    np.testing.assert_array_equal(before.model.predict_proba(ROWS), predictions(folder)[second])


def test_a_snapshot_that_was_written_anew_under_its_name_is_another(tmp_path):
    """Such as by a replay with another rate."""
    publish(tmp_path, 20)
    scorer = headrace.Scorer(tmp_path)
    p = scorer.predict_proba(ROWS)
    publish(tmp_path, 20, alpha=0.5)
    assert scorer.refresh()
    assert not scorer.refresh()
    assert (scorer.predict_proba(ROWS) != p).any()


@pytest.mark.parametrize("damage", ["cut", "flipped", "no arrays", "no manifest", "empty", "list"])
def test_a_damaged_snapshot_is_passed_over_and_named(tmp_path, damage):
    """The model before goes on, until the snapshot is whole."""
    first = publish(tmp_path, 5)
    scorer = headrace.Scorer(tmp_path)
    newest = publish(tmp_path, 50)
    shutil.copytree(tmp_path / newest, tmp_path / "whole")
    arrays, manifest = (tmp_path / newest / name for name in ("arrays.arrow", "manifest.json"))
    content = bytearray(arrays.read_bytes())
    if damage == "cut":
        arrays.write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        content[len(content) // 2] ^= 1
        arrays.write_bytes(content)
    elif damage == "list":
        manifest.write_text("[]")
    for path, gone in ((arrays, "no arrays"), (manifest, "no manifest")):
        if damage in (gone, "empty"):
            path.unlink()
    publish(tmp_path / "other", 1)
    shutil.move(tmp_path / "other" / "snapshot-000000000000001", tmp_path / "snapshot-4.partial")
    (tmp_path / "other").rmdir()
    assert not scorer.refresh()
    assert (scorer.snapshot, list(scorer.skipped)) == (first, [newest])
    assert scorer.skipped[newest].startswith(f"{tmp_path / newest}: ")
    shutil.rmtree(tmp_path / newest)
    shutil.move(tmp_path / "whole", tmp_path / newest)
    assert scorer.refresh()
    assert (scorer.snapshot, scorer.skipped) == (newest, {})


def test_a_folder_without_a_model_or_with_several_is_refused(tmp_path):
    """With what is there."""
    with pytest.raises(SnapshotError, match=r"expected a good snapshot \(got none"):
        headrace.Scorer(tmp_path)
    name = publish(tmp_path / "model" / "click", 1)
    publish(tmp_path / "model" / "buy", 1)
    with pytest.raises(SnapshotError, match=r"of one learner \(got model/buy, model/click"):
        headrace.Scorer(tmp_path)
    assert headrace.Scorer(tmp_path / "model" / "click" / name).snapshot == name
    (tmp_path / "model" / "buy" / name / "manifest.json").write_text("{")
    with pytest.raises(SnapshotError, match=f"got {name}: .*holds no readable manifest"):
        headrace.Scorer(tmp_path / "model" / "buy")


def test_no_call_mixes_two_models(tmp_path):
    """Threads predict while snapshots come, are damaged and are removed as a live run does it.

    Every result is that of one of the snapshots, and that of the snapshot that is named.
    """
    numbers = [2 * number for number in range(1, 25)]
    for number in numbers:
        publish(tmp_path / "all", number)
    known = predictions(tmp_path / "all")
    folder = tmp_path / "model"
    shutil.copytree(tmp_path / "all" / f"snapshot-{numbers[0]:015d}",
                    folder / f"snapshot-{numbers[0]:015d}")  # fmt: skip
    done, seen = threading.Event(), set()

    def predict(scorer):
        calls = 0
        while not done.is_set() or not calls:
            current = scorer.current
            found = current.model.predict_proba(ROWS)
            np.testing.assert_array_equal(found, known[current.snapshot])
            whole = scorer.predict_proba(ROWS)
            assert any((whole == p).all() for p in known.values())
            seen.add(current.snapshot)
            calls += 1
        return calls

    with headrace.Scorer(folder, refresh_s=0.001) as scorer, ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(predict, scorer) for _ in range(4)]
        try:
            for at, number in enumerate(numbers[1:], start=1):
                name = f"snapshot-{number:015d}"
                shutil.copytree(tmp_path / "all" / name, folder / f"{name}.partial")
                if at % 3 == 0:
                    (folder / f"{name}.partial" / "arrays.arrow").write_bytes(b"broken")
                (folder / f"{name}.partial").rename(folder / name)
                for old in sorted(folder.glob("snapshot-*[0-9]"))[:-3]:
                    hidden = old.rename(old.with_name(f".{old.name}"))
                    shutil.rmtree(hidden)
                assert scorer.refresh() in (True, False)
        finally:
            done.set()
        assert all(call.result() for call in calls)
        assert scorer.snapshot == name
        assert scorer.failure is None
    good = {f"snapshot-{number:015d}" for at, number in enumerate(numbers) if at % 3 or not at}
    assert seen <= good


def test_the_thread_takes_what_comes_and_survives_what_fails(tmp_path):
    """It says why a refresh failed, and ends with the block."""
    folder = tmp_path / "model"
    publish(folder / "click", 1)
    with headrace.Scorer(folder, refresh_s=0.001) as scorer:
        name = publish(folder / "click", 7)
        waited = threading.Event()
        while scorer.snapshot != name:
            waited.wait(0.001)
        publish(folder / "buy", 1)
        while scorer.failure is None:
            waited.wait(0.001)
        assert "of one learner" in scorer.failure
        assert scorer.predict_proba(ROWS).shape == (ROWS.num_rows,)
        shutil.rmtree(folder / "buy")
        while scorer.failure is not None:
            waited.wait(0.001)
    alive = {thread.name for thread in threading.enumerate()}
    assert "headrace-scorer" not in alive
    assert scorer.predict_proba(ROWS).shape == (ROWS.num_rows,)


def uploaded(store, folder, name, files=("arrays.arrow", "manifest.json")):
    for file in files:
        with store.filesystem.open_output_stream(f"results/live/model/click/{name}/{file}") as out:
            out.write((folder / name / file).read_bytes())


def test_a_scorer_of_a_store_takes_what_is_complete_there(tmp_path, store):
    """What is not goes on as it was, also while the store does not answer."""
    first, second = publish(tmp_path, 1), publish(tmp_path, 20)
    uploaded(store, tmp_path, first)
    place = store.uri("results/live/model/click")
    scorer = headrace.Scorer(place)
    uploaded(store, tmp_path, second, ["arrays.arrow"])
    assert not scorer.refresh()
    assert (scorer.snapshot, list(scorer.skipped)) == (first, [second])
    uploaded(store, tmp_path, second)
    assert scorer.refresh()
    assert (scorer.snapshot, scorer.skipped) == (second, {})
    assert not scorer.refresh()
    known = predictions(tmp_path)
    store.fault = lambda number, method, path: 403
    with pytest.raises(headrace.FolderError, match="access is denied"):
        scorer.refresh()
    np.testing.assert_array_equal(scorer.predict_proba(ROWS), known[second])


def test_scores_may_lie_in_a_store(tmp_path, store):
    """Model, rows and scores; a file that is there already is not replaced."""
    name = publish(tmp_path, 20)
    uploaded(store, tmp_path, name)
    with store.filesystem.open_output_stream("results/rows.jsonl") as out:
        out.write(b"".join(b'{"site": "%s"}\n' % site for site in (b"a", b"z")))
    out = store.uri("results/scores.csv")
    command = ["score", store.uri("results/live"), store.uri("results/rows.jsonl"), "--out", out]
    assert main(command) == 0
    with store.filesystem.open_input_stream("results/scores.csv") as stream:
        lines = stream.read().decode().splitlines()
    p = predictions(tmp_path)[name]
    assert lines[0] == '"site","p","margin","uncertainty"'
    assert lines[1].startswith(f'"a",{p[0]!r},'.replace("np.float64(", "").replace(")", ""))
    assert main(command) == 2


def test_a_scorer_follows_a_live_run(tmp_path, monkeypatch):
    """It has each model as soon as the run has written it, and the last one in the end."""
    random = Random(16)
    config = written(tmp_path, random)
    monkeypatch.setattr(stream, "run_graph", run_directly)
    name = next(iter(config.named_learners))
    folder, seen = tmp_path / "out" / "model" / name, []
    write = Models.write

    def followed(models, state):
        write(models, state)
        if not seen:
            seen.append((headrace.Scorer(folder), []))
        scorer, snapshots = seen[0]
        scorer.refresh()
        assert scorer.skipped == {}
        newest = max(folder.glob("snapshot-*"))
        loaded = headrace.load_model(newest)
        assert scorer.snapshot == newest.name
        assert scorer.model.manifest["sha256"] == loaded.manifest["sha256"]
        snapshots.append(scorer.snapshot)

    monkeypatch.setattr(Models, "write", followed)
    run_stream(config, tmp_path / "out", threading.Event(), random, ())
    scorer, snapshots = seen[0]
    assert len(set(snapshots)) > 1  # how many there are depends on how long bundles take
    assert snapshots == sorted(snapshots)
    scorer.refresh()  # the last one is written at the end
    assert scorer.snapshot == max(folder.glob("snapshot-*")).name


def test_what_vanishes_while_a_folder_is_listed_is_no_failure(tmp_path, monkeypatch):
    """Such as snapshots that a run removes; what may not be read is one."""
    name = publish(tmp_path, 3)
    scorer = headrace.Scorer(tmp_path)
    newest = publish(tmp_path, 9)
    listed = os.listdir

    def vanishing(folder):
        if folder != tmp_path:
            raise FileNotFoundError(2, "gone")
        return [*listed(folder), "snapshot-000000000000099", ".snapshot-000000000000001"]

    monkeypatch.setattr(os, "listdir", vanishing)
    assert scorer.refresh()
    assert (scorer.snapshot, scorer.skipped) == (newest, {})

    def denied(folder):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "listdir", denied)
    with pytest.raises(SnapshotError, match=r"cannot be read \(Permission denied\)"):
        scorer.refresh()
    assert scorer.snapshot != name
