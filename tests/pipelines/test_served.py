"""Figures of predictions as a server would have made them, on a whole replay."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headrace import load_model
from headrace.learners.features import FeatureEncoder, Features
from headrace.learners.models.ftrl import FtrlModel, FtrlParameters
from headrace.pipelines.app.cli import main
from headrace.schemas.errors import SnapshotError

SECOND = 1_000_000
START = 1_700_000_000 * SECOND
ROWS = 3_000

CONFIG = """
[impressions]
path = "impressions.parquet"
key = ["id"]
time = { column = "time", unit = "us" }

[actions.click]
path = "clicks.parquet"
key = ["id"]
time = { column = "time", unit = "us" }
window = "2m"

[actions.buy]
path = "buys.parquet"
key = ["id"]
time = { column = "time", unit = "us" }
window = "1m"

[join]
emission = "EMISSION"
end_of_log = "close"

[sampling]
negative_rate = RATE
correction = "CORRECTION"

[learners.click]
label = "click"
bits = 10
epoch = "10s"
offset = "given"
features = { categorical = ["site"] }

[learners.buy]
like = "click"
label = "buy"
filter = "click"

[monitor]
served_share = SHARE
window = "5m"
slices = ["site"]
"""


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    """Three thousand impressions in ten minutes, with copies, clicks and purchases."""
    folder = tmp_path_factory.mktemp("log")
    random = np.random.default_rng(5)
    time = START + np.sort(random.choice(600 * SECOND, ROWS, replace=False))
    site = random.integers(0, 5, ROWS)
    ids = np.array([f"i{n}" for n in range(ROWS)])
    clicked = random.random(ROWS) < 0.1 + 0.1 * site
    bought = clicked & (random.random(ROWS) < 0.3)
    given = np.where(random.random(ROWS) < 0.05, np.nan, random.normal(size=ROWS) / 4)
    copies = random.choice(ROWS - 100, 60, replace=False)
    where = np.concatenate([np.arange(ROWS), copies])
    when = np.concatenate([time, time[copies] + 20 * SECOND + 1])
    order = np.argsort(when, kind="stable")
    where, when = where[order], when[order]
    impressions = {"id": ids[where], "time": when, "site": site[where], "given": given[where]}
    pq.write_table(pa.table(impressions), folder / "impressions.parquet")
    for name, chosen, window in (("clicks", clicked, 120), ("buys", bought, 60)):
        at = time[chosen] + random.integers(0, window * SECOND, chosen.sum())
        order = np.argsort(at)
        rows = {"id": ids[chosen][order], "time": at[order]}
        pq.write_table(pa.table(rows), folder / f"{name}.parquet")
    return folder, pa.table({"id": ids, "time": time, "site": site, "given": given,
                             "click": clicked, "buy": bought})  # fmt: skip


def replay(log, out, emission, correction, share=1.0, rate=0.3, *options):
    text = CONFIG.replace("EMISSION", emission).replace("CORRECTION", correction)
    text = text.replace("SHARE", str(share)).replace("RATE", str(rate))
    out.mkdir()
    (log / f"{out.name}.toml").write_text(text)
    config = str(log / f"{out.name}.toml")
    assert main(["replay", config, "--out", str(out / "result"), "--quiet", *options]) == 0
    return json.loads((out / "result" / "summary.json").read_text())


def expected(truth, samples, name, correction):
    """Predict every impression when it is known; return (label, p) of those scored."""
    emit = np.array(samples["event_time"].cast(pa.int64())) + np.array(
        samples["observed_for"].cast(pa.int64())
    )
    order = np.argsort(emit, kind="stable")
    samples, emit = samples.take(order), emit[order]
    encoder = FeatureEncoder(Features(categorical=("site",)), 10)
    learner = FtrlModel(FtrlParameters(), 10)
    features = encoder.encode(samples.select(["site"]).combine_chunks().to_batches()[0])
    tells = np.isfinite(np.array(samples["given"]))
    if "trigger" in samples.column_names:
        trigger = samples["trigger"].to_pylist()
        labels = {"click": ("click",), "buy": ("buy", "click")}[name]
        tells &= np.array([of is None or of in labels for of in trigger])
        again = np.array(samples["emission"].to_pylist()) == "window"
        tells &= ~(again & np.array(samples[name]))
    if name == "buy":
        tells &= np.array(samples["click"])
    time, margins = np.array(truth["time"]), np.full(ROWS, np.nan)
    sites = encoder.encode(pa.RecordBatch.from_pydict({"site": list(range(5))}))
    own = np.flatnonzero(tells)
    label, weight = np.array(samples[name]) * 1.0, np.array(samples["weight"])
    offset = np.array(samples["given"]) - (np.log(0.3) if correction == "logit" else 0)
    done = 0
    for row in range(ROWS):
        until = np.searchsorted(emit[own], time[row])
        some, done = own[done:until], until
        learner.learn(features, some, label[some], weight[some], offset[some])
        if done:
            margins[row] = learner.predict(sites)[truth["site"][row].as_py()]
    margins += np.array(truth["given"])
    if correction == "recalibrate":
        margins += np.log(0.3)
    scored = np.isfinite(margins) & (np.array(truth["click"]) | (name == "click"))
    return np.array(truth[name])[scored], 1 / (1 + np.exp(-margins[scored]))


@pytest.mark.parametrize(
    ("emission", "correction"),
    [
        ("window", "weight"), ("window", "recalibrate"), ("immediate", "weight"),
        ("elapsed", "logit"), ("window_and_immediate", "weight"),
    ],
)  # fmt: skip
def test_the_figures_are_those_of_a_server(log, tmp_path, emission, correction):
    """Predicted with what was learned before, scored by labels that are final.

    No negative that sampling drops is missing, and no copy is counted.
    """
    folder, truth = log
    summary = replay(folder, tmp_path / "out", emission, correction)
    samples = pq.read_table(tmp_path / "out" / "result" / "samples")
    for name in ("click", "buy"):
        label, p = expected(truth, samples, name, correction)
        served = summary["learners"][name]["served"]
        loss = -np.where(label, np.log(p), np.log(1 - p)).mean()
        assert served["samples"] == label.size
        assert served["log_loss"] == pytest.approx(loss, rel=1e-9)
        assert served["calibration"] == pytest.approx(p.sum() / label.sum(), rel=1e-9)
        assert sum(window["samples"] for window in served["windows"]) == label.size
        mature = np.array(samples[f"{name}_mature"]).mean()
        share = summary["learners"][name]["mature_share"]
        assert 0 < share <= 1
        if name == "click" and emission == "window":
            assert share == mature == 1
        if emission == "immediate":
            assert share < 0.8


def test_a_share_of_keys_is_scored(log, tmp_path):
    """Whatever the shards; none with a share of 0, and then the samples are the same."""
    folder, _ = log
    some = replay(folder, tmp_path / "some", "window", "weight", 0.25)
    (tmp_path / "some" / "more").mkdir()
    text = (folder / "some.toml").read_text().replace("[join]", "[join]\nshards = 5")
    (folder / "some.toml").write_text(text)
    config, out = str(folder / "some.toml"), tmp_path / "shards"
    assert main(["replay", config, "--out", str(out), "--quiet"]) == 0
    shards = json.loads((out / "summary.json").read_text())
    none = replay(folder, tmp_path / "none", "window", "weight", 0)
    assert 0.2 < some["learners"]["click"]["served"]["samples"] / (ROWS * 0.76) < 0.3
    for name, learner in some["learners"].items():
        assert shards["learners"][name]["served"] == learner["served"]
        assert none["learners"][name]["served"] is None
        assert none["learners"][name]["model"]["sha256"] == learner["model"]["sha256"]


def test_what_waits_at_the_end_of_an_open_log_is_not_scored(log, tmp_path):
    """Its labels may still change."""
    folder, _ = log
    text = CONFIG.replace('end_of_log = "close"', "").replace("EMISSION", "window")
    text = text.replace("CORRECTION", "weight").replace("SHARE", "1").replace("RATE", "0.3")
    (folder / "open.toml").write_text(text)
    assert (
        main(["replay", str(folder / "open.toml"), "--out", str(tmp_path / "out"), "--quiet"]) == 0
    )
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    served = summary["learners"]["click"]["served"]
    opened = summary["outcomes"]["impressions"]["open"]
    assert opened > 100
    assert served["waiting"] >= opened


@pytest.mark.parametrize("kind", ["sigmoid", "isotonic", "piecewise"])
def test_calibration_depends_on_the_log_alone(log, tmp_path, kind):
    """Not on shards and blocks; the published model has the map, under its checksum."""
    folder, _ = log
    table = f'calibration = {{ kind = "{kind}", by = "site" }}\noffset = "given"'
    text = CONFIG.replace('offset = "given"', table).replace("EMISSION", "immediate")
    text = text.replace("CORRECTION", "weight").replace("SHARE", "1").replace("RATE", "1.0")
    learners, snapshots = [], []
    for number, (shards, rows) in enumerate([(1, 100_000), (3, 97)]):
        config = folder / f"{kind}-{number}.toml"
        more = f"[replay]\nbatch_rows = {rows}\n\n[join]\nshards = {shards}\n"
        config.write_text(text.replace("[join]\n", more))
        out = tmp_path / f"out-{number}"
        assert main(["replay", str(config), "--out", str(out), "--quiet"]) in (0, 3)
        learners.append(json.loads((out / "summary.json").read_text())["learners"])
        snapshots.append(load_model(out / "model" / "click"))
    assert learners[0] == learners[1]
    click = learners[0]["click"]
    assert click["calibrated"]["samples"] == click["served"]["samples"]
    assert click["calibrated"]["log_loss"] != click["served"]["log_loss"]
    model = snapshots[0]
    rows = pa.table({"site": [0, 1, 2, 3, 4, 9], "given": [0.5] * 6})
    before = model.learner.predict(model.encoder.encode(rows.to_batches()[0])) + 0.5
    maps = model.calibration
    knots = [maps.of.get(str(site), maps.whole) for site in (0, 1, 2, 3, 4, 9)]
    expected = [knot.apply(margin) for knot, margin in zip(knots, before, strict=True)]
    np.testing.assert_allclose(model.predict_proba(rows), 1 / (1 + np.exp(-np.array(expected))))
    manifest = out / "model" / "click" / click["model"]["path"].split("/")[-1] / "manifest.json"
    written = json.loads(manifest.read_text())
    written["calibration"]["whole"][1][0] += 0.1
    manifest.write_text(json.dumps(written))
    with pytest.raises(SnapshotError, match="is damaged"):
        load_model(out / "model" / "click")


def test_learners_of_one_label_are_compared(log, tmp_path):
    """On the same impressions, with the first of them; the report shows it, and by slice."""
    folder, _ = log
    more = '[learners.other]\nlike = "click"\nalpha = 0.5\n\n[learners.same]\nlike = "click"\n\n'
    text = CONFIG.replace("[monitor]", f"{more}[monitor]").replace("EMISSION", "window")
    text = text.replace("CORRECTION", "weight").replace("SHARE", "1").replace("RATE", "1.0")
    (folder / "compared.toml").write_text(text)
    out = tmp_path / "out"
    assert main(["replay", str(folder / "compared.toml"), "--out", str(out), "--quiet"]) == 0
    learners = json.loads((out / "summary.json").read_text())["learners"]
    assert learners["click"]["compared"] is None
    assert learners["buy"]["compared"] is None
    same, other = learners["same"]["compared"], learners["other"]["compared"]
    assert (same["mean"], same["low"], same["high"]) == (0, 0, 0)
    assert other["reference"] == "click"
    assert other["rows"] == learners["click"]["served"]["samples"]
    losses = [learners[name]["served"]["log_loss"] for name in ("other", "click")]
    assert other["mean"] == pytest.approx(losses[0] - losses[1])
    assert other["low"] < other["mean"] < other["high"]
    report = (out / "report.html").read_text()
    assert "Beside click, on the same" in report
    assert "Log loss by site (blue: better than the other)" in report
    together = json.loads((out / "model" / "models.json").read_text())
    assert {name: of["sha256"] for name, of in together["learners"].items()} == {
        name: learner["model"]["sha256"] for name, learner in learners.items()
    }
    for of in together["learners"].values():
        load_model(out / "model" / of["path"])
