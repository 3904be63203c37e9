"""Publication of a complete result: finished now or by the next run, never mixed.

A result that is complete, sealed, verified and on disk is published by one
rename of its folder. The steps after that may be interrupted anywhere: the next
run finds the folder and continues. Meanwhile there is no seal:

1. The result is renamed from ``partial/result`` to ``publishing``.
2. ``partial``, which holds the checkpoint, is renamed for removal. So a checkpoint
   never outlives the outputs that it depends on.
3. The seal of the older result is moved away and its summary removed.
4. Each file is moved to its place, the summary last.
5. Files of the older result that the new one does not have are removed.
6. The seal is moved to its place.

A reader that begins with ``seal.json`` (or ``summary.json``) finds a whole result
or none; if a run ends while it reads, it finds another seal afterwards.
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
from headrace.pipelines.run.interrupts import ignored
from headrace.pipelines.run.place import HOME, OUTPUTS, Place
from headrace.pipelines.run.seal import SEAL, SUMMARY, Seal, compare, read_seal, strangers, verify
from headrace.schemas.errors import FolderError, OutputError


def publish(place: Place) -> None:
    """Publish the staged result.

    Raises
    ------
    OutputError
        If a file on disk is not as it was written, or cannot be moved.
    FolderError
        If files that are not Headrace's were put into the folder.
    """
    _refuse(place, verify(place.result).problems)
    flush_tree(place.result)
    check_contents(place)
    _check_room(place)
    with ignored():
        with writing(place.publishing):
            os.rename(place.result, place.publishing)
        flush(place.partial)
        _roll_forward(place)
        _clean(place)


@contextmanager
def as_written(place: Place, inventory: Mapping[str, dict[str, Any]]) -> Iterator[None]:
    """If staged outputs cannot be read in the block, name the one that was changed."""
    try:
        yield
    except (OSError, pa.ArrowException):
        _refuse(place, compare(place.result, inventory))
        raise


def _refuse(place: Place, problems: list[str]) -> None:
    if problems:
        more = f" and {len(problems) - 1} more" if len(problems) > 1 else ""
        raise OutputError(
            place.result,
            f"{problems[0]}{more}, so nothing is published",
            "run the same command again; another process wrote or deleted there",
        )


def recover(place: Place) -> Seal | None:
    """Finish an interrupted publication, and remove what it left.

    Returns
    -------
    Seal
        The seal of the result whose publication was finished; None if there was none.
    """
    finished = None
    with ignored():
        if place.publishing.exists():
            if (place.publishing / SEAL).exists():
                _roll_forward(place)
            with contextlib.suppress(FileNotFoundError):
                finished = read_seal(place.out / SEAL)
        _clean(place)
    return finished


def check_contents(place: Place) -> None:
    """Refuse a folder that is not safe to publish a result in.

    Raises
    ------
    FolderError
        Unless it is missing, empty, or holds a sealed result. Beside a result there
        may be other files, but not under the names of outputs.
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
        fact = f"holds files that do not belong to its result ({_first(foreign)})"
        raise FolderError(place.out, fact, "move them away, or choose another folder")


def _first(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def _check_room(place: Place) -> None:
    """Refuse if there is a file where a folder must be created."""
    for name in read_seal(place.result / SEAL).files:
        for parent in PurePosixPath(name).parents:
            path = place.out / parent
            if path.exists() and not path.is_dir():
                raise FolderError(path, "is not a folder", "move it away")


def _roll_forward(place: Place) -> None:
    """Do all steps after the result has been renamed to ``publishing`` that are not yet done."""
    if place.partial.exists():
        place.withdraw(place.partial)
    flush(place.home)
    new = read_seal(place.publishing / SEAL)
    with writing(place.out / SEAL):
        if (place.out / SEAL).exists():
            os.replace(place.out / SEAL, place.replaced)
        # The summary in place is the older one only while the new one is still to be moved.
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
    """Move a file to its place, unless it is there already; return the folders above it."""
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
    # `publishing` is removed last: while it exists, the next run sees that this one was
    # complete.
    place.clear()
    with writing(place.home):
        place.replaced.unlink(missing_ok=True)
        if place.publishing.exists():
            shutil.rmtree(place.publishing)
