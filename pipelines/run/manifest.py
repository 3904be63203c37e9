"""A folder of files with a manifest that has their sizes and checksums."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from headrace.pipelines.run.disk import describe, files_under
from headrace.pipelines.run.signing import read_signed
from headrace.schemas.errors import CheckpointError

MANIFEST = "manifest.json"


def read_manifest(folder: Path, hint: str) -> dict[str, Any]:
    """Read what was written as `MANIFEST`.

    Raises
    ------
    CheckpointError
        If it is missing or damaged; the hint says what to do.
    """
    try:
        return read_signed(folder / MANIFEST)
    except FileNotFoundError:
        raise CheckpointError(folder, f"is damaged ({MANIFEST} is missing)", hint) from None
    except ValueError as error:
        raise CheckpointError(folder, f"is damaged ({MANIFEST}: {error})", hint) from error


def check_files(folder: Path, noted: dict[str, Any], hint: str, *beside: str) -> list[Path]:
    """Compare files with their entries; return the files without one, except those `beside`.

    Raises
    ------
    CheckpointError
        If one differs.
    """
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
