from __future__ import annotations

import csv
import json

import pytest

from headrace.pipelines.app.cli import main
from tests.pipelines.rows import CONFIG, Outcome


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
        printed = capsys.readouterr()
        if code not in (0, 3):
            return code, printed.err
        return Outcome(tmp_path / "out", printed.out)

    return run
