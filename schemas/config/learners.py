"""What learners take from other tables: a group of features, or all of another learner."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from headrace.schemas.config.hints import name_hint
from headrace.schemas.config.models import LearnerConfig
from headrace.schemas.errors import ConfigError


def with_learners_resolved(tree: dict[str, Any], file: str | Path) -> dict[str, Any]:
    """Return a parsed configuration in which every learner has all of its keys.

    ``like = "OTHER"`` stands for the keys of another learner that a learner does not have
    itself; of another algorithm's those alone that all learners have. ``features = "GROUP"``
    stands for the table ``[features.GROUP]``.

    Parameters
    ----------
    tree
        The tables. What is wrong with them in other ways is left as it is.
    file
        Where they came from, for errors.

    Raises
    ------
    ConfigError
        If there is no such learner or group, or learners are like each other in a circle, or no
        learner uses a group.
    """
    groups, learners = tree.get("features", {}), tree.get("learners", {})
    if not isinstance(groups, dict) or not isinstance(learners, dict):
        return tree
    resolved = {name: _like(name, learners, file) for name in learners}
    used: set[str] = set()
    changed = {**tree, "learners": {
        name: _with_features(table, f"learners.{name}", groups, used, file)
        for name, table in resolved.items()
    }}  # fmt: skip
    if "learner" in tree:
        if isinstance(tree["learner"], dict) and "like" in tree["learner"]:
            fact, hint = "there is no other learner", "name learners: [learners.NAME]"
            raise ConfigError(file, "learner.like", fact, tree["learner"]["like"], hint)
        changed["learner"] = _with_features(tree["learner"], "learner", groups, used, file)
    for name in groups:
        if name not in used:
            hint = f'write features = "{name}" in a learner, or leave it out'
            raise ConfigError(file, f"features.{name}", "no learner uses it", hint=hint)
    return changed


def _like(
    name: str, learners: dict[str, Any], file: str | Path, above: tuple[str, ...] = ()
) -> Any:
    table = learners[name]
    if not isinstance(table, dict) or "like" not in table:
        return table
    other, key = table["like"], f"learners.{name}.like"
    if not isinstance(other, str) or other not in learners:
        hint = name_hint(str(other), learners)
        raise ConfigError(file, key, "no learner has this name", other, hint)
    if other in (*above, name):
        fact, hint = "learners are like each other in a circle", "write out the keys of one"
        raise ConfigError(file, key, fact, other, hint)
    taken = _like(other, learners, file, (*above, name))
    own = {key: value for key, value in table.items() if key != "like"}
    if not isinstance(taken, dict):
        return own
    if own.get("algorithm", taken.get("algorithm")) != taken.get("algorithm"):
        taken = {key: value for key, value in taken.items() if key in LearnerConfig.common()}
    return {**taken, **own}


def _with_features(
    table: Any, key: str, groups: dict[str, Any], used: set[str], file: str | Path
) -> Any:
    if not isinstance(table, dict) or not isinstance(table.get("features"), str):
        return table
    name = table["features"]
    if name not in groups:
        fact = "no group of features has this name"
        hint = name_hint(name, groups) or "there is none"
        raise ConfigError(file, f"{key}.features", fact, name, hint)
    used.add(name)
    return {**table, "features": groups[name]}
