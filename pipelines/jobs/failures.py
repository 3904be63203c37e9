"""From an error of a failed run to the one that a user should read."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

from headrace.schemas.errors import CheckpointError, HeadraceError, OutputError, SnapshotError


def was_interrupted(error: BaseException) -> bool:
    """Return whether an interrupt caused an error."""
    return any(isinstance(cause, KeyboardInterrupt) for cause in _causes(error))


def raise_origin(error: BaseException, out: Path) -> NoReturn:
    """Raise the origin of an error: Beam raises errors again with its own text added.

    Parameters
    ----------
    error
        What ended the run.
    out
        The folder of the outputs, if the operating system refused something unnamed.
    """
    causes = _causes(error)
    # What was wrong with a part of a state says less than what refused the whole.
    for kind in (CheckpointError, SnapshotError, HeadraceError):
        for cause in reversed(causes):
            if isinstance(cause, kind):
                raise cause from error
    for cause in reversed(causes):
        if isinstance(cause, OSError):
            raise OutputError.unwritable(cause.filename or out, cause) from error
    raise error


def _causes(error: BaseException) -> list[BaseException]:
    """Return an error and those that caused it, the ones nearest to the origin last."""
    causes: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop(0)
        if one is not None and one not in causes:
            causes.append(one)
            waiting += [one.__cause__, one.__context__]
    return causes
