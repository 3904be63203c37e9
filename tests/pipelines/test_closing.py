"""What the terminal shows at the end of a replay."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest

from headrace.pipelines.app.cli import main
from headrace.pipelines.app.closing import closing_table
from headrace.pipelines.jobs.generate import Traffic, write_traffic


@pytest.fixture(scope="module")
def summary(tmp_path_factory):
    folder = tmp_path_factory.mktemp("closing")
    write_traffic(Traffic(impressions=2_000, seed=7, click_rate=0.2), folder)
    config = folder / "headrace.toml"
    config.write_text(config.read_text().replace("bits = 20", "bits = 12"))
    assert main(["replay", str(config), "--out", str(folder / "out"), "--quiet"]) == 0
    return json.loads((folder / "out" / "summary.json").read_text())


def printed(summary, capsys, monkeypatch, findings=()):
    monkeypatch.setenv("COLUMNS", "80")
    closing_table(summary, findings, Path("out"))
    return capsys.readouterr().out


def test_the_end_of_a_run_says_what_it_was(summary, capsys, monkeypatch):
    """The time of the log, its labels, their rate and how soon their actions come."""
    lines = printed(summary, capsys, monkeypatch).splitlines()
    assert lines[0].startswith("log       2026-01-01 00:00:00 to 2026-01-01 00:")
    label = summary["labels"]["click"]
    shares = [label["label_rate"], *label["coverage"].values()]
    row = next(line for line in lines if line.startswith(" click") and "10m" in line)
    assert row.split() == [
        "click", "10m", f"{label['positives']:,}", *(f"{of:.2%}" for of in shares)
    ]  # fmt: skip


def large(summary, name):
    """Return a summary of ten billion records in each outcome, with a long name."""
    found = copy.deepcopy(summary)
    for part in ("outcomes", "input", "labels"):
        found[part][name] = found[part].pop("click")
    for counts in found["outcomes"].values():
        counts.update(dict.fromkeys(counts, 9_999_999_999))
    found["input"] = dict.fromkeys(found["outcomes"], 69_999_999_993)
    found["labels"][name]["positives"] = 9_999_999_999
    found["learners"] = {name: found["learners"]["click"]}
    for of in (found["learners"][name], found["learners"][name]["served"]):
        of["samples"] = 9_999_999_999
    return found


@pytest.mark.parametrize("name", ["click", "a-conversion-of-the-second-kind"])
def test_nothing_is_wider_than_80_columns_or_cut(summary, capsys, monkeypatch, name):
    """However large the log is: then outcomes are lines instead of a table."""
    text = printed(large(summary, name), capsys, monkeypatch)
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 80
    assert "…" not in text
    words = " ".join(text.split())
    assert f"{name}: 69,999,999,993 read; 9,999,999,999 settled, " in words
    assert "9,999,999,999 outside window" in words


def test_findings_are_printed_as_they_are(summary, capsys, monkeypatch):
    """Brackets in them are no markup."""
    text = printed(summary, capsys, monkeypatch, ["keys such as 'a[/b][red]' are orphans"])
    assert "attention keys such as 'a[/b][red]' are orphans" in text
