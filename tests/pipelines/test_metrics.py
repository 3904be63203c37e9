"""Metrics of a run, scraped while it runs."""

from __future__ import annotations

import itertools
import json
import re
import socket
import threading
from importlib.metadata import version
from random import Random
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families as parsed

import headrace
from headrace.monitoring.figures import GUARD_STATES
from headrace.monitoring.prometheus.collector import FiguresCollector
from headrace.pipelines.app.cli import main
from headrace.pipelines.app.metrics import Metrics
from headrace.pipelines.app.resolving import resolve
from headrace.pipelines.beam import reading
from headrace.pipelines.jobs import stream as job
from headrace.pipelines.jobs.figures import FiguresKeeper
from headrace.pipelines.jobs.livecheckpoints import LiveCheckpoints
from headrace.pipelines.jobs.status import read_status
from headrace.pipelines.run.liveplace import opened_live
from tests.pipelines.growing import StandingFiles, run_stream
from tests.pipelines.test_stream import written


def scraped(port):
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        return samples_of(answer.read().decode())


def samples_of(text):
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in parsed(text)
        for sample in family.samples
    }


def free_port():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


@pytest.fixture
def scrapes(monkeypatch):
    """Scrape whenever a run publishes figures, which it does between any two bundles."""
    found, port = [], free_port()
    whole = FiguresKeeper.publish

    def publish(self):
        whole(self)
        self.due = 0.0
        found.append(scraped(port))

    monkeypatch.setattr(FiguresKeeper, "offer", publish)
    monkeypatch.setattr(FiguresKeeper, "publish", publish)
    return port, found


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    folder = tmp_path_factory.mktemp("log")
    headrace.generate(folder, impressions=15_000, window="2s")
    path = folder / "headrace.toml"
    text, windows = re.subn(r'^window = "\w+"\n\Z', 'window = "1m"\n', path.read_text(), flags=re.M)
    assert windows == 1
    path.write_text(text + '\n[live]\ncheckpoint = "0s"\nsnapshot = "0s"\n')
    return path


def test_a_replay_is_scraped_and_ends_with_the_figures_of_its_summary(log, tmp_path, scrapes):
    port, found = scrapes
    result = headrace.replay(log, tmp_path / "out", metrics_port=port)
    last, summary = found[-1], result.summary
    for stream, outcomes in summary.outcomes.items():
        for outcome, count in outcomes.items():
            name = ("headrace_outcomes_total", ("outcome", outcome), ("stream", stream))
            assert (
                last[name if outcome != "open" else ("headrace_open_records", ("stream", stream))]
                == count
            )
    assert last["headrace_samples_total",] == summary.samples.rows
    for label, guard in summary.guard.items():
        of_all = (("label", label), ("slice", ""), ("value", ""))
        assert GUARD_STATES[int(last["headrace_guard_state", *of_all])] == guard.state
        assert last["headrace_guard_held_total", of_all[0]] == guard.held
        arrivals = GUARD_STATES[int(last["headrace_guard_arrivals_state", of_all[0]])]
        assert arrivals == guard.arrivals.state
    for name, learner in summary.learners.items():
        of = (("label", learner.label), ("learner", name), ("predicted", "learned"))
        of_all = (*of, ("slice", ""), ("value", ""))
        weight = sum(window.weight for window in learner.windows)
        loss = last["headrace_prediction_log_loss_total", *of_all]
        assert last["headrace_prediction_weight_total", *of_all] == pytest.approx(weight)
        assert loss / weight == pytest.approx(learner.log_loss)
        end = last["headrace_window_event_time_seconds", *of]
        window = next(w for w in learner.windows if w.start.timestamp() == end - summary.window_s)
        assert last["headrace_window_samples", *of_all] == window.samples
    with pytest.raises(URLError):  # the server stops with the run
        scraped(port)


@pytest.mark.parametrize("live", [False, True])
def test_counters_of_a_run_never_fall(tmp_path, monkeypatch, live):
    """Neither while windows close in a live run, which forgets them, nor in a replay."""
    found, whole = [], FiguresKeeper.publish

    def publish(self):
        whole(self)
        registry = CollectorRegistry()
        registry.register(FiguresCollector(lambda: self.run.board.figures, "1"))
        found.append(samples_of(generate_latest(registry).decode()))

    monkeypatch.setattr(FiguresKeeper, "offer", publish)
    monkeypatch.setattr(FiguresKeeper, "publish", publish)
    monkeypatch.setattr(reading, "_BUNDLE_BLOCKS", 2)
    random = Random(9)
    config = written(tmp_path, random)
    if live:
        run_stream(config, tmp_path / "out", threading.Event(), random)
    else:
        headrace.replay(config, tmp_path / "out", metrics_port=free_port())
    assert len(found) > 3
    assert any(name[0] == "headrace_window_samples" for name in found[-1])
    for before, after in itertools.pairwise(found):
        falling = {
            name for name, value in before.items()
            if name[0].endswith("_total") and not after[name] >= value - 1e-9
        }  # fmt: skip
        assert not falling


def test_a_live_run_has_the_figures_of_a_replay_in_its_status(log, tmp_path):
    """Also of windows that were written and forgotten."""
    config = headrace.load_config(log)
    run_live(config, tmp_path / "live")
    figures = read_status(tmp_path / "live")["figures"]
    summary = headrace.replay(config, tmp_path / "out").summary
    assert figures["outcomes"] == summary.outcomes
    assert figures["samples"] == summary.samples.rows
    assert figures["checkpoint_s"] > 0
    assert all(source["ended"] for source in figures["sources"])
    totals = {
        of["learner"]: dict(zip(("samples", "positives"), (of["totals"][n][0] for n in
                                ("samples", "positives")), strict=True))
        for of in figures["predictions"] if of["predicted"] == "learned" and of["totals"]["slice"]
    }  # fmt: skip
    assert totals == {
        name: {"samples": learner.samples,
               "positives": sum(window.positives for window in learner.windows)}
        for name, learner in summary.learners.items() if learner.samples
    }  # fmt: skip


def test_counters_go_on_where_a_stopped_run_stood(log, tmp_path, monkeypatch):
    """Windows that were written before the stop still count."""
    config = headrace.load_config(log)
    run_live(config, tmp_path / "whole")
    whole, stopping = read_status(tmp_path / "whole")["figures"], threading.Event()
    original = LiveCheckpoints.offer

    def offered(self, block, states):
        if self.run.board.events > 9_000:
            stopping.set()
        return original(self, block, states)

    with monkeypatch.context() as patch:
        patch.setattr(LiveCheckpoints, "offer", offered)
        patch.setattr(reading, "_BUNDLE_BLOCKS", 2)
        stood = run_live(config, tmp_path / "live", stopping)
    assert not stood.ended
    then = read_status(tmp_path / "live")["figures"]
    assert 0 < then["samples"] < whole["samples"]
    assert then["predictions"][0]["window"] is not None
    run_live(config, tmp_path / "live")
    again = read_status(tmp_path / "live")["figures"]
    assert again["samples"] == whole["samples"]
    for before, after in zip(whole["predictions"], again["predictions"], strict=True):
        assert cells_of(after["totals"]) == pytest.approx(cells_of(before["totals"]))
        assert after["bins"] == before["bins"]


def run_live(config, out, stopping=None):
    """Run the live job of a configuration of files, all of which are there."""
    inputs = resolve(config)
    with opened_live(out) as place:
        files = StandingFiles(inputs, 1 << 40)
        return job.stream(inputs, files, place, stopping or threading.Event())


def cells_of(totals):
    names = zip(totals["slice"], totals["value"], strict=True)
    return {
        (*cell, sum_): totals[sum_][i] for i, cell in enumerate(names)
        for sum_ in ("samples", "positives", "p_sum", "loss")
    }  # fmt: skip


def test_a_port_in_use_is_one_line_before_anything_starts(log, tmp_path, capsys):
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        port = listening.getsockname()[1]
        command = ["replay", str(log), "--out", str(tmp_path / "out"), "--metrics-port", str(port)]
        assert main(command) == 2
    assert capsys.readouterr().err == (
        f"headrace: metrics port cannot be listened on at 127.0.0.1 (Address already in use) "
        f"(got {port}); choose a free port, and an address of this machine\n"
    )
    assert not (tmp_path / "out" / "seal.json").exists()


@pytest.mark.parametrize(("port", "host"), [(9_108, "no.such.host.invalid"), (99_999, "127.0.0.1")])
def test_an_address_that_is_none_is_one_line(port, host):
    with pytest.raises(headrace.ArgumentError) as raised, Metrics(port, host).served():
        pass
    assert "\n" not in str(raised.value)


def test_metrics_are_served_to_this_machine_alone_unless_asked():
    with Metrics(port := free_port()).served():
        assert scraped(port).keys() == {
            ("headrace_build_info", ("version", version("headrace")))
        }  # fmt: skip
        with socket.socket() as elsewhere, pytest.raises(OSError, match="refused"):
            elsewhere.connect(("127.0.0.2", port))
    with Metrics(port, "0.0.0.0").served(), socket.socket() as elsewhere:
        elsewhere.connect(("127.0.0.2", port))


def test_a_distributed_runner_serves_no_metrics(log, tmp_path, capsys):
    command = ["stream", str(log), "--out", str(tmp_path / "o"), "--runner", "prism"]
    assert main([*command, "--metrics-port", "9108"]) == 2
    assert "is not served with --runner prism (got 9108); leave it out" in capsys.readouterr().err


def test_status_is_compact_json(tmp_path):
    random = Random(5)
    config = written(tmp_path, random)
    run_stream(config, tmp_path / "live", threading.Event(), random)
    text = (tmp_path / "live" / ".headrace" / "live" / "status.json").read_text()
    assert json.loads(text)["figures"]["events"] > 0
    assert text.count("\n") == 1
