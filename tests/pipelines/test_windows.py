"""The command ``headrace windows``, which helps to choose a window."""

import json

import pytest

from examples.convert import convert
from headrace.pipelines.app.cli import main


def test_coverage_of_talkingdata_matches_its_installs(data, tmp_path, capsys):
    """Of 168 installs, 47 come within a minute, 96 within ten, 118 within an hour."""
    config = convert("talkingdata", data / "talkingdata", tmp_path)
    out = tmp_path / "windows"
    options = ["--longest", "30d", "--coverage", "0.7", "--out", str(out)]
    assert main(["windows", str(config), *options]) == 0
    found = json.loads((out / "windows.json").read_text())["install"]
    coverage = {row["window"]: row["coverage"] for row in found["windows"]}
    assert found["first_actions"] == 168
    assert coverage[60] == pytest.approx(47 / 168, abs=0.001)
    assert coverage[600] == pytest.approx(96 / 168, abs=0.001)
    assert coverage[3600] == pytest.approx(118 / 168, abs=0.001)
    # The log spans a day and a half: some installs of the last hours are not in it.
    assert coverage[6 * 3600] == pytest.approx(154 / 168, abs=0.02)
    assert found["recommended_s"] == 3600
    assert "1h catches 70.2% of the actions within 30d" in " ".join(capsys.readouterr().out.split())
    page = (out / "windows.html").read_text()
    assert page.count("<svg") == 2
    assert "<script" not in page


def test_windows_marks_the_configured_and_the_recommended_window(log, capsys):
    """Nothing is written without --out."""
    before = sorted(log.iterdir())
    assert main(["windows", str(log / "headrace.toml"), "--longest", "20m"]) == 0
    said = capsys.readouterr().out
    assert "configured" in said
    assert "recommended" in said
    assert sorted(log.iterdir()) == before


@pytest.mark.parametrize("option", [["--coverage", "1.5"], ["--longest", "soon"]], ids=" ".join)
def test_a_wrong_option_of_windows_exits_with_2(log, capsys, option):
    """The message says what was expected."""
    with pytest.raises(SystemExit, match="2"):
        main(["windows", str(log / "headrace.toml"), *option])
    assert "expected" in capsys.readouterr().err
