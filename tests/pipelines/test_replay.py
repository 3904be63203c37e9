"""Whole replays of generated traffic: exact, conserving, the same for any settings."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headrace.pipelines.app.cli import main
from tests.pipelines.outputs import contents

ROOT = Path(__file__).parents[2]


def replay(config, out, *options):
    assert main(["replay", str(config), "--out", str(out), "--quiet", *options]) == 0
    return json.loads((out / "summary.json").read_text())


def fingerprint(out):
    """Bytes of the sample files, and the models' checksums."""
    digest = hashlib.sha256()
    for path in sorted((out / "samples").iterdir()):
        digest.update(path.name.encode() + path.read_bytes())
    learners = json.loads((out / "summary.json").read_text())["learners"]
    return digest.hexdigest(), *(learner["model"]["sha256"] for learner in learners.values())


@pytest.fixture(scope="module")
def result(log, tmp_path_factory):
    out = tmp_path_factory.mktemp("result") / "out"
    summary = replay(log / "headrace.toml", out)
    return out, summary


def test_a_replay_writes_every_output(result):
    """Samples, dead letters, one model, report and summary, and nothing half-written."""
    out, summary = result
    assert sorted(path.name for path in out.iterdir()) == [
        "dead_letters", "guard", "model", "quarantine", "report.html", "samples", "seal.json",
        "statistics.parquet", "summary.json",
    ]  # fmt: skip
    click = summary["learners"]["click"]
    assert [f"model/click/{path.name}" for path in (out / "model" / "click").iterdir()] == [
        click["model"]["path"]
    ]
    assert set(summary) == {
        "config", "spans", "input", "carried", "continues", "state_bytes", "outcomes",
        "bad_values", "times", "end_of_log", "sources", "samples", "labels",
        "joined", "guard", "drift", "window_s", "learners", "elapsed_s", "events_per_s",
        "peak_rss_mb",
        "versions",
    }  # fmt: skip
    assert set(click) == {
        "label", "start", "algorithm", "samples", "log_loss", "normalized_entropy", "auc",
        "auc_interval", "calibration", "calibration_interval", "calibration_error",
        "after_warm_up", "worst_slice",
        "running_rate_log_loss", "compared", "clipped", "refused", "outliers", "mature_share",
        "effective_samples", "served", "calibrated", "windows", "gate", "model",
        "pairwise",
    }  # fmt: skip
    assert set(click["windows"][0]) >= {"start", "log_loss", "calibration"}
    assert summary["window_s"] == 1800
    assert set(click["model"]) == {"path", "samples", "sha256", "figures"}
    assert set(click["model"]["figures"]) == {
        "coordinates", "nonzero_weights", "features", "colliding"
    }  # fmt: skip


def test_every_record_ends_in_one_outcome(result):
    """In every stream outcomes add up to the input, and all but the settled are dead letters."""
    out, summary = result
    letters = pq.read_table(out / "dead_letters").to_pylist()
    for stream, counts in summary["outcomes"].items():
        assert sum(counts.values()) == summary["input"][stream]
        assert counts["open"] == 0
        buried = sum(letter["stream"] == stream for letter in letters)
        assert buried == summary["input"][stream] - counts["settled"]
        assert counts["settled"] > 0
    assert len({(letter["source"], letter["offset"]) for letter in letters}) == len(letters)


def test_samples_equal_those_of_a_plain_join(log, result):
    """A join by dictionary of all records that are not dead letters."""
    out, summary = result
    samples = pq.read_table(out / "samples").to_pylist()
    assert len(samples) == summary["samples"]["rows"]
    shown = {}
    letters = pq.read_table(out / "dead_letters").to_pylist()
    dead = {(Path(x["source"]).name, x["offset"]) for x in letters}
    rows = pq.read_table(log / "impressions.parquet").to_pylist()
    for offset, row in enumerate(rows):
        if ("impressions.parquet", offset) not in dead:
            assert row["request_id"] not in shown
            shown[row["request_id"]] = row
    clicks = {}
    for offset, row in enumerate(pq.read_table(log / "clicks.parquet").to_pylist()):
        if ("clicks.parquet", offset) not in dead:
            clicks.setdefault(row["request_id"], []).append((row["time"], row["value"]))
    kept = {row["request_id"]: row for row in samples}
    assert set(clicks) <= set(kept) <= set(shown)
    for key, sample in kept.items():
        row = shown[key]
        assert sample["event_time"].timestamp() == pytest.approx(row["time"] / 1e6, abs=1e-6)
        assert all(sample[name] == row[name] for name in row if name != "time")
        own = sorted(clicks.get(key, []))
        assert (sample["click"], sample["click_count"]) == (bool(own), len(own))
        assert sample["click_value"] == (own[0][1] if own else None)
        assert sample["sampling_rate"] == (1.0 if own else 0.5)
        assert sample["weight"] == 1 / sample["sampling_rate"]
    dropped = len(shown) - len(kept)
    assert summary["samples"]["negatives_dropped"] == dropped
    assert abs(dropped / (len(shown) - len(clicks)) - 0.5) < 0.03


@pytest.mark.parametrize(
    "options",
    [
        ["--shards", "1"],
        ["--shards", "64"],
        ["--batch-rows", "100"],
        ["--batch-rows", "5000"],
        ["--shards", "1", "--batch-rows", "999"],
    ],
    ids=" ".join,
)
def test_shards_and_batches_change_no_byte(log, result, tmp_path, options):
    """All files are identical; summary and report differ only in times and memory."""
    replay(log / "headrace.toml", tmp_path, *options)
    assert contents(tmp_path) == contents(result[0])


@pytest.mark.parametrize("split", ["in sequence", "in turn"])
def test_five_files_equal_one(log, result, tmp_path, split):
    """Rows split over five files, named in any order, give the same samples and model."""
    for name in ("impressions", "clicks"):
        table = pq.read_table(log / f"{name}.parquet")
        for part in range(5):
            if split == "in turn":
                rows = table.take(pa.array(np.arange(part, table.num_rows, 5)))
            else:
                cut = table.num_rows // 5 + 1
                rows = table.slice(part * cut, cut)
            pq.write_table(rows, tmp_path / f"{name}-{part}.parquet")
    text = (log / "headrace.toml").read_text()
    shuffled = [f"impressions-{part}.parquet" for part in (3, 0, 4, 2, 1)]
    text = text.replace('"impressions.parquet"', json.dumps(shuffled))
    text = text.replace('"clicks.parquet"', '"clicks-?.parquet"')
    (tmp_path / "headrace.toml").write_text(text)
    summary = replay(tmp_path / "headrace.toml", tmp_path / "out")
    assert summary["input"] == result[1]["input"]
    assert fingerprint(tmp_path / "out") == fingerprint(result[0])


def test_text_files_equal_parquet(tmp_path):
    """CSV.gz and JSON lines.zst give the labels of Parquet; broken lines become dead letters."""
    for form in ("parquet", "text"):
        folder = tmp_path / form
        command = ["generate", "--out", str(folder), "--impressions", "3000", "--rate", "10"]
        assert main([*command, "--format", form]) == 0
        replay(folder / "headrace.toml", folder / "out")
    samples = [pq.read_table(tmp_path / form / "out" / "samples") for form in ("parquet", "text")]
    columns = ["request_id", "event_time", "click", "click_time", "click_value", "price", "weight"]
    assert samples[0].select(columns) == samples[1].select(columns)
    letters = pq.read_table(tmp_path / "text" / "out" / "dead_letters").to_pylist()
    invalid = sorted(
        (letter["stream"], letter["reason"], letter["record"][:20])
        for letter in letters
        if letter["reason"] not in ("late", "duplicate", "orphan", "outside_window")
    )
    assert invalid == [
        ("click", "null_key", '{"request_id": null,'),
        ("click", "time_out_of_range", '{"request_id": "x", '),
        ("click", "undecodable", '{"request_id": "cut '),
        ("click", "wrong_type", '{"request_id": "x", '),
        ("impressions", "null_key", '{"request_id": null,'),
        ("impressions", "undecodable", ""),
        ("impressions", "undecodable", "cut off in the mid"),
    ]


def test_an_unsorted_file_is_reported_and_sorting_corrects_it(log, tmp_path, capsys):
    """Most rows are late and the run names the setting; with it no row is late."""
    table = pq.read_table(log / "impressions.parquet")
    shuffled = table.take(pa.array(np.random.default_rng(1).permutation(table.num_rows)))
    pq.write_table(shuffled, tmp_path / "impressions.parquet")
    (tmp_path / "clicks.parquet").symlink_to(log / "clicks.parquet")
    text = (log / "headrace.toml").read_text()
    (tmp_path / "headrace.toml").write_text(text)
    out = tmp_path / "out"
    assert main(["replay", str(tmp_path / "headrace.toml"), "--out", str(out)]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert 'If the file is not sorted by time, set impressions.order = "sort"' in printed
    late = json.loads((out / "summary.json").read_text())["outcomes"]["impressions"]["late"]
    assert late > 3_000
    (tmp_path / "headrace.toml").write_text(
        text.replace("[impressions]\n", '[impressions]\norder = "sort"\n')
    )
    summary = replay(tmp_path / "headrace.toml", out)
    assert summary["outcomes"]["impressions"]["late"] == 0
    assert summary["outcomes"]["click"]["settled"] > 1_000


def test_keys_of_different_types_are_reported(log, tmp_path, capsys):
    """Integers never match text; replay and validate both say so."""
    clicks = pq.read_table(log / "clicks.parquet")
    numbers = pa.array(np.arange(clicks.num_rows))
    pq.write_table(clicks.set_column(0, "request_id", numbers), tmp_path / "clicks.parquet")
    (tmp_path / "impressions.parquet").symlink_to(log / "impressions.parquet")
    config = tmp_path / "headrace.toml"
    config.write_text((log / "headrace.toml").read_text())
    assert main(["validate", str(config)]) == 0
    assert "text and numbers never match" in " ".join(capsys.readouterr().out.split())
    assert main(["replay", str(config), "--out", str(tmp_path / "out")]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "The key is numbers here and text in the impressions" in printed


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('window = "10m"', 'window = "0s"', "actions.click.window: join window must be positive"),
        ("negative_rate = 0.5", "negative_rate = 1.5", "sampling.negative_rate.default"),
        ("seed = 7", "sed = 7", "sampling.sed: unknown key (got 7); did you mean seed?"),
        ('"impressions.parquet"', '"nothing-*.parquet"', "impressions.path: no such file"),
        ('"impressions.parquet"', '"headrace.toml"',
         "impressions.path: the file's name does not show its format"),
        ('"impressions.parquet"', '"truth.json"',
         "impressions.path: has no line that is a JSON object"),
        ('id = "click_id"', 'id = "clickid"', "actions.click.id: no such column (got 'clickid')"),
        ('"device", "os", "site"', '"devise"', "no such impression column (got 'devise')"),
        ('price = "log"', 'device = "log"', "learner.features.numeric.device: column is string"),
        (', unit = "us" }\nwindow', " }\nwindow", "actions.click.time: column time is int64"),
        ('columns = ["value"]', 'columns = ["count"]', "actions.click.columns: no such column"),
        ('key = ["request_id"]\ntime = { column = "time", unit = "us" }\nwindow',
         'time = { column = "time", unit = "us" }\nwindow', "actions.click.key: is missing"),
    ],
    ids=["a window of zero", "a rate above one", "a misspelt key", "no file", "no known format",
         "no key column", "an unknown id column", "an unknown feature", "a feature not numeric",
         "a time without unit", "an unknown carried column", "no key"],
)  # fmt: skip
def test_a_wrong_configuration_gives_one_line_and_changes_nothing(
    log, tmp_path, old, new, said, capsys
):
    """Exit code 2, one line that names file and key, and the folder as it was."""
    text = (log / "headrace.toml").read_text()
    assert old in text
    config = log / "wrong.toml"
    config.write_text(text.replace(old, new))
    out = tmp_path / "out"
    out.mkdir()
    (out / "summary.json").write_text("old")
    try:
        assert main(["replay", str(config), "--out", str(out)]) == 2
    finally:
        config.unlink()
    error = capsys.readouterr().err
    assert error.startswith(f"headrace: {config}: ")
    assert said in error
    assert error.count("\n") == 1
    assert [(path.name, path.read_text()) for path in out.iterdir()] == [("summary.json", "old")]


def test_a_truncated_input_fails_the_run_and_keeps_the_older_result(log, tmp_path, capsys):
    """Exit code 1, one line that names file and record, and the earlier outputs as they were."""
    folder = tmp_path / "log"
    assert (
        main(["generate", "--out", str(folder), "--impressions", "2000", "--format", "text"]) == 0
    )
    replay(folder / "headrace.toml", tmp_path / "out")
    before = fingerprint(tmp_path / "out")
    whole = (folder / "impressions.csv.gz").read_bytes()
    (folder / "impressions.csv.gz").write_bytes(whole[: len(whole) // 2])
    capsys.readouterr()
    command = ["replay", str(folder / "headrace.toml"), "--out", str(tmp_path / "out")]
    assert main(command) == 1
    error = capsys.readouterr().err.splitlines()
    assert len(error) == 1
    assert "impressions.csv.gz: unreadable after record" in error[0]
    assert fingerprint(tmp_path / "out") == before
    assert not (tmp_path / "out" / ".headrace").exists()


def test_a_killed_run_leaves_nothing_under_final_names_and_can_be_run_again(log, result, tmp_path):
    """After a kill -9 the same command gives the outputs of an undisturbed run."""
    out = tmp_path / "out"
    command = [
        sys.executable, "-m", "headrace", "replay", str(log / "headrace.toml"),
        "--out", str(out), "--quiet", "--batch-rows", "50",
    ]  # fmt: skip
    process = subprocess.Popen(command, cwd=ROOT)
    deadline = time.monotonic() + 60
    while (
        not (out / ".headrace" / "partial" / "result" / "samples").exists()
        and time.monotonic() < deadline
    ):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert [path.name for path in out.iterdir()] == [".headrace"]
    replay(log / "headrace.toml", out)
    assert fingerprint(out) == fingerprint(result[0])
    assert not (out / ".headrace").exists()


def test_an_interrupted_run_cleans_up_and_prints_one_line(log, tmp_path):
    """Ctrl-C gives exit code 1, and the folder is removed."""
    out = tmp_path / "out"
    command = [
        sys.executable, "-m", "headrace", "replay", str(log / "headrace.toml"),
        "--out", str(out), "--quiet", "--batch-rows", "5",
    ]  # fmt: skip
    process = subprocess.Popen(
        command, cwd=ROOT, stderr=subprocess.PIPE, text=True,
        # A shell lets its background jobs ignore interrupts, and so would their children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while (
        not (out / ".headrace" / "partial" / "result" / "samples").exists()
        and time.monotonic() < deadline
    ):
        time.sleep(0.005)
    time.sleep(0.3)
    error = ""
    for _ in range(60):
        process.send_signal(signal.SIGINT)
        try:
            _, error = process.communicate(timeout=1)
            break
        except subprocess.TimeoutExpired:
            continue  # compiled code may swallow an interrupt: send another
    assert process.returncode == 1
    assert error.splitlines()[-1] == (
        "headrace: interrupted; run the same command again to start over, or with --resume "
        "to continue"
    )
    assert not out.exists()


def test_a_second_run_replaces_the_first_and_keeps_other_files(log, tmp_path):
    """Its results are the same; files that are not Headrace's stay."""
    first = replay(log / "headrace.toml", tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    second = replay(log / "headrace.toml", tmp_path)
    assert first["learners"] == second["learners"]
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert not (tmp_path / ".headrace").exists()


def test_a_replay_without_a_learner_writes_samples_but_no_model(log, tmp_path):
    """The table of the learner is optional."""
    text = (log / "headrace.toml").read_text()
    config = log / "join.toml"
    config.write_text(text[: text.index("[learner]")])
    summary = replay(config, tmp_path)
    config.unlink()
    assert summary["learners"] == {}
    assert summary["samples"]["rows"] > 0
    assert not (tmp_path / "model").exists()
    assert "Where every record ended" in (tmp_path / "report.html").read_text()


def test_late_actions_leave_corrections_while_retained(log, tmp_path):
    """With a retention, late clicks leave corrections beside the samples."""
    config = log / "retention.toml"
    text = (log / "headrace.toml").read_text()
    config.write_text(text.replace("[join]\n", '[join]\nretention = "30m"\n'))
    summary = replay(config, tmp_path)
    config.unlink()
    corrections = pq.read_table(tmp_path / "corrections")
    late = summary["outcomes"]["click"]["late"]
    assert 0 < corrections.num_rows <= late
    assert corrections.column("click").to_pylist() == [True] * corrections.num_rows
    assert corrections.schema == pq.read_table(tmp_path / "samples").schema


def test_validate_reads_the_first_records_and_prints_what_a_replay_would_do(tmp_path, capsys):
    """Event times, order and invalid records of the first lines; nothing is written."""
    assert (
        main(["generate", "--out", str(tmp_path), "--impressions", "900", "--format", "text"]) == 0
    )
    capsys.readouterr()
    assert main(["validate", str(tmp_path / "headrace.toml")]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "event times 2026-01-01 00:00:00 to 2026-01-01 00:00:0" in printed
    assert "invalid: 1 undecodable, 1 null_key, 1 wrong_type, 1 time_out_of_range" in printed
    assert "an impression settles 10m after its event time" in printed
    assert "0.5 of negative rows kept, correction weight" in printed
    assert "learner click: ftrl on click, 9 features in 2^20 coordinates" in printed
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "clicks.jsonl.zst", "headrace.toml", "impressions.csv.gz", "truth.json",
    ]  # fmt: skip


def test_usage_errors_exit_with_2(capsys):
    """Missing options, Beam options for another command, and another runner."""
    with pytest.raises(SystemExit) as caught:
        main(["replay"])
    assert caught.value.code == 2
    assert main(["validate", "x.toml", "--", "--runner=x"]) == 2
    assert main(["replay", "x.toml", "--out", "y", "--", "--runner=PrismRunner"]) == 2
    capsys.readouterr()


def test_time_zone_hash_seed_and_locale_change_no_byte(log, result, tmp_path):
    """Samples and model are the same."""
    out = tmp_path / "out"
    command = [sys.executable, "-m", "headrace", "replay", str(log / "headrace.toml")]
    odd = {**os.environ, "TZ": "Asia/Kolkata", "PYTHONHASHSEED": "77", "LC_ALL": "C"}
    subprocess.run([*command, "--out", str(out), "--quiet"], cwd=ROOT, env=odd, check=True)
    assert fingerprint(out) == fingerprint(result[0])


def test_a_file_of_json_lines_may_be_empty(log, tmp_path):
    """Its columns are those of the other files, or the declared ones."""
    rows = pq.read_table(log / "clicks.parquet").to_pylist()
    (tmp_path / "clicks-0.jsonl").write_text("")
    (tmp_path / "clicks-1.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = (log / "headrace.toml").read_text()
    text = text.replace('"impressions.parquet"', json.dumps(str(log / "impressions.parquet")))
    config = tmp_path / "headrace.toml"
    config.write_text(text.replace('"clicks.parquet"', '"clicks-*.jsonl"'))
    positives = replay(config, tmp_path / "out")["samples"]["positives"]["click"]
    assert positives > 1_000
    types = (
        'types = { request_id = "string", click_id = "string", time = "int64", value = "float64" }'
    )
    text = text.replace('"clicks.parquet"', f'"clicks-0.jsonl"\n{types}')
    config.write_text(text)
    assert replay(config, tmp_path / "out")["samples"]["positives"]["click"] == 0
