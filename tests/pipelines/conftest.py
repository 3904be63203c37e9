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


@pytest.fixture(scope="module")
def s3_server():
    from tests.pipelines.store import Store

    store = Store()
    yield store
    store.close()


@pytest.fixture
def store(s3_server, monkeypatch):
    """An S3 server with empty buckets, and the credentials for it where AWS looks for them."""
    from tests.pipelines.store import KEY, SECRET

    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    s3_server.clear()
    return s3_server
