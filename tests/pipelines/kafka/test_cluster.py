"""The live job on Prism, which stands for distributed runners, gives what a replay gives."""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import subprocess
import sys
import time

import apache_beam as beam
import pytest

import headrace
from headrace.pipelines.app.live import stream_on
from headrace.pipelines.kafka.topics import Brokers
from headrace.pipelines.run.prism import prism
from headrace.pipelines.run.signing import read_signed
from headrace.schemas.config.kafka import KafkaConfig
from headrace.schemas.errors import ConfigError, RunnerError
from tests.pipelines.kafka.test_arrow_topics import as_arrow
from tests.pipelines.kafka.test_stream import live_config, models_of, rows
from tests.pipelines.kafka.test_topiclogs import ROOT, as_topics, logs, toml

__all__ = ["logs"]

ORDER = [("source", "ascending"), ("offset", "ascending"), ("row", "ascending")]


@pytest.fixture(scope="module", autouse=True)
def _built():
    try:
        prism(beam.__version__)
    except RunnerError as error:
        pytest.skip(f"no Prism: {error}")


def outputs(result):
    """Return the rows of all outputs in their order, dead letters sorted, and the models."""
    found = {"samples": rows(result.samples), "models": models_of(result.out)}
    if result.corrections is not None:
        found["corrections"] = rows(result.corrections)
    found |= {f"joined/{name}": rows(of) for name, of in result.joined.items()}
    found["dead"] = rows(result.dead_letters).sort_by(ORDER)
    return found


def check_equal(out, replayed):
    live, expected = outputs(headrace.load_live(out)), outputs(replayed)
    assert live.keys() == expected.keys()
    assert [name for name in live if live[name] != expected[name]] == []
    return live


LATER = {"retention": "30m", "joined": True}
CASES = [
    ("dirty", 1, 8, 1, LATER),
    ("clean", 3, 1, 2, {}),
    pytest.param("dirty", 3, 8, 1, LATER, marks=pytest.mark.slow),
    pytest.param("dirty", 3, 1, 3, {"emission": "elapsed"}, marks=pytest.mark.slow),
    pytest.param(
        "dirty", 1, 8, 1, {"emission": "window_and_immediate", **LATER}, marks=pytest.mark.slow
    ),
    pytest.param("dirty", 3, 8, 1, {"group": ["request_id"]}, marks=pytest.mark.slow),
    pytest.param("dirty", 3, 8, 1, {"end_of_log": "open"}, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("log", "partitions", "shards", "readers", "join"), CASES)
def test_until_the_end_prism_gives_what_a_replay_gives(
    broker, tmp_path, logs, log, partitions, shards, readers, join
):
    """Samples, corrections, joined actions and models to the bit, and the same dead letters."""
    places = as_topics(broker, logs[log], partitions)
    tables = live_config(broker, places, {"snapshot": "1s"}, **{**join, "shards": shards})
    tables["actions"]["click"]["window"] = "5s"
    replayed = headrace.replay(tables, tmp_path / "replay")
    tables["kafka"]["readers"] = readers
    assert stream_on("prism", tables, tmp_path / "live", until_end=True)
    found = check_equal(tmp_path / "live", replayed)
    assert found["samples"].num_rows > 1_000
    finished = read_signed(tmp_path / "live" / ".headrace" / "finished.json")
    assert finished["totals"]["samples"] == found["samples"].num_rows


def test_messages_of_many_rows_are_read_there_too(broker, tmp_path, logs):
    """A block ends inside of a message, and the next one begins at the next row."""
    tables = live_config(broker, as_arrow(broker, logs["dirty"], 5_000), {"snapshot": "1s"})
    tables["replay"] = {"batch_rows": 500}
    replayed = headrace.replay(tables, tmp_path / "replay")
    assert stream_on("prism", tables, tmp_path / "live", until_end=True)
    assert check_equal(tmp_path / "live", replayed)["dead"].num_rows > 3


def test_secrets_are_not_a_part_of_the_graph(monkeypatch):
    """A step is sent with the names of secrets; workers find their values."""
    monkeypatch.setenv("PASSWORD", "hush")
    properties = {"security.protocol": "SASL_SSL", "sasl.mechanism": "PLAIN",
                  "sasl.username": "me", "sasl.password": {"env": "PASSWORD"}}  # fmt: skip
    brokers = Brokers(KafkaConfig(servers="localhost:1", **properties), "c.toml")
    sent = pickle.dumps(brokers)
    assert b"hush" not in sent
    assert pickle.loads(sent).properties == brokers.properties
    monkeypatch.delenv("PASSWORD")
    with pytest.raises(ConfigError, match="PASSWORD"):
        pickle.loads(sent)


class Launched:
    """The command line, running on Prism until something happens to it."""

    def __init__(self, broker, folder, places, **live):
        tables = {**live_config(broker, places), "live": live}
        tables["actions"]["click"]["window"] = "5s"
        path = folder / "headrace.toml"
        path.write_text(toml(tables))
        self.out = folder / "live"
        command = [sys.executable, "-m", "headrace", "stream", str(path), "--out", str(self.out)]
        self.process = subprocess.Popen(
            [*command, "--runner", "prism"], cwd=ROOT, stderr=subprocess.PIPE, text=True
        )

    def until_it_writes(self):
        until_s = time.monotonic() + 60
        while not list(self.out.glob("samples/*/*/*.parquet")):
            assert self.process.poll() is None, self.process.stderr.read()
            assert time.monotonic() < until_s
            time.sleep(0.05)

    @property
    def prism(self):
        """The process number of Prism."""
        children = f"/proc/{self.process.pid}/task/{self.process.pid}/children"
        with open(children) as file:
            return next(int(pid) for pid in file.read().split() if program(int(pid)) == "prism")

    def end(self):
        """Return exit code and what was said, when it has ended."""
        _, said = self.process.communicate(timeout=60)
        return self.process.returncode, said.splitlines()


def program(pid):
    try:
        with open(f"/proc/{pid}/comm") as file:
            return file.read().strip()
    except FileNotFoundError:
        return None


def test_a_signal_stops_the_job_and_the_same_command_begins_anew(broker, tmp_path, logs):
    """What was written is written again with the same bytes, and Prism is gone."""
    places = as_topics(broker, logs["clean"], 1)
    written = []
    for _ in range(2):
        job = Launched(broker, tmp_path, places)
        job.until_it_writes()
        prism = job.prism
        job.process.send_signal(signal.SIGTERM)
        code, said = job.end()
        assert (code, said[-1]) == (
            0, "headrace: stopped; Prism keeps no state, so the same command begins anew"
        )  # fmt: skip
        assert program(prism) != "prism"
        files = sorted((job.out / "samples").rglob("*Z.parquet"))
        written.append({path.name: path.read_bytes() for path in files})
        shutil.rmtree(job.out / "samples")
    both = written[0].keys() & written[1].keys()
    assert both
    assert all(written[0][name] == written[1][name] for name in both)


def test_prism_dies_with_a_killed_process(broker, tmp_path, logs):
    """Nothing is left that reads or listens."""
    job = Launched(broker, tmp_path, as_topics(broker, logs["clean"], 1))
    job.until_it_writes()
    prism = job.prism
    os.kill(job.process.pid, signal.SIGKILL)
    job.end()
    until_s = time.monotonic() + 10
    while program(prism) == "prism":
        assert time.monotonic() < until_s
        time.sleep(0.05)


def test_a_killed_runner_is_one_line(broker, tmp_path, logs):
    job = Launched(broker, tmp_path, as_topics(broker, logs["clean"], 1))
    job.until_it_writes()
    os.kill(job.prism, signal.SIGKILL)
    code, said = job.end()
    assert code == 1
    assert said[2:] == ["headrace: prism: the job has failed (the runner is gone)"]


def test_an_error_of_a_worker_is_one_line(broker, tmp_path, logs):
    """The words of the error, which workers tell through the runner."""
    places = as_topics(broker, logs["clean"], 1)
    job = Launched(broker, tmp_path, places)
    job.until_it_writes()
    broker.delete(places["click"]["topic"])
    code, said = job.end()
    assert code == 1
    topic = places["click"]["topic"]
    assert said[2:] == [f"headrace: {topic}: the topic was deleted; create it, and begin anew"]
