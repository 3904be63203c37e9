"""Peak memory of a replay does not grow with the log."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from headrace.pipelines.jobs.generate import Traffic, write_traffic

ROOT = Path(__file__).parents[2]


def peak_mb(folder, impressions):
    write_traffic(Traffic(impressions=impressions, rate=1_000), folder)
    text = (folder / "headrace.toml").read_text()
    text = text.replace('window = "10m"', 'window = "1m"')
    text = text.replace("[join]\n", '[join]\ndedup_horizon = "1m"\n')
    (folder / "headrace.toml").write_text(text)
    command = [sys.executable, "-m", "headrace", "replay", str(folder / "headrace.toml")]
    subprocess.run([*command, "--out", str(folder / "out"), "--quiet"], cwd=ROOT, check=True)
    return json.loads((folder / "out" / "summary.json").read_text())["peak_rss_mb"]


@pytest.mark.slow
def test_four_times_the_log_takes_no_more_memory(tmp_path):
    """Peak resident memory is within 10 % for a log four times as long."""
    short = peak_mb(tmp_path / "short", 3_000_000)
    long = peak_mb(tmp_path / "long", 12_000_000)
    print(f"peak {short:.0f} MB, four times the log {long:.0f} MB")
    assert long <= 1.10 * short
