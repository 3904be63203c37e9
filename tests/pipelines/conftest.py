from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from headrace.pipelines.app.cli import main
from headrace.pipelines.app.commands import quiet_beam
from headrace.pipelines.jobs.generate import Traffic, write_traffic
from tests.pipelines.rows import CONFIG, Outcome

DATA = Path(__file__).parents[3] / "shared" / "data"


@pytest.fixture(scope="session", autouse=True)
def _quiet():
    quiet_beam()


@pytest.fixture(scope="session")
def log(tmp_path_factory):
    """A log of 6,000 impressions over ten hours, with every fault that a log can have."""
    folder = tmp_path_factory.mktemp("log")
    write_traffic(Traffic(impressions=6_000, rate=1, seed=7, click_rate=0.2), folder)
    text = (folder / "headrace.toml").read_text()
    text = text.replace("bits = 20", "bits = 12").replace('window = "5m"', 'window = "30m"')
    (folder / "headrace.toml").write_text(text)
    return folder


@pytest.fixture
def data():
    """The folder of public data sets beside the repository."""
    if not DATA.is_dir():
        pytest.skip(f"no data sets at {DATA}")
    return DATA


@pytest.fixture
def replay(tmp_path, capsys):
    """Write streams, each a list of rows or a list of such lists, and replay them."""

    def run(impressions, clicks, time='unit = "s"', action="", join="", monitor="", rows=1000,
            end='end_of_log = "close"'):  # fmt: skip
        paths = {}
        for name, stream in (("impressions", impressions), ("clicks", clicks)):
            files = stream if stream and isinstance(stream[0], list) else [stream]
            for number, lines in enumerate(files):
                path = tmp_path / f"{name}-{number}.csv"
                with path.open("w", newline="") as file:
                    csv.writer(file).writerows([("time", "key"), *lines])
            paths[name] = json.dumps([f"{name}-{n}.csv" for n in range(len(files))])
        text = CONFIG.format(
            **paths,
            time=time,
            action=action,
            join=f"{end}\n{join}",
            monitor=monitor,
            batch_rows=rows,
        )
        (tmp_path / "join.toml").write_text(text)
        code = main(["replay", str(tmp_path / "join.toml"), "--out", str(tmp_path / "out")])
        said = capsys.readouterr()
        if code != 0:
            return code, said.err
        return Outcome(tmp_path / "out", said.out)

    return run
