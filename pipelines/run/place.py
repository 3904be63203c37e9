"""The paths in the folder of a replay.

Outputs are plain files and folders. Everything unfinished is in ``.headrace``,
which exists only while a replay runs or after one did not finish.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from os import rename
from pathlib import Path

from headrace.pipelines.run.disk import flush, writing
from headrace.pipelines.run.seal import SUMMARY, Seal

HOME = ".headrace"
STATISTICS_FILE = "statistics.parquet"
STATE = "state"
"""Folder of the state from which another replay can go on."""
OUTPUTS = (
    "samples", "dead_letters", "corrections", "joined", "model", STATE, STATISTICS_FILE,
    "report.html", SUMMARY,
)  # fmt: skip
"""Names of outputs; in a result there may be no other file under them."""

LETTERS = "letters"
"""Folder of a run's unsorted dead letters, beside its outputs."""

CHECKPOINT = "checkpoint-"
"""Prefix of the names of complete checkpoints."""


@dataclass(frozen=True)
class Place:
    """The folder of a replay.

    Parameters
    ----------
    out
        The folder of the outputs.
    finished
        The seal of an earlier run's result, if the publication of that had been
        interrupted and was finished when this run started.
    """

    out: Path
    finished: Seal | None = None

    @property
    def home(self) -> Path:
        """Folder of everything unfinished."""
        return self.out / HOME

    @property
    def partial(self) -> Path:
        """Folder of a current or unfinished run: outputs, checkpoint, scratch files."""
        return self.home / "partial"

    @property
    def result(self) -> Path:
        """Folder of the outputs of that run."""
        return self.partial / "result"

    @property
    def publishing(self) -> Path:
        """Folder of a complete result that is being published."""
        return self.home / "publishing"

    @property
    def replaced(self) -> Path:
        """The seal of the result that is being replaced."""
        return self.home / "replaced-seal.json"

    @property
    def retired(self) -> Path:
        """The file or folder that is being removed."""
        return self.home / "retired"

    def checkpoint(self) -> Path | None:
        """Return the newest checkpoint of an unfinished run, None without one."""
        found = sorted(self.partial.glob(f"{CHECKPOINT}*"))
        return found[-1] if found else None

    def stage(self, resuming: bool = False) -> None:
        """Prepare the folder of the outputs.

        Parameters
        ----------
        resuming
            Keep outputs and checkpoint of an unfinished run, if it has a checkpoint.
        """
        if not resuming or self.checkpoint() is None:
            self.retire(self.partial)
        else:
            for path in self.partial.iterdir():
                kept = path.name in (self.result.name, LETTERS)
                if not kept and not path.name.startswith(CHECKPOINT):
                    self.retire(path)
        with writing(self.result):
            self.result.mkdir(parents=True, exist_ok=True)

    def retire(self, path: Path) -> None:
        """Remove a file or folder; at no instant is only a part of it under its name."""
        if path.exists():
            self.withdraw(path)
            self.clear()

    def withdraw(self, path: Path) -> None:
        """Rename a file or folder to `retired`, for `clear` to remove."""
        self.clear()
        with writing(path):
            rename(path, self.retired)
        flush(path.parent)
        flush(self.home)

    def clear(self) -> None:
        """Remove what was withdrawn, if anything."""
        with writing(self.retired):
            if self.retired.is_dir():
                shutil.rmtree(self.retired)
            else:
                self.retired.unlink(missing_ok=True)
