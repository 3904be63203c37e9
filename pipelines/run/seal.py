"""``seal.json``: every file of a result with its size and checksum.

It is written before anything is published and moved to its place after
everything else, so a folder with a seal holds one complete result.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from headrace.pipelines.run.disk import describe, files_under, writing
from headrace.pipelines.run.remote import Address
from headrace.pipelines.run.signing import read_signed, write_signed
from headrace.schemas.errors import SealError

SEAL = "seal.json"
SUMMARY = "summary.json"
_FORMAT = 1
_HINT = "replay into another folder, or remove this one"


@dataclass(frozen=True)
class Seal:
    """The list of the files of a result.

    Parameters
    ----------
    run
        Name of the run that made it, unique.
    identity
        Digest of configuration and inputs, see `headrace.pipelines.jobs.identity`.
    files
        By path relative to the folder, ``bytes`` and ``sha256``, and ``rows`` of Parquet files.
    configuration
        Where the configuration was, ``file``, and what was given instead of its values; empty if
        it came from no file, or in seals of older versions.
    """

    run: str
    identity: str
    files: dict[str, dict[str, Any]]
    configuration: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Verified:
    """The outcome of comparing a result with its seal: a good one has no problems.

    Parameters
    ----------
    files, rows
        How many files the seal lists, and how many rows the Parquet files among them have.
    problems
        What is wrong, a sentence each.
    """

    files: int
    rows: int
    problems: list[str]


def write_seal(
    folder: Path,
    run: str,
    identity: str,
    inventory: Mapping[str, dict[str, Any]],
    configuration: Mapping[str, Any] | None = None,
) -> None:
    """Write the seal of the files in a folder.

    Parameters
    ----------
    folder
        A complete result.
    run, identity, configuration
        See `Seal`.
    inventory
        Sizes, checksums and rows from when files were written. They go into the seal
        unchecked, so `verify` reports files that were changed or removed since.
    """
    files = {
        name: describe(path) for name, path in files_under(folder).items() if name not in inventory
    }
    files.update(inventory)
    content = {
        "format": _FORMAT, "run": run, "identity": identity,
        "configuration": dict(configuration or {}),
    }  # fmt: skip
    with writing(folder / SEAL):
        write_signed(folder / SEAL, {**content, "files": dict(sorted(files.items()))})


def read_seal(path: Path | Address) -> Seal:
    """Read a seal.

    Raises
    ------
    SealError
        If it is damaged or has another version.
    FileNotFoundError
        If there is none.
    """
    try:
        content = read_signed(path)
    except FileNotFoundError:
        raise
    except ValueError as error:
        raise SealError(str(path), f"is damaged ({error})", _HINT) from error
    if content.get("format") != _FORMAT:
        got = content.get("format")
        raise SealError(str(path), f"is of another version (got format {got!r})", _HINT)
    for name in content["files"]:
        pure = PurePosixPath(name)
        # Files that a seal names may be deleted, so none may be outside of its folder.
        if pure.is_absolute() or ".." in pure.parts or pure.as_posix() != name:
            raise SealError(str(path), f"names a file of another folder (got {name!r})", _HINT)
    configuration = content.get("configuration", {})
    return Seal(content["run"], content["identity"], content["files"], configuration)


def verify(folder: Path | Address) -> Verified:
    """Compare every file of a result with the seal, and the summary with the samples.

    Raises
    ------
    FileNotFoundError
        If there is no seal.
    """
    try:
        seal = read_seal(folder / SEAL)
    except SealError as error:
        return Verified(0, 0, [f"{SEAL} {error.fact}"])
    problems = compare(folder, seal.files)
    rows: dict[str, int] = {}
    for name, noted in seal.files.items():
        if "rows" in noted:
            top = name.partition("/")[0]
            rows[top] = rows.get(top, 0) + noted["rows"]
    problems += [f"{name} is not of this result" for name in strangers(folder, seal)]
    if SUMMARY in seal.files and not problems:
        stated = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))["samples"]["rows"]
        held = rows.get("samples", 0)
        if stated != held:
            problems.append(f"{SUMMARY} states {stated:,} samples, the files hold {held:,}")
    return Verified(len(seal.files), sum(rows.values()), problems)


def compare(folder: Path | Address, files: Mapping[str, dict[str, Any]]) -> list[str]:
    """Compare files with their entries in an inventory; return a sentence for each that differs."""
    problems = ((name, _compare(folder / name, noted)) for name, noted in files.items())
    return [f"{name} {problem}" for name, problem in problems if problem is not None]


def strangers(folder: Path | Address, seal: Seal, tops: tuple[str, ...] = ()) -> list[str]:
    """Find files inside the folders of a result that do not belong to it.

    Files whose name, or that of a folder above, begins with ``.`` or ``_`` are left out:
    readers of datasets skip them, and desktops and engines leave them everywhere.

    Parameters
    ----------
    folder, seal
        The result.
    tops
        More names of folders or files to look at.
    """
    found = []
    looked_at = sorted({*tops, *(name.partition("/")[0] for name in seal.files)})
    if isinstance(folder, Address):
        inside = [name for name in folder.files() if name.partition("/")[0] in looked_at]
        return [name for name in inside if name not in seal.files and not _is_skipped(name)]
    for top in looked_at:
        path = folder / top
        if path.is_symlink() or path.is_file():
            found += [top] if top not in seal.files else []
        else:
            inside = [f"{top}/{inner}" for inner in files_under(path)]
            found += [name for name in inside if name not in seal.files and not _is_skipped(name)]
    return found


def _is_skipped(name: str) -> bool:
    return any(part.startswith((".", "_")) for part in PurePosixPath(name).parts)


def _rows(path: Path | Address) -> int:
    if isinstance(path, Address):
        return int(pq.read_metadata(path.path, filesystem=path.filesystem).num_rows)
    return int(pq.read_metadata(path).num_rows)


def _compare(path: Path | Address, noted: dict[str, Any]) -> str | None:
    """Return what is wrong with a file, in words that follow its name."""
    try:
        size = path.size() if isinstance(path, Address) else path.stat().st_size
        if size is None:
            return "is missing"
        if size != noted["bytes"]:
            return f"has another size (sealed with {noted['bytes']:,} bytes, got {size:,})"
        if describe(path)["sha256"] != noted["sha256"]:
            return "has other contents than when it was sealed"
        if "rows" in noted and (rows := _rows(path)) != noted["rows"]:
            return f"has another number of rows (sealed with {noted['rows']:,}, got {rows:,})"
    except (FileNotFoundError, NotADirectoryError):
        return "is missing"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    except pa.ArrowInvalid:
        return "is not a Parquet file"
    return None
