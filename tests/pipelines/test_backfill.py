"""A log of last month in Prometheus: what it answers are the figures of the summary."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import threading
from random import Random
from subprocess import PIPE

import pyarrow.parquet as pq
import pytest

import headrace
from headrace.pipelines.app.backfilling import backfill
from headrace.pipelines.app.cli import main
from headrace.pipelines.jobs.statisticsfile import read_recorded
from tests.pipelines.growing import run_stream
from tests.pipelines.prometheusserver import free_port, scraping, serving, until
from tests.pipelines.test_stream import written
from tests.prometheustools import needs_prometheus


@pytest.fixture(scope="module")
def replayed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("backfill")
    headrace.generate(folder / "log", impressions=20_000)
    config = folder / "log" / "headrace.toml"
    text = config.read_text()
    config.write_text(re.sub(r'^window = "\w+"\n\Z', 'window = "1m"\n', text, flags=re.M))
    return headrace.replay(config, folder / "result")


@needs_prometheus
def test_prometheus_answers_with_the_figures_of_the_summary(replayed, tmp_path):
    done = backfill(replayed.out, tmp_path / "metrics")
    assert done.blocks
    port = free_port()
    with serving(done.serve(port), port) as server:
        for name, learner in replayed.summary.learners.items():
            of = f'{{learner="{name}",predicted="learned",slice="",value=""}}'
            last = done.end / 1e6
            ((_, samples),) = server.query(f"headrace_prediction_samples_total{of}", last)
            assert samples == learner.samples
            loss = f"headrace_prediction_log_loss_total{of} / headrace_prediction_weight_total{of}"
            ((_, log_loss),) = server.query(loss, last)
            assert log_loss == pytest.approx(learner.log_loss, rel=1e-12)
            length = int(replayed.summary.window_s)
            assert len(learner.windows) > 2
            for window in learner.windows:
                end = window.start.timestamp() + length
                counter = f"headrace_prediction_positives_total{of}"
                ((_, exact),) = server.query(f"{counter} - {counter} offset {length}s", end)
                ((_, gauge),) = server.query(f"headrace_window_positives{of}", end)
                assert exact == gauge == window.positives


@needs_prometheus
def test_prometheus_scrapes_a_run_and_has_its_figures(replayed, tmp_path, monkeypatch):
    """The run waits at its end until the server has scraped the last figures."""
    from headrace.pipelines.jobs.figures import FiguresKeeper

    port, whole = free_port(), FiguresKeeper.publish
    found = {}
    with scraping(tmp_path / "prometheus", port) as server:

        def publish(self):
            whole(self)
            if self.run.blocks.ended:
                samples = self.run.board.figures.samples
                found["scraped"] = until(
                    lambda: [v for _, v in server.query("headrace_samples_total") if v == samples]
                )
                found["up"] = server.query("up")
                found["lateness"] = server.query("time() - headrace_published_time_seconds")

        monkeypatch.setattr(FiguresKeeper, "publish", publish)
        config = replayed.out.parent / "log" / "headrace.toml"
        result = headrace.replay(config, tmp_path / "out", metrics_port=port)
    assert found["scraped"] == [result.summary.samples.rows]
    assert [value for _, value in found["up"]] == [1]
    assert -1 < found["lateness"][0][1] < 30


def test_a_replay_keeps_its_statistics_by_window(replayed):
    """They add up to those of the summary, and belong to the sealed result."""
    rows = read_recorded(replayed.out).rows
    for name, learner in replayed.summary.learners.items():
        own = [row for row in rows.to_pylist()
               if row["learner"] == name and row["slice"] is None
               and row["predicted"] == "learned"]  # fmt: skip
        assert [row["samples"] for row in own] == [w.samples for w in learner.windows]
        assert [row["window"] for row in own] == [w.start for w in learner.windows]
    assert rows.column("window").to_pylist() == sorted(rows.column("window").to_pylist())
    assert "statistics.parquet" in (replayed.out / "seal.json").read_text()
    assert headrace.verify(replayed.out).problems == []


def test_a_live_run_is_written_like_a_replay(tmp_path):
    """Both have the same windows."""
    random = Random(11)
    config = written(tmp_path, random)
    run_stream(config, tmp_path / "live", threading.Event(), random)
    headrace.replay(config, tmp_path / "out")
    texts = []
    for name in ("live", "out"):
        backfill(tmp_path / name, tmp_path / f"{name}-text")
        texts.append((tmp_path / f"{name}-text" / "headrace.om").read_text())
    assert texts[0] == texts[1]


def test_the_command_says_how_it_is_shown(replayed, tmp_path, capsys, monkeypatch):
    """Without promtool also how blocks are made."""
    monkeypatch.setattr(shutil, "which", lambda name: None)
    out = tmp_path / "metrics"
    assert main(["backfill", str(replayed.out), "--out", str(out)]) == 0
    text, blocks, serve, grafana = capsys.readouterr().out.splitlines()
    assert f"{out}/headrace.om" in text
    assert "promtool tsdb create-blocks-from openmetrics" in blocks
    assert "--storage.tsdb.retention.time=10y --query.lookback-delta=600s" in serve
    assert "from 2026-01-01T00:00Z to 2026-01-01" in grafana
    assert (out / "headrace.om").read_text().endswith("# EOF\n")


def test_a_folder_that_cannot_be_used_is_one_line(replayed, tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").touch()
    for folder, out, expected in (
        (replayed.out, tmp_path / "mine", "is not empty"),
        (tmp_path / "mine", tmp_path / "new", "has no run that goes on"),
    ):
        assert main(["backfill", str(folder), "--out", str(out)]) == 2
        said = capsys.readouterr().err
        assert expected in said
        assert said.count("\n") == 1


def test_a_result_of_an_older_version_says_what_to_do(replayed, tmp_path, capsys):
    older = tmp_path / "older"
    shutil.copytree(replayed.out, older)
    (older / "statistics.parquet").unlink()
    assert main(["backfill", str(older)]) == 2
    assert capsys.readouterr().err == (
        f"headrace: {older}: has no statistics.parquet; replay the log again with this version\n"
    )


@pytest.mark.parametrize("command", [["backfill"], ["watch", "--once"]])
@pytest.mark.parametrize("change", ["without a column", "without counts by log-odds"])
def test_statistics_of_another_version_are_refused_in_a_line(
    replayed, tmp_path, capsys, command, change
):
    older = tmp_path / "older"
    shutil.copytree(replayed.out, older)
    path = older / "statistics.parquet"
    rows = pq.read_table(path)
    rows = rows.drop(["squares"]) if "column" in change else rows.replace_schema_metadata()
    pq.write_table(rows, path)
    assert main([*command, str(older)]) == 2
    assert capsys.readouterr().err == (
        f"headrace: {path}: is of another version; replay the log again with this version\n"
    )


def test_what_nobody_reads_any_more_ends_quietly(replayed, tmp_path):
    """As after ``head -1``; by then everything is written."""
    out = tmp_path / "metrics"
    command = [sys.executable, "-u", "-m", "headrace", "backfill", str(replayed.out), "--out", out]
    with subprocess.Popen(command, stdout=PIPE, stderr=PIPE, text=True) as process:
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(60) == 1
    assert (out / "headrace.om").exists()
