"""A learner that begins with what another run has learned."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headrace.pipelines.app.cli import main

START, MINUTE = 1_700_000_000_000_000, 60_000_000
ROWS = 4_000

CONFIG = """
[impressions]
path = "DAY-impressions.parquet"
key = ["id"]
time = { column = "time", unit = "us" }

[actions.click]
path = "DAY-clicks.parquet"
key = ["id"]
time = { column = "time", unit = "us" }
window = "1m"

[join]
end_of_log = "close"

[learner]
label = "click"
bits = 10
TABLE

[learner.features]
categorical = FEATURES
"""


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    """Two days, alone and together; the windows of the first are over before the second."""
    folder = tmp_path_factory.mktemp("log")
    random = np.random.default_rng(5)
    time = START + np.sort(random.choice(60 * MINUTE, ROWS, replace=False))
    time[ROWS // 2 :] += 120 * MINUTE
    site, os = random.integers(0, 5, ROWS), random.integers(0, 3, ROWS)
    clicked = random.random(ROWS) < 0.05 + 0.1 * site
    for day, rows in (
        ("both", slice(None)), ("one", slice(0, ROWS // 2)), ("two", slice(ROWS // 2, None)),
    ):  # fmt: skip
        ids = np.arange(ROWS)[rows]
        impressions = {"id": ids, "time": time[rows], "site": site[rows], "os": os[rows]}
        pq.write_table(pa.table(impressions), folder / f"{day}-impressions.parquet")
        chosen = clicked[rows]
        clicks = {"id": ids[chosen], "time": time[rows][chosen] + 1_000_000}
        pq.write_table(pa.table(clicks), folder / f"{day}-clicks.parquet")
    return folder


def configure(log, name, day, features='["site", "os"]', table=""):
    text = CONFIG.replace("DAY", day).replace("FEATURES", features).replace("TABLE", table)
    (log / f"{name}.toml").write_text(text)
    return str(log / f"{name}.toml")


def replay(log, out, day, features='["site", "os"]', table=""):
    config = configure(log, out.name, day, features, table)
    assert main(["replay", config, "--out", str(out), "--quiet"]) == 0
    return json.loads((out / "summary.json").read_text())["learners"]["click"]


def test_a_model_inside_the_result_is_refused(log, tmp_path, capsys):
    """It would be moved away when the result is published, and a killed run not find it again."""
    replay(log, tmp_path / "one", "one")
    start = f"start = '{tmp_path / 'one' / 'model'}'"
    config = configure(log, "inside", "two", table=start)
    before = (tmp_path / "one" / "seal.json").read_bytes()
    assert main(["replay", config, "--out", str(tmp_path / "one"), "--quiet"]) == 2
    assert "manifest.json" in capsys.readouterr().err
    assert (tmp_path / "one" / "seal.json").read_bytes() == before


TABLES = ["", 'algorithm = "probit"', 'algorithm = "ffm"', 'table = "exact"\nadmit = 2']


@pytest.mark.parametrize("table", TABLES)
def test_a_second_day_goes_on_where_the_first_ended(log, tmp_path, table):
    """The model is that of both days in one run, to the last bit."""
    whole = replay(log, tmp_path / "both", "both", table=table)
    replay(log, tmp_path / "one", "one", table=table)
    start = f"start = '{tmp_path / 'one' / 'model'}'\n{table}"
    second = replay(log, tmp_path / "two", "two", table=start)
    assert second["model"]["sha256"] == whole["model"]["sha256"]
    assert second["start"]["kept"] == ["categorical:site", "categorical:os"]
    assert (second["start"]["new"], second["start"]["gone"]) == ([], [])
    assert second["start"]["samples"] == ROWS // 2
    fresh = replay(log, tmp_path / "fresh", "two", table=table)
    assert second["log_loss"] < fresh["log_loss"]
    # It serves from its first impression on.
    assert second["served"]["samples"] > fresh["served"]["samples"]


def test_features_may_have_changed(log, tmp_path, capsys):
    """What is kept has its weights, what is new has none; the table says which are."""
    replay(log, tmp_path / "one", "one")
    config = configure(
        log, "changed", "two", '["site", "id"]', f"start = '{tmp_path / 'one' / 'model'}'"
    )
    out = tmp_path / "two"
    assert main(["replay", config, "--out", str(out)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "features: 1 kept, new categorical:id, gone categorical:os" in said
    learner = json.loads((out / "summary.json").read_text())["learners"]["click"]
    assert learner["start"]["kept"] == ["categorical:site"]
    assert learner["start"]["new"] == ["categorical:id"]
    assert learner["start"]["gone"] == ["categorical:os"]
    fresh = replay(log, tmp_path / "fresh", "two", '["site", "id"]')
    assert learner["log_loss"] < fresh["log_loss"]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ('algorithm = "sgd"', "was learned with algorithm = ftrl; set algorithm as it was"),
        ("alpha = 0.5", "was learned with alpha = 0.1"),
        ("bits = 12", "was learned with bits = 10"),
        ('table = "exact"', "was learned with bits = 10"),
    ],
)
def test_a_model_that_cannot_go_on_is_refused(log, tmp_path, capsys, table, message):
    """Before anything is read, naming key and value."""
    replay(log, tmp_path / "one", "one")
    start = f"start = '{tmp_path / 'one' / 'model'}'\n{table}"
    config = configure(log, "wrong", "two", table=start)
    if "bits" in table:
        text = (log / "wrong.toml").read_text().replace("bits = 10\n", "", 1)
        (log / "wrong.toml").write_text(text)
    assert main(["validate", config]) == 2
    said = capsys.readouterr().err
    assert "learner.start" in said
    assert message.split("; ")[0] in said


@pytest.mark.parametrize(
    "what", ["nothing", "a damaged one", "no manifest of a run", "a small one"]
)
def test_what_is_no_model_is_refused(log, tmp_path, capsys, what):
    """With one line."""
    folder = tmp_path / "one" / "model"
    replay(log, tmp_path / "one", "one")
    (manifest,) = folder.glob("click/*/manifest.json")
    if what == "nothing":
        folder = tmp_path / "none"
    elif what == "a small one":
        assert main(["export", str(folder), "--small", str(tmp_path / "small")]) == 0
        capsys.readouterr()
        folder = tmp_path / "small"
    elif what == "a damaged one":
        manifest.write_text(
            manifest.read_text().replace('"z"', '"y"').replace('"bits": 10', '"bits": 9')
        )
    else:
        written = json.loads(manifest.read_text())
        del written["config"]
        manifest.write_text(json.dumps(written))
    config = configure(log, "nothing", "two", table=f"start = '{folder}'")
    assert main(["validate", config]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "learner.start" in said
