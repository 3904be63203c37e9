"""Opening the folder of a replay: only files of Headrace are ever changed."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from headrace.pipelines.run.links import refuse_links
from headrace.pipelines.run.locking import held
from headrace.pipelines.run.place import Place
from headrace.pipelines.run.privacy import made_for
from headrace.pipelines.run.publication import check_contents, recover
from headrace.schemas.config.outputs import Mode
from headrace.schemas.errors import FolderError


@contextmanager
def opened(out: Path, inputs: Iterable[Path], mode: Mode = "private") -> Iterator[Place]:
    """Lock the folder of a replay while the block runs, and prepare it for a new run.

    Parameters
    ----------
    out
        The folder.
    inputs
        Configuration and log files; none of them may be in the folder.
    mode
        For whom files are made while the block runs.

    Raises
    ------
    FolderError
        If the folder is in use, holds files that are not Headrace's, or links where it writes.
    """
    place = Place(out)
    try:
        if out.exists() and not out.is_dir():
            raise FolderError(out, "is not a folder", "choose a folder")
        _check_inputs(out, inputs)
        refuse_links(place)
        if not place.home.exists():
            # Before the lock is created: even that must not be put into another's folder.
            check_contents(place)
    except OSError as error:
        fact = f"cannot be read ({error.strerror})"
        raise FolderError(out, fact, "choose another folder") from error
    with made_for(mode), held(place):
        refuse_links(place)
        place = replace(place, finished=recover(place))
        check_contents(place)
        yield place


def _check_inputs(out: Path, inputs: Iterable[Path]) -> None:
    folder = Path(os.path.realpath(out))
    for path in inputs:
        if Path(os.path.realpath(path)).is_relative_to(folder):
            fact = f"holds an input of the replay ({path})"
            raise FolderError(out, fact, "choose another folder")
