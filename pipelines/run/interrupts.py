"""Interrupts (Ctrl-C): ignored while something must not be cut short, or remembered."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

_LOOK_S = 0.02


@contextmanager
def ignored() -> Iterator[None]:
    """Ignore interrupts while the block runs.

    Use it for short blocks that end the work: an interrupt in the block is lost. On a
    thread other than the main one it does nothing, because interrupts arrive on the
    main thread alone.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, _ignore)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _ignore(number: int, frame: Any) -> None:
    """Do nothing. Unlike with `signal.SIG_IGN`, child processes are still interrupted."""


class Noted:
    """Whether an interrupt came, ``interrupted``; it changes while the block of `noted` runs."""

    interrupted = False


@contextmanager
def noted() -> Iterator[Noted]:
    """Remember that an interrupt came, whatever errors it causes in the block."""
    note = Noted()
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield note  # interrupts are ignored, as in the background jobs of a shell
        return

    def interrupt(number: int, frame: Any) -> None:
        note.interrupted = True
        before(number, frame)

    signal.signal(signal.SIGINT, interrupt)
    try:
        yield note
    finally:
        signal.signal(signal.SIGINT, before)


class Stopping(Protocol):
    """What a long run looks at, to end when it is set; a `threading.Event` is one."""

    def is_set(self) -> bool:
        """Return whether to end."""

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set, at most for `timeout` seconds; return whether it is."""


class Stop:
    """A `Stopping` that a signal handler may set while the thread that it interrupts waits.

    A `threading.Event` would then wait for its own lock for ever.
    """

    def __init__(self) -> None:
        self._set = False

    def set(self) -> None:
        """Ask to end."""
        self._set = True

    def is_set(self) -> bool:
        """Return whether to end."""
        return self._set

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set, looking from time to time."""
        until_s = math.inf if timeout is None else time.monotonic() + timeout
        while not self._set and (left_s := until_s - time.monotonic()) > 0:
            time.sleep(min(left_s, _LOOK_S))
        return self._set


@contextmanager
def stopped_by_signals() -> Iterator[Stop]:
    """Yield what the first SIGINT or SIGTERM sets; the next one has its usual effect.

    Signals arrive on the main thread alone, which must call this.
    """
    stopping = Stop()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def stop(number: int, frame: Any) -> None:
        stopping.set()
        for of, usual in before.items():
            signal.signal(of, usual)

    for number in before:
        signal.signal(number, stop)
    try:
        yield stopping
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
