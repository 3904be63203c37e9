"""Learning beside the join."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor

from headrace.learners.handover import Learn
from headrace.learners.learning import Learned
from headrace.learners.ordering import Epoch

_MOST_PENDING = 2
"""Epochs that wait to be learned: an epoch may be long, and its samples are in memory."""


class Threaded:
    """A `headrace.learners.handover.Handover` that learns on a thread of its own, in order.

    Kernels hold no lock of the interpreter, so a run joins and learns at the same time. What is
    learned is the same; `flush` comes before anything is saved or told.

    Parameters
    ----------
    learn
        Learns one epoch; called on the thread alone.
    """

    def __init__(self, learn: Learn) -> None:
        self._learn = learn
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="learning")
        self._pending: deque[Future[Learned]] = deque()

    def put(self, epoch: Epoch) -> list[Learned]:
        """Hand over an epoch, waiting while as many as may be are pending; see `Handover.put`."""
        self._pending.append(self._thread.submit(self._learn, epoch))
        learned = []
        while self._pending and (len(self._pending) > _MOST_PENDING or self._pending[0].done()):
            learned.append(self._pending.popleft().result())
        return learned

    def flush(self) -> list[Learned]:
        """Wait until every epoch is learned; see `Handover.flush`."""
        learned = []
        while self._pending:
            learned.append(self._pending.popleft().result())
        return learned
