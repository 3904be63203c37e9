"""A dead stream of clicks, from the log to the journal: learning waits before windows close."""

from __future__ import annotations

import json
import threading
from random import Random

import numpy as np
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

import headrace
from headrace.learners.registry import parameter_models
from headrace.pipelines.app.cli import main
from headrace.pipelines.app.resolving import resolve
from headrace.pipelines.jobs import replay as replay_job
from headrace.pipelines.jobs import stream as stream_job
from headrace.pipelines.run.liveplace import opened_live
from headrace.schemas.config.durations import MINUTE, SECOND
from headrace.schemas.config.loading import load_config
from headrace.schemas.records.events import IMPRESSIONS
from tests.pipelines.direct import run_directly
from tests.pipelines.growing import GrowingFile, GrowingFiles, Pause

LENGTH = 15 * MINUTE


@pytest.fixture(scope="module", autouse=True)
def _directly():
    with pytest.MonkeyPatch.context() as patching:
        for module in (replay_job, stream_job):
            patching.setattr(module, "run_graph", run_directly)
        yield


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
    """Return how many impressions lost their clicks, and how many of them were learned.

    Parameters
    ----------
    out, truth
        Results with and without a fault.
    """
    columns = ["request_id", "event_time", "click"]
    samples = ds.dataset(out / "samples", format="parquet").to_table(columns=columns)
    held = ds.dataset(out / "quarantine", format="parquet").to_table(columns=columns)
    true = ds.dataset(truth / "samples", format="parquet")
    clicked = true.to_table(columns=columns, filter=ds.field("click")).column("request_id")
    negative = samples.filter(pc.invert(samples.column("click")))
    lost = negative.filter(pc.is_in(negative.column("request_id"), clicked))
    held_back = pc.is_in(lost.column("request_id"), held.column("request_id"))
    return lost.num_rows, lost.num_rows - pc.sum(held_back).as_py()


@pytest.fixture(scope="module")
def healthy(tmp_path_factory):
    """Traffic without a fault, and what a replay makes of it."""
    folder = tmp_path_factory.mktemp("healthy")
    config = generated(folder / "log", "standstill:75m:15m")
    summary = replayed(config, folder / "out")
    return config, folder / "out", summary


def test_healthy_traffic_is_not_suspected(healthy):
    """It is armed, and says what is usual."""
    _, out, summary = healthy
    journal = ds.dataset(out / "guard", format="parquet").to_table()
    own = [event for event in journal.column("event").to_pylist() if event.startswith("lead-")]
    assert own == ["lead-armed"]
    arrivals = summary["guard"]["click"]["arrivals"]
    assert arrivals["state"] == "watching"
    assert arrivals["usual"] == pytest.approx(1.0, abs=0.15)
    assert arrivals["disconnected_s"] == 0


@pytest.mark.parametrize(
    ("fault", "within_s", "over_s"), [("stop", 40, 9 * 60), ("lag", 60, 25 * 60)]
)
def test_a_fault_is_seen_in_seconds_and_none_of_what_it_loses_is_learned(
    tmp_path, healthy, fault, within_s, over_s
):
    """Long before labels show it, which is when windows close.

    After an outage arrivals say when labels are right; after a lag only labels do.
    """
    config = generated(tmp_path / "log", f"{fault}:75m:15m")
    summary = replayed(config, tmp_path / "out")
    found = events(tmp_path / "out", begin_of(tmp_path / "log"))
    assert 0 < found["lead-disconnect"] < within_s
    assert found["disconnect"] > found["lead-disconnect"] + 60
    assert found["lead-reconnect"] > LENGTH / SECOND
    assert 5 * 60 < found["reconnect"] - LENGTH / SECOND < over_s
    assert summary["guard"]["click"]["arrivals"]["disconnected_s"] > LENGTH / SECOND - within_s
    lost, learned = lost_and_learned(tmp_path / "out", healthy[1])
    assert lost > 1000
    assert learned < 10
    quarantine = headrace.load_quarantine(tmp_path / "out")
    arrivals, labels = quarantine.held[:2]
    assert arrivals.disconnect.arrivals
    assert not labels.disconnect.arrivals
    assert arrivals.rows > 0
    assert sum(of.rows for of in quarantine.held) == quarantine.rows.count_rows()


class Portions(GrowingFile):
    """A file that comes in portions of many records, and stands still at the end of one."""

    rows = 250

    def chunks(self, rows, skip=0):
        for chunk in self.log.chunks(self.rows, skip):
            while self.held_back(chunk.begin):
                yield None
            yield chunk
        if self.stream == IMPRESSIONS:
            for pause in self.pauses:
                pause.over = True


class UntilAllIsShown(Pause):
    """From its position on a log is silent until all impressions have been read."""

    def __init__(self, number, position):
        super().__init__(number, position, 0.0)
        self.over = False

    def holds(self, position):
        self.since = self.since or position >= self.position
        return position >= self.position and not self.over


class Standing(GrowingFiles):
    """Files of which one stands still."""

    def __init__(self, inputs, pause):
        super().__init__(inputs, Random(0), [pause])
        self.partitions = [Portions(log, self.random, self.pauses) for log in inputs.logs]

    def ends(self, numbers):
        (pause,) = self.pauses
        held = {pause.number: pause.position} if pause.since and not pause.over else {}
        return {number: held.get(number, 1 << 40) for number in numbers}


def test_what_an_idle_source_leaves_without_clicks_is_not_learned(tmp_path, healthy):
    """Its clicks come when all impressions have been read: most of them are late then."""
    path, truth, _ = healthy
    config = load_config(path, parameter_models())
    live = config.live.model_copy(update={"idle_after": SECOND // 10})
    small = config.replay.model_copy(update={"batch_rows": 1000})
    inputs = resolve(config.model_copy(update={"live": live, "replay": small}))
    clicks = pq.read_table(path.with_name("clicks.parquet"), columns=["time"]).column("time")
    stands = int(np.searchsorted(clicks.to_numpy(), begin_of(path.parent)))
    growing = Standing(inputs, UntilAllIsShown(1, stands // Portions.rows * Portions.rows))
    with opened_live(tmp_path / "live") as place:
        assert stream_job.stream(inputs, growing, place, threading.Event()).ended
    found = events(tmp_path / "live", begin_of(path.parent) - 3 * MINUTE)
    assert list(found) == ["lead-disconnect", "disconnect"]
    assert found["disconnect"] > found["lead-disconnect"] + 200
    journal = ds.dataset(tmp_path / "live" / "guard", format="parquet").to_table()
    (reason,) = journal.filter(pc.equal(journal["event"], "lead-disconnect"))["reason"].to_pylist()
    assert reason.startswith("click: no arrivals since ")
    assert reason.endswith(": the source is idle, or lost")
    held = ds.dataset(tmp_path / "live" / "quarantine", format="parquet").to_table()
    assert reason in held["quarantine_reason"].to_pylist()
    lost, learned = lost_and_learned(tmp_path / "live", truth)
    assert lost > 3000
    assert learned < 10
