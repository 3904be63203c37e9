"""Pairwise fairness of a replay, from a generated log whose examination is known."""

from __future__ import annotations

import re
import tomllib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import headrace
from headrace.pipelines.jobs import replay as replay_job
from headrace.pipelines.jobs.behaviour import THETA
from headrace.pipelines.jobs.generate import Traffic, write_traffic
from tests.pipelines.direct import run_directly

FEATURES = {"categorical": ["device", "os", "site", "ad"], "numeric": {"price": "log"}}


@pytest.fixture(scope="module", autouse=True)
def _directly():
    with pytest.MonkeyPatch.context() as patching:
        patching.setattr(replay_job, "run_graph", run_directly)
        yield


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    """Traffic of which theta is a column, null of each hundredth impression, and its tables."""
    folder = tmp_path_factory.mktemp("log")
    write_traffic(Traffic(300_000, rate=50, clean=True, examination=True), folder)
    path = folder / "impressions.parquet"
    shown = pq.read_table(path)
    theta = np.array(THETA)[shown.column("position").to_numpy() - 1]
    missing = np.arange(theta.size) % 100 == 7
    shown = shown.append_column("theta", pa.array(theta, mask=missing))
    shown = shown.append_column("one", pa.array(np.ones(theta.size)))
    pq.write_table(shown, path)
    found = tomllib.loads((folder / "headrace.toml").read_text())
    for stream in (found["impressions"], found["actions"]["click"]):
        stream["path"] = str(folder / stream["path"])
    learner = {"label": "click", "algorithm": "ftrl", "bits": 18, "features": FEATURES}
    del found["learner"]
    found["learners"] = {
        "plain": learner,
        "placed": {
            **learner,
            "position": {"column": "position", "theta": list(THETA), "method": "offset"},
        },
    }
    found["sampling"]["negative_rate"] = 0.5
    found["monitor"] = {
        "propensity": "theta", "slices": ["randomised", "position"], "served_share": 1.0,
    }  # fmt: skip
    return found


@pytest.fixture(scope="module")
def replayed(log, tmp_path_factory):
    return headrace.replay(log, tmp_path_factory.mktemp("out") / "out")


def changed(log, **monitor):
    return {**log, "monitor": {**log["monitor"], **monitor}}


def test_clicks_weigh_by_the_column(replayed):
    """At a position all weigh alike; together as many as their weights say."""
    found = replayed.summary.learners["plain"].pairwise
    served = replayed.summary.learners["plain"].served
    assert found.samples + found.left_out == served.samples > 250_000
    assert found.left_out == pytest.approx(served.samples / 100, rel=0.02)
    assert (found.propensity, found.clipped) == ("theta", 0)
    by_position = {of.value: of for of in found.slices if of.slice == "position"}
    assert by_position.keys() == {"1", "2", "3", "4", "5"}
    for of in by_position.values():
        assert of.effective_positives == pytest.approx(of.positives)
    clicks = np.array([by_position[str(n + 1)].positives for n in range(5)])
    weights = clicks / np.array(THETA)
    expected = weights.sum() ** 2 / (weights / np.array(THETA)).sum()
    assert found.effective_positives == pytest.approx(expected)
    assert found.positives == clicks.sum()


def test_weighted_clicks_rank_as_those_of_random_positions(log, replayed, tmp_path):
    """Which are examined whatever they are; clicks as they came are of what was ranked high."""
    weighted = replayed.summary.learners["plain"].pairwise
    one = headrace.replay(changed(log, propensity="one"), tmp_path / "one")
    plain = one.summary.learners["plain"].pairwise
    (random,) = (of for of in plain.slices if (of.slice, of.value) == ("randomised", "true"))
    assert random.inter_interval[0] <= weighted.accuracy <= random.inter_interval[1]
    assert plain.accuracy > weighted.accuracy_interval[1]


def test_the_report_has_the_tables(replayed):
    page = (replayed.out / "report.html").read_text()
    assert re.findall(r"<h3>(Pairwise.*?)</h3>", page) == [
        "Pairwise accuracy of plain by randomised", "Pairwise accuracy of plain by position",
    ]  # fmt: skip
    assert "Pairwise fairness of placed is not computed: as served" in page
    assert "Pairwise fairness is not computed" not in page
    assert replayed.summary.learners["placed"].pairwise is None


def test_shards_and_blocks_change_nothing(log, replayed, tmp_path):
    other = {**log, "replay": {"batch_rows": 1_000}, "join": {**log.get("join", {}), "shards": 3}}
    found = headrace.replay(other, tmp_path / "out")
    assert found.summary.learners["plain"].pairwise == replayed.summary.learners["plain"].pairwise


def test_what_cannot_be_is_refused_in_a_line(log):
    placed = {"placed": log["learners"]["placed"]}
    for tables, fact in (
        (changed(log, propensity="thetas"), "thetas"),
        (changed(log, propensity="site"), "column is string, not a number"),
        (changed(log, served_share=0), "monitor.served_share is 0"),
        (changed(log, slices=[]), "monitor.slices has none"),
        ({**log, "learners": placed}, "is for learners without a position"),
    ):
        with pytest.raises(headrace.ConfigError) as refused:
            headrace.validate(tables)
        assert refused.value.key == "monitor.propensity"
        assert fact in str(refused.value)
        assert "\n" not in str(refused.value)
