"""Live traffic: the same messages at any pace, and each fault by itself."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from threading import Event

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import headrace
from headrace.pipelines.app.cli import main
from headrace.pipelines.jobs import livetraffic
from headrace.pipelines.jobs.faults import TIMED
from headrace.pipelines.jobs.livetraffic import FAULTS, LiveTraffic, live_messages
from headrace.pipelines.jobs.pacing import send_paced
from headrace.schemas.config.durations import MINUTE, SECOND

LIVE = LiveTraffic(rate=50, impressions=30_000, window=MINUTE)
"""Ten minutes of event time."""


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    """So that messages wait from one chunk for later ones."""
    monkeypatch.setattr(livetraffic, "_ROWS", 2_500)


def table_of(live):
    return pa.concat_tables([messages.table for messages in live_messages(live)])


def rows_of(live):
    rows = table_of(live).to_pylist()
    for row in rows:
        row["due"] -= live.start
    return rows


def by_partition(rows):
    found = {}
    for row in rows:
        place = (row["stream"], row["partition"])
        found.setdefault(place, []).append((row["key"], row["value"]))
    return found


class Memory:
    """An outlet that takes at most a few messages at once, and a clock that goes on with it."""

    def __init__(self, most, step_s):
        self.most, self.step_s, self.now_s, self.rows = most, step_s, 0.0, []
        self.at_s = []

    def send(self, messages):
        taken = messages.slice(0, self.most)
        self.rows += taken.to_pylist()
        self.at_s += [self.now_s] * taken.num_rows
        return taken.num_rows

    def check(self):
        pass

    def clock_s(self):
        self.now_s += self.step_s
        return self.now_s

    def is_set(self):
        return False

    def wait(self, seconds):
        self.now_s += seconds


@pytest.mark.parametrize(
    ("most", "step_s", "speed"), [(10**6, 0.0, math.inf), (7, 0.1, 1.0), (900, 0.0, 1.0),
                                  (10**6, 45.0, 3.0)],
)  # fmt: skip
def test_the_pace_changes_no_message_and_no_order(most, step_s, speed):
    """Neither does how many messages the brokers take at once."""
    live = replace(LIVE, rate=5, impressions=3_000, faults=frozenset(FAULTS))
    outlet = Memory(most, step_s)
    sent = send_paced(live_messages(live), outlet, live.start, speed, outlet, outlet.clock_s)
    rows = table_of(live).to_pylist()
    assert outlet.rows == rows
    assert sent.complete
    assert sent.streams.tolist() == [sum(r["stream"] == s for r in rows) for s in (0, 1)]


def test_a_message_is_sent_when_its_event_time_has_come():
    """Not before, and at most half a second of the clock after it, at any speed."""
    live = replace(LIVE, rate=5, impressions=500)
    due_s = (table_of(live).column("due").to_numpy() - live.start) / SECOND
    for speed in (1.0, 20.0):
        outlet = Memory(10**6, 0.0)
        send_paced(live_messages(live), outlet, live.start, speed, outlet, outlet.clock_s)
        late_s = np.array(outlet.at_s) - due_s / speed
        assert late_s.min() >= -1e-5
        assert late_s.max() <= 0.51


def test_a_stop_ends_between_two_messages_and_counts_those_that_were_taken():
    """The counts are those of a beginning of the stream."""
    stop = Event()

    class Stopping(Memory):
        def send(self, messages):
            taken = super().send(messages)
            if len(self.rows) > 700:
                stop.set()
            return taken

    outlet = Stopping(100, 0.0)
    sent = send_paced(live_messages(LIVE), outlet, LIVE.start, math.inf, stop, outlet.clock_s)
    assert not sent.complete
    assert len(outlet.rows) == 800 == sent.streams.sum()
    assert outlet.rows == table_of(LIVE).slice(0, 800).to_pylist()


def test_messages_are_json_with_the_key_in_one_partition_of_both_topics():
    """And come in order of time, as nothing is wrong by default."""
    rows = rows_of(LIVE)
    shown = {row["key"]: row for row in rows if row["stream"] == 0}
    clicks = [row for row in rows if row["stream"] == 1]
    assert len(shown) == LIVE.impressions
    assert 0.03 < len(clicks) / len(shown) < 0.08
    assert [row["due"] for row in rows] == sorted(row["due"] for row in rows)
    for row in rows:
        record = json.loads(row["value"])
        assert record["request_id"] == row["key"]
        assert record["time"] - LIVE.start == row["due"]
        assert row["fault"] == 0
    delays = []
    for row in clicks:
        assert row["partition"] == shown[row["key"]]["partition"]
        delays.append(row["due"] - shown[row["key"]]["due"])
    assert min(delays) >= 0
    assert max(delays) < LIVE.window
    counts = Counter(row["partition"] for row in shown.values())
    assert sorted(counts) == [0, 1, 2, 3]
    assert max(counts.values()) < 1.1 * min(counts.values())


def test_another_seed_gives_other_messages_and_another_start_only_other_times():
    """Keys and columns are functions of the seed alone."""
    live = replace(LIVE, impressions=1_000)
    keys = [row["key"] for row in rows_of(live)]
    assert keys == [row["key"] for row in rows_of(replace(live, start=live.start + 1))]
    assert not set(keys) & {row["key"] for row in rows_of(replace(live, seed=2))}


ADDED = {"duplicates", "orphans", "broken", "doubled-clicks"}
DELAYED = {"late", "disorder"}


@pytest.mark.parametrize("fault", sorted(ADDED | DELAYED))
def test_a_fault_of_some_messages_leaves_all_others_as_they_are(fault):
    """It adds messages or delays some; as many as are counted."""
    clean, dirty = rows_of(LIVE), rows_of(replace(LIVE, faults=frozenset({fault})))
    wrong = [row for row in dirty if row["fault"]]
    assert wrong
    untouched = [row for row in dirty if not row["fault"]]
    if fault in ADDED:
        assert untouched == clean
        assert all(row["loss"] == 0 for row in wrong)
    else:
        assert len(dirty) == len(clean)
        times = {(row["stream"], row["key"]): row["due"] for row in clean}
        for row in wrong:
            delay = row["due"] - times[row["stream"], row["key"]]
            assert delay >= 0
            assert delay < 2 * SECOND if fault == "disorder" else delay > LIVE.window + 5 * SECOND


def wrong_rows(fault):
    rows = rows_of(replace(LIVE, faults=frozenset({fault})))
    return rows, [row for row in rows if row["fault"]]


def test_duplicates_come_again_within_seconds():
    rows, again = wrong_rows("duplicates")
    first = {(r["stream"], r["value"]): r["due"] for r in rows if not r["fault"]}
    delays = [row["due"] - first[row["stream"], row["value"]] for row in again]
    assert min(delays) >= 0
    assert max(delays) < 5 * SECOND
    assert {row["stream"] for row in again} == {0, 1}


def test_orphans_and_doubled_clicks_have_other_ids():
    """An orphan's key is of no impression, the other's is of a click."""
    for fault in ("orphans", "doubled-clicks"):
        rows, again = wrong_rows(fault)
        shown = {row["key"] for row in rows if row["stream"] == 0}
        ids = [json.loads(row["value"])["click_id"] for row in rows if row["stream"] == 1]
        assert len(set(ids)) == len(ids)
        assert {row["stream"] for row in again} == {1}
        assert {row["key"] in shown for row in again} == {fault == "doubled-clicks"}


def test_broken_messages_are_no_json():
    rows, broken = wrong_rows("broken")
    assert {row["stream"] for row in broken} == {0, 1}
    keys = {row["key"] for row in rows if not row["fault"]}
    for row in broken:
        assert row["key"] in keys
        with pytest.raises(json.JSONDecodeError):
            json.loads(row["value"])


def test_clicks_are_dead_for_a_minute():
    """Impressions are not, and clicks before and after are as they were."""
    clean, dead = rows_of(LIVE), rows_of(replace(LIVE, faults=frozenset({"dead-clicks"})))
    quiet = [row for row in clean if row["stream"] == 1 and 2 <= row["due"] // MINUTE % 5 < 3]
    assert quiet
    assert dead == [row for row in clean if row not in quiet]


def test_one_partition_is_idle_for_two_minutes():
    """No impression has a key of it; a click of an earlier one may come."""
    clean, idle = rows_of(LIVE), rows_of(replace(LIVE, faults=frozenset({"idle"})))
    silent = {row["key"] for row in clean if row["stream"] == 0 and row["partition"] == 0
              and 1 <= row["due"] // MINUTE % 5 < 3}  # fmt: skip
    assert silent
    assert [row["key"] for row in idle if row["stream"] == 0] == [
        row["key"] for row in clean if row["stream"] == 0 and row["key"] not in silent
    ]
    assert not silent & {row["key"] for row in idle}


def test_one_partition_of_impressions_is_two_minutes_behind():
    """With the same records in the same order."""
    clean, skewed = rows_of(LIVE), rows_of(replace(LIVE, faults=frozenset({"skew"})))
    assert by_partition(skewed) == by_partition(clean)
    for row in skewed:
        behind = row["due"] - (json.loads(row["value"])["time"] - LIVE.start)
        assert behind == (2 * MINUTE if (row["stream"], row["partition"]) == (0, 3) else 0)


def test_bursts_have_ten_times_the_rate():
    """In three seconds of each minute; the mean rate stays."""
    rows = rows_of(replace(LIVE, faults=frozenset({"burst"})))
    due = np.array([row["due"] for row in rows if row["stream"] == 0])
    assert due.max() <= 10 * MINUTE
    seconds = np.bincount(due // SECOND, minlength=600).reshape(10, 60)
    assert seconds[:, 57:].mean() == pytest.approx(10 * LIVE.rate, rel=0.02)
    assert seconds.sum() == LIVE.impressions


def test_the_log_loss_is_that_of_impressions_sent_once():
    """Repeated and broken ones do not count twice."""
    outlet = Memory(10**6, 0.0)
    losses = []
    for faults in ((), ("duplicates", "broken")):
        live = replace(LIVE, faults=frozenset(faults))
        sent = send_paced(live_messages(live), outlet, 0, math.inf, Event(), outlet.clock_s)
        losses.append(sent.as_json()["log_loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)
    assert 0.1 < losses[0] < 0.3


def test_a_log_in_files_may_have_another_window(tmp_path):
    """Its clicks come within it, and its configuration says so."""
    headrace.generate(tmp_path, impressions=5_000, window="1m", clean=True)
    shown, clicks = (pq.read_table(tmp_path / f"{name}.parquet", columns=["request_id", "time"])
                     for name in ("impressions", "clicks"))  # fmt: skip
    times = dict(zip(*(column.to_pylist() for column in shown.columns), strict=True))
    delays = [row["time"] - times[row["request_id"]] for row in clicks.to_pylist()]
    assert 10 * SECOND < max(delays) < MINUTE
    assert np.median(delays) < 2 * SECOND
    assert headrace.load_config(tmp_path / "headrace.toml").actions["click"].window == MINUTE


def test_a_seed_below_zero_is_refused(tmp_path, capsys):
    """In one line, for files too."""
    assert main(["generate", "--out", str(tmp_path), "--seed", "-1"]) == 2
    said = "headrace generate: seed must be 0 or more (got -1); 1 is usual\n"
    assert capsys.readouterr().err == said


def test_the_page_has_every_fault_and_what_it_does():
    page = (Path(__file__).parents[2] / "docs" / "generate.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([a-z-]+)` \| (.+) \|$", page, re.MULTILINE)
    assert dict(rows) == FAULTS | TIMED
