"""Interrupts (Ctrl-C): ignored while something must not be cut short, or remembered."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


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


@contextmanager
def stopped_by_signals() -> Iterator[threading.Event]:
    """Yield an event that the first SIGINT or SIGTERM sets; the next interrupt is one.

    Signals arrive on the main thread alone, which must call this.
    """
    stopping = threading.Event()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def stop(number: int, frame: Any) -> None:
        stopping.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    for number in before:
        signal.signal(number, stop)
    try:
        yield stopping
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
