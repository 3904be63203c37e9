"""How epochs get from the ordering to the learning step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from headrace.learners.learning import Learned
from headrace.learners.ordering import Epoch

Learn = Callable[[Epoch], Learned]


class Handover(Protocol):
    """Passes epochs on to be learned, in their order, and what was learned back.

    The learning may lag behind, by a bounded number of epochs. What was learned comes
    back in order, each epoch once.
    """

    def put(self, epoch: Epoch) -> list[Learned]:
        """Hand an epoch over, waiting if too many are; return what was learned since."""

    def flush(self) -> list[Learned]:
        """Wait until all that was handed over is learned; return what was learned since."""


class Inline:
    """A `Handover` that learns at once.

    Parameters
    ----------
    learn
        The learning step.
    """

    def __init__(self, learn: Learn) -> None:
        self.learn = learn

    def put(self, epoch: Epoch) -> list[Learned]:
        """Learn it."""
        return [self.learn(epoch)]

    def flush(self) -> list[Learned]:
        """Nothing lags behind."""
        return []
