"""Interrupts (Ctrl-C): held off while something must not be cut short, and remembered."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def deferred() -> Iterator[None]:
    """Let no interrupt into the block.

    One that came is forgotten: use it for what is quick and leaves nothing to
    interrupt. On any thread but the main one, where none arrives, it does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, _forget)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _forget(number: int, frame: Any) -> None:
    """Do nothing. Unlike with `signal.SIG_IGN`, child processes are still interrupted."""


class Noted:
    """Whether an interrupt came."""

    seen = False


@contextmanager
def noted() -> Iterator[Noted]:
    """Remember that an interrupt came, whatever else goes wrong in the block because of it."""
    note = Noted()
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield note  # ignored, as in the background jobs of a shell
        return

    def interrupt(number: int, frame: Any) -> None:
        note.seen = True
        before(number, frame)

    signal.signal(signal.SIGINT, interrupt)
    try:
        yield note
    finally:
        signal.signal(signal.SIGINT, before)
