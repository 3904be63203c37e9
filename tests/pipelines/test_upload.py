"""Results in an object store: whole or not at all, wherever an upload ends."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import headrace
from headrace.pipelines.app.cli import main
from headrace.pipelines.run.disk import files_under
from headrace.pipelines.run.place import HOME, Place
from headrace.pipelines.run.publication import publish
from headrace.pipelines.run.remote import Address
from headrace.pipelines.run.seal import SEAL, verify
from headrace.pipelines.run.signing import signed
from headrace.pipelines.run.upload import upload
from tests.pipelines.outputs import contents
from tests.pipelines.rows import START as S
from tests.pipelines.store import KEY, SECRET
from tests.pipelines.test_publication import write_result

ROOT = Path(__file__).parents[2]
OLD = {"samples": 1, "dead_letters": 0, "joined/click": 1}
NEW = {"samples": 2, "dead_letters": 0}


def complete(folder, name, outputs):
    """Publish a small result in a folder."""
    place = Place(folder)
    place.stage()
    write_result(place, name, outputs)
    publish(place)
    return place


def objects(store, path="results/a b"):
    return store.tree(path)


@pytest.fixture
def target(store):
    return Address.parse(store.uri("results/a b"))


def local_copy(of, folder):
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(of.out, folder)
    (folder / HOME).mkdir(exist_ok=True)
    return Place(folder)


@pytest.mark.parametrize("every", [7, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("over", "status"),
    [
        ("nothing", 403),
        ("an older result", 403),
        ("an older result", -403),
        ("an upload that was cut short", 403),
    ],
    ids=["new", "over a result", "over a result, carried out but not answered", "continued"],
)
def test_an_upload_that_ends_at_any_request_is_finished_by_the_next(
    tmp_path, store, target, over, status, every
):
    """A reader finds a whole result or none at every moment, and the same one in the end."""
    new, old = complete(tmp_path / "new", "new", NEW), complete(tmp_path / "old", "old", OLD)
    expected = {name: path.read_bytes() for name, path in files_under(new.out).items()}
    for number in itertools.count(0, every):
        store.clear()
        if over != "nothing":
            upload(local_copy(old, tmp_path / "work"), target)
            store.put("results/a b/notes.txt", b"mine")
        if over == "an upload that was cut short":
            mark = signed({"files": sorted(store.tree("results/a b").keys() - {"notes.txt"})})
            store.put("results/a b/_uploading.json", mark.encode())
            store.filesystem.delete_file(f"results/a b/{SEAL}")
            store.filesystem.delete_file("results/a b/report.html")
        place = local_copy(new, tmp_path / "work")
        end = store.requests + number
        store.fault = lambda at, method, path, end=end: (
            None if at < end else status if at == end else 403
        )
        with contextlib.suppress(headrace.HeadraceError):
            upload(place, target)
        complete_at_once = store.requests <= end
        store.fault = lambda *_: None
        if SEAL in store.tree("results/a b"):
            assert verify(target).problems == []
        if not complete_at_once:
            upload(place, target)
        found = store.tree("results/a b")
        assert found.pop("notes.txt", None) == (None if over == "nothing" else b"mine")
        assert found == expected
        assert os.listdir(place.out) == [HOME]
        if complete_at_once:
            break
    assert number > 20


CONFIG = """
[impressions]
path = "{impressions}"
key = ["id"]
time = {{ column = "time", unit = "s" }}
[actions.click]
path = "clicks.csv"
key = ["id"]
time = {{ column = "time", unit = "s" }}
window = "10m"
[join]
end_of_log = "close"
joined = true
retention = "10m"
[learner]
label = "click"
bits = 10
features.categorical = ["site"]
"""


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    rows = "".join(f"k{row},{S + row},s{row % 3}\n" for row in range(200))
    (tmp_path / "imp.csv").write_text(f"id,time,site\n{rows}")
    rows = "".join(f"k{row},{S + row + 5}\n" for row in range(0, 200, 3))
    (tmp_path / "clicks.csv").write_text(f"id,time\n{rows}")
    (tmp_path / "join.toml").write_text(CONFIG.format(impressions="imp.csv"))
    return tmp_path / "join.toml"


def fetched(store, folder):
    for name, data in store.tree("results/a b").items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def test_a_result_elsewhere_is_that_of_a_run_on_this_machine(config, tmp_path, store, capsys):
    """Its datasets, models and summary are read from there; nothing is left on this machine."""
    here = headrace.replay(config, tmp_path / "here")
    uri = store.uri("results/a b", f"{KEY}:{SECRET}@")
    assert main(["replay", str(config), "--out", uri]) == 0
    assert main(["verify", uri]) == 0
    printed = capsys.readouterr()
    assert "s3://results/a b/report.html" in printed.out.replace("\n", "")
    assert re.search(r"\d files, \d+ rows: good\n", printed.out)
    assert SECRET not in printed.out + printed.err
    assert contents(fetched(store, tmp_path / "fetched")) == contents(tmp_path / "here")
    assert not list((tmp_path / "cache" / "headrace").iterdir())
    there = headrace.load_result(uri)
    assert str(there.out) == "s3://results/a b"
    assert SECRET not in repr(there)
    for name in ("samples", "dead_letters", "corrections"):
        assert getattr(there, name).to_table() == getattr(here, name).to_table()
    assert there.joined["click"].to_table() == here.joined["click"].to_table()
    table = here.samples.to_table()
    expected = headrace.load_model(here.models["click"]).predict_proba(table)
    for model in (there.models["click"], there.out, store.uri("results/a b/model")):
        assert (headrace.load_model(model).predict_proba(table) == expected).all()
    with pytest.raises(headrace.HeadraceError, match="s3://results/a b/samples: expected one"):
        headrace.load_model(store.uri("results/a b/samples"))


def test_a_result_replaces_an_older_one_and_a_failed_run_leaves_it(config, tmp_path, store, capsys):
    """The older one is whole until the new one is complete."""
    uri = store.uri("results/a b")
    headrace.replay(config, uri)
    before = store.tree("results/a b")
    imp = (tmp_path / "imp.csv").read_text()
    config.write_text(config.read_text().replace("joined = true", ""))
    (tmp_path / "imp.csv").write_text(imp.replace("k7,", "k7,x", 1).replace(",s", ",\n", 50))
    command = ["replay", str(config), "--out", uri, "--quiet"]
    (tmp_path / "clicks.csv").unlink()
    assert main(command) == 2
    assert store.tree("results/a b") == before
    (tmp_path / "clicks.csv").write_text("id,time\n")
    (tmp_path / "imp.csv").write_text(imp)
    assert main(command) == 0
    after = store.tree("results/a b")
    assert "joined/click/part-00000.parquet" in before
    assert not [name for name in after if name.startswith("joined")]
    assert headrace.verify(uri).problems == []
    assert headrace.load_result(uri).joined == {}


@pytest.mark.parametrize("option", [[], ["--resume"]])
def test_an_upload_that_was_killed_is_finished_without_another_run(
    config, tmp_path, store, option, capsys
):
    """By the same command, with or without ``--resume``."""
    uri = store.uri("results/a b")
    command = ["replay", str(config), "--out", uri, "--work", str(tmp_path / "work")]
    process = subprocess.Popen(
        [sys.executable, "-m", "headrace", *command], cwd=ROOT, stderr=subprocess.PIPE
    )
    writes = itertools.count()

    def fault(number, method, path):
        if method == "PUT" and next(writes) == 4:
            process.send_signal(signal.SIGKILL)
            return 503
        return None

    store.fault = fault
    _, said = process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL, said
    store.fault = lambda *_: None
    assert SEAL not in store.tree("results/a b")
    with pytest.raises(headrace.FolderError, match=r"s3://results/a b: has no seal\.json"):
        headrace.verify(uri)
    sealed = (tmp_path / "work" / SEAL).read_bytes()
    assert main([*command, *option]) == 0
    assert "the earlier run was complete; its upload is continued" in capsys.readouterr().err
    assert store.tree("results/a b")[SEAL] == sealed
    assert headrace.verify(uri).problems == []
    assert not list((tmp_path / "work").iterdir())


def test_a_failing_store_leaves_the_result_here(config, tmp_path, store, capsys):
    """One line says where, and the next run uploads it."""
    uri = store.uri("results/a b")
    command = ["replay", str(config), "--out", uri, "--work", str(tmp_path / "work"), "--quiet"]
    store.fault = lambda number, method, path: 403 if method == "PUT" and "model" in path else None
    assert main(command) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert re.search(
        r"s3://results/a b/model/.*: access is denied; the result is complete in ", said
    )
    store.fault = lambda number, method, path: None if number % 5 else 503
    assert main(command) == 0
    assert headrace.verify(uri).problems == []


def test_verify_finds_every_object_that_differs(config, store, capsys):
    """By size, by contents, by rows, missing, or a stranger."""
    uri = store.uri("results/a b")
    headrace.replay(config, uri)
    tree = store.tree("results/a b")
    report = tree["report.html"]
    store.put("results/a b/report.html", report[:-1] + b"?")
    store.put("results/a b/summary.json", b"{}")
    store.filesystem.delete_file("results/a b/dead_letters/part-00000.parquet")
    store.put("results/a b/samples/more.parquet", b"x")
    store.put("results/a b/samples/_SUCCESS", b"")
    assert main(["verify", uri]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "s3://results/a b: dead_letters/part-00000.parquet is missing",
        "s3://results/a b: report.html has other contents than when it was sealed",
        "s3://results/a b: summary.json has another size (sealed with "
        f"{len(tree['summary.json']):,} bytes, got 2)",
        "s3://results/a b: samples/more.parquet is not of this result",
    ]
    store.put("results/a b/seal.json", tree["seal.json"].replace(b"1", b"2", 1))
    assert main(["verify", uri]) == 1
    assert "seal.json is damaged" in capsys.readouterr().out
    for place, said in (
        ("results/none", "has no seal.json"),
        ("none/x", "there is no such bucket"),
    ):
        assert main(["verify", store.uri(place)]) == 2
        assert f"s3://{place}: {said}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("out", "said"),
    [
        ("s3://nobucket/x", "s3://nobucket/x: there is no such bucket; check its name"),
        ("ftp://host/x", "ftp://host/x: has an unknown scheme; use a path, or one of s3://"),
        ("hdfs://host/x", "hdfs://host/x: needs Java and Hadoop's libhdfs"),
        ("s3://results/full", "holds files that are not Headrace's (mine.txt)"),
        ("s3://logs", "s3://logs: holds an input of the replay (s3://logs/imp.csv)"),
    ],
)
def test_a_place_that_cannot_be_written_to_is_refused_before_the_run(
    config, tmp_path, store, out, said, capsys
):
    """In one line; nothing is written there or here."""
    store.put("results/full/mine.txt", b"")
    store.put("logs/imp.csv", (tmp_path / "imp.csv").read_bytes())
    if out == "s3://logs":
        config.write_text(CONFIG.format(impressions=f"s3://logs/imp.csv{store.query}"))
    query = store.query if out.startswith("s3") else ""
    assert main(["replay", str(config), "--out", out + query]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert store.tree("results").keys() == {"full/mine.txt"}
    assert not (tmp_path / "cache").exists()


def test_a_folder_to_work_in_is_for_results_elsewhere(config, tmp_path, capsys):
    """It is not silently left unused."""
    command = ["replay", str(config), "--out", str(tmp_path / "o"), "--work", str(tmp_path / "w")]
    assert main(command) == 2
    assert "w: is not used, since the result is written to this machine" in capsys.readouterr().err


def test_windows_and_generated_logs_can_be_written_elsewhere(tmp_path, store, capsys):
    """A generated configuration names its files by URI."""
    uri = store.uri("logs/new", f"{KEY}:{SECRET}@")
    generate = ["generate", "--out", uri, "--impressions", "2000", "--rate", "1"]
    assert main(generate) == 0
    assert "next: fetch s3://logs/new/headrace.toml, then" in capsys.readouterr().out
    tree = store.tree("logs/new")
    assert tree.keys() == {"clicks.parquet", "headrace.toml", "impressions.parquet", "truth.json"}
    assert SECRET.encode() not in b"".join(tree.values())
    (tmp_path / "headrace.toml").write_bytes(tree["headrace.toml"])
    out = ["--out", store.uri("results/w")]
    assert main(["windows", str(tmp_path / "headrace.toml"), *out]) == 0
    assert store.tree("results/w").keys() == {"windows.html", "windows.json"}
    assert "page      s3://results/w/windows.html" in capsys.readouterr().out
    store.put("results/w/x", b"")
    assert main([*generate[:2], store.uri("results/w"), *generate[3:]]) == 2
    assert "s3://results/w: holds files, but no log of `headrace generate`" in (
        capsys.readouterr().err
    )
