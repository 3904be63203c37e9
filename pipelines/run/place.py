"""What lies where in the folder of a replay.

Outputs are plain files and folders. Everything that is unfinished is in
``.headrace``, which is there only while a replay runs or after one broke off.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from os import rename
from pathlib import Path

from headrace.pipelines.run.disk import flush, writing
from headrace.pipelines.run.seal import SUMMARY, Seal

HOME = ".headrace"
OUTPUTS = ("samples", "dead_letters", "corrections", "joined", "model", "report.html", SUMMARY)
"""The names that are Headrace's; in a result nothing else may be under them."""

LETTERS = "letters"
"""Folder of a run's dead letters as they come, beside its outputs."""

CHECKPOINT = "checkpoint-"
"""What the names of complete checkpoints begin with."""


@dataclass(frozen=True)
class Place:
    """The folder of a replay.

    Parameters
    ----------
    out
        Where the outputs go.
    finished
        The result that an earlier run had completed, if its publication was broken
        off and had to be finished when this one started.
    """

    out: Path
    finished: Seal | None = None

    @property
    def home(self) -> Path:
        """Everything that is unfinished."""
        return self.out / HOME

    @property
    def partial(self) -> Path:
        """A run that goes on or broke off: outputs, checkpoint, scratch files."""
        return self.home / "partial"

    @property
    def result(self) -> Path:
        """Its outputs."""
        return self.partial / "result"

    @property
    def publishing(self) -> Path:
        """A complete result on the way to its place."""
        return self.home / "publishing"

    @property
    def replaced(self) -> Path:
        """The seal of the result that was there before."""
        return self.home / "replaced-seal.json"

    @property
    def retired(self) -> Path:
        """What is being removed."""
        return self.home / "retired"

    def checkpoint(self) -> Path | None:
        """Return the newest checkpoint of a run that broke off."""
        found = sorted(self.partial.glob(f"{CHECKPOINT}*"))
        return found[-1] if found else None

    def stage(self, go_on: bool = False) -> None:
        """Make the folder to write to.

        Parameters
        ----------
        go_on
            Keep outputs and checkpoints of a run that broke off, if it has any.
        """
        if not go_on or self.checkpoint() is None:
            self.retire(self.partial)
        else:
            for path in self.partial.iterdir():
                kept = path.name in (self.result.name, LETTERS)
                if not kept and not path.name.startswith(CHECKPOINT):
                    self.retire(path)
        with writing(self.result):
            self.result.mkdir(parents=True, exist_ok=True)

    def retire(self, path: Path) -> None:
        """Remove a file or folder; at no instant is a part of it under its name."""
        if path.exists():
            self.set_aside(path)
            self.clear()

    def set_aside(self, path: Path) -> None:
        """Take a file or folder from its name, to be removed later."""
        self.clear()
        with writing(path):
            rename(path, self.retired)
        flush(path.parent)
        flush(self.home)

    def clear(self) -> None:
        """Remove what was set aside."""
        with writing(self.retired):
            if self.retired.is_dir():
                shutil.rmtree(self.retired)
            else:
                self.retired.unlink(missing_ok=True)
