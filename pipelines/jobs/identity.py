"""The identity of a run: what its results depend on, and what a resuming run must match."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from headrace.joiner.journal.shardjournal import LAYOUT_VERSION
from headrace.pipelines.sources.inputs import Inputs
from headrace.pipelines.sources.plans import features_plan
from headrace.pipelines.sources.secrethash import JoinSecret
from headrace.pipelines.sources.source import Growing
from headrace.pipelines.training.state import TRAINING_LAYOUT
from headrace.schemas.config.durations import iso_moment
from headrace.schemas.config.models import Config
from headrace.schemas.errors import ConfigError
from headrace.schemas.records.restored import Count, Text, checked, written

_LAYOUT = 6
"""Version of a checkpoint's own files."""


@written
class Identity:
    """What `identity_of` and `live_identity_of` return, for `checked`."""

    layout: dict[Text, Count]
    config: dict[Text, Any]
    files: dict[Text, Any]
    continued: Text | None = None


def identity_of(inputs: Inputs) -> dict[str, Any]:
    """Return configuration and inputs as JSON types."""
    config = comparable(inputs.config, inputs.secret)
    files = dict(log.identity() for log in inputs.logs)
    identity: dict[str, Any] = {"layout": layout(), "config": config, "files": files}
    if inputs.past is not None:
        identity["continued"] = inputs.past.checksum
    return identity


def comparable(config: Config, secret: JoinSecret) -> dict[str, Any]:
    """Return what a run depends on of its configuration, as JSON types.

    Of secrets that is whether they are the same, not where they are.
    """
    tables = config.model_dump(mode="json", exclude={"live": True, "state": True})
    tables["replay"].pop("checkpoint")
    _mark_secrets(tables, config, secret)
    tables["outputs"].pop("mode")
    return tables


def _mark_secrets(tables: dict[str, Any], config: Config, secret: JoinSecret) -> None:
    tables["join"]["secret"] = secret.mark
    for name, learner in config.named_learners.items():
        table = tables
        for part in config.learner_table(name).split(".", 1):
            table = table[part]
        table["features"]["hash_key"] = features_plan(learner.features, config.file).by.mark


def live_identity_of(inputs: Inputs, growing: Growing) -> dict[str, Any]:
    """Return configuration and topics of a run that goes on, as JSON types.

    Brokers may move and client settings change; the ids of cluster and topics tell them. A guard
    that asks is answered while the run goes on.
    """
    config = inputs.config.model_dump(mode="json", exclude={"live", "replay", "kafka", "state"})
    config["guard"].pop("accept")
    _mark_secrets(config, inputs.config, inputs.secret)
    config["outputs"].pop("mode")
    return {"layout": layout(), "config": config, "files": growing.identity()}


def layout() -> dict[str, int]:
    """Return the versions of all that is written of the state of a run."""
    return {"checkpoint": _LAYOUT, "join": LAYOUT_VERSION, "training": TRAINING_LAYOUT}


def configuration_of(inputs: Inputs) -> dict[str, Any]:
    """Return where a configuration was read from, as a seal has it; empty if from no file.

    With what the command line may give instead of its values, and what is continued.
    """
    config, file = inputs.config, Path(inputs.config.file)
    if not file.is_file():
        return {}
    return {
        "file": str(file.resolve()),
        "shards": config.join.shards,
        "batch_rows": config.replay.batch_rows,
        "continues": None if inputs.past is None else str(inputs.past.folder),
    }


def digest_of(identity: dict[str, Any]) -> str:
    """Return the SHA-256 of an identity, as hexadecimal digits."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def check_identity(then: dict[str, Any], now: dict[str, Any], file: str, hint: str) -> None:
    """Compare the identity of a run with that of one that would go on from it.

    Raises
    ------
    ConfigError
        Which names `file`, and what has changed.
    DamagedError
        If `then` is no identity.
    """
    if then.get("layout") != now["layout"]:
        fact = "the checkpoint was written by another version of Headrace"
        raise ConfigError(file, "", fact, hint=hint)
    checked(Identity, then, "identity")
    for key, value in differences(then["config"], now["config"]):
        if key == "guard.accept":
            value = [iso_moment(moment) for moment in value]
        raise ConfigError(file, key, "has changed since the checkpoint", value, hint)
    for path in [*now["files"], *then["files"]]:
        if then["files"].get(path) != now["files"].get(path):
            fact = f"{path} has changed since the checkpoint"
            raise ConfigError(file, "", fact, hint=hint)


def differences(then: Any, now: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield what differs between two configurations as JSON types: keys, and values now."""
    if isinstance(then, dict) and isinstance(now, dict):
        for name in [*now, *(name for name in then if name not in now)]:
            yield from differences(then.get(name), now.get(name), f"{key}.{name}".lstrip("."))
    elif then != now:
        # Nobody knows a secret by its mark.
        yield key, None if key.endswith((".secret", ".hash_key")) else now
