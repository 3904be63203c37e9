"""A live run as a process, and its broker, are killed under load: nothing is lost or repeated."""

from __future__ import annotations

import pytest

from benchmarks.chaos import VARIANTS, Setting, by_chance, disturbed
from benchmarks.livejobs import running_broker
from tests.pipelines.kafka.broker import command


@pytest.fixture
def own_broker(tmp_path):
    """A broker that may be killed."""
    why = command().missing()
    if why is not None:
        pytest.skip(f"no broker: {why}")
    with running_broker(tmp_path / "broker") as broker:
        yield broker


def five_kills(chaos):
    """Kill the run at a checkpoint, twice soon after, and at a merge; the broker as it starts."""
    chaos.await_progress()
    chaos.disturb("killed: the run at a checkpoint")
    chaos.disturb("killed: the run, and again while it starts")
    chaos.await_progress()
    chaos.disturb("killed: the run while it merges an hour")
    chaos.disturb("killed: the broker")
    chaos.await_progress()
    assert chaos.tally.kills == 5


def problems(name, broker, folder, plan, seed=1):
    """Return what differs from an undisturbed run, from a replay, or changed for a reader."""
    setting = Setting(name, VARIANTS[name], folder / "run", "killed-", rate=2)
    setting.folder.mkdir()
    return disturbed(setting, broker, seed, plan)


def test_outputs_of_a_run_that_was_killed_are_those_of_one_that_was_not(own_broker, tmp_path):
    """Rows of all folders and topics, dead letters, models; and readers see a growing prefix."""
    assert problems("joined and early", own_broker, tmp_path, five_kills) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", VARIANTS)
def test_outputs_do_not_depend_on_what_happens_by_chance(own_broker, tmp_path, name):
    assert problems(name, own_broker, tmp_path, by_chance(15), seed=7) == []
