"""The table ``[outputs]``: for whom files are, and to which topics a live run writes its rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict

from headrace.schemas.config.kafka import topic_name

if TYPE_CHECKING:
    from headrace.schemas.config.models import Config

_STRICT = ConfigDict(extra="forbid", frozen=True)


Mode = Literal["private", "group", "umask"]
"""For whom files are: the user alone, or the group too to read, or as the process's umask says."""


class TopicConfig(BaseModel):
    """A topic, and how rows are written to it."""

    model_config = _STRICT

    topic: Annotated[str, AfterValidator(topic_name)]
    format: Literal["json", "arrow"] = "json"


def _topic(value: object) -> object:
    if isinstance(value, str):
        return {"topic": value}
    if not isinstance(value, dict | TopicConfig):
        raise ValueError('is no topic; write its name, or { topic = "NAME", format = "arrow" }')
    return value


Topic = Annotated[TopicConfig, BeforeValidator(_topic)]


class OutputsConfig(BaseModel):
    """For whom files are; the topic of each output that goes to one, or its name alone."""

    model_config = _STRICT

    mode: Mode = "private"

    samples: Topic | None = None
    corrections: Topic | None = None
    dead_letters: Topic | None = None
    joined: dict[str, Topic] = {}

    @property
    def topics(self) -> dict[str, TopicConfig]:
        """The topics by the names of their outputs, such as ``joined/click``."""
        topics = {name: getattr(self, name) for name in ("samples", "corrections", "dead_letters")}
        topics |= {f"joined/{name}": topic for name, topic in self.joined.items()}
        return {name: topic for name, topic in topics.items() if topic is not None}


Conflict = tuple[str, str, object, str]
"""Key, fact, value, hint."""


def conflicts_of_outputs(config: Config) -> Iterator[Conflict]:
    """Find contradictions between ``[outputs]`` and the rest of a configuration."""
    outputs = config.outputs
    if outputs.corrections is not None and not config.join.retention:
        fact, hint = "has no rows without join.retention", "set it, or leave this out"
        yield "outputs.corrections", fact, outputs.corrections.topic, hint
    for name, topic in outputs.joined.items():
        if name not in config.actions:
            hint = f"use one of {', '.join(sorted(config.actions))}" if config.actions else ""
            yield f"outputs.joined.{name}", "is no action stream", None, hint or "add [actions]"
        elif not config.join.joined:
            fact = "has no rows without join.joined"
            yield f"outputs.joined.{name}", fact, topic.topic, "set join.joined = true"
    yield from _shared(outputs.topics, config.topics)


def _shared(outputs: Mapping[str, TopicConfig], inputs: Mapping[str, str]) -> Iterator[Conflict]:
    known = {topic: f"{name}.topic" for name, topic in inputs.items()}
    for name, output in outputs.items():
        key = f"outputs.{name.replace('/', '.')}"
        other = known.setdefault(output.topic, key)
        if other != key:
            yield key, f"is the topic of {other} too", output.topic, "give each its own"
