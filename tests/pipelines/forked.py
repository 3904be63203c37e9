"""Python programs in processes of their own that begin with Beam imported.

A process that is forked from one that has imported everything begins two seconds of processor time
further. It has a name of its own, can be killed, and reports how it ended, as one of `subprocess`.
"""

from __future__ import annotations

import os
import runpy
import signal
import subprocess
import sys
import tempfile
from multiprocessing import get_context
from pathlib import Path

ROOT = Path(__file__).parents[2]
_CONTEXT = get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.pipelines.preloaded"])


class Forked:
    """``python -m MODULE ARGUMENTS``, without output but for errors.

    Parameters
    ----------
    module, arguments
        What to run.
    cwd
        Its working directory.
    """

    def __init__(self, module: str, *arguments: str, cwd: Path = ROOT) -> None:
        self.command = [module, *arguments]
        handle, self.errors = tempfile.mkstemp()
        os.close(handle)
        self.process = _CONTEXT.Process(target=_become, args=(self.command, self.errors, str(cwd)))
        self.process.start()

    @property
    def returncode(self) -> int | None:
        """Exit code, that of a signal below zero; None while it runs."""
        return self.process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def send_signal(self, number: int) -> None:
        assert self.process.pid is not None
        os.kill(self.process.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int | None:
        self.process.join(timeout)
        if self.process.is_alive():
            raise subprocess.TimeoutExpired(self.command, timeout or 0.0)
        return self.returncode

    def communicate(self) -> tuple[None, str]:
        """Wait for its end; return what it said."""
        self.wait()
        path = Path(self.errors)
        said = path.read_text() if path.exists() else ""
        path.unlink(missing_ok=True)
        return None, said


def run(module: str, *arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run a module to its end, see `Forked`."""
    process = Forked(module, *arguments, cwd=cwd)
    _, said = process.communicate()
    assert process.returncode is not None
    return subprocess.CompletedProcess(process.command, process.returncode, "", said)


def _become(command: list[str], errors: str, cwd: str) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(cwd)
    for path, number in ((os.devnull, 1), (errors, 2)):
        opened = os.open(path, os.O_WRONLY)
        os.dup2(opened, number)
        os.close(opened)
    sys.stdout, sys.stderr = (open(of, "w", closefd=False, buffering=1) for of in (1, 2))  # noqa: SIM115
    sys.argv = list(command)
    runpy.run_module(command[0], run_name="__main__", alter_sys=True)
