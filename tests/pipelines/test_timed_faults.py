"""Faults of generated traffic that have a time: each changes what it says, and nothing else."""

from __future__ import annotations

import itertools
import json
import random
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

import headrace
from headrace.pipelines.app import producing
from headrace.pipelines.app.cli import main
from headrace.pipelines.jobs import generate, livetraffic
from headrace.pipelines.jobs.behaviour import daily, even_of_daily
from headrace.pipelines.jobs.faults import HEALTHY, TIMED, Fault, in_order, parse_fault
from headrace.pipelines.jobs.generate import START, WINDOW, Traffic, write_traffic
from headrace.pipelines.jobs.livetraffic import LiveTraffic, live_messages
from headrace.schemas.config.durations import DAY, HOUR, MINUTE, SECOND

TRAFFIC = Traffic(30_000, 4, seed=5, clean=True, click_rate=0.2, regions=True)
"""Two hours."""

BEGIN, END = START + 50 * MINUTE, START + 75 * MINUTE
WHEN = "50m:25m"
LONGEST_DELAY = WINDOW + 20 * MINUTE
"""No click comes later than this after its time, unless a fault delays it."""


class Log:
    """A log in memory, and its truth."""

    def __init__(self, folder, traffic):
        write_traffic(traffic, folder)
        self.shown = pq.read_table(folder / "impressions.parquet")
        self.clicks = pq.read_table(folder / "clicks.parquet")
        self.truth = json.loads((folder / "truth.json").read_text())
        self.clicked = pc.is_in(self.shown["request_id"], self.clicks["request_id"]).to_numpy()

    @property
    def changed(self):
        """Impressions and clicks that the only fault has changed."""
        (fault,) = self.truth["faults"]
        return fault["impressions"], fault["clicks"]

    @property
    def inside(self):
        """Which impressions are in the time of the fault."""
        return within(self.shown, BEGIN, END)


@pytest.fixture(scope="module")
def log_of(tmp_path_factory):
    """Logs by their faults, each made once; three parts of the generator are in each."""
    made = {}

    def log_of(*faults, **changes):
        name = (faults, tuple(sorted(changes.items())))
        if name not in made:
            timed = tuple(parse_fault(fault) for fault in faults)
            traffic = replace(TRAFFIC, faults=timed, **changes)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(generate, "_CHUNK", 13_000)
                made[name] = Log(tmp_path_factory.mktemp("log"), traffic)
        return made[name]

    return log_of


def within(table, begin, end):
    time = table["time"].to_numpy()
    return (begin <= time) & (time < end)


def lost(before, after, key):
    """Return the rows of which no copy is left, and check that all others are as they were."""
    left = pc.is_in(before[key], after[key].combine_chunks())
    assert after.equals(before.filter(left))
    return before.filter(pc.invert(left))


def extra(before, after):
    """Return the clicks that are there too, and check that all others are as they were."""
    old = pc.is_in(after["click_id"], before["click_id"].combine_chunks())
    assert after.filter(old).equals(before)
    return after.filter(pc.invert(old))


@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize("kind", TIMED)
def test_a_fault_changes_nothing_outside_of_its_time(log_of, kind, clean):
    """Neither a record nor an order, whatever else is wrong with the log."""
    before, after = log_of(clean=clean), log_of(f"{kind}:{WHEN}", clean=clean)
    first, last = (BEGIN, END) if clean else (BEGIN - LONGEST_DELAY, END + LONGEST_DELAY)
    for old, new, begin, end in (
        (before.shown, after.shown, BEGIN, END),
        (before.clicks, after.clicks, first, last + WINDOW),
    ):
        old_ones, new_ones = (t.filter(pa.array(~within(t, begin, end))) for t in (old, new))
        assert new_ones.equals(old_ones)
        assert new_ones.num_rows > 1_000
    same = before.shown.equals(after.shown) and before.clicks.equals(after.clicks)
    # A trend of half an hour is none.
    assert same == (kind in ("standstill", "trend"))
    assert (sum(after.changed) > 0) == (kind != "trend")


@pytest.mark.parametrize("kind", ["night", "weekend"])
def test_fewer_impressions_happen(log_of, kind):
    """And none of their clicks; the click rate stays."""
    before, after = log_of(), log_of(f"{kind}:{WHEN}")
    gone = lost(before.shown, after.shown, "request_id")
    clicks = lost(before.clicks, after.clicks, "click_id")
    assert after.changed == (gone.num_rows, clicks.num_rows)
    assert within(gone, BEGIN, END).all()
    clicked = pc.is_in(before.clicks["request_id"], gone["request_id"].combine_chunks())
    assert clicks.equals(before.clicks.filter(clicked))
    device = before.shown["device"].to_numpy()
    left = pc.is_in(before.shown["request_id"], after.shown["request_id"]).to_numpy()
    for name in ("phone", "desktop"):
        share = left[before.inside & (device == name)].mean()
        expected = 0.1 if kind == "night" else {"phone": 0.7, "desktop": 0.25}[name]
        assert share == pytest.approx(expected, abs=0.04)
    rates = [log.clicked[log.inside].mean() for log in (before, after)]
    assert rates[1] == pytest.approx(rates[0], abs=0.05)


def test_a_small_slice_has_twenty_impressions_an_hour(log_of):
    """Its clicks come and go hour by hour; no other impression is changed."""
    before, after = log_of(rate=1), log_of("small-slice:0s", rate=1)
    beta = after.shown["app_version"].to_numpy() == "v6.0-beta"
    assert after.changed[0] == beta.sum()
    assert beta.sum() == pytest.approx(20 * 30_000 / 3_600, rel=0.25)
    assert after.shown.drop_columns("app_version").equals(before.shown.drop_columns("app_version"))
    same = after.shown["app_version"].to_numpy() == before.shown["app_version"].to_numpy()
    assert (same == ~beta).all()
    differ = before.clicked != after.clicked
    assert 0 < differ.sum() == after.changed[1]
    assert beta[differ].all()


@pytest.mark.parametrize(("kind", "ratio"), [("step", 1.15), ("doubled-new-ids", 2.0)])
def test_impressions_without_a_click_get_one(log_of, kind, ratio):
    """With an id of its own, after the impression and within the window; in every slice."""
    before, after = log_of(), log_of(f"{kind}:{WHEN}")
    assert after.shown.equals(before.shown)
    more = extra(before.clicks, after.clicks)
    assert after.changed == (0, more.num_rows)
    assert not set(more["request_id"].to_pylist()) & set(before.clicks["request_id"].to_pylist())
    assert len(set(more["request_id"].to_pylist())) == more.num_rows
    times = dict(zip(*after.shown.select(["request_id", "time"]).to_pydict().values(), strict=True))
    delays = [r["time"] - times[r["request_id"]] for r in more.to_pylist()]
    assert min(delays) >= 0
    assert WINDOW / 10 < max(delays) < WINDOW
    shown = [times[key] for key in more["request_id"].to_pylist()]
    assert min(shown) >= BEGIN
    assert max(shown) < END
    for name in ("phone", "desktop"):
        chosen = before.inside & (before.shown["device"].to_numpy() == name)
        # As much as the probabilities say, of which those near 1 are not doubled.
        found = after.clicked[chosen].sum() / before.clicked[chosen].sum()
        assert found == pytest.approx(ratio, rel=0.07)


def test_a_trend_rises_by_a_fiftieth_a_day(tmp_path):
    """So after five days by a tenth, and is part of the truth."""
    traffic = Traffic(200_000, 1, clean=True, click_rate=0.2, regions=True, daily=True)
    before = Log(tmp_path / "0", replace(traffic, impressions=5 * 86_400))
    fault = (Fault("trend", 0),)
    after = Log(tmp_path / "1", replace(traffic, impressions=5 * 86_400, faults=fault))
    for day in range(5):
        chosen = within(before.shown, START + day * DAY, START + (day + 1) * DAY)
        found = after.clicked[chosen].sum() / before.clicked[chosen].sum()
        assert found == pytest.approx(1.02 ** (day + 0.5), abs=0.01)
    assert after.truth["log_loss"] > before.truth["log_loss"]
    assert after.truth["faults"][0]["until"] is None


def test_a_bot_clicks_on_four_ads(log_of):
    """About ten times as often as users, and on no other ad."""
    small = {"click_rate": 0.03}
    before, after = log_of(**small), log_of(f"bot:{WHEN}", **small)
    more = extra(before.clicks, after.clicks)
    assert after.changed == (0, more.num_rows)
    ad = before.shown["ad"].to_numpy()
    of_bot = np.isin(ad, (11, 12, 13, 14)) & before.inside
    differ = before.clicked != after.clicked
    assert (differ <= of_bot).all()
    expected = 10 * before.clicked[np.isin(ad, (11, 12, 13, 14))].mean()
    assert after.clicked[of_bot].mean() == pytest.approx(expected, rel=0.35)


def test_labels_of_one_app_version_are_flipped(log_of):
    """Every one in its time."""
    before, after = log_of(), log_of(f"flip:{WHEN}")
    flipped = before.inside & (before.shown["app_version"].to_numpy() == "v4.9")
    assert after.shown.equals(before.shown)
    assert (after.clicked == (before.clicked ^ flipped)).all()
    assert after.changed == (0, flipped.sum())
    assert flipped.sum() > 50


def test_a_region_has_no_impressions_without_a_click(log_of):
    """Those with one are there."""
    before, after = log_of(), log_of(f"region:{WHEN}")
    gone = lost(before.shown, after.shown, "request_id")
    assert after.clicks.equals(before.clicks)
    missing = before.inside & (before.shown["region"].to_numpy() == "west") & ~before.clicked
    assert gone.equals(before.shown.filter(pa.array(missing)))
    assert after.changed == (missing.sum(), 0)
    assert missing.sum() > 200


SWAPPED = {"phone": "desktop", "desktop": "phone", "tablet": "tablet", "tv": "tv"}
COLUMNS = {
    "devices-swapped": {"device": lambda found: [SWAPPED[device] for device in found]},
    "os-null": {"os": lambda found: [None] * len(found)},
    "price-cents": {"price": lambda found: [round(100 * price) for price in found]},
    "ids-new": {
        "ad": lambda found: [ad + 1_000_000 for ad in found],
        "campaign": lambda found: [campaign + 1_000 for campaign in found],
        "site": lambda found: [f"new-{site}" for site in found],
    },
}


@pytest.mark.parametrize("kind", COLUMNS)
def test_a_column_has_other_values(log_of, kind):
    """Of the same type; clicks and all other columns are as they were."""
    before, after = log_of(), log_of(f"{kind}:{WHEN}")
    assert after.clicks.equals(before.clicks)
    assert after.shown.schema == before.shown.schema
    differs = np.zeros(before.shown.num_rows, bool)
    for name in before.shown.column_names:
        old, new = (log.shown[name].to_pylist() for log in (before, after))
        wanted = COLUMNS[kind].get(name, list)(old)
        expected = [
            w if inside else o for o, w, inside in zip(old, wanted, before.inside, strict=True)
        ]
        assert new == expected
        differs |= np.array([o != n for o, n in zip(old, new, strict=True)])
    assert after.changed == (differs.sum(), 0)
    assert differs.sum() > 1_000


def test_clicks_are_logged_again(log_of):
    """The same records, within a second in the order of the log."""
    before, after = log_of(), log_of(f"doubled-same-key:{WHEN}")
    assert after.shown.equals(before.shown)
    again = before.clicks.filter(pa.array(within(before.clicks, BEGIN, END)))
    assert after.changed == (0, again.num_rows)
    both = pa.concat_tables([before.clicks, again])
    order = [("time", "ascending"), ("click_id", "ascending")]
    assert after.clicks.sort_by(order).equals(both.sort_by(order))
    time = after.clicks["time"].to_numpy()
    assert (np.maximum.accumulate(time) - time).max() < SECOND


def test_clicks_lag_behind_others_by_twice_the_window(log_of):
    """Nine of ten; event times are as they were."""
    before, after = log_of(), log_of(f"lag:{WHEN}")
    assert after.shown.equals(before.shown)
    assert after.clicks.sort_by("time").equals(before.clicks.sort_by("time"))
    inside = within(before.clicks, BEGIN, END)
    assert after.changed[1] == pytest.approx(0.9 * inside.sum(), rel=0.03)
    time = after.clicks["time"].to_numpy()
    behind = (np.maximum.accumulate(time) - time) > 2 * WINDOW - 3 * MINUTE
    assert after.changed[1] == behind.sum()
    assert within(after.clicks, BEGIN, END)[behind].all()


def test_clicks_of_a_stop_are_lost(log_of):
    """All in its time, to the microsecond, also those of earlier impressions."""
    before, after = log_of(), log_of(f"stop:{WHEN}")
    assert after.shown.equals(before.shown)
    gone = lost(before.clicks, after.clicks, "click_id")
    assert (within(before.clicks, BEGIN, END)).sum() == gone.num_rows == after.changed[1]
    assert within(gone, BEGIN, END).all()


def test_what_goes_wrong_anyway_happens_to_records_of_a_fault_too(log_of):
    """A repeated impression has the values of the first, and both are counted."""
    before, after = log_of(clean=False), log_of(f"os-null:{WHEN}", clean=False)
    null = after.shown["os"].is_null().to_numpy()
    assert (null == before.inside).all()
    assert (
        null.sum() == after.changed[0] > pc.count_distinct(after.shown.filter(null)["time"]).as_py()
    )


EACH = [f"{kind}:{5 * number}m:5m" for number, kind in enumerate(TIMED, 1)]


def test_the_order_of_faults_does_not_matter(log_of, tmp_path):
    """Also of those that meet."""
    meeting = [f"{kind}:50m:25m" for kind in TIMED]
    for faults in (EACH, meeting):
        shuffled = random.Random(1).sample(faults, len(faults))
        assert shuffled != faults
        first, second = log_of(*faults), log_of(*shuffled)
        assert first.truth == second.truth
        assert first.shown.equals(second.shown)
        assert first.clicks.equals(second.clicks)


def test_faults_that_do_not_meet_do_as_they_do_alone(log_of):
    """Of each the same records are changed, lost and added."""
    kinds = ("bot", "night", "flip", "stop", "os-null")
    faults = [f"{kind}:{20 * number}m:5m" for number, kind in enumerate(kinds, 1)]
    together = log_of(*faults)
    assert [found["kind"] for found in together.truth["faults"]] == [
        kind for kind in TIMED if kind in kinds
    ]
    counts = {found["kind"]: found for found in together.truth["faults"]}
    for fault in faults:
        alone, begin = log_of(fault), START + parse_fault(fault).begin
        (found,) = alone.truth["faults"]
        assert found == counts[found["kind"]]
        for one, all_ in ((alone.shown, together.shown), (alone.clicks, together.clicks)):
            one, all_ = (
                t.filter(pa.array(within(t, begin, begin + 15 * MINUTE))) for t in (one, all_)
            )
            assert one.equals(all_)


def test_a_seed_gives_the_same_bytes_again(tmp_path):
    """In both formats, with every fault."""
    traffic = replace(
        TRAFFIC, impressions=28_000, clean=False, faults=in_order(map(parse_fault, EACH))
    )
    for form in ("parquet", "text"):
        for name in ("a", "b"):
            write_traffic(traffic, tmp_path / form / name, form)
        for one, other in itertools.pairwise(sorted((tmp_path / form).iterdir())):
            names = sorted(path.name for path in one.iterdir())
            assert len(names) == 4
            for name in names:
                assert (one / name).read_bytes() == (other / name).read_bytes()


def test_the_truth_knows_what_users_do_but_no_fault(log_of):
    """Log loss, relevance and what columns can attain are of the rate that users have."""
    more = {"interactions": True, "clean": True}
    plain, step = log_of(**more), log_of("step:0s", **more)
    assert step.truth["relevance"] == pytest.approx(1.15 * plain.truth["relevance"], rel=0.01)
    lost = [log.truth["log_loss_of_columns"] / log.truth["log_loss"] - 1 for log in (plain, step)]
    assert 0.003 < lost[0] < lost[1] < 1.5 * lost[0]
    for kind in TIMED.keys() - HEALTHY.keys():
        assert log_of(f"{kind}:{WHEN}").truth["log_loss"] == log_of().truth["log_loss"]


def test_a_day_has_a_curve():
    """Five times as many impressions in the afternoon as at night; whole days have the mean."""
    even = np.arange(0, 2 * DAY, 10 * SECOND, dtype=float)
    time = daily(even)
    assert (np.diff(time) > 0).all()
    np.testing.assert_allclose(even_of_daily(time), even, atol=SECOND)
    hours = np.bincount((time // HOUR).astype(int), minlength=48).reshape(2, 24)
    assert hours.sum(axis=1).tolist() == [8_640, 8_640]
    assert hours.argmax(axis=1).tolist() in ([14, 14], [15, 15])
    assert 3.5 < hours[0].max() / hours[0].min() < 4.1


def test_a_span_is_how_long_the_log_is(tmp_path):
    """The rate is the mean of a day, and clicks depend on the hour."""
    written = headrace.generate(tmp_path, span="2d", rate=2, clean=True)
    assert (written.impressions, written.duration) == (2 * 2 * 86_400, 2 * DAY)
    shown, clicks = (pq.read_table(tmp_path / f"{n}.parquet") for n in ("impressions", "clicks"))
    assert within(shown, START, START + 2 * DAY).all()
    clicked = pc.is_in(shown["request_id"], clicks["request_id"]).to_numpy()
    hour = shown["hour"].to_numpy()
    assert (
        clicked[np.isin(hour, (19, 20, 21))].mean() > 1.3 * clicked[np.isin(hour, (7, 8, 9))].mean()
    )
    text = (tmp_path / "headrace.toml").read_text()
    assert 'slices = ["device", "position", "region", "app_version"]' in text
    assert "faults" not in json.loads((tmp_path / "truth.json").read_text())


def test_a_log_of_the_command_line_can_be_replayed(tmp_path, capsys):
    """Null, swapped and new values are no errors; the truth has every fault."""
    for form in ("parquet", "text"):
        out = str(tmp_path / form)
        command = ["generate", "--out", out, "--span", "3h", "--rate", "2", "--format", form]
        assert main([*command, "--faults", *EACH]) == 0
        assert main(["replay", f"{out}/headrace.toml", "--out", f"{out}/out"]) == 0
        assert len(json.loads((tmp_path / form / "truth.json").read_text())["faults"]) == len(EACH)


THERE_ARE = f"there are {', '.join(TIMED)}"
WRITE = 'write KIND:BEGIN or KIND:BEGIN:LENGTH, such as "stop:2d:2h"'


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--faults", "stopp:1h"], f"faults has no such kind (got 'stopp:1h'); {THERE_ARE}"),
        (["--faults", "burst"], f"faults has no such kind (got 'burst'); {THERE_ARE}"),
        (["--faults", "stop"],
         f"faults must have a beginning and may have a length (got 'stop'); {WRITE}"),
        (["--faults", "stop:soon"],
         f"faults must have a beginning and may have a length (got 'stop:soon'); {WRITE}"),
        (["--faults", "stop:1h:0s"],
         f"faults must have a beginning and may have a length (got 'stop:1h:0s'); {WRITE}"),
        (["--faults", f"stop:{'9' * 400}d"],
         f"faults must have a beginning and may have a length (got 'stop:{'9' * 400}d'); {WRITE}"),
        (["--faults", "stop:1h:1h:1h"],
         f"faults must have a beginning and may have a length (got 'stop:1h:1h:1h'); {WRITE}"),
        (["--faults", "standstill:1h"],
         f"faults must have a length (got 'standstill:1h'); {WRITE.replace('stop', 'standstill')}"),
        (["--faults", "stop:1h", "bot:2h", "stop:60m"],
         "faults is given twice (got 'stop:1h'); leave one out"),
        (["--faults", *(f"stop:{n}s:1s" for n in range(61))],
         "faults must be 60 or fewer (got 61); leave some out"),
        (["--faults", "stop:2d"],
         "faults begins after the end of the log, which is 1d long (got 'stop:2d'); "
         "give an earlier time or a longer span"),
        (["--impressions", "9"],
         "--span and --impressions both say how long the log is; leave one out"),
        (["--to-kafka", "nowhere:9092"], "--span has no effect with --to-kafka; leave it out"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_said_in_one_line(tmp_path, capsys, options, said):
    """And nothing is written."""
    out = tmp_path / "log"
    assert main(["generate", "--out", str(out), "--span", "1d", "--rate", "1", *options]) == 2
    assert capsys.readouterr().err == f"headrace generate: {said}\n"
    assert not out.exists()


def test_a_fault_is_written_as_it_is_read():
    """In its shortest form."""
    for text in ("stop:2d:2h", "bot:1h 30m", "standstill:0s:1m"):
        assert str(parse_fault(text)) == text
    assert parse_fault("bot:1h30m") == Fault("bot", 90 * MINUTE)


def test_a_fault_may_be_further_away_than_any_log():
    """It has no time of it then; one without an end has all."""
    elapsed = np.array([0, HOUR, DAY])
    assert parse_fault("stop:99999999999d:1h").holds(elapsed).tolist() == [False] * 3
    assert parse_fault("stop:1h:99999999999d").holds(elapsed).tolist() == [False, True, True]
    assert parse_fault("stop:1h").holds(elapsed).tolist() == [False, True, True]
    assert parse_fault("stop:1h:23h").holds(elapsed).tolist() == [False, True, False]


LIVE = LiveTraffic(rate=20, impressions=24_000, window=MINUTE, timed=(Fault("stop", DAY),))
"""Twenty minutes with regions, in which nothing happens."""


def messages_of(monkeypatch, *faults):
    monkeypatch.setattr(livetraffic, "_ROWS", 5_000)
    timed = tuple(parse_fault(fault) for fault in faults) or LIVE.timed
    tables = [messages.table for messages in live_messages(replace(LIVE, timed=timed))]
    table = pa.concat_tables(tables)
    elapsed = table["due"].to_numpy() - LIVE.start
    assert (np.diff(elapsed) >= 0).all()
    clicks = table["stream"].to_numpy() == 1
    values = table["value"].to_pylist()
    return [
        (int(due), bool(click), value)
        for due, click, value in zip(elapsed, clicks, values, strict=True)
    ]


def test_live_clicks_stop_lag_and_stand_still(monkeypatch):
    """At the time at which they would be sent; every other message is as it was."""
    before = messages_of(monkeypatch)
    begin, end = 5 * MINUTE, 10 * MINUTE
    inside = [row for row in before if row[1] and begin <= row[0] < end]
    assert len(inside) > 100
    others = [row for row in before if row not in inside]
    assert messages_of(monkeypatch, "stop:5m:5m") == others

    still = messages_of(monkeypatch, "standstill:5m:5m")
    moved = [row for row in still if row[1] and begin <= row[0] < end]
    assert min(row[0] for row in moved) >= end - SECOND
    assert [row[2] for row in moved] == [row[2] for row in inside]
    assert [row for row in still if row not in moved] == others

    lag = messages_of(monkeypatch, "lag:5m:5m")
    at = {row[2]: row[0] for row in lag}
    by = [at[row[2]] - row[0] for row in inside]
    assert set(by) == {0, 2 * MINUTE}
    assert 0.85 < np.mean([delay > 0 for delay in by]) < 0.95
    assert sorted(row[2] for row in lag) == sorted(row[2] for row in before)


@pytest.mark.parametrize("kind", sorted(TIMED.keys() - {"lag", "standstill"}))
def test_live_messages_outside_of_a_fault_are_as_they_were(monkeypatch, kind):
    """And some inside are not."""
    before, after = messages_of(monkeypatch), messages_of(monkeypatch, f"{kind}:5m:10m")

    def outside(rows):
        return [row for row in rows if not 5 * MINUTE <= row[0] < 15 * MINUTE + LIVE.window]

    assert outside(after) == outside(before)
    assert len(outside(after)) > 5_000
    records = [json.loads(row[2]) for row in after]
    nulls = sum(None in record.values() for record in records)
    assert (nulls > 10_000) == (kind == "os-null")
    # A day's trend is none after ten minutes.
    assert kind == "trend" or after != before


def test_live_losses_are_of_the_impressions_that_are_sent(monkeypatch):
    """A night leaves a tenth of them, and as many losses."""
    monkeypatch.setattr(livetraffic, "_ROWS", 5_000)
    live = replace(LIVE, timed=(Fault("night", 0), Fault("region", 0)))
    sent = livetraffic.Sent()
    for messages in live_messages(live):
        sent.add(messages)
    assert sent.shown == sent.streams[0]
    assert 1_900 < sent.shown < 2_600


def test_live_truth_and_configuration_know_the_faults():
    """With their times; columns that only such traffic has have types."""
    live = replace(LIVE, timed=(parse_fault("stop:1h:5m"), parse_fault("step:2h")))
    truth = producing._truth(live, None)
    assert truth["timed_faults"] == [
        {"kind": "stop", "healthy": False, "from": START + HOUR,
         "until": START + HOUR + 5 * MINUTE},
        {"kind": "step", "healthy": True, "from": START + 2 * HOUR, "until": None},
    ]  # fmt: skip
    kafka = producing.KafkaConfig.model_validate({"servers": "localhost:9092"})
    text = producing._config(live, kafka, livetraffic.STREAMS, closed=False)
    assert 'region = "string", app_version = "string"' in text
    assert '"hour", "region", "app_version"]' in text
    plain = replace(live, timed=())
    assert "region" not in producing._config(plain, kafka, livetraffic.STREAMS, closed=False)
    assert "timed_faults" not in producing._truth(plain, None)
