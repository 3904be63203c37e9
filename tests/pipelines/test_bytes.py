"""The same log gives the same bytes for any shards, blocks, files and crashes."""

from __future__ import annotations

import shutil
from random import Random

import pytest

from headrace.joiner.state import hashqueue
from headrace.pipelines.app.cli import main
from headrace.pipelines.beam import reading
from headrace.pipelines.sources.blocks import LogBlocks
from tests.pipelines.outputs import contents
from tests.pipelines.random_logs import random_log, small_guards


def run(config, out, *options):
    command = ["replay", str(config), "--out", str(out), "--quiet", "--allow-invalid", *options]
    assert main(command) == 0
    return contents(out)


def check_cuts(seed, folder):
    """Compare one log over shards and blocks and, if it is tidy, over cuts into files."""
    random = Random(seed)
    log = random_log(random, tidy=seed % 3 == 0)
    log.options.setdefault("monitor", {})["near_misses"] = True
    config = log.write(folder / "log")
    whole = run(config, folder / "whole", "--shards", "1")
    shards, rows = random.choice((2, 8, 64)), random.choice((1, 3, 7, 40))
    options = ["--shards", str(shards), "--batch-rows", str(rows)]
    assert run(config, folder / "cut", *options) == whole
    if log.tidy:
        config = log.write(folder / "files", cuts=random)
        split = run(config, folder / "split", *options)
        # Dead letters, and with them the summary, name files and positions.
        for name, data in whole.items():
            if name.startswith(("samples/", "joined/", "corrections/")):
                assert split[name] == data, name
        assert split["summary.json"]["samples"] == whole["summary.json"]["samples"]
        for name, learner in whole["summary.json"]["learners"].items():
            assert split["summary.json"]["learners"][name]["model"] == learner["model"]
    shutil.rmtree(folder)


@pytest.fixture(autouse=True)
def _merging(monkeypatch):
    """Merge even two small segments, and let guards decide early: logs are small here."""
    monkeypatch.setattr(hashqueue, "_FEW", 2)
    small_guards(monkeypatch)


class Killed(BaseException):
    """Stands for the end of the process: no code handles it."""


def check_crashes(seed, folder, monkeypatch):
    """End a replay before some of its blocks, and resume it each time."""
    random = Random(seed)
    log = random_log(random)
    log.options.setdefault("monitor", {})["near_misses"] = True
    log.options["replay"] = {"checkpoint": "0s", "batch_rows": random.choice((5, 20))}
    config = log.write(folder / "log")
    options = ["--shards", str(random.choice((1, 2, 8)))]
    whole = run(config, folder / "whole", *options)
    monkeypatch.setattr(reading, "_BUNDLE_BLOCKS", random.choice((1, 3)))
    at, crashes = LogBlocks.at, []

    def dies(self, position):
        block = at(self, position)
        if len(crashes) < 3 and position > 1 and random.random() < 0.2:
            crashes.append(position)
            raise Killed
        return block

    monkeypatch.setattr(LogBlocks, "at", dies)
    while True:
        try:
            after = run(config, folder / "out", *options, "--resume")
            break
        except Killed:
            continue
    assert after == whole
    monkeypatch.undo()
    shutil.rmtree(folder)
    return len(crashes)


# In log 1153 copies of one impression are in segments that are merged.
@pytest.mark.parametrize("seed", [*range(30), 1153], ids=lambda seed: f"random log {seed}")
def test_shards_blocks_and_files_change_no_byte_of_any_output(tmp_path, seed, capsys):
    """With any options, on logs with every fault."""
    check_cuts(seed, tmp_path / "log")


@pytest.mark.parametrize("seed", range(10), ids=lambda seed: f"random log {seed}")
def test_crashes_change_no_byte_of_any_output(tmp_path, seed, monkeypatch, capsys):
    """With any options, on logs with every fault."""
    check_crashes(seed, tmp_path / "log", monkeypatch)


@pytest.mark.slow
def test_shards_blocks_and_files_change_no_byte_of_two_thousand_random_logs(tmp_path, capsys):
    """As with the thirty logs."""
    for seed in range(1_000, 3_000):
        check_cuts(seed, tmp_path / str(seed))
        if seed % 100 == 99:
            with capsys.disabled():
                print(f"\n{seed - 999} logs equal over shards, blocks and files")


@pytest.mark.slow
def test_crashes_change_no_byte_of_five_hundred_random_logs(tmp_path, monkeypatch, capsys):
    """As with the ten logs."""
    crashes = 0
    for seed in range(5_000, 5_500):
        crashes += check_crashes(seed, tmp_path / str(seed), monkeypatch)
        if seed % 100 == 99:
            with capsys.disabled():
                print(f"\n{crashes} crashes in {seed - 4_999} logs: all outputs equal")
