"""Running a command in a process of its own, and starting it again when it fails."""

from __future__ import annotations

import ctypes
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from types import FrameType

from headrace.pipelines.run.interrupts import Stop

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 30.0
_SET_DEATH_SIGNAL = 1
"""``PR_SET_PDEATHSIG`` of Linux."""


def supervise(
    command: Sequence[str],
    restarts: int,
    final: Sequence[int],
    announce: Callable[[str], None],
    first_pause_s: float = _FIRST_PAUSE_S,
) -> int:
    """Run a command, again if it fails or is killed; return its last exit code.

    SIGINT and SIGTERM are passed on to it, and then it is not started again. If this process is
    killed, the command gets SIGTERM (on Linux). Must be called on the main thread.

    Parameters
    ----------
    command
        The command and its arguments.
    restarts
        How often it is started again at most.
    final
        Exit codes after which it would be of no use to start it again.
    announce
        Called with a line about every restart.
    first_pause_s
        How long to wait before the first restart, seconds; each time twice as long.
    """
    stopping = Stop()
    child: subprocess.Popen[bytes] | None = None

    def pass_on(number: int, frame: FrameType | None) -> None:
        stopping.set()
        if child is not None:
            child.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        restarted = 0
        while True:
            # A session of its own: else the terminal would send it the signal too.
            child = subprocess.Popen(command, start_new_session=True, preexec_fn=_die_with_parent)
            code = child.wait()
            if code in final or restarted == restarts:
                return code
            pause_s = min(first_pause_s * 2**restarted, _LONGEST_PAUSE_S)
            restarted += 1
            how = f"was ended by signal {-code}" if code < 0 else f"failed with exit code {code}"
            if not stopping.is_set():
                announce(f"{how}; starting it again ({restarted} of {restarts})")
            if stopping.wait(pause_s):
                return code
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_DEATH_SIGNAL, signal.SIGTERM)
