"""A complete result, moved to its place: finished at once or by the next run, never mixed.

A result that is complete, sealed, verified and on disk is published by one
rename of its folder. What follows is done in steps that may break off anywhere:
the next run finds the folder and goes on. Meanwhile there is no seal:

1. The result is renamed from ``partial/result`` to ``publishing``.
2. ``partial``, which holds the checkpoint, loses its name. So a checkpoint never
   outlives the outputs that it counts on.
3. The seal of the result that is there is set aside and its summary removed.
4. Each file moves to its place, the summary last.
5. Files of the older result that the new one has not are removed.
6. The seal moves to its place.

A reader that begins with ``seal.json`` (or ``summary.json``) finds a whole result
or none; one that reads on while a run ends finds another seal afterwards.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa

from headrace.pipelines.run.disk import flush, flush_tree, writing
from headrace.pipelines.run.interrupts import deferred
from headrace.pipelines.run.place import HOME, OUTPUTS, Place
from headrace.pipelines.run.seal import SEAL, SUMMARY, Seal, compare, read_seal, strangers, verify
from headrace.schemas.errors import FolderError, OutputError


def publish(place: Place) -> None:
    """Publish the staged result.

    Raises
    ------
    OutputError
        If what lies on disk is not what was written, or cannot be moved.
    FolderError
        If files have come into the folder that are not Headrace's.
    """
    _refuse(place, verify(place.result).problems)
    flush_tree(place.result)
    check_contents(place)
    _check_room(place)
    with deferred():
        with writing(place.publishing):
            os.rename(place.result, place.publishing)
        flush(place.partial)
        _roll_forward(place)
        _clean(place)


@contextmanager
def as_written(place: Place, ledger: Mapping[str, dict[str, Any]]) -> Iterator[None]:
    """If staged outputs cannot be read in the block, say which of them is not as it was written."""
    try:
        yield
    except (OSError, pa.ArrowException):
        _refuse(place, compare(place.result, ledger))
        raise


def _refuse(place: Place, problems: list[str]) -> None:
    if problems:
        more = f" and {len(problems) - 1} more" if len(problems) > 1 else ""
        raise OutputError(
            place.result,
            f"{problems[0]}{more}, so nothing is published",
            "something else wrote or deleted there: run the same command again",
        )


def recover(place: Place) -> Seal | None:
    """Finish a publication that was broken off, and remove what is left over.

    Returns
    -------
    Seal
        Of the result whose publication was finished; None if there was none.
    """
    finished = None
    with deferred():
        if place.publishing.exists():
            if (place.publishing / SEAL).exists():
                _roll_forward(place)
            with contextlib.suppress(FileNotFoundError):
                finished = read_seal(place.out / SEAL)
        _clean(place)
    return finished


def check_contents(place: Place) -> None:
    """Refuse a folder that holds anything in the way of a result.

    Raises
    ------
    FolderError
        Unless it is absent, empty, or holds a sealed result. Beside a result there
        may be other files, but not under names of Headrace's.
    """
    if not place.out.exists():
        return
    names = sorted(set(os.listdir(place.out)) - {HOME})
    if not names:
        return
    try:
        seal = read_seal(place.out / SEAL)
    except FileNotFoundError:
        fact = f"holds files that are not Headrace's ({_first(names)})"
        raise FolderError(place.out, fact, "choose another folder, or a new one") from None
    foreign = strangers(place.out, seal, OUTPUTS)
    if foreign:
        fact = f"holds files that are not of the result in it ({_first(foreign)})"
        raise FolderError(place.out, fact, "move them away, or choose another folder")


def _first(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def _check_room(place: Place) -> None:
    """Refuse if something stands where a folder must be made."""
    for name in read_seal(place.result / SEAL).files:
        for parent in PurePosixPath(name).parents:
            path = place.out / parent
            if path.exists() and not path.is_dir():
                raise FolderError(path, "is not a folder", "move it away")


def _roll_forward(place: Place) -> None:
    """Do what is left to do after the result has its name ``publishing``."""
    if place.partial.exists():
        place.set_aside(place.partial)
    flush(place.home)
    new = read_seal(place.publishing / SEAL)
    with writing(place.out / SEAL):
        if (place.out / SEAL).exists():
            os.replace(place.out / SEAL, place.replaced)
        # The summary that lies there is the older one only as long as the new one waits.
        if (place.publishing / SUMMARY).exists():
            (place.out / SUMMARY).unlink(missing_ok=True)
    flush(place.out)
    flush(place.home)
    folders = {place.out}
    for name in sorted(new.files, key=lambda name: name == SUMMARY):
        folders |= _move(place, name, new.files[name]["bytes"])
    with contextlib.suppress(FileNotFoundError):
        for name in read_seal(place.replaced).files:
            if name not in new.files:
                _remove(place.out, name)
    for folder in folders:
        flush(folder)
    with writing(place.out / SEAL):
        os.replace(place.publishing / SEAL, place.out / SEAL)
    flush(place.out)


def _move(place: Place, name: str, size: int) -> set[Path]:
    """Move a file to its place, unless it is there; return the folders above it."""
    source, target = place.publishing / name, place.out / name
    folders = {target.parents[level] for level in range(len(PurePosixPath(name).parts))}
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.exists():
            os.replace(source, target)
        elif not target.exists() or target.stat().st_size != size:
            raise OutputError(
                source, "is gone, so the result cannot be published",
                f"remove {place.publishing} and replay into another folder",
            )  # fmt: skip
    return folders


def _remove(out: Path, name: str) -> None:
    """Remove a file of the older result, and the folders that it leaves empty."""
    path = out / name
    with writing(path):
        path.unlink(missing_ok=True)
        for folder in path.parents:
            if folder == out or (folder.exists() and any(folder.iterdir())):
                break
            if folder.exists():
                folder.rmdir()


def _clean(place: Place) -> None:
    # The folder of the result goes last: as long as it is there, the next run knows that
    # the one before was complete.
    place.clear()
    with writing(place.home):
        place.replaced.unlink(missing_ok=True)
        if place.publishing.exists():
            shutil.rmtree(place.publishing)
