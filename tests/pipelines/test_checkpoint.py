"""Checkpoints: resuming from one, refusing one, and disturbances while one is taken."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from headrace.learners.learning import TrainPlan
from headrace.pipelines.app.cli import main
from headrace.pipelines.beam.training import TrainEpochs
from headrace.pipelines.jobs import identity
from headrace.pipelines.run.disk import files_under
from headrace.pipelines.run.seal import verify
from headrace.pipelines.run.store import Store
from headrace.pipelines.training import state as training
from headrace.pipelines.training.job import TrainJob
from headrace.schemas.errors import StateVersionError
from tests.pipelines import forked
from tests.pipelines.cells import Bag, Step, Value
from tests.pipelines.outputs import contents
from tests.pipelines.test_resume import SETTINGS, write_log

ROOT = Path(__file__).parents[2]


def drive(how, count, config, out, *options, cwd=ROOT):
    arguments = ["replay", str(config), "--out", str(out), "--quiet", *map(str, options)]
    return forked.run("tests.pipelines.driver", how, str(count), *arguments, cwd=cwd)


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    """A replay that was killed after some checkpoints, and the outputs of an undisturbed one."""
    folder = tmp_path_factory.mktemp("broken")
    config = write_log(folder / "log", 6_000, *SETTINGS["joined, retained"])
    assert drive("never", 0, config, folder / "whole").returncode == 0
    assert drive("kill", 5, config, folder / "out").returncode == -signal.SIGKILL
    return folder


@pytest.fixture
def again(broken, tmp_path):
    """A copy of the folder that the killed replay left."""
    shutil.copytree(broken / "out", tmp_path / "out")
    return tmp_path / "out"


def resume(config, out):
    return main(["replay", str(config), "--out", str(out), "--quiet", "--resume"])


def one_line(capsys):
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    return error


def test_a_killed_replay_resumes_from_its_checkpoint_to_the_same_bytes(broken, again):
    """Finished files stay; those from after the checkpoint are written again."""
    extra = again / ".headrace/partial/result/samples/part-00099.parquet"
    extra.write_bytes(b"half a file")
    done = drive("never", 0, broken / "log/headrace.toml", again, "--resume")
    assert (done.returncode, done.stderr) == (0, "")
    assert contents(again) == contents(broken / "whole")
    assert not (again / ".headrace").exists()


def flip_first(data):
    return bytes([data[0] ^ 1]) + data[1:]


def flip_middle(data):
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def flip_last(data):
    return data[:-2] + bytes([data[-2] ^ 0x80]) + data[-1:]


def truncate(data):
    return data[:-1]


def empty(data):
    return b""


DAMAGE = [flip_first, flip_middle, flip_last, truncate, empty, None]


def test_a_checkpoint_with_any_damaged_file_is_refused(broken, again, capsys):
    """One line names the file, for each file and each kind of damage; nothing is changed."""
    checkpoint = next((again / ".headrace/partial").glob("checkpoint-*"))
    outputs = again / ".headrace/partial/result"
    damaged = [path for path in files_under(checkpoint).values() if path.stat().st_size]
    names = {path.relative_to(checkpoint).as_posix() for path in damaged}
    assert names >= {
        "manifest.json", "join.arrow", "unlearned", "train/state.json",
        "train/models/click/manifest.json", "train/models/click/arrays.arrow",
        "held-samples.arrow", "held-letters.arrow", "held-corrections.arrow",
        "held-joined-click.arrow",
    }  # fmt: skip
    parts = sorted(files_under(outputs).values())
    letters = sorted(files_under(outputs.parent / "letters").values())
    assert len(parts) > 3
    for path in [*damaged, parts[0], *letters[:1]]:
        whole = path.read_bytes()
        for damage in DAMAGE:
            if damage is None:
                path.unlink()
            else:
                path.write_bytes(damage(whole))
            assert resume(broken / "log/headrace.toml", again) == 2, (path, damage)
            said = one_line(capsys)
            assert path.name in said
            assert said.endswith("; run without --resume to start over\n")
            path.write_bytes(whole)
    done = drive("never", 0, broken / "log/headrace.toml", again, "--resume")
    assert (done.returncode, done.stderr) == (0, "")
    assert contents(again) == contents(broken / "whole")


def test_without_resume_a_damaged_checkpoint_does_not_matter(broken, again):
    """The replay starts over, to the same bytes."""
    manifest = next(again.rglob("checkpoint-*/manifest.json"))
    manifest.write_text("{")
    done = drive("never", 0, broken / "log/headrace.toml", again)
    assert (done.returncode, done.stderr) == (0, "")
    assert contents(again) == contents(broken / "whole")


def test_a_run_can_be_resumed_with_another_spelling_of_its_paths(broken, again, tmp_path):
    """Relative, through a link, or with dots: files are identified by their real path."""
    (tmp_path / "link").symlink_to(broken / "log")
    out = f"../{tmp_path.name}/out"
    done = drive("never", 0, "link/./headrace.toml", out, "--resume", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert contents(again) == contents(broken / "whole")


@pytest.mark.parametrize("part", ["join", "training", "checkpoint"])
def test_a_checkpoint_of_another_version_is_refused(broken, again, monkeypatch, capsys, part):
    """Whichever part of it has another layout; the line says what to do."""
    layout = {"join": "LAYOUT_VERSION", "training": "TRAINING_LAYOUT", "checkpoint": "_LAYOUT"}
    monkeypatch.setattr(identity, layout[part], 99)
    assert resume(broken / "log/headrace.toml", again) == 2
    said = one_line(capsys)
    assert "the checkpoint was written by another version of Headrace" in said
    assert said.endswith("; run without --resume to start over\n")


def test_training_state_of_another_version_is_refused(tmp_path, monkeypatch):
    """Both in the cell of a runner and in the folder of a snapshot."""
    job = TrainJob(TrainPlan({}, "none"), 1, 10, 60_000_000, (), "model", store=Store(tmp_path))
    state = training.TrainingState(job)
    state.checkpoint()
    waiting = state.trainer.unlearned()
    ours = training.TRAINING_LAYOUT
    monkeypatch.setattr(training, "TRAINING_LAYOUT", 99)
    says = rf"training state must have layout 99 \(got {ours}\); drain the job with the version"
    with pytest.raises(StateVersionError, match=says):
        training.TrainingState(job).load(
            tmp_path / ".headrace" / "training" / state.snapshot, waiting
        )
    step = Step(lambda: TrainEpochs(job, "foreign"), 2)
    old = Value()
    old.write(json.dumps({"layout": ours, "snapshot": None, "journaled": 0}).encode())
    step.state[0] = [old, Bag(), Bag()]
    with pytest.raises(StateVersionError, match=says):
        step.run([(0, waiting)])


def test_an_input_changed_at_equal_size_and_time_is_noticed(broken, again, capsys):
    """The contents of its head and tail are compared."""
    clicks = broken / "log" / "clicks.parquet"
    whole, stat = clicks.read_bytes(), clicks.stat()
    try:
        clicks.write_bytes(flip_middle(whole[:2000]) + whole[2000:])
        os.utime(clicks, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        assert resume(broken / "log/headrace.toml", again) == 2
        assert "clicks.parquet has changed since the checkpoint" in one_line(capsys)
    finally:
        clicks.write_bytes(whole)
        os.utime(clicks, ns=(stat.st_atime_ns, stat.st_mtime_ns))


@pytest.mark.parametrize(
    ("step", "count"),
    [
        ("write_signed", 1),
        ("write_join", 3),
        ("flush_tree", 3),
        pytest.param("write_training", 3, marks=pytest.mark.slow),
        pytest.param("_write_sinks", 3, marks=pytest.mark.slow),
        pytest.param("describe", 3, marks=pytest.mark.slow),
        pytest.param("write_signed", 3, marks=pytest.mark.slow),
    ],
)
def test_an_interrupt_during_a_checkpoint_keeps_the_one_before(broken, tmp_path, step, count):
    """Exit code 1, the usual line, and the older checkpoint, if there is one, to resume from."""
    config, out = broken / "log/headrace.toml", tmp_path / "out"
    done = drive(f"interrupt.{step}", count, config, out)
    assert (done.returncode, done.stderr) == (
        1,
        "headrace: interrupted; run the same command again to start over, or with --resume "
        "to continue\n",
    )
    assert out.exists() == (count > 1)
    assert len(list((out / ".headrace" / "partial").glob("checkpoint-*"))) == (count > 1)
    done = drive("never", 0, config, out, "--resume")
    assert (done.returncode, done.stderr) == (0, "")
    assert contents(out) == contents(broken / "whole")


@pytest.mark.parametrize(
    "step", ["write_join", "write_signed", pytest.param("describe", marks=pytest.mark.slow)]
)
def test_a_full_disk_during_a_checkpoint_keeps_the_one_before(broken, tmp_path, step):
    """Exit code 1 and one line; once there is space the run resumes from there."""
    config, out = broken / "log/headrace.toml", tmp_path / "out"
    done = drive(f"full.{step}", 3, config, out)
    assert (done.returncode, done.stderr) == (
        1,
        f"headrace: {out}/.headrace/partial/checkpoint.partial: cannot be written (No space left "
        "on device); free some space and run the same command again, with --resume to continue\n",
    )
    done = drive("never", 0, config, out, "--resume")
    assert (done.returncode, done.stderr) == (0, "")
    assert contents(out) == contents(broken / "whole")


ENDED = """
import os, headrace.pipelines.jobs.replay as replay, signal, sys
from headrace.pipelines.beam import training
from headrace.pipelines.jobs import identity
from headrace.pipelines.app.cli import main

def ended(place):
    left = [int(sys.argv[1])]
    for name in ("rename", "replace", "unlink", "rmdir", "mkdir"):
        def counted(*arguments, call=getattr(os, name), **named):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*arguments, **named)
        setattr(os, name, counted)
    publish(place)

publish, replay.publish = replay.publish, ended
sys.exit(main(sys.argv[2:]))
"""


def end_publication(config, out, call, *options):
    """Replay, and kill the run before the publication's call with this number."""
    command = [sys.executable, "-c", ENDED, str(call), "replay", str(config), "--out", str(out)]
    return subprocess.run([*command, "--quiet", *options], cwd=ROOT).returncode


def kill_and_resume(broken, out, other, call):
    """Do so over a result of another configuration; return whether there was such a call."""
    config = broken / "log/headrace.toml"
    assert main(["replay", str(other), "--out", str(out), "--quiet"]) == 0
    (out / "notes.txt").write_text("mine")
    before = contents(out)
    code = end_publication(config, out, call)
    if (out / "seal.json").exists():
        assert verify(out).problems == []
    if code == 0:
        return False
    assert code == -signal.SIGKILL
    assert resume(config, out) == 0
    assert verify(out).problems == []
    after = contents(out)
    assert after != before
    assert after.pop("notes.txt") == b"mine"
    assert after == contents(broken / "plain")
    assert not (out / ".headrace").exists()
    shutil.rmtree(out)
    return True


@pytest.fixture(scope="module")
def other(broken):
    """Another configuration of the same log, with outputs that the first one does not have."""
    config = broken / "log/headrace.toml"
    text = config.read_text().replace("negative_rate = 0.5", "negative_rate = 1.0")
    other = config.with_name("other.toml")
    other.write_text(text.replace("bits = 12", "bits = 11"))
    command = ["replay", str(config), "--out", str(broken / "plain"), "--quiet"]
    assert main(command) == 0
    return other


@pytest.mark.parametrize("call", [2, 9], ids=lambda call: f"before call {call}")
def test_a_replay_killed_during_publication_resumes_to_the_same_bytes(
    broken, tmp_path, other, call
):
    """Over an older result, and with a checkpoint that is no longer needed."""
    assert kill_and_resume(broken, tmp_path / "out", other, call)


@pytest.mark.slow
def test_a_replay_killed_before_any_call_of_publication_resumes(broken, tmp_path, other, capsys):
    """Every call that renames, removes or creates something."""
    call = 1
    while kill_and_resume(broken, tmp_path / "out", other, call):
        call += 1
    assert call > 20
    with capsys.disabled():
        print(f"\n{call - 1} replays killed while they were published")


def test_a_run_killed_after_it_was_complete_is_published_without_running_again(
    broken, tmp_path, capsys
):
    """The next start with --resume finishes the publication and says so."""
    from headrace.pipelines.run.place import Place
    from headrace.pipelines.run.publication import recover

    config, out = broken / "log/headrace.toml", tmp_path / "out"
    script = (
        "import os, signal, sys; import headrace.pipelines.run.publication as p\n"
        "from headrace.pipelines.app.cli import main\n"
        "p._roll_forward = lambda place: os.kill(os.getpid(), signal.SIGKILL)\n"
        "main(sys.argv[1:])"
    )
    command = [sys.executable, "-c", script, "replay", str(config), "--out", str(out), "--quiet"]

    def break_off():
        assert subprocess.run(command, cwd=ROOT).returncode == -signal.SIGKILL
        assert sorted(path.name for path in out.iterdir() if path.name != ".headrace") == []

    break_off()
    assert main(["replay", str(config), "--out", str(out), "--resume"]) == 0
    printed = capsys.readouterr()
    assert "the earlier run was complete; its publication is now finished" in printed.err
    assert "Where every record ended" in printed.out
    assert main(["verify", str(out)]) == 0
    first = contents(out)
    shutil.rmtree(out)

    # With another configuration it is published too, and then replaced.
    break_off()
    other = config.with_name("other.toml")
    other.write_text(config.read_text().replace("negative_rate = 0.5", "negative_rate = 1.0"))
    capsys.readouterr()
    assert main(["replay", str(other), "--out", str(out), "--resume"]) == 0
    assert "no checkpoint found, starting over" in capsys.readouterr().err
    assert contents(out) != first
    assert main(["verify", str(out)]) == 0
    assert recover(Place(out)) is None
