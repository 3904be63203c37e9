"""Reading a configuration file: one clear line for whatever is wrong with it."""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from headrace.schemas.config.models import Config
from headrace.schemas.errors import ConfigError


def load_config(path: str | Path) -> Config:
    """Read and check a TOML configuration.

    Parameters
    ----------
    path
        The file. Paths inside it stay as written; `headrace.pipelines.sources.inputs` resolves
        them relative to this file.

    Raises
    ------
    ConfigError
        For the first thing wrong, with file, key path, value and a hint.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(path, "", f"cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise ConfigError(path, "", "is not UTF-8 text", hint="save it as UTF-8") from error
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(path, "", f"is not valid TOML: {error}") from error
    return parse_config(tree, path)


def parse_config(tree: dict[str, Any], file: str | Path) -> Config:
    """Check a parsed configuration; `file` is only named in errors."""
    try:
        config = Config.model_validate(tree)
    except ValidationError as error:
        raise _first_error(error, file) from error
    conflict = config.conflicts()
    if conflict is not None:
        key, fact, value, hint = conflict
        raise ConfigError(file, key, fact, value, hint)
    return config


def _first_error(error: ValidationError, file: str | Path) -> ConfigError:
    # A misspelt key also leaves the right one missing: name the misspelling first.
    details = sorted(error.errors(), key=lambda item: item["type"] != "extra_forbidden")
    detail = details[0]
    # What is wrong with a table's name has this after it.
    key = ".".join(str(part) for part in detail["loc"] if part != "[key]")
    value = detail["input"] if not isinstance(detail["input"], dict) else None
    kind = detail["type"]
    if kind == "extra_forbidden":
        return ConfigError(file, key, "unknown key", value, _near_misses(detail["loc"]))
    if kind == "missing":
        return ConfigError(file, key, "is missing", hint="add this key")
    fact, _, hint = detail["msg"].removeprefix("Value error, ").partition("; ")
    return ConfigError(file, key, fact[0].lower() + fact[1:], value, hint or _RANGES.get(kind, ""))


_RANGES = {
    "greater_than": "rates lie in (0, 1], other parameters above 0",
    "less_than_equal": "rates lie in (0, 1]",
    "literal_error": "use one of the values named",
}


def _near_misses(location: tuple[int | str, ...]) -> str:
    known = _known_keys(location[:-1])
    near = difflib.get_close_matches(str(location[-1]), known, n=1)
    if near:
        return f"did you mean {near[0]}?"
    return "known here: " + ", ".join(sorted(known)) if known else ""


def _known_keys(location: tuple[int | str, ...]) -> list[str]:
    """List the keys of the model at `location`, walking annotations by name."""
    model: type[BaseModel] = Config
    for part in location:
        field = model.model_fields.get(str(part))
        if field is None:
            continue  # the name of an action stream, or an index
        nested = _model_in(field.annotation)
        if nested is None:
            return []
        model = nested
    return list(model.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        found = _model_in(argument)
        if found is not None:
            return found
    return None
