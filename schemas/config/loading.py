"""Reading a configuration file: one clear line for anything wrong with it."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from headrace.schemas.config.hints import name_hint
from headrace.schemas.config.learners import with_learners_resolved
from headrace.schemas.config.models import Config, LearnerConfig, Model
from headrace.schemas.errors import ConfigError

Algorithms = Mapping[str, type[Model]]
"""The parameters of each learner, by the name of its algorithm."""


_MOST_BYTES = 1 << 20
"""Bytes of a configuration; a file of more is something else."""

_LONG_KEY = re.compile(r"""(?:\.[ \t]*(?:[\w-]+|"[^"\n]*"|'[^'\n]*')[ \t]*){64}""")
"""A key of so many parts with points between them, or a text that looks so."""


def load_config(path: str | Path, algorithms: Algorithms) -> Config:
    """Read and check a TOML configuration.

    Parameters
    ----------
    path
        The file. Paths inside it stay as written; `headrace.pipelines.sources.inputs` resolves
        them relative to this file.
    algorithms
        The learners that it may name, from `headrace.learners.registry.parameter_models`.

    Raises
    ------
    ConfigError
        For the first thing wrong, with file, key path, value and a hint.
    """
    try:
        with Path(path).open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise ConfigError(path, "", f"cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise ConfigError(path, "", "is not UTF-8 text", hint="save it as UTF-8") from error
    if len(content) > _MOST_BYTES:
        fact = f"is larger than {_MOST_BYTES:,} bytes"
        raise ConfigError(path, "", fact, hint="give the file of the configuration")
    try:
        return parse_config(_parsed(text, path), path, algorithms)
    except RecursionError:
        hint = "the keys of a configuration have few levels"
        raise ConfigError(path, "", "is nested too deeply", hint=hint) from None


def _parsed(text: str, path: str | Path) -> dict[str, Any]:
    if _LONG_KEY.search(text):
        raise RecursionError  # tomllib takes quadratic memory for it
    try:
        return tomllib.loads(text)
    except ValueError as error:  # also of numbers with too many digits
        raise ConfigError(path, "", f"is not valid TOML: {error}") from error


def parse_config(tree: dict[str, Any], file: str | Path, algorithms: Algorithms) -> Config:
    """Check a parsed configuration.

    Parameters
    ----------
    tree
        Its tables.
    file
        Where it came from: errors name it, and paths are relative to its folder.
    algorithms
        See `load_config`.
    """
    tree = with_learners_resolved(tree, file)
    try:
        config = Config.model_validate(tree, context=algorithms)
    except ValidationError as error:
        raise _first_error(error, file, tree, algorithms) from error
    config._file = str(file)
    conflict = config.conflicts()
    if conflict is not None:
        key, fact, value, hint = conflict
        raise ConfigError(file, key, fact, value, hint)
    return config


def _first_error(
    error: ValidationError, file: str | Path, tree: dict[str, Any], algorithms: Algorithms
) -> ConfigError:
    # A misspelt key also leaves the right one missing: name the misspelling first.
    details = sorted(error.errors(), key=lambda item: item["type"] != "extra_forbidden")
    detail = details[0]
    key = ".".join(_as_written(detail["loc"]))
    value = detail["input"] if not isinstance(detail["input"], dict) else None
    kind = detail["type"]
    if kind == "extra_forbidden":
        hint = name_hint(str(detail["loc"][-1]), _allowed_keys(detail["loc"], tree, algorithms))
        return ConfigError(file, key, "unknown key", value, hint)
    if kind == "missing":
        return ConfigError(file, key, "is missing", hint="add this key")
    fact, _, hint = detail["msg"].removeprefix("Value error, ").partition("; ")
    hint = hint or _RANGES.get(kind, "")
    hidden = detail["loc"][:2] in (("kafka", "properties"), ("state", "key"))
    if hidden or detail["loc"][-1] in _HIDDEN:
        value = None  # it may be secret
    if kind == "less_than_equal":
        rate = detail["loc"][0] == "sampling"
        hint = "use a rate in (0, 1]" if rate else f"use at most {detail['ctx']['le']}"
    if kind == "greater_than" and detail["ctx"]["gt"] != 0:
        hint = f"use a value above {detail['ctx']['gt']}"
    if kind == "tuple_type":
        fact = "expected a list"
    return ConfigError(file, key, fact[0].lower() + fact[1:], value, hint)


_HIDDEN = ("password", "secret", "hash_key")
"""Keys whose values are never shown."""

_RANGES = {
    "greater_than": "use a value above 0, for a rate at most 1",
    "greater_than_equal": "use a greater value",
    "literal_error": "use one of these values",
    "tuple_type": 'write such as ["a", "b"]',
}


def _as_written(location: tuple[int | str, ...]) -> list[str]:
    """Return the keys of the file that lead to a place in the models."""
    parts = [str(part) for part in location]
    at = _gathered(location)
    # Parameters stand beside the other keys of a learner, properties beside those of [kafka],
    # and an error in a table's name ends in `[key]`.
    return [part for i, part in enumerate(parts) if i != at and part != "[key]"]


def _gathered(location: tuple[int | str, ...]) -> int | None:
    """Return the index of the key that only the models have, None if there is none.

    Of a learner that is ``parameters``, of ``kafka`` it is ``properties``.
    """
    if location[:2] in (("learner", "parameters"), ("kafka", "properties")):
        return 1
    return 2 if location[:1] == ("learners",) and location[2:3] == ("parameters",) else None


def _allowed_keys(
    location: tuple[int | str, ...], tree: dict[str, Any], algorithms: Algorithms
) -> list[str]:
    """List the keys of the model that holds `location`, walking annotations by name."""
    at = _gathered(location)
    if at is not None:
        table: Any = tree
        for part in location[:at]:
            table = table[part]
        algorithm = table.get("algorithm", LearnerConfig.model_fields["algorithm"].default)
        return [*LearnerConfig.common(), *algorithms[algorithm].model_fields]
    model: type[BaseModel] = Config
    for part in location[:-1]:
        field = model.model_fields.get(str(part))
        if field is None:
            continue  # the name of an action stream, or an index
        nested = _model_in(field.annotation)
        if nested is None:
            return []
        model = nested
    return [field.alias or name for name, field in model.model_fields.items()]


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        found = _model_in(argument)
        if found is not None:
            return found
    return None
