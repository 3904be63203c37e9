"""Numbered blocks, read ahead on a thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from headrace.pipelines.run.threads import Prefetcher
from headrace.pipelines.sources.source import Block, SourceState

Open = Callable[[Mapping[int, SourceState]], Iterator[Block]]
"""Reads blocks from the given states of sources on, by number of the source."""


class Blocks:
    """The blocks of a job by number; a number always means the same block.

    Parameters
    ----------
    open_at
        Reads blocks from given states of the sources on.
    sources
        How many sources there are.
    position, states
        Number of the first block, and how far each source was read before it.
    """

    def __init__(
        self, open_at: Open, sources: int, position: int = 0,
        states: Mapping[int, SourceState] | None = None,
    ) -> None:  # fmt: skip
        self.open_at, self.sources = open_at, sources
        self.start = position, dict(states or {})
        self._open()

    def _open(self) -> None:
        self.position, states = self.start
        self.states = dict(states)
        self.ahead: Prefetcher[Block] = Prefetcher(self.open_at(self.states))

    def at(self, position: int) -> Block | None:
        """Return block number `position`, reading from the start again if it was returned before.

        None after the last block.
        """
        if position < self.position:
            self.ahead.close()
            self._open()
        block = None
        while self.position <= position:
            block = next(self.ahead, None)
            self.position += 1
            if block is not None:
                self.states[block.source] = block.state
        return block

    @property
    def ended(self) -> bool:
        """Whether the last block has been returned."""
        states = self.states.values()
        return len(states) == self.sources and all(state.ended for state in states)

    def close(self) -> None:
        """Stop the thread that reads ahead."""
        self.ahead.close()
