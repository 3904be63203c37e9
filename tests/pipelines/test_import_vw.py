"""A log from text of Vowpal Wabbit."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headrace.learners.vowpaltext import read_lines
from headrace.pipelines.app.cli import main

LINES = """\
1 |site a b |price usd:2.5
-1 2.0 0.5 tag1|site c |price usd:1 eur:3
0 |site:2 a

no label at all
1 |x y:z
-1 'quoted | lone:-2e-1
+1 |site a%20b |price usd:3 usd:.5
1 two |site a
-1 -2 |site a
| site a
"""


def imported(tmp_path, text, name="lines.vw"):
    path = tmp_path / name
    opened = gzip.open if name.endswith(".gz") else open
    with opened(path, "wt") as file:
        file.write(text)
    assert main(["import-vw", str(path), "--out", str(tmp_path / "log")]) == 0
    return pq.read_table(tmp_path / "log" / "impressions.parquet")


@pytest.mark.parametrize("name", ["lines.vw", "lines.vw.gz"])
def test_lines_become_a_log_that_can_be_replayed(tmp_path, capsys, name):
    """Namespaces are lists, features with values numbers; lines that are none are counted."""
    table = imported(tmp_path, LINES, name)
    assert "5 of 10 lines, 2 positive" in capsys.readouterr().out
    assert table["line"].to_pylist() == [1, 2, 3, 6, 7]
    assert table["site"].to_pylist() == [["b"], ["c"], [], [], ["a%20b"]]
    assert table["site:a"].to_pylist() == [1.0, None, 2.0, None, None]
    assert table["price:usd"].to_pylist() == [2.5, 1.0, None, None, 3.5]
    assert table["price:eur"].to_pylist() == [None, 3.0, None, None, None]
    assert table["features:lone"].to_pylist() == [None, None, None, -0.2, None]
    assert table["importance"].to_pylist() == [1, 2, 1, 1, 1]
    assert table["base"].to_pylist() == [0, 0.5, 0, 0, 0]
    clicks = pq.read_table(tmp_path / "log" / "clicks.parquet")
    assert clicks["line"].to_pylist() == [1, 7]
    out = tmp_path / "out"
    assert main(["replay", str(tmp_path / "log" / "headrace.toml"), "--out", str(out),
                 "--quiet"]) == 0  # fmt: skip
    learner = json.loads((out / "summary.json").read_text())["learners"]["label"]
    assert learner["samples"] == 5


def test_a_log_that_was_exported_comes_back(tmp_path, capsys):
    """Each row has as many features, with their values, and the same label and weight."""
    log, out = tmp_path / "made", tmp_path / "result"
    assert main(["generate", "--out", str(log), "--impressions", "2000"]) == 0
    assert main(["replay", str(log / "headrace.toml"), "--out", str(out), "--quiet"]) == 0
    lines = tmp_path / "samples.vw"
    assert main(["export", str(out / "model"), "--vw", str(lines)]) == 0
    table = imported(tmp_path, lines.read_text())
    samples = pq.read_table(out / "samples")
    assert table.num_rows == samples.num_rows
    assert table["importance"].to_pylist() == samples["weight"].to_pylist()
    devices = [f"device={device}" for device in samples["device"].to_pylist()]
    assert [row[0] for row in table["device"].to_pylist()] == devices
    prices = np.array(table["price:price"].fill_null(1.0))
    np.testing.assert_allclose(prices, np.log1p(np.array(samples["price"])), rtol=1e-6)
    clicks = pq.read_table(tmp_path / "log" / "clicks.parquet")
    assert clicks.num_rows == samples["click"].to_pylist().count(True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Empty CSV file"),
        ("rubbish\n", "has no line of Vowpal Wabbit's format"),
        ("1 |x " + " ".join(f"f{n}:2" for n in range(1_001)), "more than 1,000 features"),
    ],
)
def test_what_is_no_such_text_is_refused(tmp_path, capsys, text, message):
    """With one line, and without a folder."""
    (tmp_path / "lines.vw").write_text(text)
    code = main(["import-vw", str(tmp_path / "lines.vw"), "--out", str(tmp_path / "log")])
    assert code in (1, 2)
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not (tmp_path / "log").exists()


def test_a_folder_that_is_there_is_left_alone(tmp_path, capsys):
    (tmp_path / "log").mkdir()
    (tmp_path / "lines.vw").write_text("1 |x a\n")
    assert main(["import-vw", str(tmp_path / "lines.vw"), "--out", str(tmp_path / "log")]) == 2
    assert not list((tmp_path / "log").iterdir())


def test_how_lines_are_cut_does_not_matter():
    """A block of one line is read as in one of many."""
    lines = [line for line in LINES.splitlines() if line]
    whole = read_lines(pa.array(lines))
    for at, line in enumerate(lines):
        alone = read_lines(pa.array([line]))
        assert alone.good[0] == whole.good[at]
        own = whole.row == at
        assert alone.name.to_pylist() == whole.name.filter(pa.array(own)).to_pylist()
        assert alone.value.tolist() == whole.value[own].tolist()
