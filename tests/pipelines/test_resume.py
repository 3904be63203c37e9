"""Replays that are killed and resumed: nothing lost, nothing repeated, the same bytes."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path
from random import Random

import pytest

from headrace.pipelines.app.cli import main
from headrace.pipelines.jobs.generate import Traffic, write_traffic
from tests.pipelines.forked import Forked
from tests.pipelines.outputs import contents

ROOT = Path(__file__).parents[2]

SETTINGS = {
    "joined, retained": ("joined = true", 'retention = "5m"'),
    "early": ("joined = true", 'emission = "window_and_immediate"'),
    "elapsed, three learners": ('emission = "elapsed"', 'retention = "5m"'),
    "groups, no learner": ('group = ["request_id"]', 'group_span = "2m"'),
}


def write_log(folder, impressions, *lines):
    """Write a log with every fault, to be read in small blocks with a checkpoint per bundle."""
    write_traffic(Traffic(impressions=impressions, rate=2, seed=3, click_rate=0.2), folder)
    text = (folder / "headrace.toml").read_text()
    text = text.replace("bits = 20", "bits = 12")
    if any("group" in line for line in lines):
        text = text.replace("[sampling]\n", '[sampling]\nunit = "group"\n')
        text = text[: text.index("[learner]")]
    if any("elapsed" in line for line in lines):
        text = text.replace("[learner", "[learners.first")
        text += '\n[learners.second]\nlabel = "click"\nbits = 8\nfeatures.categorical = ["os"]\n'
        text += '[learners.third]\nlike = "second"\ntable = "exact"\nadmit = 2\nexpire = "2m"\n'
        text += 'features.categorical = ["ad", "site"]\n'
    text = text.replace("[join]\n", "[join]\n" + "\n".join(lines) + "\n")
    text += '\n[replay]\nbatch_rows = 50\ncheckpoint = "0s"\n'
    (folder / "headrace.toml").write_text(text)
    return folder / "headrace.toml"


def start(config, out, *options):
    return Forked("headrace", "replay", str(config), "--out", str(out), "--quiet", *options)


def run_with_kills(config, out, kills, random, longest_s):
    """Kill a replay at random moments, restart it each time, and let it end after `kills`."""
    killed = 0
    while True:
        process = start(config, out, "--resume")
        try:
            if killed < kills:
                staged = out / ".headrace" / "partial" / "result" / "samples"
                while process.poll() is None and not staged.exists():
                    time.sleep(0.005)
                process.wait(random.uniform(0, longest_s))
            else:
                process.wait(120)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            killed += 1
        _, error = process.communicate()
        if process.returncode == 0:
            return killed
        assert process.returncode == -signal.SIGKILL, error


FIRST, OTHERS = list(SETTINGS)[:2], list(SETTINGS)[2:]


@pytest.mark.parametrize(
    "name", [*FIRST, *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)]
)
def test_three_kills_change_no_byte(tmp_path, name):
    """At random moments; each time the replay is resumed."""
    config = write_log(tmp_path / "log", 12_000, *SETTINGS[name])
    assert main(["replay", str(config), "--out", str(tmp_path / "whole"), "--quiet"]) == 0
    run_with_kills(config, tmp_path / "out", 3, Random(name), 1.0)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


@pytest.mark.slow
def test_two_hundred_kills_change_no_byte(tmp_path, capsys):
    """At random moments, over all settings; each time the replay is resumed."""
    kills, runs, random = 0, 0, Random(11)
    while kills < 200:
        name = list(SETTINGS)[runs % len(SETTINGS)]
        folder = tmp_path / str(runs)
        config = write_log(folder / "log", 40_000, *SETTINGS[name])
        assert main(["replay", str(config), "--out", str(folder / "whole"), "--quiet"]) == 0
        kills += run_with_kills(config, folder / "out", 25, random, 2.0)
        expected = contents(folder / "whole")
        assert contents(folder / "out") == expected
        runs += 1
        with capsys.disabled():
            print(f"\n{kills} kills in {runs} replays: {len(expected)} files equal ({name})")


def test_resume_refuses_another_configuration_and_changed_files(tmp_path, capsys):
    """A checkpoint is valid for one configuration, and for files as they were."""
    config = write_log(tmp_path / "log", 12_000)
    out = tmp_path / "out"
    process = start(config, out)
    while process.poll() is None and not list((out / ".headrace" / "partial").glob("checkpoint-*")):
        time.sleep(0.005)
    process.kill()
    process.communicate()
    text = config.read_text()
    config.write_text(text.replace("batch_rows = 50", "batch_rows = 60"))
    command = ["replay", str(config), "--out", str(out), "--quiet", "--resume"]
    assert main(command) == 2
    assert "replay.batch_rows" in capsys.readouterr().err
    config.write_text(text + '\n[guard]\naccept = ["2026-01-01T00:01:00Z"]\n')
    assert main(command) == 2
    said = "guard.accept: has changed since the checkpoint (got ['2026-01-01T00:01:00+00:00'])"
    assert said in capsys.readouterr().err
    config.write_text(text)
    clicks = config.parent / "clicks.parquet"
    data = clicks.read_bytes()
    clicks.write_bytes(data)  # only its time changes
    assert main(command) == 2
    assert "clicks.parquet has changed since the checkpoint" in capsys.readouterr().err
    assert main([*command[:-1]]) == 0
    assert not (out / ".headrace").exists()


def test_resume_without_a_checkpoint_starts_from_the_beginning(tmp_path, capsys):
    """The option is always allowed; the run says that it found no checkpoint."""
    config = write_log(tmp_path / "log", 2_000)
    assert main(["replay", str(config), "--out", str(tmp_path / "a"), "--quiet"]) == 0
    assert main(["replay", str(config), "--out", str(tmp_path / "b"), "--resume"]) == 0
    assert "no checkpoint found, starting over" in capsys.readouterr().err
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
