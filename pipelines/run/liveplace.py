"""The paths in the folder of a run that does not end."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from headrace.pipelines.run.disk import writing
from headrace.pipelines.run.links import ALL_NAMES, refuse_links
from headrace.pipelines.run.locking import held
from headrace.pipelines.run.place import CHECKPOINT, HOME, Place
from headrace.pipelines.run.privacy import made_for
from headrace.schemas.config.outputs import Mode
from headrace.schemas.errors import FolderError

RAISED = "raised-"
"""Prefix of the names of journals of raised progress."""

BEGUN, STATUS = "begun.json", "status.json"
"""What the run is and where it began; where it stands. Both are beside its checkpoints."""

CLUSTER_BEGUN = f"{HOME}/cluster.json"
"""What a run on a distributed runner is and where it began, in its folder."""


class LivePlace(Place):
    """The folder of a run that does not end: its outputs are in their places at once."""

    @property
    def partial(self) -> Path:
        """Folder of checkpoints and scratch files."""
        return self.home / "live"

    @property
    def result(self) -> Path:
        """Folder of the outputs."""
        return self.out

    def checkpoints(self) -> list[Path]:
        """Return the checkpoints, the newest first."""
        return sorted(self.partial.glob(f"{CHECKPOINT}*"), reverse=True)

    def stage(self, resuming: bool = False) -> None:
        """Remove scratch files of a run before."""
        kept = (CHECKPOINT, RAISED, BEGUN, STATUS)
        for path in self.partial.iterdir() if self.partial.exists() else ():
            if not path.name.startswith(kept):
                self.retire(path)
        with writing(self.partial):
            self.partial.mkdir(parents=True, exist_ok=True)


@contextmanager
def opened_live(out: Path, mode: Mode = "private") -> Iterator[LivePlace]:
    """Lock the folder of a run that does not end while the block runs.

    Raises
    ------
    FolderError
        If the folder is in use, has files but not those of such a run, or links.
    """
    place = LivePlace(out)
    if out.exists() and not out.is_dir():
        raise FolderError(out, "is not a folder", "choose a folder")
    refuse_links(place, ALL_NAMES)
    _check(place)
    with made_for(mode), held(place):
        refuse_links(place, ALL_NAMES)
        _check(place)
        place.stage()
        yield place


def _check(place: LivePlace) -> None:
    try:
        names = sorted(set(os.listdir(place.out)) - {HOME}) if place.out.exists() else []
    except OSError as error:
        fact = f"cannot be read ({error.strerror})"
        raise FolderError(place.out, fact, "choose another folder") from error
    if names and not (place.partial / BEGUN).exists():
        fact = f"has files, and they are not those of a run that goes on ({', '.join(names[:3])})"
        raise FolderError(place.out, fact, "choose another folder, or a new one")
