"""Publication of a result elsewhere, such as in an object store: the seal is written last.

A run works in a folder on this machine, where its result is published as any other. From
there it is uploaded; each step can be repeated, and whoever finds the local result does all:

1. A mark, ``_uploading.json``, lists the files of the older and of the new result, so
   that after a kill it is known whose the files are that no seal names.
2. The older seal and summary are deleted.
3. Each file is written, the summary last.
4. Files of the older result that the new one does not have are deleted.
5. The seal is written, and the mark deleted.

A reader that begins with ``seal.json`` finds a whole result or none.
"""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from pathlib import Path

from headrace.pipelines.run.place import OUTPUTS, Place
from headrace.pipelines.run.remote import Address
from headrace.pipelines.run.seal import SEAL, SUMMARY, Seal, read_seal, strangers, verify
from headrace.pipelines.run.signing import read_signed, signed
from headrace.schemas.errors import FolderError, OutputError

_MARK = "_uploading.json"
"""Readers of datasets skip names that begin so."""


@dataclass(frozen=True)
class _Present:
    """What is at a target: its seal, and which files belong to a result."""

    seal: Seal | None
    own: frozenset[str]


def check_target(target: Address) -> None:
    """Refuse a place that is not safe to upload a result to.

    Raises
    ------
    FolderError
        Unless it is empty, or holds a sealed result or a part of one. Beside it there may
        be other files, but not under the names of outputs.
    """
    _look(target)


def _look(target: Address) -> _Present:
    names = target.files()
    if not names:
        return _Present(None, frozenset())
    seal = read_seal(target / SEAL) if SEAL in names else None
    marked = _marked(target) if _MARK in names else set()
    if seal is None and _MARK not in names:
        first = ", ".join(list(names)[:3])
        fact = f"holds files that are not Headrace's ({first})"
        raise FolderError(target.name, fact, "choose another place, or a new one")
    own = {SEAL, SUMMARY, *marked, *(seal.files if seal is not None else ())}
    foreign = strangers(target, Seal("", "", {name: {} for name in own}), OUTPUTS)
    if foreign:
        fact = f"holds files that do not belong to its result ({', '.join(foreign[:3])})"
        raise FolderError(target.name, fact, "move them away, or choose another place")
    return _Present(seal, frozenset(own & names.keys()))


def _marked(target: Address) -> set[str]:
    try:
        return set(read_signed(target / _MARK)["files"])
    except ValueError as error:
        hint = "choose another place, or delete what is there"
        raise FolderError((target / _MARK).name, f"is damaged ({error})", hint) from error


def waiting(place: Place) -> Seal | None:
    """Return the seal of a complete result on this machine that is still to be uploaded."""
    try:
        return read_seal(place.out / SEAL)
    except FileNotFoundError:
        return None


def upload(place: Place, target: Address) -> None:
    """Upload the result in a folder of this machine, and remove it there when all is done.

    Raises
    ------
    OutputError
        If a file cannot be written, or the local result has been damaged. The local result
        stays, and the next upload continues.
    """
    new = read_seal(place.out / SEAL)
    try:
        present = _look(target)
        if present.seal != new:
            _refuse_damaged(place.out)
            _write(place.out, new, target, present)
        (target / _MARK).delete()
    except FolderError as error:
        hint = f"the result is complete in {place.out}: run the same command again to upload it"
        raise OutputError(error.path, error.fact, hint) from error
    # The seal last: while it is here, the next run sees that the upload was complete.
    tops = {name.partition("/")[0] for name in new.files}
    for name in [*sorted(tops), SEAL]:
        place.retire(place.out / name)


def _refuse_damaged(folder: Path) -> None:
    problems = verify(folder).problems
    if problems:
        raise OutputError(
            folder, f"{problems[0]}, so nothing is uploaded",
            "remove this folder and run the same command again",
        )  # fmt: skip


def _write(folder: Path, new: Seal, target: Address, present: _Present) -> None:
    files = sorted({*new.files, *present.own} - {SEAL})
    (target / _MARK).write(io.BytesIO(signed({"files": files}).encode()))
    # The seal first: without a summary a seal would promise too much.
    for name in (SEAL, SUMMARY):
        if name in present.own:
            (target / name).delete()
    for name in sorted(new.files, key=lambda name: name == SUMMARY):
        _write_file(folder / name, target / name, new.files[name]["bytes"])
    for name in sorted(present.own - new.files.keys() - {SEAL, SUMMARY}):
        (target / name).delete()
    _write_file(folder / SEAL, target / SEAL, os.path.getsize(folder / SEAL))


def _write_file(file: Path, target: Address, size: int) -> None:
    with file.open("rb") as source:
        target.write(source)
    written = target.size()
    if written != size:
        fact = f"has another size than what was written ({size:,} bytes, got {written})"
        raise FolderError(target.name, fact, "")
