"""A log that goes on: runs that continue one another put out what one run would."""

from __future__ import annotations

import json
import shutil
from random import Random

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from headrace.joiner.state import hashqueue
from headrace.pipelines.app.cli import main
from headrace.pipelines.jobs import replay as replay_job
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


def check_continued(seed, folder):
    """Compare one run over all files with runs over the files of some parts of the time."""
    random = Random(seed)
    log = random_log(random, tidy=True)
    log.options["join"]["end_of_log"] = "open"
    for options in log.options.values():
        options.pop("complete_until", None)
    times = [row["time"] for files in (log.impressions, *log.actions.values())
             for part in files for row in part]  # fmt: skip
    cuts = sorted(
        random.randint(min(times), max(times) + 1) for _ in range(random.choice((1, 1, 3)))
    )
    config, parts = folder / "log", len(cuts) + 1
    config.mkdir(parents=True)
    (config / "headrace.toml").write_text(log._configuration())
    outs = []
    options = ["--shards", str(random.choice((1, 2, 8)))]
    for part in range(parts):
        begin = cuts[part - 1] if part else -(2**62)
        end = cuts[part] if part < len(cuts) else 2**62
        for name, files in {"impressions": log.impressions, **log.actions}.items():
            schema = IMPRESSIONS if name == "impressions" else ACTIONS
            for number, of in enumerate(files):
                own = [row for row in of if begin <= row["time"] < end]
                table = pa.Table.from_pylist(own, schema)
                pq.write_table(table, config / f"{name}-{part}-{number}.parquet", row_group_size=17)
        past = ["--continue", str(outs[-1])] if outs else []
        outs.append(run(config / "headrace.toml", folder / f"out-{part}", *options, *past))
    whole = run(config / "headrace.toml", folder / "whole", *options)
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


@pytest.mark.parametrize("seed", range(30), ids=lambda seed: f"random log {seed}")
def test_runs_that_continue_put_out_what_one_does(tmp_path, seed, capsys):
    """With any options, cut at random times."""
    check_continued(seed, tmp_path / "log")
