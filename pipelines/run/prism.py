"""Prism, Beam's distributed runner for one machine: built once, run as a child of this process."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from headrace.schemas.errors import RunnerError

_MODULE = "github.com/apache/beam/sdks/v2/go/cmd/prism"
_STARTED_WITHIN_S = 20.0
_DIES_WITH_PARENT = 1
"""``PR_SET_PDEATHSIG`` of prctl."""


def prism(version: str, announce: Callable[[str], None] = lambda line: None) -> Path:
    """Return the program, which is built at the first call: that takes a minute, and needs Go.

    Parameters
    ----------
    version
        The version of Beam.
    announce
        Called with a line before it is built.

    Raises
    ------
    RunnerError
        If it cannot be built.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "headrace"
    folder = cache / f"prism-{version}"
    if (folder / "prism").exists():
        return folder / "prism"
    go = shutil.which("go")
    if go is None:
        raise RunnerError(
            "prism: the program go is missing, which builds Prism; install Go 1.24 or later, or "
            "run without --runner"
        )
    announce(f"building Prism {version}, once")
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as temporary:
        built = subprocess.run(
            [go, "install", f"{_MODULE}@v{version}"], cwd=temporary, capture_output=True, text=True,
            env={**os.environ, "GOBIN": temporary},
        )  # fmt: skip
        if built.returncode:
            why = built.stderr.strip().splitlines()[-1:] or ["no reason given"]
            raise RunnerError(f"prism: cannot be built ({why[0]}); check the network and Go")
        with contextlib.suppress(OSError):  # another process was faster
            os.rename(temporary, folder)
        Path(temporary).mkdir(exist_ok=True)
    return folder / "prism"


@contextmanager
def running(program: Path) -> Iterator[str]:
    """Yield the address at which Prism takes jobs while the block runs.

    It ends with this process, however that ends. It listens on all interfaces, and has no option
    against that.

    Raises
    ------
    RunnerError
        If it does not start.
    """
    port = _free_port()
    with tempfile.TemporaryFile() as log:
        child = subprocess.Popen(
            [program, f"-job_port={port}", "-serve_http=false"], stdin=subprocess.DEVNULL,
            stdout=log, stderr=log, preexec_fn=_tied_to_parent(), process_group=0,
        )  # fmt: skip
        try:
            until_s = time.monotonic() + _STARTED_WITHIN_S
            while not _answers(port):
                if child.poll() is not None or time.monotonic() > until_s:
                    log.seek(0)
                    said = log.read().decode(errors="replace").strip().splitlines()[-1:]
                    raise RunnerError(f"prism: does not start ({' '.join(said)})")
                time.sleep(0.05)
            yield f"localhost:{port}"
        finally:
            child.kill()
            child.wait()


def _tied_to_parent() -> Callable[[], None] | None:
    """Return what a child calls so that the system kills it when its parent has died."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl  # loaded before the fork: after it little is allowed

    def tie() -> None:
        prctl(_DIES_WITH_PARENT, signal.SIGKILL)

    return tie


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("localhost", 0))
        port: int = taken.getsockname()[1]
        return port


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("localhost", port), 1):
            return True
    except OSError:
        return False
