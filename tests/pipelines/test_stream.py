"""A run that does not end gives the rows and models of a replay, through any crashes and stops."""

from __future__ import annotations

import shutil
import threading
from random import Random

import pytest

import headrace
from headrace.joiner.state import hashqueue
from headrace.learners.registry import parameter_models
from headrace.pipelines.beam import reading
from headrace.pipelines.jobs import checkpoint, livecheckpoints, raises
from headrace.pipelines.jobs import replay as replay_job
from headrace.pipelines.jobs import stream as job
from headrace.pipelines.jobs.checkpoint import Checkpointer
from headrace.pipelines.jobs.livecheckpoints import LiveCheckpoints, Models
from headrace.pipelines.jobs.raises import RaiseJournal
from headrace.pipelines.sinks import completion
from headrace.pipelines.sinks.epochs import EpochFolder
from headrace.pipelines.sinks.liveletters import LetterFolder
from headrace.pipelines.sources.blocks import LiveBlocks
from headrace.schemas.config.loading import load_config
from tests.pipelines.direct import run_directly
from tests.pipelines.growing import Pause, run_stream
from tests.pipelines.random_logs import random_log, small_guards

STEPS = [
    (LiveBlocks, "at"),
    (LiveCheckpoints, "offer"),
    (LiveCheckpoints, "finish"),
    (Checkpointer, "take"),
    (checkpoint, "write_join"),
    (Checkpointer, "_write_sinks"),
    (Models, "write"),
    (RaiseJournal, "note"),
    (RaiseJournal, "begin"),
    *((sink, name) for sink in (EpochFolder, LetterFolder)
      for name in ("append", "complete_until", "commit", "confirm", "resume", "close")),
]  # fmt: skip
"""Before and after calls of these a run may die."""


class Killed(BaseException):
    """Stands for the end of the process: no code handles it."""


def dying(monkeypatch, random, deaths):
    """Let the run die at some of its steps, while deaths are left."""

    def patch(owner, name):
        whole = getattr(owner, name)

        def called(self, *arguments):
            if deaths and random.random() < deaths[-1]:
                deaths.pop()
                raise Killed
            result = whole(self, *arguments)
            if deaths and random.random() < deaths[-1]:
                deaths.pop()
                raise Killed
            return result

        monkeypatch.setattr(owner, name, called)

    for owner, name in STEPS:
        patch(owner, name)


def outputs(result):
    """Return the rows of all outputs in order, dead letters sorted, and the models' checksums."""
    found = {"samples": rows(result.samples), "windows": windows_of(result)}
    if result.corrections is not None:
        found["corrections"] = rows(result.corrections)
    if result.guard is not None:
        found |= {"guard": rows(result.guard), "quarantine": rows(result.quarantine)}
    found |= {f"joined/{name}": rows(of) for name, of in result.joined.items()}
    letters = rows(result.dead_letters).to_pylist()
    found["dead"] = sorted(letters, key=lambda row: (row["source"], row["offset"], row["reason"]))
    models = sorted((result.out / "model").glob("*/")) if (result.out / "model").exists() else []
    for learner in models:
        newest = max(learner.glob("snapshot-*"))
        found[f"model/{learner.name}"] = headrace.load_model(newest).manifest["sha256"]
    return found


def windows_of(result):
    """Return start, samples, positives and weight of windows by learner and kind of prediction."""
    if isinstance(result, headrace.ReplayResult):
        learners = result.summary.learners.items()
        figures = [(name, "learned", learner) for name, learner in learners]
        figures += [(name, "served", learner.served) for name, learner in learners]
        figures += [(name, "calibrated", of.calibrated) for name, of in learners if of.calibrated]
        return sorted(
            (name, predicted, window.start, window.samples, window.positives, window.weight)
            for name, predicted, of in figures
            for window in of.windows
        )
    table = rows(result.statistics)
    one = ["learner", "predicted", "window", "slice", "value"]
    assert table.group_by(one).aggregate([]).num_rows == table.num_rows
    names = ["learner", "predicted", "window", "samples", "positives", "weight"]
    of_all = table.filter(table.column("slice").is_null()).select(names).to_pylist()
    return sorted(tuple(row.values()) for row in of_all)


def rows(dataset):
    return dataset.to_table(use_threads=False).combine_chunks()


def written(folder, random, **live):
    """Write a random log that can grow; return its configuration."""
    log = random_log(random)
    for table in log.options.values():
        if table.get("order") == "sort":
            table["order"] = "sorted"
    log.options["replay"] = {"batch_rows": random.choice((5, 20))}
    log.options["live"] = {"checkpoint": "0s", "snapshot": "0s", **live}
    log.options["join"]["shards"] = random.choice((1, 2, 8))
    return load_config(log.write(folder / "log"), parameter_models())


@pytest.fixture
def directly(monkeypatch):
    """Run without Beam, in small bundles."""
    for module in (job, replay_job):
        monkeypatch.setattr(module, "run_graph", run_directly)
    monkeypatch.setattr(reading, "_BUNDLE_BLOCKS", 2)
    monkeypatch.setattr(hashqueue, "_FEW", 2)
    monkeypatch.setattr(livecheckpoints, "_VERIFIED_EVERY_S", 0.0)
    small_guards(monkeypatch)


def until_it_ends(config, out, random, pauses=()):
    """Run again and again until all logs have ended; return how often it died."""
    died = 0
    while True:
        try:
            stood = run_stream(config, out, threading.Event(), random, pauses)
        except Killed:
            died += 1
            continue
        assert stood.ended
        return died


@pytest.mark.parametrize("seed", range(15), ids=lambda seed: f"random log {seed}")
@pytest.mark.usefixtures("directly")
def test_a_run_that_dies_again_and_again_gives_what_a_replay_gives(seed, tmp_path, monkeypatch):
    random = Random(seed)
    config = written(tmp_path, random)
    expected = outputs(headrace.replay(config, tmp_path / "replay"))
    dying(monkeypatch, random, [0.002, 0.01, 0.05, 0.02])
    for _ in range(2):  # the second time it has nothing to do
        until_it_ends(config, tmp_path / "live", random)
        found = outputs(headrace.load_live(tmp_path / "live"))
        assert [name for name in expected if found[name] != expected[name]] == []
    shutil.rmtree(tmp_path)


@pytest.mark.usefixtures("directly")
def test_a_reader_finds_all_outputs_from_the_first_moment(tmp_path, monkeypatch):
    """With their folders, when it finds ``complete.json``."""
    found = []
    write = completion.write_signed

    def noted(path, content):
        found.append(set(content["outputs"]))
        assert all((tmp_path / "live" / name / "_common_metadata").exists() for name in found[-1])
        write(path, content)

    monkeypatch.setattr(completion, "write_signed", noted)
    config = written(tmp_path, Random(3))
    until_it_ends(config, tmp_path / "live", Random(3))
    assert len(found) > 1
    assert {"samples", "dead_letters"} <= found[0]
    assert all(names == found[0] for names in found)


@pytest.mark.usefixtures("directly")
def test_decisions_about_idle_sources_are_repeated(tmp_path, monkeypatch):
    """What comes out depends on the log and the journal, not on when the run died."""
    noted = 0
    for seed in range(1, 20):  # how many there are depends on the clock
        noted += check_decisions(seed, tmp_path / str(seed), monkeypatch)
        if noted > 1:
            return
    raise AssertionError("hardly any source was idle")


def check_decisions(seed, folder, monkeypatch):
    """Compare a run that dies with one that finds its journal; return how many decisions."""
    random = Random(seed)
    config = written(folder, random, idle_after="30ms")
    streams = 1 + len(config.actions)
    pauses = [Pause(random.randrange(streams), random.randint(0, 30), 1.5) for _ in range(3)]
    with monkeypatch.context() as patching:
        patching.setattr(raises, "_KEPT", 1_000_000)
        dying(patching, random, [0.002, 0.01, 0.05, 0.02])
        until_it_ends(config, folder / "live", random, pauses)
    journal = folder / "live" / ".headrace" / "live"
    again = folder / "again" / ".headrace" / "live"
    again.mkdir(parents=True)
    lines = []
    for path in [journal / "begun.json", *journal.glob("raised-*")]:
        shutil.copy(path, again)
        lines += path.read_text().splitlines() if path.suffix == ".jsonl" else []
    patient = config.live.model_copy(update={"idle_after": 10**9})
    until_it_ends(config.model_copy(update={"live": patient}), folder / "again", random)
    found, expected = (outputs(headrace.load_live(folder / name)) for name in ("again", "live"))
    assert [name for name in expected if found[name] != expected[name]] == []
    return len(lines)


@pytest.mark.usefixtures("directly")
def test_a_guard_that_asks_is_answered_in_a_run_that_goes_on(tmp_path):
    """The answer is no other job; another band is."""
    config = written(tmp_path, Random(3))
    stopping = threading.Event()
    stopping.set()
    run_stream(config, tmp_path / "live", stopping, Random(3))
    answered = config.guard.model_copy(update={"accept": (1_767_225_600_000_000,)})
    config = config.model_copy(update={"guard": answered})
    run_stream(config, tmp_path / "live", stopping, Random(3))
    other = config.model_copy(update={"guard": answered.model_copy(update={"disconnect": 3.0})})
    with pytest.raises(headrace.ConfigError, match="guard"):
        run_stream(other, tmp_path / "live", stopping, Random(3))
