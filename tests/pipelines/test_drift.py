"""Logs whose features are wrong for an hour: what a replay says of them, and of healthy ones."""

from __future__ import annotations

import json

import pytest

import headrace
from headrace.pipelines.jobs import replay as replay_job
from headrace.pipelines.jobs.faults import parse_fault
from headrace.pipelines.jobs.generate import Traffic, impressions_within, write_traffic
from headrace.schemas.config.durations import DAY
from tests.pipelines.direct import run_directly

RATE = 2
FAULTS = (
    "os-null:2d9h:1h", "price-cents:2d11h:1h", "ids-new:2d13h:1h", "devices-swapped:2d15h:1h",
    "doubled-same-key:2d17h:1h",
)  # fmt: skip
HEALTHY = ("night:2d13h:2h", "weekend:2d", "step:1d12h", "trend:0h")


@pytest.fixture(scope="module")
def replayed(tmp_path_factory):
    """Replays of generated logs, each done once; of hours with fewer rows than usual."""
    done = {}

    def replayed(faults, settings=""):
        if (faults, settings) not in done:
            folder = tmp_path_factory.mktemp("log")
            traffic = Traffic(
                impressions_within(3 * DAY, RATE), RATE, clean=True, daily=True, regions=True,
                faults=tuple(parse_fault(fault) for fault in faults),
            )  # fmt: skip
            write_traffic(traffic, folder)
            config = folder / "headrace.toml"
            config.write_text(config.read_text() + settings)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("headrace.monitoring.drift.FEWEST_ROWS", 2_000)
                patch.setattr(replay_job, "run_graph", run_directly)
                result = headrace.replay(config, folder / "out")
            done[faults, settings] = result, json.loads((folder / "out/summary.json").read_text())
        return done[faults, settings]

    return replayed


def much(summary):
    return {
        (line["name"], line["measure"]): (line["since"][11:13], line["until"][11:13])
        for line in summary["drift"]["lines"] if line["level"] == "much"
    }  # fmt: skip


def test_each_fault_is_said_of_its_columns_and_hours(replayed):
    """Null, in cents, new ids, swapped devices, and clicks that were logged twice."""
    result, summary = replayed(FAULTS)
    found = much(summary)
    assert {name for name, _ in found} == {
        "os", "price", "ad", "campaign", "site", "device", "click",
    }  # fmt: skip
    assert found["os", "null"] == ("09", "10")
    assert found["price", "distribution"] == ("11", "12")
    for name in ("ad", "campaign", "site"):
        assert found[name, "unseen"] == ("13", "14")
    assert found["device", "distribution"] == ("15", "16")
    assert found["click", "duplicates"] == ("17", "18")
    said = [finding for finding in result.findings if "; so in hours from" in finding]
    assert len(said) == 7
    assert sum("% are duplicates at 2026-01-03 17:00 UTC, and 0.0%" in text for text in said) == 1


def test_nothing_is_said_of_healthy_changes(replayed):
    """A night, a weekend, a step and a trend; the devices of a weekend are a shift."""
    result, summary = replayed(HEALTHY)
    assert much(summary) == {}
    assert not [text for text in result.findings if "stability index" in text]
    worst = {(line["name"], line["measure"]): line["level"] for line in summary["drift"]["lines"]}
    assert worst["device", "distribution"] == "shifted"
    assert worst["os", "distribution"] == worst["price", "distribution"] == "same"


def test_shards_and_blocks_change_nothing(replayed):
    """The same figures, to the last digit."""
    _, one = replayed(FAULTS)
    _, other = replayed(FAULTS, "\n[replay]\nbatch_rows = 7001\n")
    assert other["drift"] == one["drift"]


def test_the_report_has_a_table_of_it(replayed):
    """What differs most comes first."""
    result, _ = replayed(FAULTS)
    report = (result.out / "report.html").read_text()
    table = report[report.index("<h2>Features and scores</h2>") :]
    assert "feature os" in table[:3000]
    assert "stability index" in table[:3000]
