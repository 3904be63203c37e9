"""The folder of a replay: one run at a time, and only files of Headrace are ever changed."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import pyarrow.parquet as pq
import pytest

from headrace.pipelines.app.cli import main
from headrace.pipelines.run.disk import files_under
from headrace.pipelines.run.locking import held
from headrace.pipelines.run.place import Place
from headrace.pipelines.run.seal import verify
from headrace.schemas.errors import FolderError
from tests.pipelines.forked import Forked

ROOT = Path(__file__).parents[2]


def run(config, out, *options):
    return main(["replay", str(config), "--out", str(out), "--quiet", *options])


def one_line(capsys):
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    return error


def tree(folder):
    return {name: path.read_bytes() for name, path in files_under(folder).items()}


@pytest.fixture(scope="module")
def sealed(log, tmp_path_factory):
    """A result, with its configuration."""
    out = tmp_path_factory.mktemp("sealed") / "out"
    assert run(log / "headrace.toml", out) == 0
    return out


@pytest.fixture
def out(sealed, tmp_path):
    """A copy of the result."""
    shutil.copytree(sealed, tmp_path / "out")
    return tmp_path / "out"


def start(config, out, *options):
    return Forked("headrace", "replay", str(config), "--out", str(out), "--quiet", *options)


# The seal, and the command that compares files with it.


def test_a_result_is_sealed_and_verified(out, capsys):
    """The seal lists every file, with the rows of all Parquet files."""
    seal = json.loads((out / "seal.json").read_text())
    assert sorted(seal["files"]) == [name for name in tree(out) if name != "seal.json"]
    rows = sum(pq.read_metadata(path).num_rows for path in out.rglob("*.parquet"))
    assert main(["verify", str(out)]) == 0
    assert capsys.readouterr().out == f"{len(seal['files'])} files, {rows:,} rows: good\n"


def remove(path):
    path.unlink()


def truncate(path):
    os.truncate(path, path.stat().st_size - 1)


def flip(path):
    data = bytearray(path.read_bytes())
    # A digit, so that what is JSON stays JSON, and one within a number or checksum.
    middle = range(len(data) // 2, len(data))
    at = next(i for i in middle if chr(data[i]).isdigit() and chr(data[i - 1]).isalnum())
    data[at] ^= 1
    path.write_bytes(data)


def add(path):
    shutil.copy(path, path.with_name("part-99999.parquet"))


@pytest.mark.parametrize(
    ("change", "name", "said"),
    [
        (remove, "samples/part-00000.parquet", "samples/part-00000.parquet is missing"),
        (truncate, "report.html", "report.html has another size (sealed with"),
        (flip, "dead_letters/part-00000.parquet",
         "dead_letters/part-00000.parquet has other contents than when it was sealed"),
        (flip, "summary.json", "summary.json has other contents than when it was sealed"),
        (add, "samples/part-00000.parquet", "samples/part-99999.parquet is not of this result"),
        (flip, "seal.json", "seal.json is damaged (its checksum does not match)"),
    ],
    ids=["removed samples", "a truncated report", "changed dead letters", "a changed summary",
         "an added file", "a changed seal"],
)  # fmt: skip
def test_verify_names_each_file_that_was_changed(out, capsys, change, name, said):
    """Exit code 1 and a line for each file that is not as it was sealed."""
    change(out / name)
    assert main(["verify", str(out)]) == 1
    printed = capsys.readouterr().out
    assert printed.startswith(f"{out}: {said}")
    assert printed.count("\n") == 1


def test_verify_refuses_a_folder_that_is_not_a_result(tmp_path, capsys):
    """Exit code 2 for a folder without a seal, and for a folder that does not exist."""
    assert main(["verify", str(tmp_path)]) == 2
    assert "has no seal.json; replay again: the folder is not the result" in one_line(capsys)
    assert main(["verify", str(tmp_path / "nothing")]) == 2
    assert "is not a folder" in one_line(capsys)


@pytest.mark.parametrize("change", [remove, truncate, flip])
@pytest.mark.parametrize("before_what", ["read_back", "render_report"])
def test_an_output_that_is_changed_before_publication_stops_it(
    log, sealed, tmp_path, capsys, monkeypatch, change, before_what
):
    """Exit code 1, and the older result stays: only what was written is published."""
    from headrace.pipelines.jobs import replay as module

    shutil.copytree(sealed, tmp_path / "out")
    before = tree(tmp_path / "out")
    whole = getattr(module, before_what)

    def changed(*arguments):
        change(tmp_path / "out/.headrace/partial/result/samples/part-00000.parquet")
        return whole(*arguments)

    monkeypatch.setattr(module, before_what, changed)
    assert run(log / "headrace.toml", tmp_path / "out") == 1
    assert "part-00000.parquet" in (said := one_line(capsys))
    assert "so nothing is published" in said
    assert tree(tmp_path / "out") == before


# Folders with other files.


def test_a_folder_with_other_files_is_refused_and_unchanged(log, tmp_path, capsys):
    """In a project that has its own `model`, nothing is written or deleted."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "net.py").write_text("mine")
    (tmp_path / "samples").mkdir()
    (tmp_path / "samples" / "day.parquet").write_text("a log")
    before = tree(tmp_path)
    assert run(log / "headrace.toml", tmp_path) == 2
    assert one_line(capsys) == (
        f"headrace: {tmp_path}: holds files that are not Headrace's (model, samples); "
        "choose another folder, or a new one\n"
    )
    assert tree(tmp_path) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "samples"]


def test_exactly_the_files_of_the_older_result_are_replaced(log, out, tmp_path):
    """Joined actions are removed with the result that had them; other files stay."""
    config = log / "joined.toml"
    text = (log / "headrace.toml").read_text()
    config.write_text(text.replace("[join]\n", '[join]\njoined = true\nretention = "30m"\n'))
    (out / "notes").mkdir()
    (out / "notes" / "notes.txt").write_text("mine")
    before = tree(out)
    try:
        assert run(config, out) == 0
    finally:
        config.unlink()
    assert (out / "joined" / "click").exists()
    assert (out / "corrections").exists()
    assert run(log / "headrace.toml", out) == 0
    assert set(tree(out)) == set(before)
    assert not (out / "joined").exists()
    assert (out / "notes" / "notes.txt").read_text() == "mine"
    assert verify(out).problems == []


@pytest.mark.parametrize("name", ["samples/extra.parquet", "joined/mine.txt", "corrections"])
def test_a_foreign_file_under_the_name_of_an_output_is_refused(log, out, capsys, name):
    """A reader would take it for a part of the result."""
    (out / name).parent.mkdir(exist_ok=True)
    (out / name).write_text("mine")
    before = tree(out)
    assert run(log / "headrace.toml", out) == 2
    assert f"holds files that do not belong to its result ({name})" in one_line(capsys)
    assert tree(out) == before


def test_files_that_desktops_and_engines_leave_in_folders_are_ignored(log, out, capsys):
    """Readers of datasets skip names that begin with a dot or an underscore."""
    left = [
        out / "samples" / ".DS_Store",
        out / "model" / "_SUCCESS",
        out / "samples" / "_tmp" / "x",
    ]
    for path in left:
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    assert main(["verify", str(out)]) == 0
    assert run(log / "headrace.toml", out) == 0
    assert [path.read_text() for path in left] == ["mine"] * 3
    capsys.readouterr()


def test_a_folder_with_a_damaged_seal_is_refused(log, out, capsys):
    """It is no longer clear which files are Headrace's."""
    flip(out / "seal.json")
    before = tree(out)
    assert run(log / "headrace.toml", out) == 2
    assert "seal.json: is damaged (its checksum does not match)" in one_line(capsys)
    assert tree(out) == before


def test_a_seal_that_names_files_of_other_folders_is_refused(log, out, capsys):
    """A replay into the folder would delete them."""
    from headrace.pipelines.run.signing import read_signed, write_signed

    content = read_signed(out / "seal.json")
    content["files"]["../notes.txt"] = {"bytes": 4, "sha256": ""}
    write_signed(out / "seal.json", content)
    (out.parent / "notes.txt").write_text("mine")
    assert run(log / "headrace.toml", out) == 2
    assert "names a file of another folder (got '../notes.txt')" in one_line(capsys)
    assert (out.parent / "notes.txt").read_text() == "mine"


def test_inputs_inside_the_output_folder_are_refused(log, out, tmp_path, capsys):
    """Even if they are reached through a link."""
    shutil.copy(log / "headrace.toml", out / "headrace.toml")
    for name in ("impressions.parquet", "clicks.parquet"):
        shutil.copy(log / name, out / name)
    assert run(out / "headrace.toml", out) == 2
    assert "holds an input of the replay" in one_line(capsys)
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(log / "headrace.toml", other)
    shutil.copy(log / "clicks.parquet", other)
    (other / "impressions.parquet").symlink_to(out / "impressions.parquet")
    assert run(other / "headrace.toml", out) == 2
    assert "impressions.parquet" in one_line(capsys)


def test_a_failed_run_removes_the_folder_that_it_created_but_not_an_existing_one(
    log, tmp_path, capsys
):
    """Not even if the existing folder is empty."""
    shutil.copy(log / "headrace.toml", tmp_path)
    shutil.copy(log / "clicks.parquet", tmp_path)
    whole = (log / "impressions.parquet").read_bytes()
    middle = len(whole) // 2
    broken = whole[: middle - 2000] + bytes(4000) + whole[middle + 2000 :]
    (tmp_path / "impressions.parquet").write_bytes(broken)
    (tmp_path / "there").mkdir()
    for name in ("there", "new"):
        assert run(tmp_path / "headrace.toml", tmp_path / name) == 1
        one_line(capsys)
    assert list((tmp_path / "there").iterdir()) == []
    assert not (tmp_path / "new").exists()


def test_generate_overwrites_only_what_it_generated(tmp_path, capsys):
    """The folder may be new, empty, or have an earlier log."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "headrace.toml").write_text("mine")
    command = ["generate", "--impressions", "1000", "--out"]
    assert main([*command, str(tmp_path / "mine")]) == 2
    assert "holds files, but no log of `headrace generate`" in one_line(capsys)
    assert (tmp_path / "mine" / "headrace.toml").read_text() == "mine"
    for _ in range(2):
        assert main([*command, str(tmp_path / "log")]) == 0


# One run at a time.


def test_a_second_run_is_refused_and_names_the_holder_of_the_folder(log, out, capsys):
    """Exit code 2, with process and start; the lock is free when the holder ends."""
    before = tree(out)
    with held(Place(out)):
        assert run(log / "headrace.toml", out) == 2
        said = one_line(capsys)
        assert f"{out}: is in use by process {os.getpid()} on " in said
        assert "started 20" in said
    assert not (out / ".headrace").exists()
    assert tree(out) == before


def test_the_lock_of_a_dead_process_is_taken_over(tmp_path):
    """Its file may remain, but the lock does not; the new holder replaces the contents."""
    script = (
        "import os, pathlib, signal\n"
        "from headrace.pipelines.run.locking import held\n"
        "from headrace.pipelines.run.place import Place\n"
        "with held(Place(pathlib.Path('.'))): os.kill(os.getpid(), signal.SIGKILL)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment)
    assert (tmp_path / ".headrace" / "lock").exists()
    with held(Place(tmp_path)):
        about = json.loads((tmp_path / ".headrace" / "lock").read_text())
        assert about["pid"] == os.getpid()
        with pytest.raises(FolderError, match=f"process {os.getpid()}"), held(Place(tmp_path)):
            pass
    assert list(tmp_path.iterdir()) == []


def overlap(log, folder, pairs, longest_s, random):
    """Start pairs of runs into one folder, some time apart; return how many were refused."""
    configs = [log / "headrace.toml", log / "other.toml"]
    configs[1].write_text(
        configs[0].read_text().replace("negative_rate = 0.5", "negative_rate = 1")
    )
    rows = set()
    refused = 0
    try:
        for _ in range(pairs):
            first = start(random.choice(configs), folder, "--resume")
            time.sleep(random.uniform(0, longest_s))
            second = start(random.choice(configs), folder)
            errors = [process.communicate()[1] for process in (first, second)]
            codes = sorted(process.returncode for process in (first, second))
            assert codes in ([0, 0], [0, 2]), errors
            if codes == [0, 2]:
                refused += 1
                assert any("is in use by process" in error for error in errors)
            verified = verify(folder)
            assert verified.problems == []
            summary = json.loads((folder / "summary.json").read_text())
            assert summary["samples"]["rows"] == pq.read_table(folder / "samples").num_rows
            assert not (folder / ".headrace").exists()
            rows.add(summary["samples"]["rows"])
    finally:
        configs[1].unlink()
    assert len(rows) <= 2
    return refused


def test_two_runs_into_one_folder_leave_a_whole_result(log, tmp_path):
    """One of them is refused, or they run one after the other."""
    assert overlap(log, tmp_path / "out", 3, 1.0, Random(1)) > 0


@pytest.mark.slow
def test_two_hundred_pairs_of_runs_into_one_folder_leave_whole_results(log, tmp_path, capsys):
    """With starts between zero and five seconds apart."""
    refused = overlap(log, tmp_path / "out", 200, 5.0, Random(2))
    with capsys.disabled():
        print(f"\n200 pairs, {refused} with one refused")


# Errors of the operating system.


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 4 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    with contextlib.suppress(OSError):
        if subprocess.run(command, capture_output=True).returncode == 0:
            yield folder
            subprocess.run(["umount", "-l", str(folder)], check=True)
            return
    pytest.skip("mounting a small file system is not permitted here")


def test_a_full_disk_gives_one_line_and_keeps_the_older_result(log, sealed, small_disk, capsys):
    """It names the file and the cause; nothing in the folder is lost."""
    out = small_disk / "out"
    shutil.copytree(sealed, out)
    before = tree(out)
    free = shutil.disk_usage(small_disk).free
    (small_disk / "ballast").write_bytes(bytes(free - 100_000))
    assert run(log / "headrace.toml", out) == 1
    said = one_line(capsys)
    assert said.startswith(f"headrace: {out}/.headrace/partial/result/samples/part-00000.parquet: ")
    assert "cannot be written (No space left on device); free some space" in said
    assert tree(out) == before
    (small_disk / "ballast").unlink()
    assert run(log / "headrace.toml", out) == 0


@pytest.mark.parametrize(
    "name", ["samples", "dead_letters", "checkpoint", "report.html", "summary.json", "seal.json"]
)
def test_an_output_that_cannot_be_written_is_named(log, tmp_path, capsys, monkeypatch, name):
    """Exit code 1 and one line, whichever file the disk is too full for."""
    from headrace.pipelines.jobs import checkpoint
    from headrace.pipelines.run import disk, seal
    from headrace.pipelines.sinks import parquet as sinks

    def fails(*arguments, **named):
        raise OSError(28, "Arrow says: no space")

    if name in ("samples", "dead_letters"):
        whole = sinks.pq.write_table

        def write(table, path, **named):
            (fails if name in str(path) else whole)(table, path, **named)

        monkeypatch.setattr(sinks.pq, "write_table", write)
    elif name == "checkpoint":
        monkeypatch.setattr(checkpoint, "write_join", fails)
    elif name == "seal.json":
        monkeypatch.setattr(seal, "write_signed", fails)
    else:
        whole_file = disk.unlinked

        def unlinked(path, flags):
            if Path(path).name == name:
                raise OSError(28, "No space left on device", path)
            return whole_file(path, flags)

        monkeypatch.setattr(disk, "unlinked", unlinked)
    config = log / "full.toml"
    config.write_text((log / "headrace.toml").read_text() + '\n[replay]\ncheckpoint = "0s"\n')
    try:
        assert run(config, tmp_path / "out", "--batch-rows", "100") == 1
    finally:
        config.unlink()
    said = one_line(capsys)
    assert name in said
    assert "cannot be written (No space left on device); free some space" in said


def test_an_output_folder_that_cannot_be_created_is_refused(log, tmp_path, capsys):
    """Exit code 2, before the run starts."""
    (tmp_path / "file").write_text("mine")
    assert run(log / "headrace.toml", tmp_path / "file" / "out") == 2
    assert "cannot be written (" in one_line(capsys)
    assert run(log / "headrace.toml", tmp_path / "file") == 2
    assert "is not a folder" in one_line(capsys)
    if os.path.isdir("/proc/self"):
        assert run(log / "headrace.toml", "/proc/self/out") == 2
        assert "/proc/self/out" in one_line(capsys)
