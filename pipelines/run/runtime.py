"""What the steps of one job share inside a process: progress, outputs, cancelling.

Only for the in-process runner, where source, join, trainer and sinks are one
fused stage of one process.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

IN_PROCESS = "--runner=FnApiRunner"
"""Named outright: plain ``DirectRunner`` chooses another runner without a word."""


@dataclass
class Board:
    """Live figures of a running job, for display only."""

    events: int = 0
    samples: int = 0
    event_time: int | None = None


@dataclass
class Run:
    """One job of this process.

    Parameters
    ----------
    staging
        Folder in which everything is written until the job is done.
    result
        The part of it that holds the outputs.
    """

    staging: Path
    result: Path
    board: Board = field(default_factory=Board)
    resources: dict[str, Any] = field(default_factory=dict)
    """Open readers and writers by step, closed by the job's owner."""


_RUNS: dict[str, Run] = {}
_LOCK = threading.Lock()


def register(name: str, run: Run) -> None:
    """Make a run known to the steps of this process."""
    with _LOCK:
        _RUNS[name] = run


def lookup(name: str) -> Run:
    """Find the run that a step belongs to.

    Raises
    ------
    RuntimeError
        If the step runs in another process than the job's owner.
    """
    try:
        return _RUNS[name]
    except KeyError:
        raise RuntimeError(
            f"a replay writes through its own process; run it with {IN_PROCESS}"
        ) from None


def close(name: str) -> None:
    """Close a run's resources and forget it."""
    with _LOCK:
        run = _RUNS.pop(name, None)
    if run is not None:
        for resource in run.resources.values():
            resource.close()
