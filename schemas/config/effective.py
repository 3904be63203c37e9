"""The configuration as it took effect: with all defaults, durations as text, without secrets."""

from __future__ import annotations

from typing import Any, get_args

from pydantic.fields import FieldInfo

from headrace.schemas.config.durations import format_duration, iso_moment
from headrace.schemas.config.models import Config, Duration, Model, Moment
from headrace.schemas.config.places import OF_FILES, OF_VALUES
from headrace.schemas.errors import without_secrets

_NOTHING: tuple[Any, ...] = (None, [], {})


def effective(config: Config) -> dict[str, Any]:
    """Return a configuration as JSON types, as a file would have it.

    Keys that are not set and have no default are left out, and so what is empty, what
    has no meaning for files or for topics, the table ``live``, which is of runs that do not end,
    and what changes no result: ``replay`` and ``join.shards``. Defaults that depend on other keys
    are resolved.
    """
    tables = _written(config)
    for name in ("live", "replay"):
        del tables[name]
    del tables["join"]["shards"]
    written = (tables["impressions"], *tables.get("actions", {}).values())
    for stream, table in zip(config.streams.values(), written, strict=True):
        for key in OF_VALUES.values() if stream.topic is None else OF_FILES:
            table.pop(key, None)
    resolved = ["wait_for_impression", "dedup_horizon", *(["group_span"] * bool(config.join.group))]
    for name in resolved:
        tables["join"][name] = format_duration(getattr(config, name))
    return tables


def _written(model: Model) -> dict[str, Any]:
    # What a model writes hides secrets; what it has tells which numbers are times.
    plain = model.model_dump(mode="json", by_alias=True)
    found = {}
    for name, field in type(model).model_fields.items():
        key = field.alias or name
        value = _value(getattr(model, name), plain.get(key), _kind(field))
        if isinstance(value, dict) and key not in plain:
            found.update(value)  # a learner's parameters stand beside its other keys
        elif value not in _NOTHING:
            found[key] = value
    return found


def _value(value: Any, plain: Any, kind: Any) -> Any:
    if isinstance(value, Model):
        return _written(value)
    if isinstance(value, dict) and any(isinstance(of, Model) for of in value.values()):
        return {name: _value(of, plain[name], None) for name, of in value.items()}
    if kind is not None and isinstance(value, int):
        return kind(value)
    if kind is not None and isinstance(value, tuple):
        return [kind(of) for of in value]
    return _without_secrets(plain)


def _without_secrets(plain: Any) -> Any:
    if isinstance(plain, str):
        return without_secrets(plain)
    if isinstance(plain, list):
        return [_without_secrets(of) for of in plain]
    if isinstance(plain, dict):
        return {name: _without_secrets(of) for name, of in plain.items() if of not in _NOTHING}
    return plain


def _kind(field: FieldInfo) -> Any:
    """Return how the numbers of a field are written as times; None if they are none."""
    own = {id(of) for of in field.metadata}
    for marker, written in ((Duration, format_duration), (Moment, iso_moment)):
        validator = marker.__metadata__[0]  # type: ignore[attr-defined]
        if id(validator) in own or _has(field.annotation, validator):
            return written
    return None


def _has(annotation: Any, marker: Any) -> bool:
    if any(of is marker for of in getattr(annotation, "__metadata__", ())):
        return True
    return any(_has(of, marker) for of in get_args(annotation))
