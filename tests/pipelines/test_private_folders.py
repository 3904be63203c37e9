"""Results are for the user alone, and no link is followed where a run writes."""

import os

import pytest

import headrace
from headrace.pipelines.run.disk import write_text
from headrace.pipelines.run.folder import opened
from headrace.pipelines.run.liveplace import opened_live
from headrace.schemas.errors import FolderError, OutputError
from tests.pipelines.rows import START as S


@pytest.fixture(autouse=True)
def usual_umask():
    before = os.umask(0o022)
    yield
    os.umask(before)


def modes(folder):
    """Return the permissions of a folder and all that is in it, by kind."""
    folders, files = {folder.stat().st_mode & 0o777}, set()
    for where, inside, names in os.walk(folder):
        folders |= {os.stat(os.path.join(where, name)).st_mode & 0o777 for name in inside}
        files |= {os.stat(os.path.join(where, name)).st_mode & 0o777 for name in names}
    return folders, files


@pytest.mark.parametrize(
    ("mode", "folders", "files"),
    [("private", 0o700, 0o600), ("group", 0o750, 0o640), ("umask", 0o755, 0o644)],
)
def test_a_result_is_for_those_whom_the_configuration_says(tmp_path, mode, folders, files):
    """Those that libraries write too; the umask of the process is as before."""
    for name in ("shown", "clicks"):
        (tmp_path / f"{name}.csv").write_text(f"id,t\nk,{S}\n")
    time = {"column": "t", "unit": "s"}
    config = {
        "impressions": {"path": str(tmp_path / "shown.csv"), "key": "id", "time": time},
        "actions": {"click": {"path": str(tmp_path / "clicks.csv"), "key": "id", "time": time,
                              "window": "10m"}},
        "outputs": {} if mode == "private" else {"mode": mode},
    }  # fmt: skip
    headrace.replay(config, tmp_path / "out")
    assert modes(tmp_path / "out") == ({folders}, {files})
    assert os.umask(0o022) == 0o022


LINKS = [
    ".headrace", ".headrace/partial", ".headrace/publishing", ".headrace/replaced-seal.json",
    ".headrace/retired", ".headrace/lock", ".headrace/partial/result/samples", "samples",
    "samples/hour", "report.html", "seal.json", "summary.json",
]  # fmt: skip


@pytest.mark.parametrize(
    "open_", [lambda out: opened(out, ()), opened_live], ids=["replay", "live"]
)
@pytest.mark.parametrize("name", LINKS)
def test_a_planted_link_is_refused_before_anything_is_written(tmp_path, open_, name):
    """What it leads to stays as it is."""
    out, victim = tmp_path / "out", tmp_path / "victim"
    victim.mkdir()
    (victim / "kept").write_text("as it was")
    (out / name).parent.mkdir(parents=True)
    (out / name).symlink_to(victim)
    with pytest.raises(FolderError) as caught, open_(out):
        pass
    assert str(caught.value) == (
        f"{out}: has a link where a run writes ({name}); remove it, or choose another folder"
    )
    assert [path.name for path in victim.iterdir()] == ["kept"]


def test_a_folder_may_be_a_link_of_the_users_own(tmp_path):
    """To a larger disk, say; links beside the outputs are no business of a run."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "disk")
    with opened(tmp_path / "out", ()) as place:
        assert place.out == tmp_path / "out"


def test_a_file_is_not_written_through_a_link(tmp_path):
    """Which may have been put there after the run began."""
    (tmp_path / "victim").write_text("as it was")
    (tmp_path / "report.html").symlink_to(tmp_path / "victim")
    with pytest.raises(OutputError, match="it is a link"):
        write_text(tmp_path / "report.html", "other")
    assert (tmp_path / "victim").read_text() == "as it was"


@pytest.mark.parametrize("name", ["windows.html", "windows.json"])
def test_the_page_of_windows_is_not_written_through_a_link(tmp_path, name, capsys):
    """It is refused before logs are read."""
    from headrace.pipelines.app.cli import main

    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).symlink_to(tmp_path / "victim")
    assert main(["windows", "missing.toml", "--out", str(tmp_path / "out")]) == 2
    assert f"has a link where a run writes ({name})" in capsys.readouterr().err
