"""Joined actions, and samples that leave before their window has closed, on a whole replay."""

from __future__ import annotations

import hashlib
import json

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from headrace.pipelines.app.cli import main


def configure(log, folder, *lines):
    """Write the log's configuration, with further lines in its table ``[join]``."""
    text = (log / "headrace.toml").read_text()
    for name in ("impressions", "clicks"):
        text = text.replace(f'"{name}.parquet"', json.dumps(str(log / f"{name}.parquet")))
    assert "[join]\n" in text
    text = text.replace("[join]\n", "[join]\n" + "\n".join(lines) + "\n")
    (folder / "headrace.toml").write_text(text)
    return folder / "headrace.toml"


def replay(config, out, *options):
    assert main(["replay", str(config), "--out", str(out), "--quiet", *options]) == 0
    return json.loads((out / "summary.json").read_text())


def fingerprint(out):
    digest = hashlib.sha256()
    for folder in ("samples", "joined"):
        for path in sorted((out / folder).rglob("*.parquet")):
            digest.update(str(path.relative_to(out)).encode() + path.read_bytes())
    learners = json.loads((out / "summary.json").read_text())["learners"]
    return digest.hexdigest(), *(learner["model"]["sha256"] for learner in learners.values())


def test_joined_actions_are_the_clicks_with_their_impressions(log, tmp_path, capsys):
    """Each settled click leaves once, with the columns that its sample has."""
    config = configure(log, tmp_path, "joined = true")
    assert main(["replay", str(config), "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    joined = pq.read_table(tmp_path / "out" / "joined" / "click")
    assert summary["joined"]["actions"] == {"click": joined.num_rows}
    assert joined.num_rows == summary["outcomes"]["click"]["settled"]
    # Impressions are found for others too: whose ids have been counted.
    assert summary["joined"]["found_in"]["memory"] >= joined.num_rows
    assert f"joined    {joined.num_rows:,} click" in said
    assert "joined (click)" in (tmp_path / "out" / "report.html").read_text()
    samples = pq.read_table(tmp_path / "out" / "samples")
    counts = joined.group_by("request_id").aggregate([("click_time", "min"), ([], "count_all")])
    clicked = samples.filter(samples["click"])
    both = clicked.join(counts, "request_id")
    assert both.num_rows == clicked.num_rows == counts.num_rows
    assert both["click_time_min"] == both["click_time"]
    assert both["count_all"].cast(pa.int32()) == both["click_count"]
    shared = [name for name in joined.column_names if not name.startswith("click")]
    assert set(shared) < set(samples.column_names)
    first = joined.group_by(shared).aggregate([])
    assert first.sort_by("request_id") == clicked.select(shared).sort_by("request_id")


MODES = ("immediate", "elapsed", "window_and_immediate")


@pytest.mark.parametrize("mode", MODES)
def test_every_impression_leaves_as_its_mode_says(log, tmp_path, mode):
    """First samples, positives after them, and repeated true negatives add up."""
    whole = replay(configure(log, tmp_path, "joined = true"), tmp_path / "whole")
    (tmp_path / mode).mkdir()
    lines = ("joined = true", f'emission = "{mode}"')
    early = replay(configure(log, tmp_path / mode, *lines), tmp_path / "out")
    assert early["outcomes"]["click"] == whole["outcomes"]["click"]
    assert early["outcomes"]["impressions"] == whole["outcomes"]["impressions"]
    assert early["joined"]["actions"] == whole["joined"]["actions"]

    samples = pq.read_table(tmp_path / "out" / "samples")
    by = {name: samples.filter(pc.equal(samples["emission"].cast(pa.string()), name))
          for name in ("window", "immediate", "elapsed", "positive")}  # fmt: skip
    first = by["elapsed" if mode == "elapsed" else "immediate"]
    positives = whole["samples"]["positives"]["click"]
    assert pc.sum(first["click"]).as_py() + by["positive"].num_rows == positives
    assert pc.all(by["positive"]["click"]).as_py()
    assert pc.all(by["positive"]["click_mature"]).as_py()
    assert first["click_mature"] == first["click"]
    assert not pc.any(pc.greater(by["positive"]["click_count"], 1)).as_py()
    negatives = whole["samples"]["rows"] - positives
    # A key is chosen by its hash, whenever it leaves; clicked ones may be dropped too, at first.
    counted = {name: rows.num_rows for name, rows in by.items() if rows.num_rows}
    assert early["samples"]["emissions"] == counted
    assert negatives <= first.num_rows <= whole["samples"]["rows"]
    assert by["window"].num_rows == (negatives if mode == "window_and_immediate" else 0)
    waits = first["observed_for"].cast(pa.int64())
    shown = pq.read_table(log / "impressions.parquet", columns=["time"])["time"]
    emitted = pc.add(*(samples[name].cast(pa.int64()) for name in ("event_time", "observed_for")))
    learned = pc.sum(pc.less_equal(emitted, pc.max(shown))).as_py()
    for name, found in early["learners"].items():
        assert found["model"]["samples"] == learned < samples.num_rows, name
    for name, found in whole["learners"].items():
        assert found["model"]["samples"] == whole["samples"]["rows"], name
    window = 5 * 60 * 1_000_000 if "5m" in (log / "headrace.toml").read_text() else None
    if mode == "elapsed":
        assert window is None or 0.4 < pc.mean(waits).as_py() / window < 0.6
    else:
        assert pc.max(waits).as_py() < 60 * 1_000_000


@pytest.mark.parametrize("mode", MODES)
def test_the_last_impression_is_known_whichever_log_ends_last(log, tmp_path, mode):
    """Although the clock rises in steps through the last window, by the log that ends last."""
    config = configure(log, tmp_path, f'emission = "{mode}"')
    shown = pq.read_table(log / "impressions.parquet")["time"]
    clicks = pq.read_table(log / "clicks.parquet")
    half = (pc.min(shown).as_py() + pc.max(shown).as_py()) // 2
    pq.write_table(clicks.filter(pc.less(clicks["time"], half)), tmp_path / "first.parquet")
    text = config.read_text().replace(json.dumps(str(log / "clicks.parquet")), '"first.parquet"')
    config.write_text(text)
    found = replay(config, tmp_path / "out", "--batch-rows", "100")
    samples = pq.read_table(tmp_path / "out" / "samples")
    emitted = pc.add(*(samples[name].cast(pa.int64()) for name in ("event_time", "observed_for")))
    learned = pc.sum(pc.less_equal(emitted, pc.max(shown))).as_py()
    assert {each["model"]["samples"] for each in found["learners"].values()} == {learned}
    assert learned < samples.num_rows or mode == "immediate"


@pytest.mark.parametrize("mode", MODES)
def test_shards_and_batches_change_no_byte_of_early_samples(log, tmp_path, mode):
    """Samples, joined actions and model are the same however the log is read."""
    config = configure(log, tmp_path, "joined = true", f'emission = "{mode}"')
    found = set()
    for n, options in enumerate((["--shards", "1"], ["--shards", "7", "--batch-rows", "100"])):
        replay(config, tmp_path / str(n), *options)
        found.add(fingerprint(tmp_path / str(n)))
    assert len(found) == 1


def test_rows_that_meet_keep_are_never_dropped_and_published_rates_have_weights(log, tmp_path):
    """A published rate gives each sample its weight under that rate, 0 if it would be dropped."""
    config = configure(log, tmp_path)
    text = config.read_text().replace("[sampling]\n", "[sampling]\nkeep = \"price > 20\"\n"
                                      "publish = { low = 0.05 }\n")  # fmt: skip
    config.write_text(text)
    replay(config, tmp_path / "out")
    table = pq.read_table(tmp_path / "out" / "samples")
    price, click, weight, low = (
        table[name].to_numpy() for name in ("price", "click", "weight", "weight_low")
    )
    dear = price > 20
    assert (weight[dear] == 1).all()
    assert (low[dear] == 1).all()
    cheap = ~dear & ~click
    assert set(weight[cheap]) == {2.0}
    assert set(low[cheap]) == {0.0, 20.0}
    assert abs((low[cheap] > 0).mean() - 0.1) < 0.05


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('keep = "price ++"', "is not a valid condition"),
        ('keep = "nothing > 1"', "no such impression column"),
        ('keep = "device > 5"', "cannot be evaluated"),
        ("publish = { high = 0.9 }", "is above every negative_rate (0.5)"),
    ],
    ids=["not a condition", "an unknown column", "types that differ", "a rate above all others"],
)
def test_an_error_in_sampling_is_named(log, tmp_path, capsys, text, message):
    """One line names the key and what is wrong."""
    config = configure(log, tmp_path)
    config.write_text(config.read_text().replace("[sampling]\n", f"[sampling]\n{text}\n"))
    assert main(["replay", str(config), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert "sampling." in said


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (('emission = "at once"',), "join.emission"),
        (("elapsed = [0.5, 0.2]", 'emission = "elapsed"'), "first bound must not exceed"),
        (("elapsed = [0.1, 0.2]",), 'has no meaning with emission = "window"'),
        (('early = "10m"',), "is not shorter than wait_for_impression"),
    ],
    ids=["an unknown emission", "bounds in the wrong order", "elapsed without its emission",
         "early without time to wait"],
)  # fmt: skip
def test_a_contradiction_in_the_join_is_named(log, tmp_path, capsys, lines, message):
    """One line names the key and what to do."""
    config = configure(log, tmp_path, *lines)
    assert main(["replay", str(config), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert len(said.splitlines()) == 1


def test_a_rate_and_a_condition_may_use_the_same_column(log, tmp_path, capsys):
    """`validate` accepts it, and the replay keeps the rows that meet the condition."""
    text = (log / "headrace.toml").read_text()
    by_device = 'negative_rate = { column = "device", values = { phone = 0.1 }, default = 0.5 }'
    text = text.replace("negative_rate = 0.5", f"{by_device}\nkeep = \"device == 'phone'\"")
    config = log / "one-column.toml"
    config.write_text(text)
    assert main(["validate", str(config)]) == 0
    assert main(["replay", str(config), "--out", str(tmp_path / "out"), "--quiet"]) == 0
    config.unlink()
    capsys.readouterr()
    phones = pq.read_table(tmp_path / "out" / "samples").filter(pc.field("device") == "phone")
    assert set(phones.column("sampling_rate").to_pylist()) == {1.0}
