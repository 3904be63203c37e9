"""Taking possession of the folder of a replay: nothing is touched that is not Headrace's."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from headrace.pipelines.run.locking import held
from headrace.pipelines.run.place import Place
from headrace.pipelines.run.publication import check_contents, recover
from headrace.schemas.errors import FolderError


@contextmanager
def opened(out: Path, inputs: Iterable[Path]) -> Iterator[Place]:
    """Hold the folder of a replay while the block runs, in a state to start from.

    Parameters
    ----------
    out
        The folder.
    inputs
        Configuration and log files, none of which may lie in the folder.

    Raises
    ------
    FolderError
        If the folder is in use, or holds what is not Headrace's.
    """
    place = Place(out)
    try:
        if out.exists() and not out.is_dir():
            raise FolderError(out, "is not a folder", "--out names a folder")
        _check_inputs(out, inputs)
        if not place.home.exists():
            # Even the lock would be something that was put into a folder of others.
            check_contents(place)
    except OSError as error:
        fact = f"cannot be read ({error.strerror})"
        raise FolderError(out, fact, "choose another folder") from error
    with held(place):
        place = replace(place, finished=recover(place))
        check_contents(place)
        yield place


def _check_inputs(out: Path, inputs: Iterable[Path]) -> None:
    folder = Path(os.path.realpath(out))
    for path in inputs:
        if Path(os.path.realpath(path)).is_relative_to(folder):
            fact = f"holds an input of the replay ({path})"
            raise FolderError(out, fact, "choose another folder")
