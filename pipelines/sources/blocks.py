"""Numbered blocks, read ahead on a thread."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

from headrace.pipelines.run.interrupts import Stopping
from headrace.pipelines.run.threads import Prefetcher
from headrace.pipelines.sources.source import Block, SourceState

Open = Callable[[Mapping[int, SourceState]], Iterator[Block | None]]
"""Reads blocks from the given states of sources on, by number of the source."""

_LOOK_S = 0.05


class Wait:
    """Stands for a block that has not come yet."""


class Blocks(Protocol):
    """The blocks of a job by number.

    Attributes
    ----------
    states
        How far each source was read, by its number, with the blocks returned so far.
    complete
        Whether the last block returned is `Block.complete`.
    ended
        Whether the last block has been returned.
    bundle_s
        A bundle of blocks should not take longer than so many seconds, None for any time.
    """

    states: dict[int, SourceState]
    complete: bool
    bundle_s: float | None

    def at(self, position: int) -> Block | Wait | None:
        """Return block number `position`; None after the last."""

    @property
    def ended(self) -> bool: ...  # noqa: D102

    def close(self) -> None:
        """Stop the thread that reads ahead."""


class LogBlocks(Blocks):
    """The blocks of logs that have an end; a number always means the same block.

    Parameters
    ----------
    open_at
        Reads blocks from given states of the sources on.
    sources
        How many sources there are.
    position, states
        Number of the first block, and how far each source was read before it.
    """

    bundle_s = None

    def __init__(
        self, open_at: Open, sources: int, position: int = 0,
        states: Mapping[int, SourceState] | None = None,
    ) -> None:  # fmt: skip
        self.open_at, self.sources = open_at, sources
        self.start = position, dict(states or {})
        self._open()

    def _open(self) -> None:
        self.position, states = self.start
        self.states, self.complete = dict(states), False
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
                self.complete = block.complete
        return block

    @property
    def ended(self) -> bool:
        """Whether the last block has been returned."""
        states = self.states.values()
        return len(states) == self.sources and all(state.ended for state in states)

    def close(self) -> None:
        """Stop the thread that reads ahead."""
        self.ahead.close()


class LiveBlocks(Blocks):
    """The blocks of logs that grow, each returned once.

    Parameters
    ----------
    open_at, sources, position, states
        See `LogBlocks`; all sources have states.
    stopping
        No block is waited for any more when this is set.
    wait_s
        How long to wait for a block, seconds.
    """

    bundle_s, complete = 0.1, False

    def __init__(
        self, open_at: Open, position: int, states: Mapping[int, SourceState],
        stopping: Stopping, wait_s: float = 0.25,
    ) -> None:  # fmt: skip
        self.position, self.states = position, dict(states)
        self.stopping, self.wait_s = stopping, wait_s
        self.ahead: Prefetcher[Block] = Prefetcher(open_at(states))

    def at(self, position: int) -> Block | Wait | None:
        """Return the next block, which has number `position`; `Wait` if none comes in time."""
        if position != self.position:
            raise RuntimeError(f"block {position} was asked for where {self.position} was due")
        until_s = time.monotonic() + self.wait_s
        while not self.stopping.is_set():
            try:
                block = self.ahead.get(_LOOK_S)
            except TimeoutError:
                if time.monotonic() >= until_s:
                    break
            except StopIteration:
                return None
            else:
                self.states[block.source] = block.state
                self.position += 1
                return block
        return Wait()

    @property
    def ended(self) -> bool:
        """Whether the last block has been returned."""
        return all(state.ended for state in self.states.values())

    def close(self) -> None:
        """Stop the thread that reads ahead."""
        self.ahead.close()
