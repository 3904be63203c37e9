"""What learners begin with, from the snapshots that a configuration names."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from headrace.learners.features import Features
from headrace.learners.learning import TrainPlan
from headrace.learners.registry import Algorithms
from headrace.learners.snapshot import model_folder
from headrace.learners.starting import Start, start_of
from headrace.pipelines.run.signing import SigningKey
from headrace.pipelines.sources.plans import features_plan
from headrace.schemas.config.models import Config, FeaturesConfig
from headrace.schemas.errors import ConfigError, DamagedError, SnapshotError
from headrace.schemas.records.restored import Count, checked, restoring


def with_starts(config: Config, train: TrainPlan, algorithms: Algorithms) -> TrainPlan:
    """Return the plan with what its learners begin with.

    Raises
    ------
    ConfigError
        If a snapshot cannot be read, or is of a learner that cannot go on as this one.
    """
    learners = dict(train.learners)
    for name, table in config.named_learners.items():
        if table.start is not None:
            try:
                start = _start(config, name, table.start, train, algorithms)
            except SnapshotError as error:
                key = f"{config.learner_table(name)}.start"
                fact, _, hint = str(error).rpartition("; ")
                raise ConfigError(config.file, key, fact, table.start, hint) from error
            learners[name] = replace(learners[name], start=start)
    return replace(train, learners=learners)


def _start(config: Config, name: str, path: str, train: TrainPlan, algorithms: Algorithms) -> Start:
    folder = model_folder(Path(config.file).parent / path)
    plan = train.learners[name]
    try:
        with restoring("manifest.json"):
            before, samples = _described(folder)
    except DamagedError as error:
        raise SnapshotError(
            f"{folder}: manifest.json does not say what it was learned from; use another snapshot"
        ) from error
    return start_of(
        folder, algorithms, plan.fresh(), plan.algorithm, plan.features, before, samples,
        SigningKey.of(config),
    )  # fmt: skip


def _described(folder: Path) -> tuple[Features, int]:
    """Return the features of a snapshot, and how many samples it has learned."""
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    table = manifest["config"]["learners"][manifest["learner"]]
    # Their names are compared, and of the key its mark: where that was need not be known.
    own = FeaturesConfig.model_validate({**table["features"], "hash_key": None})
    features = features_plan(own)
    return features, checked(Count, manifest["samples"], "samples")
