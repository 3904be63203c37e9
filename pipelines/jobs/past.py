"""Reading what a finished replay has left for another to go on from."""

from __future__ import annotations

import fnmatch
import hashlib
from pathlib import Path
from typing import Any

from headrace.pipelines.jobs.identity import Identity, comparable, differences, layout
from headrace.pipelines.run.manifest import MANIFEST, check_files, read_manifest, refusing
from headrace.pipelines.run.place import STATE
from headrace.pipelines.run.signing import SigningKey
from headrace.pipelines.sources.continued import Past, PastStream
from headrace.pipelines.sources.secrethash import JoinSecret
from headrace.schemas.config.models import Config
from headrace.schemas.errors import ConfigError, FolderError
from headrace.schemas.records.restored import Count, Moment, Text, checked, expect, written

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


@written
class _Manifest:
    version: Count
    identity: dict[Text, Any]
    streams: dict[Text, dict[Text, Any]]
    clock: Moment
    samples: Count
    carried: dict[Text, Count]
    join: dict[Text, Any]
    files: dict[Text, Any]


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
    manifest = read_manifest(state, HINT, SigningKey.of(config))
    with refusing(state, HINT):
        identity = checked(dict[Text, Any], manifest.get("identity"), "identity")
    if manifest.get("version") != VERSION or identity.get("layout") != layout():
        fact = "has a state that another version of Headrace wrote"
        raise FolderError(folder, fact, f"{HINT}, or continue it with that version")
    with refusing(state, HINT):
        checked(_Manifest, manifest, MANIFEST)
        checked(Identity, identity, "identity")
        streams = {table: PastStream.of_json(kept) for table, kept in manifest["streams"].items()}
        tables = checked(dict[Text, Any], identity["config"].get("actions"), "identity")
        named = ["impressions", *(f"actions.{name}" for name in tables)]
        expect(list(streams) == named, "streams", f"are others ({', '.join(streams)})"[:200])
        numbers = [file.number for stream in streams.values() for file in stream.files]
        expect(sorted(numbers) == list(range(len(numbers))), "files", "have other numbers")
    own = comparable(config, JoinSecret.of(config))
    for key, value in differences(identity["config"], own):
        if not any(fnmatch.fnmatchcase(key, pattern) for pattern in HARMLESS):
            fact = f"has changed since {folder}, which is continued"
            hint = "set it as it was; or, to have it so from the beginning, replay all files again"
            raise ConfigError(config.file, key, fact, value, hint)
    check_files(state, manifest["files"], HINT, MANIFEST)
    return Past(
        folder,
        streams,
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
        'name the folder of a finished replay of files, with join.end_of_log = "open" and '
        "replay.state = true",
    )
