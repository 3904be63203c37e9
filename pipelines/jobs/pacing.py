"""Messages sent at the pace of a clock."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Protocol

import numpy as np
import pyarrow as pa

from headrace.pipelines.jobs.livetraffic import Messages, Sent
from headrace.pipelines.run.interrupts import Stopping
from headrace.schemas.config.durations import SECOND

_LEAST_S, _MOST_S = 0.02, 0.5


class Outlet(Protocol):
    """Takes messages."""

    def send(self, messages: pa.Table) -> int:
        """Take as many as possible, in order, without waiting long; return how many.

        Messages are those of `Messages.table`.
        """

    def check(self) -> None:
        """Raise an error if a message that was taken could not be delivered."""


def send_paced(
    batches: Iterable[Messages],
    outlet: Outlet,
    start: int,
    speed: float,
    stop: Stopping,
    clock_s: Callable[[], float],
) -> Sent:
    """Send messages when they are due, until they end or `stop` is set.

    Parameters
    ----------
    batches
        The messages, in the order in which they are due.
    outlet
        What takes them.
    start
        The event time that it is now, microseconds UTC.
    speed
        How much faster event time goes than the clock; infinity sends without waiting.
    stop
        Set, from a signal or another thread, to end.
    clock_s
        A clock that never goes back, seconds.

    Returns
    -------
    Sent
        What the outlet has taken.
    """
    sent = Sent()
    begun_s = clock_s()
    for batch in batches:
        due, at = batch.due, 0
        while at < len(batch):
            if stop.is_set():
                return sent
            until = len(batch)
            if speed < math.inf:
                now = start + int((clock_s() - begun_s) * speed * SECOND)
                until = int(np.searchsorted(due, now, "right"))
            taken = outlet.send(batch.slice(at, until).table) if until > at else 0
            sent.add(batch.slice(at, at + taken))
            outlet.check()
            at += taken
            if at == until < len(batch):
                wait_s = (int(due[at]) - now) / (speed * SECOND)
                stop.wait(min(max(wait_s, _LEAST_S), _MOST_S))
    sent.complete = True
    return sent
