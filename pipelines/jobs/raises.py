"""The journal of decisions about idle sources, from which a resumed run repeats them."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from headrace.pipelines.run.disk import aside, flush, unlinked, write_text, writing
from headrace.pipelines.run.liveplace import RAISED
from headrace.pipelines.sources.source import SourceState
from headrace.pipelines.sources.sourcereader import Raise

_KEPT = 3
"""Files to keep: one for each of two checkpoints, and that before, whose last decisions may have
been noted before the older checkpoint but took effect after it."""


class RaiseJournal:
    """Notes decisions in files, one from each checkpoint to the next; used by several threads.

    Parameters
    ----------
    folder
        Where the files are.
    block, states
        Number of the block at which the run begins, and how far sources had been read before.

    Attributes
    ----------
    found
        What was decided before about sources from there on, by number of the source.
    """

    def __init__(self, folder: Path, block: int, states: Mapping[int, SourceState]) -> None:
        self.folder, self.lock = folder, threading.Lock()
        self.found = _decided(folder, states)
        self.begin(block)
        # Files of later checkpoints, if it is not the newest that the run goes on from, would be
        # removed at the wrong time; what they say is in the first file now.
        with aside(self.path) as hidden:
            write_text(hidden, "".join(_lines(self.found)))
        flush(folder)
        for later in folder.glob(f"{RAISED}*"):
            if later.name > self.path.name:
                with writing(later):
                    later.unlink()

    def begin(self, block: int) -> None:
        """Begin a new file at a checkpoint before block number `block`; remove the oldest."""
        with self.lock:
            self.path = self.folder / f"{RAISED}{block:012d}.jsonl"
            for old in sorted(self.folder.glob(f"{RAISED}*"))[:-_KEPT]:
                with writing(old):
                    old.unlink()

    def note(self, decided: Mapping[int, Raise]) -> None:
        """Write decisions, by number of the source, and wait until they are on disk."""
        lines = _lines({number: [one] for number, one in decided.items()})
        with self.lock, writing(self.path):
            begins = not self.path.exists()
            with open(self.path, "a", encoding="ascii", opener=unlinked) as file:
                file.writelines(lines)
                file.flush()
                os.fsync(file.fileno())
        if begins:
            flush(self.folder)


def _lines(decided: Mapping[int, Sequence[Raise]]) -> list[str]:
    return [
        json.dumps([number, one.position, one.progress]) + "\n"
        for number, of_source in decided.items()
        for one in of_source
    ]


def _decided(folder: Path, states: Mapping[int, SourceState]) -> dict[int, list[Raise]]:
    """Return what was decided about sources from where they were read to, in order."""
    found: dict[int, list[Raise]] = {number: [] for number in states}
    for path in sorted(folder.glob(f"{RAISED}*")):
        for line in path.read_bytes().splitlines(keepends=True):
            if not line.endswith(b"\n"):
                break  # a crash cut it short, so it had not taken effect
            number, position, progress = json.loads(line)
            if position >= states[number].position:
                found[number].append(Raise(position, progress))
    for decided in found.values():
        decided.sort(key=lambda one: one.position)
    return found
