"""The command that helps to choose a window."""

import json

import pytest

from examples.convert import convert
from headrace.pipelines.app.cli import main


def test_talkingdata_coverage_is_that_of_its_table(data, tmp_path, capsys):
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
    # All impressions are of one day and a half: installs of the last hours are still to come.
    assert coverage[6 * 3600] == pytest.approx(154 / 168, abs=0.02)
    assert found["recommended_s"] == 3600
    assert "1h catches 70.2% of the actions within 30d" in " ".join(capsys.readouterr().out.split())
    page = (out / "windows.html").read_text()
    assert page.count("<svg") == 2
    assert "<script" not in page


def test_recommendation_on_generated_traffic(log, capsys):
    """The configured window is marked, and nothing is written without --out."""
    before = sorted(log.iterdir())
    assert main(["windows", str(log / "headrace.toml"), "--longest", "20m"]) == 0
    said = capsys.readouterr().out
    assert "configured" in said
    assert "recommended" in said
    assert sorted(log.iterdir()) == before


@pytest.mark.parametrize("option", [["--coverage", "1.5"], ["--longest", "soon"]])
def test_wrong_options_exit_with_2(log, capsys, option):
    """What is expected is named."""
    with pytest.raises(SystemExit, match="2"):
        main(["windows", str(log / "headrace.toml"), *option])
    assert "expected" in capsys.readouterr().err
