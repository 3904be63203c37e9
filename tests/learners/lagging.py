"""A hand-over that lags behind, as one with a thread would, but by a fixed number of epochs."""

from __future__ import annotations

from headrace.learners.handover import Learn
from headrace.learners.learning import Learned
from headrace.learners.ordering import Epoch

BEHIND = 2


class Lagging:
    """Learns an epoch when `BEHIND` later ones have been put, or at a flush."""

    def __init__(self, learn: Learn) -> None:
        self.learn = learn
        self.waiting: list[Epoch] = []

    def put(self, epoch: Epoch) -> list[Learned]:
        self.waiting.append(epoch)
        ready, self.waiting = self.waiting[:-BEHIND], self.waiting[-BEHIND:]
        return [self.learn(one) for one in ready]

    def flush(self) -> list[Learned]:
        ready, self.waiting = self.waiting, []
        return [self.learn(one) for one in ready]
