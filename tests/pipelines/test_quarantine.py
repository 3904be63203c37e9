"""What guards held back: shown, released from another join, discarded."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import shutil
import threading
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

import headrace
from headrace.learners.learning import LearningStep, TrainPlan
from headrace.learners.ordering import Epoch
from headrace.learners.snapshot import load_snapshot
from headrace.learners.starting import Start
from headrace.monitoring.disconnects import Disconnect
from headrace.pipelines.app.cli import main
from headrace.pipelines.app.resolving import resolve
from headrace.pipelines.jobs import releasing, stream
from headrace.pipelines.jobs.generate import START, Traffic, write_traffic
from headrace.pipelines.jobs.quarantine import Held, Quarantine, deciding
from headrace.pipelines.jobs.runfolder import open_run
from headrace.pipelines.run.signing import write_signed
from headrace.pipelines.sinks.completion import completion_of, read_completion
from headrace.schemas.config.durations import HOUR, MINUTE
from headrace.schemas.errors import ArgumentError, FolderError
from headrace.schemas.records.events import EMIT, RATE
from headrace.schemas.records.hashing import hash_column
from tests.pipelines.direct import run_directly
from tests.pipelines.growing import run_stream

CONFIG = """
[impressions]
path = "impressions.parquet"
key = ["request_id"]
time = { column = "time", unit = "us" }

[actions.click]
path = "clicks.parquet"
key = ["request_id"]
time = { column = "time", unit = "us" }
window = "10m"
id = "click_id"

[actions.buy]
path = "buys.parquet"
key = ["request_id"]
time = { column = "time", unit = "us" }
window = "10m"

[join]
end_of_log = "close"

[sampling]
negative_rate = { column = "device", values = { phone = 0.4 }, default = 0.6 }
keep = "hour == 5 and os == 'ios'"
correction = "logit"
seed = 3

[learners.plain]
label = "click"
bits = 14
calibration = "sigmoid"
features.categorical = ["device", "site", "ad", "hour"]
features.numeric = { price = "log" }

[learners.exact]
label = "click"
table = "exact"
admit = 2
expire = "2h"
features.categorical = ["device", "site", "ad", "hour"]

[learners.rare]
label = "click"
algorithm = "probit"
bits = 12
filter = "device == 'phone'"
weight = "price"
offset = "position"
features.categorical = ["site"]

[learners.placed]
label = "click"
algorithm = "sgd"
bits = 12
position = { column = "position", method = "clicks", theta = [1, 0.9, 0.8, 0.7, 0.6] }
features.categorical = ["site", "os"]

[learners.bought]
label = "buy"
bits = 12
filter = "click"
features.categorical = ["site", "os"]

[learners.other]
label = "buy"
bits = 12
features.categorical = ["site"]

[monitor]
slices = ["device", "app_version"]
window = "10m"

[guard]
settle = "1h"
alarm = 1000
slice_warn = 1.25
slice_disconnect = 1.5
"""

PAGE = (Path(__file__).parents[2] / "docs" / "quarantine.md").read_text(encoding="utf-8")

LEARNERS = ("plain", "exact", "rare", "placed", "bought")
"""Those from which the guard of clicks holds rows back."""


def write_log(folder, shown, clicks, buys):
    folder.mkdir(parents=True)
    for name, rows in (("impressions", shown), ("clicks", clicks), ("buys", buys)):
        pq.write_table(rows, folder / f"{name}.parquet")
    (folder / "headrace.toml").write_text(CONFIG)


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    """A log without the clicks of half an hour, then without those of an app version; and repaired.

    In the repaired one some impressions of the half hour have turned out to be of a bot.
    """
    folder = tmp_path_factory.mktemp("logs")
    write_traffic(
        Traffic(60_000, 2, seed=5, clean=True, click_rate=0.2, regions=True), folder / "made"
    )
    shown, clicks = (
        pq.read_table(folder / "made" / f"{name}.parquet") for name in ("impressions", "clicks")
    )
    time = clicks["time"].cast(pa.int64()).to_numpy() - START
    version = dict(zip(shown["request_id"].to_pylist(), shown["app_version"].to_pylist(),
                       strict=True))  # fmt: skip
    lost = (time >= 4 * HOUR) & (time < 4 * HOUR + 30 * MINUTE)
    of_version = np.array([version[key] == "v5.1" for key in clicks["request_id"].to_pylist()])
    lost |= (time >= 5 * HOUR + 30 * MINUTE) & (time < 6 * HOUR + 30 * MINUTE) & of_version
    buys = clicks.select(["request_id", "time"]).take(np.arange(0, len(clicks), 2))
    shown_at = shown["time"].cast(pa.int64()).to_numpy() - START
    bot = (shown_at > 4 * HOUR + 5 * MINUTE) & (shown["ad"].to_numpy() == 2)
    bot &= shown_at < 4 * HOUR + 40 * MINUTE
    human = ~pc.is_in(clicks["request_id"], shown["request_id"].filter(pa.array(bot))).to_numpy()
    write_log(folder / "bad", shown, clicks.filter(pa.array(~lost)), buys)
    write_log(folder / "good", shown.filter(pa.array(~bot)), clicks.filter(pa.array(human)), buys)
    for name in ("bad", "good"):
        config = str(folder / name / "headrace.toml")
        assert main(["replay", config, "--out", str(folder / name / "out"), "--quiet"]) == 0
    return folder


@pytest.fixture
def bad(logs, tmp_path):
    """The result of the log with a fault, of which nothing is decided yet."""
    return Path(shutil.copytree(logs / "bad" / "out", tmp_path / "bad"))


@pytest.fixture
def good(logs):
    return logs / "good" / "out"


def table(folder):
    return ds.dataset(folder, format="parquet").to_table()


def due(bad, good, reasons):
    """Return the samples of the repaired log in the place of disconnects, told from sets alone."""
    ours = set(table(bad / "samples")["request_id"].to_pylist())
    held = [row for row in table(bad / "quarantine").to_pylist()
            if row["quarantine_label"] == "click"]  # fmt: skip
    by_key = {row["request_id"]: row["quarantine_reason"] for row in held}
    spans = {}
    for reason in dict.fromkeys(row["quarantine_reason"] for row in held):
        times = [row["event_time"] for row in held if row["quarantine_reason"] == reason]
        spans[reason] = min(times), max(times)
    samples = table(good / "samples")
    chosen = []
    for row in samples.to_pylist():
        reason = by_key.get(row["request_id"])
        if row["request_id"] not in ours:
            for name, (first, last) in spans.items():
                of_value = "app_version" not in name or row["app_version"] == "v5.1"
                if first <= row["event_time"] <= last and of_value:
                    reason = name
        chosen.append(reason in reasons)
    return samples.filter(pa.array(chosen))


def taught(config, snapshots, name, rows):
    """Have a learner that begins with a snapshot learn samples, as a run does; return the step."""
    inputs = resolve(headrace.load_config(config))
    plan = inputs.train.learners[name]
    plan = replace(plan, start=Start(snapshots[name], 0, (), (), ()), calibration=None)
    phone = np.array(rows["device"].to_pylist()) == "phone"
    kept = (rows["hour"].to_numpy() == 5) & (np.array(rows["os"].to_pylist()) == "ios")
    rate = np.where(kept, 1.0, np.where(phone, 0.4, 0.6))
    emit = rows["event_time"].cast(pa.int64()).to_numpy() + 10 * MINUTE
    (batch,) = rows.combine_chunks().to_batches()
    batch = batch.append_column(EMIT, pa.array(emit)).append_column(RATE, pa.array(rate))
    step = LearningStep(TrainPlan({name: plan}, inputs.train.correction), 10_000_000)
    learned = step.learn(Epoch([batch], np.arange(len(rows))))
    return step, rows.take(pa.array(learned.rows[name]))


def snapshots_of(folder):
    return {path.parent.name: path for path in folder.glob("*/snapshot-*")}


def same(one, other):
    ours, theirs = one.export(), other.export()
    assert ours.keys() == theirs.keys()
    for name, of in ours.items():
        np.testing.assert_array_equal(of, theirs[name])


def release(out, good, models, *numbers, **options):
    return headrace.release_quarantine(out, numbers, joined_again=good, models=models, **options)


def test_it_shows_each_disconnect_in_a_line(bad, good, capsys):
    """With its rows, its reason and what becomes of them; of a run that was never off, that."""
    assert main(["quarantine", "show", str(bad)]) == 0
    lines = capsys.readouterr().out.splitlines()
    held = table(bad / "quarantine")["quarantine_reason"].to_pylist()
    for number, (line, reason) in enumerate(zip(lines, dict.fromkeys(held), strict=True), 1):
        assert line.startswith(f"{number}  2026-01-01 0")
        assert f"  {held.count(reason):,} held  {reason}; discarded by default" in line
    for line, words in zip(
        lines, ("no arrivals", "0 positives", "app_version = v5.1"), strict=True
    ):
        assert words in line
    assert main(["quarantine", "show", str(bad), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert [of["number"] for of in shown] == [1, 2, 3]
    assert [of["value"] for of in shown] == [None, None, "v5.1"]
    assert sum(of["rows"] for of in shown) == len(held)
    assert {of["decision"] for of in shown} == {"default"}
    assert main(["quarantine", "show", str(good)]) == 0
    assert capsys.readouterr().out == "no guard has disconnected learning\n"


def test_a_guard_that_only_warns_has_held_back_nothing(logs, tmp_path, capsys):
    """It is said so, and nothing is discarded."""
    config = logs / "bad" / "warns.toml"
    text = CONFIG[: CONFIG.index("[learners.exact]")] + CONFIG[CONFIG.index("[monitor]") :]
    config.write_text(text.replace("[guard]\n", '[guard]\naction = "warn"\n'))
    assert main(["replay", str(config), "--out", str(tmp_path / "out"), "--quiet"]) == 0
    assert main(["quarantine", "show", str(tmp_path / "out")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "  nothing held  click: no arrivals since 2026-01-01 04:0" in lines[0]
    assert all(line.endswith("; the guard only warns") for line in lines)
    assert main(["quarantine", "show", str(tmp_path / "out"), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert {(of["rows"], of["decision"]) for of in shown} == {(0, "none")}


def test_what_is_no_folder_of_a_run_is_refused_in_a_line(logs, tmp_path, capsys):
    for action in (["show"], ["discard"], ["release", "--joined-again", "x", "--out", "y"]):
        assert main(["quarantine", action[0], str(tmp_path / "none"), *action[1:]]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "is neither a finished result nor a run that goes on" in line


def test_a_released_model_is_that_of_a_trainer_that_learned_the_same_rows(
    logs, bad, good, tmp_path, monkeypatch
):
    """Of every learner whose label it is or whose filter asks for it, to the bit, and of no other.

    However many rows are read at a time.
    """
    before = snapshots_of(bad / "model")
    reasons = {of.disconnect.reason for of in headrace.load_quarantine(bad).held}
    rows = due(bad, good, reasons)
    monkeypatch.setattr(releasing, "_ROWS", 700)
    released = release(bad, good, tmp_path / "models")
    assert released.models.keys() == set(LEARNERS)
    assert released.models == snapshots_of(tmp_path / "models")
    for name in LEARNERS:
        step, learned = taught(logs / "bad" / "headrace.toml", before, name, rows)
        assert released.learned[name] == len(learned) > 100
        found, manifest = load_snapshot(released.models[name])
        same(found, step.learners[name])
        old = load_snapshot(before[name])[1]
        told = manifest["release"]
        assert told["from"] == {"snapshot": str(before[name]), "sha256": old["sha256"]}
        assert (told["run"], told["joined_again"]) == (str(bad), str(good))
        assert manifest["samples"] == old["samples"] + len(learned)
        assert manifest.get("calibration") == old.get("calibration")
        identities = hashlib.sha256()
        time = learned["event_time"].cast(pa.int64()).to_numpy()
        for row in zip(*hash_column(learned["request_id"].combine_chunks()), time, strict=True):
            identities.update(b"".join(int(of).to_bytes(8, "little") for of in row))
        assert (told["rows"], told["rows_sha256"]) == (len(learned), identities.hexdigest())
    monkeypatch.undo()
    (bad / "quarantine.json").unlink()
    again = release(bad, good, tmp_path / "again")
    assert replace(again, models={}) == replace(released, models={})
    for name, folder in again.models.items():
        same(load_snapshot(folder)[0], load_snapshot(released.models[name])[0])


def test_positives_that_sampling_had_dropped_as_negatives_are_learned(bad, good, tmp_path):
    """Else a rate of clicks among released rows would be less than it is among all."""
    released = release(bad, good, tmp_path / "models", 2)
    told = load_snapshot(released.models["plain"])[1]["release"]
    (reason,) = [of["reason"] for of in told["disconnects"]]
    rows = due(bad, good, {reason})
    held = table(bad / "quarantine")
    held = held.filter(pc.equal(held["quarantine_reason"], reason))
    among = pc.is_in(rows["request_id"], held["request_id"].combine_chunks())
    there = pc.is_in(held["request_id"], rows["request_id"].combine_chunks())
    assert released.learned["plain"] == len(rows)
    assert released.held == len(held)
    assert released.added == len(rows) - pc.sum(among).as_py() > 50
    assert released.missing == len(held) - pc.sum(there).as_py() > 20
    labels = dict(zip(held["request_id"].to_pylist(), held["click"].to_pylist(), strict=True))
    differs = [labels.get(row["request_id"], row["click"]) != row["click"]
               for row in rows.to_pylist()]  # fmt: skip
    assert released.changed == sum(differs) > 50


def test_it_is_noted_beside_the_result_and_breaks_no_seal(logs, bad, good, tmp_path, capsys):
    """A released model scores and can be a start.

    A result that replaces this one has no such decision.
    """
    assert main(["quarantine", "release", str(bad), "3", "--joined-again", str(good),
                 "--out", str(tmp_path / "models")]) == 0  # fmt: skip
    said = capsys.readouterr().out
    assert "learner plain: " in said
    assert not headrace.verify(bad).problems
    assert main(["quarantine", "show", str(bad)]) == 0
    *others, released = capsys.readouterr().out.splitlines()
    assert all(line.endswith("; discarded by default") for line in others)
    assert released.endswith(f"; released to {tmp_path / 'models'}")
    (model,) = (tmp_path / "models" / "plain").iterdir()
    p = headrace.load_model(model).predict_proba(table(good / "samples").slice(0, 100))
    assert np.isfinite(p).all()
    start = f'[learners.plain]\nstart = "{model}"'
    shutil.copytree(logs / "good", tmp_path / "next", ignore=shutil.ignore_patterns("out"))
    config = tmp_path / "next" / "headrace.toml"
    config.write_text(config.read_text().replace("[learners.plain]", start))
    assert main(["validate", str(config)]) == 0
    assert main(["replay", str(config), "--out", str(bad), "--quiet"]) == 0
    held = headrace.load_quarantine(bad).held
    assert all(of.decision is None for of in held)


def test_releasing_or_discarding_twice_is_refused_or_changes_nothing(bad, good, tmp_path, capsys):
    assert main(["quarantine", "discard", str(bad), "1"]) == 0
    assert capsys.readouterr().out == "discarded: 1\n"
    noted = (bad / "quarantine.json").read_bytes()
    assert main(["quarantine", "discard", str(bad), "1"]) == 0
    assert "none that was not decided about before" in capsys.readouterr().out
    assert (bad / "quarantine.json").read_bytes() == noted
    assert main(["quarantine", "discard", str(bad), "4"]) == 2
    assert "must be the number of a disconnect, 1 to 3 (got 4)" in capsys.readouterr().err
    released = release(bad, good, tmp_path / "models")
    assert released.numbers == (2, 3)
    command = ["--joined-again", str(good), "--out", str(tmp_path / "more")]
    for numbers, why in (
        ([], "holds nothing back that is over and not decided about"),
        (["2"], f"was released to {tmp_path / 'models'}"),
        (["1"], "whose rows another model would lack"),
    ):
        assert main(["quarantine", "release", str(bad), *numbers, *command]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert why in line
        assert not (tmp_path / "more").exists()
    assert main(["quarantine", "discard", str(bad), "2"]) == 2
    assert "was released to" in capsys.readouterr().err


def test_nothing_held_back_is_nothing_to_discard(good, capsys):
    assert main(["quarantine", "discard", str(good)]) == 2
    assert "holds nothing back" in capsys.readouterr().err
    assert not (good / "quarantine.json").exists()


def test_the_labels_that_were_wrong_are_refused(logs, bad, tmp_path):
    """Those of the run itself, of a copy of it, and of another run over the same log."""
    copy = shutil.copytree(bad, tmp_path / "copy")
    for same_run in (bad, copy):
        with pytest.raises(ArgumentError, match="are those that were wrong"):
            release(bad, same_run, tmp_path / "models")
    config = str(logs / "bad" / "headrace.toml")
    assert main(["replay", config, "--out", str(tmp_path / "twin"), "--quiet"]) == 0
    with pytest.raises(FolderError, match=r"has none of the .* or holds them back too"):
        release(bad, tmp_path / "twin", tmp_path / "models")
    off = tmp_path / "unguarded"
    shutil.copytree(logs / "bad", off, ignore=shutil.ignore_patterns("out"))
    text = (off / "headrace.toml").read_text().replace("[guard]", '[guard]\naction = "off"')
    (off / "headrace.toml").write_text(text)
    assert main(["replay", str(off / "headrace.toml"), "--out", str(off / "out"), "--quiet"]) == 0
    with pytest.raises(FolderError, match="so nothing was repaired"):
        release(bad, off / "out", tmp_path / "models")
    assert not (tmp_path / "models").exists()
    assert not (bad / "quarantine.json").exists()


def test_what_is_joined_or_learned_in_another_way_is_refused(logs, bad, good, tmp_path):
    """Each with its reason; nothing is written."""

    def changed(folder, change):
        for path in (folder / "model").glob("*/*/manifest.json"):
            manifest = json.loads(path.read_text())
            change(manifest["config"])
            path.write_text(json.dumps(manifest))
        return folder

    def window(config):
        config["actions"]["click"]["window"] = 60_000_000

    def emission(config):
        config["join"]["emission"] = "immediate"

    def position(config):
        config["learners"]["placed"]["position"] |= {"theta": None, "from": "random"}

    models = tmp_path / "models"
    other = changed(shutil.copytree(good, tmp_path / "other"), window)
    with pytest.raises(FolderError, match="joined with another actions than"):
        release(bad, other, models)
    for change, why in ((emission, "samples leave early"), (position, "theta of positions is")):
        run = changed(shutil.copytree(bad, tmp_path / change.__name__), change)
        with pytest.raises(FolderError, match=why):
            release(run, good, models)
    for folder, why in ((bad / "models", "is in the folder of a run"), (good.parent, "not empty")):
        with pytest.raises(FolderError, match=why):
            release(bad, good, folder)
    for path in (bad / "model" / "plain").iterdir():
        path.rename(path.with_name(path.name.replace("snapshot", "withdrawn")))
    with pytest.raises(FolderError, match="learner plain has no published model"):
        release(bad, good, models)
    assert not models.exists()
    assert not (bad / "quarantine.json").exists()


def test_rows_that_another_guard_holds_back_are_not_learned():
    """Of a learner whose filter asks for the label of that guard, unless it is released too."""
    day = datetime(2026, 1, 1, tzinfo=UTC)
    held = tuple(
        Held(Disconnect(number, label, None, None, day, day, False, 0, 25.0, str(number)), 1)
        for number, label in ((1, "click"), (2, "click"), (3, "buy"))
    )
    due = {"click": np.array([1, 1, 0, 2, 1]), "buy": np.array([0, 3, 3, 0, 0])}

    def learned(*labels, chosen):
        sorting = releasing._Sorting(
            Quarantine(None, held), [held[n - 1] for n in chosen], [], [], releasing.Released(())
        )
        return np.flatnonzero(sorting.to_learn(frozenset(labels), due)).tolist()

    assert learned("click", chosen=[1]) == [0, 1, 4]
    assert learned("buy", "click", chosen=[1]) == [0, 4]
    assert learned("buy", "click", chosen=[1, 3]) == [0, 1, 2, 4]
    assert learned("buy", chosen=[1]) == []


def test_a_row_that_the_broken_join_lacks_is_of_what_would_have_held_it_back():
    """Labels of all samples before those of a value, and arrivals last: see `holder` of a guard."""
    day = datetime(2026, 1, 1, tzinfo=UTC)

    def held(number, column, value, arrivals, span):
        of = Disconnect(number, "click", column, value, day, day, False, 0, 25.0, "", arrivals)
        return Held(of, 1, span)

    run = Quarantine(None, (
        held(1, None, None, True, (10, 60)),
        held(2, "os", "ios", False, (20, 40)),
        held(3, None, None, False, (30, 50)),
    ))  # fmt: skip
    sorting = releasing._Sorting(run, [], [], ["os"], releasing.Released(()))
    times = pa.array([5, 15, 25, 25, 35, 55], pa.timestamp("us", "UTC"))
    rows = pa.table({"event_time": times, "os": ["ios", "ios", "ios", "mac", "ios", "ios"]})
    assert sorting._by_place("click", rows).tolist() == [0, 1, 2, 1, 3, 1]


def test_a_value_that_is_not_counted_by_itself_is_refused(bad, good, tmp_path, monkeypatch):
    """Which rows are of `(other)` is known to the guard alone."""
    monkeypatch.setattr(releasing, "OTHER", "v5.1")
    with pytest.raises(ArgumentError, match="values that are not counted one by one"):
        release(bad, good, tmp_path / "models", 3)


def test_files_that_cannot_be_read_are_named(bad, good, tmp_path, capsys):
    """In one line, and nothing is written."""
    broken = Path(shutil.copytree(good, tmp_path / "good"))
    (part,) = (broken / "samples").iterdir()
    part.write_bytes(part.read_bytes()[:20_000])
    command = ["--joined-again", str(broken), "--out", str(tmp_path / "models")]
    assert main(["quarantine", "release", str(bad), *command]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{broken / 'samples'}: cannot be read" in line
    (part,) = (bad / "guard").iterdir()
    part.write_bytes(b"PAR1")
    assert main(["quarantine", "show", str(bad)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{bad / 'guard'}: cannot be read" in line
    assert not (tmp_path / "models").exists()


def test_a_damaged_file_of_decisions_is_named(bad, capsys):
    (bad / "quarantine.json").write_text("{}")
    assert main(["quarantine", "show", str(bad)]) == 2
    assert "quarantine.json: is damaged" in capsys.readouterr().err


def test_only_one_process_decides_at_a_time(bad):
    with (
        deciding(open_run(bad)),
        pytest.raises(FolderError, match="another process decides about its quarantine"),
    ):
        headrace.discard_quarantine(bad)


class Steady:
    """No chance: of a log that grows, whole blocks come."""

    def choice(self, portions):
        return 8_192

    def random(self):
        return 0.5


def test_a_run_that_goes_on_is_released_as_a_replay_is(logs, bad, good, tmp_path, monkeypatch):
    """To the bit; and while a disconnect is not over, nothing of it is released."""
    live = tmp_path / "live"
    monkeypatch.setattr(stream, "run_graph", run_directly)
    config = headrace.load_config(logs / "bad" / "headrace.toml")
    run_stream(config, live, threading.Event(), Steady())
    assert [of.as_json() for of in headrace.load_quarantine(live).held] == [
        of.as_json() for of in headrace.load_quarantine(bad).held
    ]
    complete = (live / "complete.json").read_bytes()
    until = dict.fromkeys(read_completion(live), START + 6 * HOUR)
    write_signed(live / "complete.json", completion_of(until))
    *_, last = headrace.load_quarantine(live).held
    assert f"{last.disconnect.begin:%H:%M:%S} still  {last.rows:,} held" in str(last)
    with pytest.raises(ArgumentError, match="is that of a disconnect that is not over"):
        release(live, good, tmp_path / "one", 3)
    assert release(live, good, tmp_path / "first").numbers == (1, 2)
    (live / "complete.json").write_bytes(complete)
    (live / "quarantine.json").unlink()
    released = release(live, good, tmp_path / "one")
    for name, folder in release(bad, good, tmp_path / "two").models.items():
        same(load_snapshot(folder)[0], load_snapshot(released.models[name])[0])
    assert [str(of.decision) for of in headrace.load_quarantine(live).held] == [
        f"released to {tmp_path / 'one'}"
    ] * 3


def test_what_the_page_shows_is_what_commands_print(tmp_path, monkeypatch, capsys):
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert [kind for kind, _ in blocks] == ["sh", "text", "sh", "text"]
    monkeypatch.chdir(tmp_path)
    shown = ""
    for kind, block in blocks:
        if kind == "text":
            assert shown == block
            continue
        for command in block.splitlines():
            capsys.readouterr()
            assert main(shlex.split(command)[1:]) == 0
            shown = capsys.readouterr().out
