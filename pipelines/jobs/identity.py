"""The identity of a run: what its results depend on, and what a resuming run must match."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from headrace.joiner.journal.shardjournal import LAYOUT_VERSION
from headrace.pipelines.sources.inputs import Inputs
from headrace.pipelines.sources.locations import Location
from headrace.pipelines.training.state import TRAINING_LAYOUT
from headrace.schemas.errors import UnreadableInputError

_LAYOUT = 3
"""Version of a checkpoint's own files."""

_ENDS = 64 << 10
"""Bytes at the head and at the tail of a file that are compared."""


def identity_of(inputs: Inputs) -> dict[str, Any]:
    """Return configuration and inputs as JSON types.

    A file is identified by its real path, however it is spelled, by size and time of
    change, and by a checksum of its head and tail, because a copy that keeps times may
    have other contents of equal size. An object in a store has an ETag for that.
    """
    config = inputs.config.model_dump(mode="json")
    config["replay"].pop("checkpoint")
    files = {log.location.key: _version(log.location) for log in inputs.logs}
    layout = {"checkpoint": _LAYOUT, "join": LAYOUT_VERSION, "training": TRAINING_LAYOUT}
    return {"layout": layout, "config": config, "files": files}


def digest_of(identity: dict[str, Any]) -> str:
    """Return the SHA-256 of an identity, as hexadecimal digits."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def _version(location: Location) -> list[Any]:
    return _ends(Path(location.inner)) if location.local else list(location.version)


def _ends(path: Path) -> list[Any]:
    try:
        with path.open("rb") as file:
            stat = os.fstat(file.fileno())
            digest = hashlib.sha256(file.read(_ENDS))
            file.seek(max(_ENDS, stat.st_size - _ENDS))
            digest.update(file.read(_ENDS))
    except OSError as error:
        raise UnreadableInputError.at(str(path), 0, error) from error
    return [stat.st_size, stat.st_mtime_ns, digest.hexdigest()]
