"""The folder of a run on this machine, finished or going on, as its outputs are read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds

from headrace.monitoring.guard import GUARD, QUARANTINE
from headrace.pipelines.run.liveplace import BEGUN, CLUSTER_BEGUN, LivePlace
from headrace.pipelines.run.remote import Address, place_of
from headrace.pipelines.run.seal import SEAL, read_seal
from headrace.pipelines.run.signing import read_signed
from headrace.pipelines.sinks.completion import COMPLETE, read_completion
from headrace.pipelines.sinks.hours import open_dataset
from headrace.pipelines.sinks.outputs import SAMPLES
from headrace.schemas.errors import FolderError, SnapshotError
from headrace.schemas.records.events import EARLIEST, FOREVER, NEVER

_DESCRIBED = frozenset({"learner", "config", "samples", "schema_fingerprint", "sha256"})
_CONFIGURED = frozenset({"impressions", "actions", "join", "sampling", "learners", "monitor"})
"""Entries of a manifest, and of the configuration in it, that a run writes."""


@dataclass(frozen=True)
class RunFolder:
    """The folder of a finished replay, or of a run that goes on.

    Made by `open_run`.

    Parameters
    ----------
    folder
        The folder.
    run
        Name of the run, unique.
    until
        Of a run that goes on, the emit time before which samples, journal and quarantine are all
        complete, microseconds; None of a finished replay.
    """

    folder: Path
    run: str
    until: int | None

    @property
    def goes_on(self) -> bool:
        """Whether there may be more of its outputs later."""
        return self.until is not None and self.until < FOREVER

    def output(self, name: str) -> ds.Dataset | None:
        """Return the rows of an output before `until`, in order; None if there is no such output.

        It is samples, journal or quarantine.
        """
        folder = self.folder / name
        if not folder.is_dir():
            return None
        with self.reading(folder):
            if self.until is None:
                return ds.dataset(folder, format="parquet")
            return open_dataset(folder, EARLIEST if self.until == NEVER else self.until)

    @contextmanager
    def reading(self, path: Path) -> Iterator[None]:
        """Turn errors of reading in the block into a `FolderError` about a path."""
        try:
            yield
        except (OSError, pa.ArrowException) as error:
            fact = f"cannot be read ({str(error).splitlines()[0]})"
            hint = "see what `headrace verify` says of the result"
            raise FolderError(path, fact, hint) from error

    def models(self) -> dict[str, Path]:
        """Return the newest published snapshot of each learner, by its name."""
        found = {}
        for folder in sorted((self.folder / "model").glob("*/")):
            snapshots = sorted(folder.glob("snapshot-*[0-9]/manifest.json"))
            if snapshots:
                found[folder.name] = snapshots[-1].parent
        return found

    def manifest(self) -> dict[str, Any]:
        """Return the manifest of one of its models, which says how the log was joined.

        Raises
        ------
        SnapshotError
            If there is none.
        """
        for path in sorted((self.folder / "model").glob("*/[a-z]*-*[0-9]/manifest.json")):
            return read_manifest(path.parent)
        raise SnapshotError(
            f"{self.folder}: has no model, whose manifest would say how its log was joined; "
            "join the log with a learner"
        )


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of a snapshot, with what a run writes there.

    Raises
    ------
    SnapshotError
        If it cannot be read, or does not describe a run.
    """
    try:
        manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text("utf-8"))
        known = manifest.keys() >= _DESCRIBED and manifest["config"].keys() >= _CONFIGURED
        if not known or manifest["learner"] not in manifest["config"]["learners"]:
            raise ValueError("lacks entries")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SnapshotError(
            f"{folder}: manifest.json does not say how its model was learned; replay the log again "
            "with this version"
        ) from error
    return manifest


def open_run(out: str | Path) -> RunFolder:
    """Open the folder of a run.

    Raises
    ------
    FolderError
        If it is on another machine, or not that of a finished replay or of a run that goes on.
    """
    folder = place_of(out)
    if isinstance(folder, Address):
        hint = "copy it to a folder of this machine"
        raise FolderError(str(folder), "is not of this machine", hint)
    if (folder / SEAL).exists():
        return RunFolder(folder, read_seal(folder / SEAL).run, None)
    if (folder / COMPLETE).exists():
        # One of them may be complete further than another, for a second.
        complete = read_completion(folder)
        until = min(complete.get(name, FOREVER) for name in (SAMPLES, GUARD, QUARANTINE))
        return RunFolder(folder, _name_of(folder), until)
    fact = "is neither a finished result nor a run that goes on"
    raise FolderError(folder, fact, "name the --out folder of headrace replay or stream")


def _name_of(folder: Path) -> str:
    """Return the name of a run that goes on."""
    for path in (LivePlace(folder).partial / BEGUN, folder / CLUSTER_BEGUN):
        with suppress(FileNotFoundError):
            try:
                return str(read_signed(path)["run"])
            except (ValueError, KeyError) as error:
                raise FolderError(path, f"is damaged ({error})", "restore it") from error
    raise FolderError(folder, f"has no {BEGUN}, which names the run", "restore it")
