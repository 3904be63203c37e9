"""``make live``: a broker, traffic and a run, which one Ctrl-C ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import headrace
from tests.pipelines.kafka.broker import COMMAND, command

WITHIN_S = 120


def processes_in(folder):
    """Return the processes whose command names a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            text = path.read_bytes()
        except OSError:  # it has ended
            continue
        if str(folder).encode() in text:
            found.append(text.replace(b"\0", b" ").decode(errors="replace"))
    return found


@pytest.mark.slow
def test_one_interrupt_ends_all_that_was_started_in_order_and_it_goes_on(tmp_path):
    why = command().missing()
    if why is not None:
        pytest.skip(f"no broker: {why}")
    folder = tmp_path / "live"
    rows = [0]
    for _ in range(2):
        started = subprocess.Popen(
            [sys.executable, str(COMMAND.with_name("live.py")), str(folder), "--rate", "500",
             "--window", "1s"],
            stdout=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        try:
            until = time.monotonic() + WITHIN_S
            while rows_in(folder / "result") <= rows[-1]:
                assert started.poll() is None, started.stdout.read()
                assert time.monotonic() < until
                time.sleep(0.2)
        finally:
            # As a terminal does: to all processes of its group.
            os.killpg(started.pid, signal.SIGINT)
            said, _ = started.communicate(timeout=WITHIN_S)
        assert started.returncode == 0, said
        assert f"headrace status {folder / 'result'}" in said
        ended = [line.removeprefix("ending ") for line in said.splitlines()[-3:]]
        assert ended == ["traffic ...", "stream ...", "the broker ..."]
        assert "sent, then it was stopped" in (folder / "traffic.log").read_text()
        assert "the same command goes on from here" in (folder / "stream.log").read_text()
        rows.append(rows_in(folder / "result"))
        time.sleep(2)  # a watcher of the broker looks each second
        assert processes_in(folder) == []


def rows_in(result):
    if not (result / "complete.json").exists():
        return 0
    return headrace.load_live(result).samples.count_rows()
