"""A log that goes on: runs that continue one another put out what one run would."""

from __future__ import annotations

import json
import shutil
from itertools import pairwise
from random import Random

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from headrace.joiner.state import hashqueue
from headrace.pipelines.app.cli import main
from headrace.pipelines.beam import reading
from headrace.pipelines.jobs import replay as replay_job
from headrace.pipelines.sources.blocks import LogBlocks
from headrace.schemas.types import type_name
from tests.pipelines.direct import run_directly
from tests.pipelines.random_logs import ACTIONS, IMPRESSIONS, random_log, small_guards

ROWS = ("samples", "corrections", "joined", "quarantine", "guard", "dead_letters")


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    """Run without Beam, merge even two small segments, and let guards decide early."""
    monkeypatch.setattr(replay_job, "run_graph", run_directly)
    monkeypatch.setattr(hashqueue, "_FEW", 2)
    small_guards(monkeypatch)


def run(config, out, *options):
    command = ["replay", str(config), "--out", str(out), "--quiet", "--allow-invalid", *options]
    assert main(command) == 0
    return out


def rows(folders, name):
    """Return the rows of an output of several runs, as sorted text."""
    found = []
    for folder in folders:
        if (folder / name).exists():
            table = ds.dataset(folder / name, format="parquet").to_table()
            if "offset" in table.column_names:
                # A file that is cut numbers its records anew.
                table = table.drop_columns(["offset", "source", "row"])
            found += [str(row) for row in table.to_pylist()]
    return sorted(found)


def arrays(snapshot):
    """Return the files of a snapshot but its manifest."""
    return {
        path.name: path.read_bytes() for path in snapshot.iterdir() if path.name != "manifest.json"
    }


def statistics(out):
    return pq.read_table(out / "statistics.parquet").to_pylist()


class Killed(BaseException):
    """Stands for the end of the process: no code handles it."""


def killed_and_resumed(random, monkeypatch, config, out, *options):
    """End a run before some of its blocks, and resume it each time; return how often."""
    monkeypatch.setattr(reading, "_BUNDLE_BLOCKS", random.choice((1, 3)))
    at, crashes = LogBlocks.at, []

    def dies(self, position):
        block = at(self, position)
        if len(crashes) < 3 and random.random() < 0.2:
            crashes.append(position)
            raise Killed
        return block

    with monkeypatch.context() as patch:
        patch.setattr(LogBlocks, "at", dies)
        while True:
            try:
                run(config, out, *options, *(["--resume"] if crashes else []))
                return len(crashes)
            except Killed:
                continue


class Files:
    """Where the rows of a log go as it goes on: to new files, or to the ends of old ones."""

    def __init__(self, log, folder, grows):
        self.log, self.folder, self.grows = log, folder, grows
        if grows:
            # What the first rows look like does not tell all types.
            for name, options in log.options.items():
                if "path" in options:
                    schema = IMPRESSIONS if name == "impressions" else ACTIONS
                    options["path"] = options["path"].replace("parquet", "jsonl")
                    options["types"] = {of.name: type_name(of.type) for of in schema}
        folder.mkdir(parents=True)
        self.config = folder / "headrace.toml"
        self.config.write_text(log.configuration())

    def write(self, part, begin, end):
        """Write what lies in a part of the time."""
        for name, files in {"impressions": self.log.impressions, **self.log.actions}.items():
            schema = IMPRESSIONS if name == "impressions" else ACTIONS
            for number, of in enumerate(files):
                own = [row for row in of if begin <= row["time"] < end]
                if self.grows:
                    with (self.folder / f"{name}-{number}.jsonl").open("a") as file:
                        file.writelines(json.dumps(row) + "\n" for row in own)
                else:
                    path = self.folder / f"{name}-{part}-{number}.parquet"
                    pq.write_table(pa.Table.from_pylist(own, schema), path, row_group_size=17)


def check_continued(seed, folder, monkeypatch):
    """Compare one run over all of a log with runs over what has come by some times."""
    random = Random(seed)
    log = random_log(random, tidy=True)
    log.options["join"]["end_of_log"] = "open"
    for options in log.options.values():
        options.pop("complete_until", None)
    kills = random.random() < 0.3
    if kills:
        log.options["replay"] = {"checkpoint": "0s", "batch_rows": random.choice((5, 20))}
    files = Files(log, folder / "log", grows=random.random() < 0.3)
    streams = log.impressions, *log.actions.values()
    times = [row["time"] for of in streams for rows in of for row in rows]
    drawn = range(random.choice((1, 1, 3)))
    cuts = sorted(random.randint(min(times), max(times) + 1) for _ in drawn)
    outs, options = [], ["--shards", str(random.choice((1, 2, 8)))]
    for part, (begin, end) in enumerate(pairwise([-(2**62), *cuts, 2**62])):
        files.write(part, begin, end)
        past = ["--continue", str(outs[-1])] if outs else []
        arguments = files.config, folder / f"out-{part}", *options, *past
        if kills:
            killed_and_resumed(random, monkeypatch, *arguments)
        else:
            run(*arguments)
        outs.append(folder / f"out-{part}")
    config = files.config
    whole = run(config, folder / "whole", *options)
    for name in ROWS:
        assert rows(outs, name) == rows([whole], name), name
    last, once = (json.loads((out / "summary.json").read_text()) for out in (outs[-1], whole))
    assert last["learners"].keys() == once["learners"].keys()
    for name, learner in once["learners"].items():
        found = last["learners"][name]
        for of in ("samples", "log_loss", "auc", "windows", "served", "calibrated", "compared"):
            assert found[of] == learner[of], (name, of)
        paths = [out / of["model"]["path"] for out, of in ((outs[-1], found), (whole, learner))]
        assert arrays(paths[0]) == arrays(paths[1])
    assert statistics(outs[-1]) == statistics(whole)
    shutil.rmtree(folder)


@pytest.mark.parametrize("seed", range(12), ids=lambda seed: f"random log {seed}")
def test_runs_that_continue_put_out_what_one_does(tmp_path, seed, monkeypatch, capsys):
    """With any options, cut at random times; some grow, and some are killed and resumed."""
    check_continued(seed, tmp_path / "log", monkeypatch)


@pytest.mark.slow
def test_five_hundred_random_logs_go_on_as_one(tmp_path, monkeypatch, capsys):
    """As with the twelve logs."""
    for seed in range(1_000, 1_500):
        check_continued(seed, tmp_path / str(seed), monkeypatch)
        if seed % 100 == 99:
            with capsys.disabled():
                print(f"\n{seed - 999} logs that went on equal to one run")
