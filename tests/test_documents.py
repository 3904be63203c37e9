"""The documents agree with the code."""

from __future__ import annotations

import re
from pathlib import Path
from random import Random

import pytest

from headrace.learners.registry import ALGORITHMS
from tests.joiner.harness import Rows, envelopes, final_progress, make_plan, play

ROOT = Path(__file__).parents[1]
JOIN = (ROOT / "docs" / "join.md").read_text(encoding="utf-8")
STREAMS = ("impressions", "click", "buy")


def test_the_tests_that_the_rules_of_the_join_name_exist():
    """A rule whose test was renamed or deleted fails here."""
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py")]
    defined = set(re.findall(r"^def (test_\w+)", "\n".join(sources), re.MULTILINE))
    cases = set(re.findall(r'^    "(.+)": \($', "\n".join(sources), re.MULTILINE))
    named = re.findall(r"`(test_\w+)(?:\[([^\]]+)\])?`", JOIN)
    assert len(named) > 40
    assert {name for name, _ in named} <= defined
    assert {case for _, case in named if case} <= cases


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_learner_has_a_page(name):
    """It is linked, and its table has the parameters with their defaults."""
    page = (ROOT / "docs" / "learners" / f"{name}.md").read_text(encoding="utf-8")
    assert f"(learners/{name}.md)" in (ROOT / "docs" / "learners.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (\S+) \|", page, re.MULTILINE)
    fields = ALGORITHMS[name].parameters.model_fields
    assert dict(rows) == {key: f"{field.default}" for key, field in fields.items()}


def table(heading: str) -> list[list[str]]:
    """Return the rows of the table of join.md with this heading row."""
    lines = JOIN[JOIN.index(heading) :].splitlines()[2:]
    rows = []
    for line in lines:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def test_the_worked_example_is_right():
    """Each record of join.md has the outcome in its table, and the samples are those shown."""
    records = table("| stream | position | time | key | id | p | outcome |")
    sources = [Rows(stream, []) for stream in range(len(STREAMS))]
    outcomes = {}
    for stream, position, time, key, action_id, p, outcome, _ in records:
        source = STREAMS.index(stream)
        rows = sources[source].rows
        assert len(rows) == int(position)
        if p:
            assert max(row[0] for row in rows) - 1 == int(p)
        rows.append((int(time), f"g/{key}", action_id) if source else (int(time), f"g/{key}"))
        outcomes[source, int(position)] = outcome
    plan = make_plan(windows=(10, 30), sources=3, retention=20, dedup_horizon=60)
    finals = final_progress(sources, 1)
    assert finals == {0: 79, 1: 84, 2: 89}
    played = play(plan, envelopes(plan, sources, 1, Random(0), finals), Random(0))
    settled = {place for place, outcome in outcomes.items() if outcome in ("settled", "open")}
    assert played.outcomes == {p: o for p, o in outcomes.items() if p not in settled}
    counted = {stream: dict(played.counts[name]) for stream, name in
               enumerate(("impressions", "a0", "a1"))}  # fmt: skip
    for stream, counts in counted.items():
        of_stream = [o for (source, _), o in outcomes.items() if source == stream]
        assert {name: n for name, n in counts.items() if n} == {
            name: of_stream.count(name) for name in set(of_stream)
        }

    shown = []
    for emit, emission, key, time, click, clicks, buy, buy_time in table(
        "| emit time | emission | key | time | click |"
    ):
        label = (click == "yes", int(clicks), buy == "yes", int(buy_time) if buy_time else None)
        shown.append((int(emit), emission, f"g/{key}", int(time), *label))
    left = []
    for row in played.rows:
        key, time = f"{row['group']}/{row['item']}", played_time(row["event_time"])
        bought = row["a1_time"] and played_time(row["a1_time"])
        label = (row["a0"], row["a0_count"], row["a1"], bought)
        left.append((row["__emit"], row["emission"], key, time, *label))
    for (emit, key, time, *_), (click, buy) in played.corrections.items():
        left.append((emit, "correction", key, time, click[0], click[2], buy[0], buy[1]))
    assert sorted(left, key=lambda row: row[:4]) == shown


def played_time(moment) -> int:
    return round(moment.timestamp() * 1_000_000)


def test_the_code_on_the_page_about_extending_is_tested():
    """Its classes and functions occur in tests, word for word."""
    page = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    defined = [block for block in blocks if re.search(r"^(class|def) ", block, re.MULTILINE)]
    assert len(defined) == 3
    tests = [path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py")]
    for block in defined:
        assert any(block in test for test in tests), block
        assert block.count("\n") < 40


def test_modules_files_and_links_in_documents_exist():
    """A move or a new name that the documents missed fails here."""
    pages = [*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md")]
    folders = "schemas|joiner|learners|monitoring|pipelines"
    for page in pages:
        text = page.read_text(encoding="utf-8")
        for name in re.findall(rf"`(?:headrace\.)?((?:{folders})(?:\.[a-z_]+)+)", text):
            path = ROOT / name.replace(".", "/")
            assert (
                path.with_suffix(".py").exists()
                or path.is_dir()
                or (
                    # a name inside a module
                    path.parent.with_suffix(".py").exists()
                )
            ), f"{page.name}: {name}"
        for name in re.findall(rf"`((?:{folders}|tests|docs|examples)/[\w/.-]+)`", text):
            assert (ROOT / name).exists() or "NAME" in name, f"{page.name}: {name}"
        for link in re.findall(r"\]\((?!https?:)([^)#]+)", text):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_the_example_of_an_explained_key_is_right(tmp_path, monkeypatch, capsys):
    """Its files are written, its commands are run, and print what is shown."""
    from headrace.pipelines.app.cli import main

    page = (ROOT / "docs" / "explain.md").read_text(encoding="utf-8")
    files = re.findall(r"^`([\w.]+)`:\n\n```\w+\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert [name for name, _ in files] == ["impressions.csv", "clicks.csv", "join.toml"]
    for name, text in files:
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```console\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    commands = re.findall(r"^\$ headrace (.*)\n((?:(?!\$ ).*\n)*)", "".join(blocks), re.MULTILINE)
    assert len(commands) == 5
    for command, shown in commands:
        assert main(command.split()) == 0
        assert capsys.readouterr().out == shown, command
