"""Corrections for delayed actions: calibrated when serving, and in the model that is published."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import headrace
from headrace.pipelines.app.cli import main
from headrace.pipelines.jobs.explaining import explain

SECOND = 1_000_000
START = 1_700_000_000 * SECOND
ROWS, SPAN, WINDOW = 240_000, 7_200 * SECOND, 600 * SECOND
RATES = np.array([0.15, 0.2, 0.25, 0.3, 0.35, 0.4])

CONFIG = """
[impressions]
path = "impressions.parquet"
key = ["id"]
time = { column = "time", unit = "us" }

[actions.click]
path = "clicks.parquet"
key = ["id"]
time = { column = "time", unit = "us" }
window = "10m"

[join]
emission = "EMISSION"
end_of_log = "close"

[sampling]
negative_rate = RATE
correction = "CORRECTION"

[learner]
label = "click"
bits = 10
DELAY
features = { categorical = ["site"] }

[monitor]
served_share = 1
window = "10m"
"""


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    """A quarter of a million impressions in two hours; a click takes 200 s on average."""
    folder = tmp_path_factory.mktemp("log")
    random = np.random.default_rng(3)
    time = START + np.sort(random.choice(SPAN, ROWS, replace=False))
    site = random.integers(0, RATES.size, ROWS)
    ids = np.arange(ROWS)
    delay = np.full(ROWS, WINDOW)
    while (over := np.flatnonzero(delay >= WINDOW)).size:
        delay[over] = random.exponential(200 * SECOND, over.size)
    clicked = random.random(ROWS) < RATES[site]
    pq.write_table(
        pa.table({"id": ids, "time": time, "site": site}), folder / "impressions.parquet"
    )
    at = (time + delay)[clicked]
    order = np.argsort(at)
    clicks = {"id": ids[clicked][order], "time": at[order]}
    pq.write_table(pa.table(clicks), folder / "clicks.parquet")
    return folder


def replay(log, out, emission, delay, correction="weight", rate=1.0):
    """Return predictions over truth: as served after two windows, and of the published model."""
    text = CONFIG.replace("EMISSION", emission).replace("CORRECTION", correction)
    text = text.replace("RATE", str(rate)).replace("DELAY", f'delay = "{delay}"' if delay else "")
    (log / "run.toml").write_text(text)
    assert main(["replay", str(log / "run.toml"), "--out", str(out), "--quiet"]) in (0, 3)
    summary = json.loads((out / "summary.json").read_text())
    windows = summary["learners"]["click"]["served"]["windows"][2:]
    predicted = sum(window["calibration"] * window["positives"] for window in windows)
    served = predicted / sum(window["positives"] for window in windows)
    sites = pa.table({"site": list(range(RATES.size))})
    return served, headrace.load_model(out / "model").predict_proba(sites) / RATES


@pytest.mark.parametrize(
    ("emission", "delay", "correction", "rate"),
    [
        ("immediate", "fnw", "weight", 1.0),
        ("immediate", "fnw", "logit", 0.1),
        ("immediate", "fnw", "recalibrate", 0.1),
        ("immediate", "fnc", "weight", 0.5),
        ("immediate", "fnc", "recalibrate", 0.1),
        ('elapsed"\nelapsed = [0, 0.2]\nout_of_orderness = "0s', "es-dfm", "weight", 1.0),
        ('elapsed"\nelapsed = [0, 0.2]\nout_of_orderness = "0s', "es-dfm", "logit", 0.1),
        ("elapsed", "es-dfm", "recalibrate", 0.3),
        ("window_and_immediate", "defer", "weight", 1.0),
        ("window_and_immediate", "defer", "logit", 0.1),
    ],
)
def test_a_correction_recovers_the_true_rate(log, tmp_path, emission, delay, correction, rate):
    """Within 1 % overall as served, and within 3 % in the published model, also when downsampled.

    Of the published model the mean is meant; a single rate is learned from few recent clicks.
    """
    served, model = replay(log, tmp_path / "out", emission, delay, correction, rate)
    assert served == pytest.approx(1.0, abs=0.01)
    assert model.mean() == pytest.approx(1.0, abs=0.03)
    assert np.abs(model - 1).max() < 0.1


def test_an_explanation_adds_up_with_the_correction_for_delay(log, tmp_path):
    """That of ``fnc`` is of the prediction, not of the weights."""
    replay(log, tmp_path / "out", "immediate", "fnc")
    model = headrace.load_model(tmp_path / "out" / "model")
    site = pa.table({"site": [3]})
    found = explain(model, site)
    assert found.p == model.predict_proba(site)[0]
    terms = {term.name: term.contribution for term in found.terms}
    odds = np.exp(found.margin - terms["correction for delay"])
    assert found.p == pytest.approx(odds, rel=1e-9)  # p = b / (1 - b)
    assert sum(terms.values()) == pytest.approx(found.margin)


@pytest.mark.parametrize("kind", ["sigmoid", "isotonic", "piecewise"])
def test_calibration_mends_what_no_correction_did(log, tmp_path, kind):
    """As served from the third window on, and in the published model."""
    text = CONFIG.replace("EMISSION", "immediate").replace("CORRECTION", "weight")
    text = text.replace("RATE", "0.5").replace(
        "DELAY", f'calibration = {{ kind = "{kind}", half_life = "20m" }}'
    )
    (log / "run.toml").write_text(text)
    out = tmp_path / "out"
    assert main(["replay", str(log / "run.toml"), "--out", str(out), "--quiet"]) in (0, 3)
    learner = json.loads((out / "summary.json").read_text())["learners"]["click"]
    found = {}
    for predicted in ("served", "calibrated"):
        windows = learner[predicted]["windows"][4:]
        expected = sum(window["calibration"] * window["positives"] for window in windows)
        found[predicted] = expected / sum(window["positives"] for window in windows)
    assert found["served"] < 0.85
    assert found["calibrated"] == pytest.approx(1.0, abs=0.02)
    p = headrace.load_model(out / "model").predict_proba(pa.table({"site": range(RATES.size)}))
    assert (p / RATES).mean() == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize(
    ("emission", "least", "most"),
    [
        ("immediate", 0.7, 0.9),
        ('elapsed"\nelapsed = [0, 0.2]\nout_of_orderness = "0s', 0.8, 0.95),
        ("window_and_immediate", 0.4, 0.7),
    ],
)
def test_without_a_correction_the_rate_is_too_low(log, tmp_path, emission, least, most):
    """So the corrections have something to correct."""
    served, model = replay(log, tmp_path / "out", emission, None)
    assert least < served < most
    assert least < model.mean() < most


@pytest.mark.parametrize(
    ("emission", "delay", "hint"),
    [
        ("window", "fnw", "none: its labels are final"),
        ("immediate", "es-dfm", "fnw or fnc"),
        ("elapsed", "fnc", "es-dfm"),
        ("window_and_immediate", "fnw", "defer"),
    ],
)
def test_a_correction_that_does_not_fit_is_refused(log, tmp_path, capsys, emission, delay, hint):
    """With the emission that it undoes, and what to use instead."""
    text = CONFIG.replace("EMISSION", emission).replace("CORRECTION", "weight")
    text = text.replace("RATE", "1").replace("DELAY", f'delay = "{delay}"')
    (log / "run.toml").write_text(text)
    assert main(["validate", str(log / "run.toml")]) == 2
    said = capsys.readouterr().err
    assert "learner.delay" in said
    assert hint in said
