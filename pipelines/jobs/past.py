"""Reading what a finished replay has left for another to go on from."""

from __future__ import annotations

import fnmatch
import hashlib
from pathlib import Path

from headrace.pipelines.jobs.identity import comparable, differences, layout
from headrace.pipelines.run.manifest import MANIFEST, check_files, read_manifest
from headrace.pipelines.run.place import STATE
from headrace.pipelines.sources.continued import Past, PastStream
from headrace.pipelines.sources.secrethash import JoinSecret
from headrace.schemas.config.models import Config
from headrace.schemas.errors import ConfigError, FolderError

VERSION = 1
"""Of the manifest of a kept state."""
HINT = "replay all files again, without --continue"

HARMLESS = (
    "impressions.path", "actions.*.path", "impressions.complete_until", "actions.*.complete_until",
    "replay.*", "outputs.*", "publish.*", "guard.accept", "monitor.near_misses",
    "monitor.history", "monitor.slices",
    *("learner.start", "learner.alpha", "learner.beta", "learner.l1", "learner.l2"),
    *("learners.*.start", "learners.*.alpha", "learners.*.beta", "learners.*.l1", "learners.*.l2"),
)  # fmt: skip
"""Keys of a configuration that may differ from those of the run that is continued."""


def read_past(folder: Path, config: Config) -> Past:
    """Return what a run continues, which is in the folder of a finished one.

    Raises
    ------
    FolderError
        If the folder has no state.
    CheckpointError
        If its state is damaged.
    ConfigError
        If the configuration differs by what is not `HARMLESS`.
    """
    state = folder / STATE
    if not (state / MANIFEST).exists():
        raise FolderError(folder, *_why_not(folder))
    manifest = read_manifest(state, HINT)
    identity = manifest["identity"]
    if manifest["version"] != VERSION or identity["layout"] != layout():
        fact = "has a state that another version of Headrace wrote"
        raise FolderError(folder, fact, f"{HINT}, or continue it with that version")
    own = comparable(config, JoinSecret.of(config))
    for key, value in differences(identity["config"], own):
        if not any(fnmatch.fnmatchcase(key, pattern) for pattern in HARMLESS):
            fact = f"has changed since {folder}, which is continued"
            hint = "set it as it was; or, to have it so from the beginning, replay all files again"
            raise ConfigError(config.file, key, fact, value, hint)
    check_files(state, manifest["files"], HINT, MANIFEST)
    return Past(
        folder,
        {table: PastStream.of_json(kept) for table, kept in manifest["streams"].items()},
        manifest["clock"],
        manifest["samples"],
        manifest["carried"],
        hashlib.sha256((state / MANIFEST).read_bytes()).hexdigest(),
    )


def _why_not(folder: Path) -> tuple[str, str]:
    if not folder.is_dir():
        return "is no folder", "name the folder of a finished replay"
    return (
        "has no state to continue from",
        'name the folder of a finished replay of files, with end_of_log = "open" and '
        "replay.state = true",
    )
