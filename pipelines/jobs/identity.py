"""The identity of a run: what its results depend on, and what a resuming run must match."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from headrace.joiner.journal.shardjournal import LAYOUT_VERSION
from headrace.pipelines.sources.inputs import Inputs
from headrace.pipelines.sources.source import Growing
from headrace.pipelines.training.state import TRAINING_LAYOUT
from headrace.schemas.config.models import Config

_LAYOUT = 5
"""Version of a checkpoint's own files."""


def identity_of(inputs: Inputs) -> dict[str, Any]:
    """Return configuration and inputs as JSON types."""
    config = inputs.config.model_dump(mode="json", exclude={"live": True})
    config["replay"].pop("checkpoint")
    files = dict(log.identity() for log in inputs.logs)
    return {"layout": _layout(), "config": config, "files": files}


def live_identity_of(inputs: Inputs, growing: Growing) -> dict[str, Any]:
    """Return configuration and topics of a run that goes on, as JSON types.

    Brokers may move and client settings change; the ids of cluster and topics tell them. A guard
    that asks is answered while the run goes on.
    """
    config = inputs.config.model_dump(mode="json", exclude={"live", "replay", "kafka"})
    config["guard"].pop("accept")
    return {"layout": _layout(), "config": config, "files": growing.identity()}


def _layout() -> dict[str, int]:
    return {"checkpoint": _LAYOUT, "join": LAYOUT_VERSION, "training": TRAINING_LAYOUT}


def configuration_of(config: Config) -> dict[str, Any]:
    """Return where a configuration was read from, as a seal has it; empty if from no file.

    With what the command line may give instead of its values.
    """
    file = Path(config.file)
    if not file.is_file():
        return {}
    shards, rows = config.join.shards, config.replay.batch_rows
    return {"file": str(file.resolve()), "shards": shards, "batch_rows": rows}


def digest_of(identity: dict[str, Any]) -> str:
    """Return the SHA-256 of an identity, as hexadecimal digits."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
