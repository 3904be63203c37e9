"""A dead stream of clicks, from the log to the journal: learning waits before windows close."""

from __future__ import annotations

import json
import threading
from datetime import datetime
from random import Random

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from headrace.pipelines.app.cli import main
from headrace.pipelines.jobs import replay as replay_job
from headrace.pipelines.jobs import stream as stream_job
from headrace.schemas.config.durations import MINUTE, SECOND
from headrace.schemas.config.loading import load_config
from tests.pipelines.direct import run_directly
from tests.pipelines.growing import GrowingFile, GrowingFiles, Pause
from headrace.learners.registry import parameter_models
from headrace.pipelines.app.resolving import resolve
from headrace.pipelines.run.liveplace import opened_live

WINDOW, BEGIN = 5 * MINUTE, 75 * MINUTE
LENGTH = 15 * MINUTE


@pytest.fixture
def directly(monkeypatch):
    for module in (replay_job, stream_job):
        monkeypatch.setattr(module, "run_graph", run_directly)


def generated(folder, fault):
    """Make two hours of traffic whose guard is armed in the first; return its configuration."""
    options = ["--impressions", "240000", "--rate", "33", "--window", "5m", "--seed", "3"]
    assert main(["generate", "--out", str(folder), *options, "--faults", fault]) == 0
    path = folder / "headrace.toml"
    text = path.read_text().replace("negative_rate = 0.5", "negative_rate = 1.0")
    path.write_text(text + '\n[guard]\nsettle = "30m"\n')
    return path


def replayed(config, out, *options):
    command = ["replay", str(config), "--out", str(out), "--quiet", "--allow-invalid", *options]
    assert main(command) == 0
    return json.loads((out / "summary.json").read_text())


def begin_of(folder):
    return json.loads((folder / "truth.json").read_text())["faults"][0]["from"]


def events(out, begin):
    """Return seconds from a time to each event about all samples, by event: the first of each."""
    journal = ds.dataset(out / "guard", format="parquet").to_table().to_pylist()
    found = {}
    for row in journal:
        if row["slice"] is None and row["time"].timestamp() * SECOND >= begin:
            found.setdefault(row["event"], row["time"].timestamp() - begin / SECOND)
    return found


def lost_and_learned(out, truth):
    """Return impressions that were learned as negatives though they were clicked in truth."""
    columns = ["request_id", "event_time", "click"]
    samples = ds.dataset(out / "samples", format="parquet").to_table(columns=columns)
    held = ds.dataset(out / "quarantine", format="parquet").to_table(columns=columns)
    clicked = truth.to_table(columns=columns, filter=ds.field("click")).column("request_id")
    negative = samples.filter(pc.invert(samples.column("click")))
    lost = negative.filter(pc.is_in(negative.column("request_id"), clicked))
    learned = pc.invert(pc.is_in(lost.column("request_id"), held.column("request_id")))
    return lost.filter(learned), lost.num_rows


@pytest.mark.usefixtures("directly")
@pytest.mark.parametrize(("fault", "within_s"), [("stop", 40), ("lag", 60)])
def test_a_fault_is_seen_in_seconds_and_none_of_what_it_loses_is_learned(
    tmp_path, fault, within_s, capsys
):
    """Long before labels show it, which is when windows close."""
    healthy = generated(tmp_path / "healthy", "standstill:75m:15m")
    replayed(healthy, tmp_path / "truth")
    config = generated(tmp_path / "log", f"{fault}:75m:15m")
    summary = replayed(config, tmp_path / "out")
    found = events(tmp_path / "out", begin_of(tmp_path / "log"))
    print(fault, found)
    assert 0 < found["lead-disconnect"] < within_s
    assert found["disconnect"] > found["lead-disconnect"] + 60
    assert found["lead-reconnect"] > LENGTH / SECOND
    assert summary["guard"]["click"]["arrivals"]["disconnected_s"] > LENGTH / SECOND
    truth = ds.dataset(tmp_path / "truth" / "samples", format="parquet")
    learned, lost = lost_and_learned(tmp_path / "out", truth)
    print(lost, learned.num_rows)
    assert lost > 1000
    assert learned.num_rows < 20
