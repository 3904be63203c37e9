"""The stand-in for Beam writes what Beam writes."""

from __future__ import annotations

import headrace
from headrace.pipelines.jobs import replay as job
from tests.pipelines.direct import run_directly
from tests.pipelines.outputs import contents


def test_a_replay_without_beam_gives_the_same_bytes(tmp_path, log, monkeypatch):
    """All outputs of a log with every fault, over several shards and many blocks."""
    tables = headrace.load_config(log / "headrace.toml")
    tables = tables.model_copy(
        update={
            "join": tables.join.model_copy(update={"shards": 3, "joined": True}),
            "replay": tables.replay.model_copy(update={"batch_rows": 100}),
        }
    )
    headrace.replay(tables, tmp_path / "beam")
    monkeypatch.setattr(job, "run_graph", run_directly)
    headrace.replay(tables, tmp_path / "direct")
    assert contents(tmp_path / "direct") == contents(tmp_path / "beam")
