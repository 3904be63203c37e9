"""What the steps of one replay share, for they run in one process.

The in-process runner keeps no state beyond a job, so the job's owner does: it opens
sources, sinks and journals, hands them to the steps as a `Run`, and closes them.
"""

from __future__ import annotations

import contextlib
import uuid
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from headrace.pipelines.beam.durable import StepStates
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

    def offer(self, block: int, states: Mapping[int, SourceState]) -> None:
        """Take one before block number `block`, if one is due."""

    def close(self) -> None:
        """Take no further one, and wait for one that is being taken."""


@dataclass(eq=False)
class Run:
    """The ports of one replay.

    A step that holds it may be pickled: what is unpickled in the same process is the
    same run, and in another process an error.

    Parameters
    ----------
    blocks
        What is read.
    sinks
        What is written, by name.
    journals
        Where a shard's payloads go that memory has no room for.
    board
        Live figures.
    checkpoints
        Set by the owner before the job starts, if there are to be any.
    finished
        What the training step came to, when it has ended.
    """

    blocks: Blocks
    sinks: dict[str, Writer]
    journals: Spill
    board: Board = field(default_factory=Board)
    checkpoints: Checkpoints | None = None
    finished: Finished | None = None

    def __post_init__(self) -> None:
        self.name = uuid.uuid4().hex
        self.joins = StepStates(self.name, JOIN)
        self.training = StepStates(self.name, TRAIN)
        _LIVING[self.name] = self

    def __reduce__(self) -> Any:
        return _living, (self.name,)

    def close(self) -> None:
        """Close everything, whatever fails; sinks write what they hold."""
        with contextlib.ExitStack() as stack:
            # Last first: a checkpoint that is being taken reads what the others have open.
            stack.callback(self.journals.close)
            for sink in self.sinks.values():
                stack.callback(sink.close)
            stack.callback(self.blocks.close)
            if self.checkpoints is not None:
                stack.callback(self.checkpoints.close)
            stack.callback(self.joins.forget)
            stack.callback(self.training.forget)


_LIVING: weakref.WeakValueDictionary[str, Run] = weakref.WeakValueDictionary()
"""Runs of this process by name, for as long as somebody has them."""


def _living(name: str) -> Run:
    try:
        return _LIVING[name]
    except KeyError:
        raise RuntimeError(
            f"a replay writes through its own process; run it with {IN_PROCESS}"
        ) from None
