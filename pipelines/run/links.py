"""No link is followed where a run writes: it would lead out of the folder.

Whoever can put a link into a folder, such as one that was copied from elsewhere, would otherwise
choose which files a run overwrites.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from headrace.pipelines.run.place import HOME, OUTPUTS, Place
from headrace.pipelines.run.seal import SEAL
from headrace.schemas.errors import FolderError

ALL_NAMES = ("",)
"""Stands for whatever is in a folder."""


def refuse_links(place: Place, names: tuple[str, ...] = (HOME, SEAL, *OUTPUTS)) -> None:
    """Refuse a folder that has links where a run writes.

    Parameters
    ----------
    place
        The folder. It may be a link itself, if it is one of this user or of root.
    names
        What to look at in it, with all that is inside.

    Raises
    ------
    FolderError
        Naming the first link.
    """
    out = place.out
    if out.is_symlink() and out.lstat().st_uid not in (os.getuid(), 0):
        fact, hint = "is a link of another user", "name the folder to which it leads"
        raise FolderError(out, fact, hint)
    for path in _links(out, names):
        fact = f"has a link where a run writes ({path.relative_to(out)})"
        raise FolderError(out, fact, "remove it, or choose another folder")


def _links(out: Path, names: tuple[str, ...]) -> Iterator[Path]:
    for name in names:
        top = out / name
        if name and _is_link(top):
            yield top
        for where, folders, files in os.walk(top):
            for path in (Path(where, inside) for inside in (*folders, *files)):
                if _is_link(path):
                    yield path


def _is_link(path: Path) -> bool:
    try:
        return stat.S_ISLNK(path.lstat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
