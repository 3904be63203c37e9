"""What the steps of one replay share, since they run in one process.

The in-process runner keeps no state beyond a job, so the job's owner does: it opens
sources, sinks and journals, gives them to the steps as a `Run`, and closes them.
"""

from __future__ import annotations

import contextlib
import uuid
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from headrace.pipelines.beam.stepstates import StepStates
from headrace.pipelines.run.board import Board
from headrace.pipelines.run.runner import IN_PROCESS
from headrace.pipelines.run.spill import Spill
from headrace.pipelines.sinks.sink import Writer
from headrace.pipelines.sources.blocks import Blocks
from headrace.pipelines.sources.source import SourceState
from headrace.pipelines.training.job import Finished

JOIN, TRAIN = "join", "train"
"""Names of the stateful steps."""


class Checkpoints(Protocol):
    """Takes checkpoints between bundles."""

    def offer(self, block: int, states: Mapping[int, SourceState]) -> bool:
        """Take a checkpoint before block number `block`, if due; return whether to read on."""

    def close(self) -> None:
        """Take no more checkpoints, and wait for one that is being taken."""


@dataclass(eq=False)
class Run:
    """The ports of one replay.

    It may be pickled with a step: unpickled in the same process it is the same run; in
    another process unpickling raises `RuntimeError`.

    Parameters
    ----------
    blocks
        The blocks to read.
    sinks
        The sinks to write to, by name.
    journals
        Where payloads go that do not fit into memory, by shard.
    board
        Live figures.
    checkpoints
        Takes checkpoints; set by the owner before the job starts, None for none.
    between
        Called between two bundles, when all that was read has passed through every step.
    complete
        Called between two bundles with the states of the sources, when all records have passed
        through every step and only the end of the log is still to be told.
    finished
        Results of the training step, None until it has ended.
    """

    blocks: Blocks
    sinks: dict[str, Writer]
    journals: Spill
    board: Board = field(default_factory=Board)
    checkpoints: Checkpoints | None = None
    between: Callable[[], None] = lambda: None
    complete: Callable[[Mapping[int, SourceState]], None] = lambda states: None
    finished: Finished | None = None

    def __post_init__(self) -> None:
        self.name = uuid.uuid4().hex
        self.joins = StepStates(self.name, JOIN)
        self.training = StepStates(self.name, TRAIN)
        _LIVING[self.name] = self

    def __reduce__(self) -> Any:
        return _living, (self.name,)

    @contextlib.contextmanager
    def closing(self) -> Iterator[Run]:
        """Close everything after the block; if that fails, it is what is reported."""
        try:
            yield self
        except BaseException:
            with contextlib.suppress(Exception):  # report the first failure
                self.close()
            raise
        self.close()

    def close(self) -> None:
        """Close everything, even if some of it fails; sinks write the rows they hold back."""
        with contextlib.ExitStack() as stack:
            # In reverse: a checkpoint that is being taken reads from all the others.
            stack.callback(self.journals.close)
            for sink in self.sinks.values():
                stack.callback(sink.close)
            stack.callback(self.blocks.close)
            if self.checkpoints is not None:
                stack.callback(self.checkpoints.close)
            stack.callback(self.joins.forget)
            stack.callback(self.training.forget)


_LIVING: weakref.WeakValueDictionary[str, Run] = weakref.WeakValueDictionary()
"""Runs of this process by name, while they are referenced."""


def _living(name: str) -> Run:
    try:
        return _LIVING[name]
    except KeyError:
        raise RuntimeError(
            f"a replay must run in one process (got a step in another); run it with {IN_PROCESS}"
        ) from None
