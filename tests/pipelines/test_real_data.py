"""Public data sets through converter, replay and learner."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

from examples.convert import convert
from tests.pipelines.test_replay import fingerprint, replay


@pytest.mark.parametrize(
    ("window", "positives"),
    [("1m", 47), ("10m", 96), ("1h", 118), ("6h", 154), ("30d", 168)],
    ids=["1 minute", "10 minutes", "1 hour", "6 hours", "30 days"],
)
def test_talkingdata_has_the_known_number_of_installs_in_a_window(
    data, tmp_path, window, positives
):
    """One delay is exactly 60 s: a window that included its end would give 48."""
    config = convert("talkingdata", data / "talkingdata", tmp_path)
    text = config.read_text()
    assert 'window = "2d"' in text
    config.write_text(text.replace('window = "2d"', f'window = "{window}"'))
    summary = replay(config, tmp_path / "out")
    assert summary["samples"]["positives"] == {"install": positives}
    assert summary["samples"]["rows"] == 71_439
    assert summary["samples"]["weight_sum"] == 71_439.0
    assert summary["outcomes"]["impressions"]["settled"] == 71_439


def test_shards_batches_and_files_change_no_byte_of_talkingdata(data, tmp_path):
    """Samples and model are the same."""
    config = convert("talkingdata", data / "talkingdata", tmp_path)
    replay(config, tmp_path / "one")
    expected = fingerprint(tmp_path / "one")
    for shards, rows in (("1", "65536"), ("64", "5000")):
        out = tmp_path / f"out-{shards}"
        replay(config, out, "--shards", shards, "--batch-rows", rows)
        assert fingerprint(out) == expected
    clicks = pq.read_table(tmp_path / "clicks.parquet")
    for part in range(5):
        pq.write_table(clicks.slice(part * 14_288, 14_288), tmp_path / f"clicks-{part}.parquet")
    config.write_text(config.read_text().replace('"clicks.parquet"', '"clicks-*.parquet"'))
    replay(config, tmp_path / "five")
    assert fingerprint(tmp_path / "five") == expected


def test_sorting_on_disk_gives_the_bytes_of_sorting_in_memory(data, tmp_path):
    """A budget of a megabyte spills many sorted runs."""
    config = convert("talkingdata", data / "talkingdata", tmp_path)
    replay(config, tmp_path / "memory")
    config.write_text(config.read_text() + "\n[replay]\nsort_memory_mb = 1\nbatch_rows = 2000\n")
    replay(config, tmp_path / "disk")
    assert fingerprint(tmp_path / "disk") == fingerprint(tmp_path / "memory")


def test_mind_is_joined_by_two_columns_and_learned(data, tmp_path):
    """Every shown item is a sample; the learner beats the rate by a known margin."""
    summary = replay(convert("mind", data / "mind", tmp_path), tmp_path / "out")
    assert summary["samples"]["rows"] == 149_984
    assert summary["samples"]["positives"] == {"click": 6_053}
    (learner,) = summary["learners"].values()
    assert learner["auc"] > 0.70
    assert learner["log_loss"] < 0.93 * learner["running_rate_log_loss"]
    assert abs(learner["calibration"] - 1) < 0.05


def test_taobao_joins_three_action_streams(data, tmp_path):
    """Labels equal a brute-force join of views and actions, each within its window."""
    out = tmp_path / "out"
    summary = replay(convert("taobao", data / "taobao", tmp_path), out)
    assert summary["input"] == {"impressions": 9_046, "cart": 536, "fav": 212, "buy": 206}
    rows = pa_csv.read_csv(
        data / "taobao" / "UserBehavior.csv.gz",
        pa_csv.ReadOptions(column_names=["user", "item", "category", "kind", "time"]),
    ).to_pylist()
    samples = {
        (int(s["user"]), int(s["item"]), round(s["event_time"].timestamp())): s
        for s in pq.read_table(out / "samples").to_pylist()
    }
    day = 86_400
    for kind, name, window in (("cart", "cart", day), ("fav", "fav", day), ("buy", "buy", 3 * day)):
        times = {}
        for row in rows:
            if row["kind"] == kind:
                times.setdefault((row["user"], row["item"]), []).append(row["time"])
        for (user, item, shown), sample in samples.items():
            own = [t for t in times.get((user, item), []) if shown <= t < shown + window]
            assert sample[f"{name}_count"] == len(own)
        assert summary["samples"]["positives"][name] == sum(s[name] for s in samples.values())


def test_obd_joins_four_files_with_positions_and_propensities(data, tmp_path):
    """All clicks find their impressions, and numbers keep their types."""
    out = tmp_path / "out"
    summary = replay(convert("obd", data / "obd", tmp_path), out)
    assert summary["samples"]["rows"] == 40_000
    assert summary["samples"]["positives"] == {"click": 38 + 46 + 42 + 69}
    schema = pq.read_schema(out / "samples" / "part-00000.parquet")
    assert schema.field("position").type == pa.int64()
    assert schema.field("propensity_score").type == pa.float64()


def test_avazu_whose_times_are_all_equal_is_joined_and_learned(data, tmp_path):
    """Samples are then ordered by key."""
    summary = replay(convert("avazu", data / "avazu", tmp_path), tmp_path / "out")
    assert (summary["samples"]["rows"], summary["samples"]["positives"]) == (
        8_087,
        {"click": 1_397},
    )
    (learner,) = summary["learners"].values()
    assert learner["auc"] > 0.67
