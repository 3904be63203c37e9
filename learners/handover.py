"""How epochs get from the ordering to the learning step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from headrace.learners.learning import Learned
from headrace.learners.ordering import Epoch

Learn = Callable[[Epoch], Learned]


class Handover(Protocol):
    """Passes epochs to the learning step in order, and returns what was learned.

    Learning may lag behind by a bounded number of epochs. What was learned is returned in
    order, each epoch once.
    """

    def put(self, epoch: Epoch) -> list[Learned]:
        """Hand over an epoch, waiting if too many are pending.

        Returns
        -------
        list
            What was learned since the last call of `put` or `flush`.
        """

    def flush(self) -> list[Learned]:
        """Wait until every epoch handed over is learned; return those not returned before."""


class Inline:
    """A `Handover` that learns each epoch immediately.

    Parameters
    ----------
    learn
        Learns one epoch.
    """

    def __init__(self, learn: Learn) -> None:
        self.learn = learn

    def put(self, epoch: Epoch) -> list[Learned]:
        """Learn the epoch now, and return it alone."""
        return [self.learn(epoch)]

    def flush(self) -> list[Learned]:
        """Return an empty list: nothing is ever pending."""
        return []
