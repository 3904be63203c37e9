"""Clocks that are wrong on purpose: they are dead letters, and make no other record late."""

from __future__ import annotations

import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import headrace
from headrace.pipelines.jobs import replay as job
from tests.pipelines.direct import run_directly
from tests.pipelines.rows import START

MINUTE, HOUR, DAY = 60, 3_600, 86_400
COUNT = 2_000
STEP = 10
"""Seconds between two impressions."""


@pytest.fixture(autouse=True)
def quickly(monkeypatch):
    """Leave out of a replay what takes most of the time of a small one, and has its own tests."""
    monkeypatch.setattr(job, "run_graph", run_directly)
    monkeypatch.setattr(job, "render_report", lambda *_: "")
    monkeypatch.setattr("os.fsync", lambda _: None)


def tables(folder, shown, **time):
    """Write impressions, given as (id, time) or (id, time, server's time), and a click on each."""
    names = ("id", "time", "server")
    columns = dict(zip(names, zip(*shown, strict=True), strict=False))
    pq.write_table(pa.table(columns), folder / "shown.parquet")
    honest = [(key, START + int(key[1:]) * STEP + 1) for key, *_ in shown if key[0] == "k"]
    clicks = dict(zip(names, zip(*honest, strict=True), strict=False))
    pq.write_table(pa.table(clicks), folder / "clicks.parquet")
    return {
        "impressions": {
            "path": str(folder / "shown.parquet"), "key": "id",
            "time": {"column": "time", "unit": "s", **time},
        },
        "actions": {
            "click": {
                "path": str(folder / "clicks.parquet"), "key": "id", "window": "10m",
                "time": {"column": "time", "unit": "s"},
            }
        },
        "join": {"end_of_log": "close"},
    }  # fmt: skip


def honest():
    return [(f"k{n}", START + n * STEP) for n in range(COUNT)]


def replay(folder, shown, rows=1_000, **time):
    """Return the outcomes of impressions, and reasons and ids of those that are dead letters."""
    config = tables(folder, shown, **time) | {"replay": {"batch_rows": rows}}
    out = folder / f"out-{len(list(folder.iterdir()))}"
    result = headrace.replay(config, out)
    outcomes = result.summary.outcomes["impressions"]
    assert sum(outcomes.values()) == len(shown)
    return {name: count for name, count in outcomes.items() if count}, result


@pytest.mark.parametrize(
    ("ahead", "reason"),
    [(DAY - 1, "time_jump"), (50 * 365 * DAY, "time_jump"), (2 * HOUR, None)],
    ids=["just under a day", "50 years", "two hours"],
)
@pytest.mark.parametrize("count", [1, 6, 30], ids=["one", "six", "thirty"])
def test_events_far_ahead_make_no_other_late(tmp_path, ahead, reason, count):
    """Nor do they vouch for each other, in sequence or spread over the file."""
    shown = honest()
    time = shown[500][1] + ahead
    together = [*shown[:500], *((f"x{n}", time) for n in range(count)), *shown[500:]]
    spread = list(shown)
    for n in range(count):
        spread.insert(500 + n * 10, (f"x{n}", shown[500 + n * 9][1] + ahead))
    for log in (together, spread):
        outcomes, result = replay(tmp_path, log)
        assert outcomes.get("invalid", 0) == (count if reason else 0)
        assert outcomes["settled"] == len(log) - outcomes.get("invalid", 0)
        letters = result.dead_letters.to_table().to_pylist()
        assert {letter["reason"] for letter in letters} == ({reason} if reason else set())
        assert result.summary.outcomes["click"]["settled"] == COUNT


def test_steps_are_not_believed_one_after_another(tmp_path):
    """Of a day or of minutes: together they move the clock no further than `max_jump`."""
    for step in (DAY, 20 * MINUTE):
        shown = honest()
        for n in range(1, 31):
            shown.insert(500 + n * 30, (f"x{n}", shown[500][1] + n * step))
        outcomes, _ = replay(tmp_path, shown)
        assert outcomes["settled"] + outcomes.get("invalid", 0) >= len(shown) - 30 * MINUTE // STEP


def test_a_night_without_traffic_and_hourly_batches_lose_no_row(tmp_path):
    """Nor does a log whose rows are in no order within each batch."""
    night = [
        (key, time + (8 * HOUR if n >= 1_000 else 0)) for n, (key, time) in enumerate(honest())
    ]
    batches = honest()
    for begin in range(0, COUNT, 360):  # of an hour
        some = batches[begin : begin + 360]
        random.Random(begin).shuffle(some)
        batches[begin : begin + 360] = some
    for log in (night, batches):
        outcomes, _ = replay(tmp_path, log)
        assert "invalid" not in outcomes


def test_the_verdict_depends_on_no_block(tmp_path):
    """Samples and dead letters have the same bytes."""
    shown = honest()
    for n in range(40):
        shown.insert(300 + n * 31, (f"x{n}", shown[500][1] + n * HOUR))
    found = []
    for rows in (7, 64, 100_000):
        _, result = replay(tmp_path, shown, rows)
        found.append((result.samples.to_table(), result.dead_letters.to_table()))
    assert found[0] == found[1] == found[2]


def test_a_trusted_time_bounds_event_times(tmp_path):
    """Those that are further after it are dead letters that say so."""
    shown = [(key, time, time + 2) for key, time in honest()]
    for n, ahead in enumerate((10 * MINUTE + 2, 10 * MINUTE + 3, 50 * 365 * DAY)):
        _, time, server = shown[700 + n]
        shown[700 + n] = (f"x{n}", time + ahead, server)
    outcomes, result = replay(tmp_path, shown, trusted={"column": "server", "unit": "s"})
    assert outcomes["invalid"] == 2
    letters = result.dead_letters.to_table().filter(
        pa.compute.field("reason") == "time_jump").to_pylist()  # fmt: skip
    assert {letter["detail"] for letter in letters} == {
        "event time is more than 10m after the trusted time of column server"
    }
    shown[3] = ("x3", shown[3][1], None)
    _, result = replay(tmp_path, shown, trusted={"column": "server", "unit": "s", "within": "1h"})
    details = result.dead_letters.to_table()["detail"].to_pylist()
    assert "column server is null" in details


def test_a_trusted_column_must_be_there(tmp_path):
    """A configuration that names another is refused, with the key."""
    config = tables(tmp_path, honest(), trusted={"column": "broker", "unit": "s"})
    with pytest.raises(
        headrace.ConfigError, match=r"impressions\.time\.trusted\.column"
    ) as refused:
        headrace.validate(config)
    assert refused.value.value == "broker"
