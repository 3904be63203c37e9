"""The identity of a run: what its results depend on, and what a resuming run must match."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from headrace.joiner.journal.shardjournal import LAYOUT_VERSION
from headrace.pipelines.sources.inputs import Inputs
from headrace.pipelines.training.state import TRAINING_LAYOUT

_LAYOUT = 4
"""Version of a checkpoint's own files."""


def identity_of(inputs: Inputs) -> dict[str, Any]:
    """Return configuration and inputs as JSON types."""
    config = inputs.config.model_dump(mode="json")
    config["replay"].pop("checkpoint")
    files = dict(log.identity() for log in inputs.logs)
    layout = {"checkpoint": _LAYOUT, "join": LAYOUT_VERSION, "training": TRAINING_LAYOUT}
    return {"layout": layout, "config": config, "files": files}


def digest_of(identity: dict[str, Any]) -> str:
    """Return the SHA-256 of an identity, as hexadecimal digits."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
