"""``complete.json``: up to which emit time each output of a run that does not end is complete."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from headrace.pipelines.run.disk import aside, flush
from headrace.pipelines.run.remote import Address
from headrace.pipelines.run.signing import read_signed, write_signed
from headrace.pipelines.sinks.hours import microseconds, moment
from headrace.schemas.errors import FolderError
from headrace.schemas.records.events import FOREVER, NEVER

COMPLETE = "complete.json"
_FORMAT = 1
_TEXT = "%Y-%m-%dT%H:%M:%S.%fZ"
_END = "9999-12-31T23:59:59.999999Z"
"""The time that stands for `FOREVER`: the log has ended."""


class Completion:
    """Keeps ``complete.json``; may be used by several threads.

    A time in it never goes back: after a crash the run comes to it again.

    Parameters
    ----------
    folder
        Where it is.
    every_s
        Least number of seconds between two updates for one output, unless it is urgent.
    clock
        Returns seconds.
    outputs
        All that there are: the file is written when each was published, so that a reader
        finds none missing.

    Raises
    ------
    FolderError
        If there is one that is damaged.
    """

    def __init__(
        self, folder: Path, every_s: float = 1.0, clock: Callable[[], float] = time.monotonic,
        outputs: Iterable[str] = (),
    ) -> None:  # fmt: skip
        self.folder, self.every_s, self.clock = folder, every_s, clock
        self.outputs = frozenset(outputs)
        self.lock = threading.Lock()
        self.last: dict[str, float] = {}
        try:
            self.until = read_completion(folder)
        except FileNotFoundError:
            self.until = {}

    def due(self, output: str) -> bool:
        """Return whether an update for an output is due."""
        return self.clock() >= self.last.get(output, -math.inf) + self.every_s

    def publish(self, output: str, until: int) -> None:
        """Write that all rows of an output emitted before `until`, microseconds, are in place."""
        with self.lock:
            self.last[output] = self.clock()
            if output not in self.until or until > self.until[output]:
                self.until[output] = until
                if self.until.keys() >= self.outputs:
                    self._write()

    def _write(self) -> None:
        with aside(self.folder / COMPLETE) as hidden:
            write_signed(hidden, completion_of(self.until))
        flush(self.folder)


def completion_of(until: Mapping[str, int]) -> dict[str, Any]:
    """Return what ``complete.json`` has: until when each output is complete, microseconds."""
    outputs = {name: {"until": _text(of)} for name, of in sorted(until.items())}
    return {"format": _FORMAT, "outputs": outputs}


def read_completion(folder: Path | Address) -> dict[str, int]:
    """Return the time before which each output is complete, microseconds; `NEVER` for none.

    Raises
    ------
    FileNotFoundError
        If there is no ``complete.json``.
    FolderError
        If it is damaged or has another version.
    """
    path = folder / COMPLETE
    try:
        content = read_signed(path)
    except FileNotFoundError:
        raise
    except ValueError as error:
        hint = "remove it; the run writes it again when it is resumed"
        raise FolderError(str(path), f"is damaged ({error})", hint) from error
    if content.get("format") != _FORMAT:
        fact = f"is of another version (got format {content.get('format')!r})"
        raise FolderError(str(path), fact, "read it with the version that wrote it")
    return {name: _time(entry["until"]) for name, entry in content["outputs"].items()}


def _text(until: int) -> str | None:
    if until <= NEVER:
        return None
    return _END if until >= FOREVER else moment(until).strftime(_TEXT)


def _time(text: str | None) -> int:
    if text is None:
        return NEVER
    if text == _END:
        return FOREVER
    return microseconds(datetime.strptime(text, _TEXT).replace(tzinfo=UTC))
