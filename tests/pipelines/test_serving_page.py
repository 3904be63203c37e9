"""The page about models outside of a run is true."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import headrace
from headrace.pipelines.app.cli import main

PAGE = (Path(__file__).parents[2] / "docs" / "serving.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def run(command):
    """Run a line of a shell, and return what it prints."""
    words, _, target = command.partition(" > ")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert main(shlex.split(words)[1:]) == 0, command
    if target:
        Path(target).write_text(printed.getvalue())
    return printed.getvalue()


def lines(text):
    """Return the lines of a text; rich pads those of a table with blanks."""
    return "\n".join(line.rstrip() for line in text.splitlines()).strip("\n").splitlines()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder in which all commands and examples of the page have run, one after another."""
    folder = tmp_path_factory.mktemp("page")
    shown, examples = "", {}
    with contextlib.chdir(folder), pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "120")
        for kind, block in BLOCKS:
            if kind == "sh":
                shown = "".join(run(command) for command in block.splitlines())
            elif kind == "text":
                assert lines(shown) == lines(block)
            elif kind == "python":
                exec(block, examples)
    return folder


def test_what_the_page_shows_is_what_commands_print(folder):
    """Its examples run too."""
    assert [kind for kind, _ in BLOCKS].count("text") == 5
    first = (folder / "samples.vw").read_text().splitlines()[0]
    (shown,) = [block for kind, block in BLOCKS if kind == "" and block.startswith("-1 2 |")]
    begin, end = shown.rstrip().split(" ... ")
    assert first.startswith(begin)
    assert first.endswith(end)


def test_the_query_gives_the_predictions_of_the_model(folder, monkeypatch):
    """But for the rounding of products to 32 bits."""
    duckdb = pytest.importorskip("duckdb")
    monkeypatch.chdir(folder)
    (query,) = [block for kind, block in BLOCKS if kind == "sql"]
    run("headrace weights result/model/click --top 1000000 --values log/impressions.parquet "
        "--json > weights.json")  # fmt: skip
    found = duckdb.sql(query).fetchnumpy()
    shown = pq.read_table("log/impressions.parquet")
    expected = headrace.load_model("result/model/click").predict_proba(shown)
    np.testing.assert_array_equal(found["row"], np.arange(shown.num_rows))
    np.testing.assert_allclose(found["p"], expected, rtol=1e-6)
