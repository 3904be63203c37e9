"""A folder of files with a manifest that has their sizes and checksums."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from headrace.pipelines.run.disk import describe, files_under
from headrace.pipelines.run.signing import read_signed
from headrace.schemas.errors import CheckpointError, DamagedError, SnapshotError
from headrace.schemas.records.restored import Text, checked, restoring
from headrace.schemas.records.signatures import Sign, SignatureError

MANIFEST = "manifest.json"

_Files = dict[Text, dict[Text, Any]]
"""By path, what `describe` returns of a file, and more."""


@contextmanager
def refusing(folder: Path, hint: str) -> Iterator[None]:
    """Refuse a folder if what the block reads of it is not what is written.

    Raises
    ------
    CheckpointError
        Which names the folder and what is wrong.
    """
    fact = None
    try:
        with restoring(MANIFEST):
            yield
    except DamagedError as error:
        fact = f"{error.what.removeprefix(f'{MANIFEST}, ')}: {error.fact}"
    except SnapshotError as error:
        fact = str(error)
    if fact is not None:
        # Not while the other error is handled: the origin of a failure is what a user reads.
        raise CheckpointError(folder, f"is damaged ({fact})", hint)


def read_manifest(folder: Path, hint: str, sign: Sign | None = None) -> dict[str, Any]:
    """Read what was written as `MANIFEST`.

    Parameters
    ----------
    folder, hint
        The folder, and what to do if it cannot be used.
    sign
        What must have signed it; None for nothing.

    Raises
    ------
    CheckpointError
        If it is missing, damaged or not signed as it must be; the hint says what to do.
    """
    try:
        return read_signed(folder / MANIFEST, sign)
    except FileNotFoundError:
        raise CheckpointError(folder, f"is damaged ({MANIFEST} is missing)", hint) from None
    except SignatureError as error:
        fact, hint = f"cannot be trusted ({MANIFEST}: {error})", f"{error.hint}, or {hint}"
        raise CheckpointError(folder, fact, hint) from error
    except ValueError as error:
        raise CheckpointError(folder, f"is damaged ({MANIFEST}: {error})", hint) from error


def check_files(folder: Path, noted: dict[str, Any], hint: str, *beside: str) -> list[Path]:
    """Compare files with their entries; return the files without one, except those `beside`.

    Raises
    ------
    CheckpointError
        If one differs.
    """
    with refusing(folder, hint):
        checked(_Files, noted, "files")
    found = files_under(folder)
    for name, expected in noted.items():
        if name not in found:
            raise CheckpointError(folder / name, "is missing", hint)
        try:
            damaged = not describe(found[name]).items() <= expected.items()
        except OSError as error:
            fact = f"cannot be read ({error.strerror})"
            raise CheckpointError(found[name], fact, hint) from error
        if damaged:
            raise CheckpointError(found[name], "has changed since it was written", hint)
    return [path for name, path in found.items() if name not in noted and name not in beside]
