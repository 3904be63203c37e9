"""A command that fails is started again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from headrace.pipelines.run.supervising import supervise

COUNTING = """\
import os, signal, sys
path, codes = sys.argv[1], eval(sys.argv[2])
with open(path, "a") as file:
    file.write("x")
code = codes[os.path.getsize(path) - 1]
if code < 0:
    os.kill(os.getpid(), -code)
sys.exit(code)
"""


def run(folder, codes, restarts, lines):
    command = [sys.executable, "-c", COUNTING, str(folder / "runs"), repr(codes)]
    code = supervise(command, restarts, (0, 2), lines.append, first_pause_s=0.01)
    return code, (folder / "runs").stat().st_size


@pytest.mark.parametrize(
    ("codes", "restarts", "expected"),
    [
        ([0], 3, (0, 1)),
        ([1, -9, 0], 3, (0, 3)),
        ([1, 1, 1], 2, (1, 3)),
        ([1, 2, 0], 5, (2, 2)),  # of no use to try again
    ],
)
def test_it_is_started_again_unless_that_is_of_no_use(tmp_path, codes, restarts, expected):
    lines = []
    assert run(tmp_path, codes, restarts, lines) == expected
    assert len(lines) == expected[1] - 1
    if -9 in codes:
        assert lines[1] == "was ended by signal 9; starting it again (2 of 3)"


SUPERVISED = """\
import sys
from headrace.pipelines.run.supervising import supervise
child = "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(5)); " \\
        "print('ready', flush=True); time.sleep(60)"
sys.exit(supervise([sys.executable, "-c", child], 9, (0,), print))
"""


def test_a_signal_is_passed_on_and_ends_it():
    """Once, and nothing is started again."""
    process = subprocess.Popen([sys.executable, "-c", SUPERVISED], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 5
    assert process.stdout.read() == b""


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")
def test_a_command_ends_with_a_supervisor_that_is_killed():
    process = subprocess.Popen([sys.executable, "-c", SUPERVISED], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    closed = threading.Thread(target=process.stdout.read)
    closed.start()
    os.kill(process.pid, signal.SIGKILL)
    began = time.monotonic()
    closed.join(20)  # the pipe is closed when the child has ended too
    assert not closed.is_alive()
    assert time.monotonic() - began < 20
