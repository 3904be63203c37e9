"""The table ``[kafka]``: how brokers are reached, and by which client."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    field_serializer,
    field_validator,
    model_validator,
)

from headrace.schemas.config.secrets import Secret, secret_place

HIDDEN = "(hidden)"
"""In place of a value that may be secret."""

_SHOWN = re.compile(
    r"security\.protocol|sasl\.mechanisms?|client\.(id|rack)|"
    r".*\.(location|verification|algorithm|enable|bytes|kbytes|ms|messages)"
)
"""Names of properties that hold no secret; of all others the values are never shown."""

_OWN = {
    "bootstrap.servers": "write servers",
    "metadata.broker.list": "write servers",
    "group.id": "offsets are kept in checkpoints, not in a group",
    "enable.auto.commit": "offsets are kept in checkpoints, not in a group",
    "enable.auto.offset.store": "offsets are kept in checkpoints, not in a group",
    "auto.offset.reset": "a gap in a log ends the run, it is never skipped",
    "isolation.level": "records of aborted transactions are never read",
    "check.crcs": "checksums are always checked",
    "enable.partition.eof": "the clients need it",
    "transactional.id": "a topic of outputs has one writer, named after it",
    "enable.idempotence": "outputs are written in transactions",
    "acks": "outputs are written in transactions",
    "request.required.acks": "outputs are written in transactions",
    "partitioner": "messages of a key stay in one partition",
}
"""Properties on which exactness depends, and why or where they are set instead."""


# A property may hold a password, which must not show in an error.
_STRICT = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


def topic_name(name: str) -> str:
    """Return a name if topics can have it.

    Raises
    ------
    ValueError
        If not; the text after ``;`` is a hint.
    """
    if not (re.fullmatch(r"[\w.-]{1,249}", name, re.ASCII) and name.strip(".")):
        raise ValueError("is no name of a topic; use letters, digits, . _ and -")
    return name


def _property(value: object) -> object:
    if isinstance(value, dict):
        return secret_place(value)
    if not isinstance(value, Secret | bool | int | float | str):
        raise ValueError("is no text, number or boolean; write it in quotes")
    return value


def _name(name: str) -> str:
    if name in _OWN:
        raise ValueError(f"cannot be set; {_OWN[name]}")
    if "." not in name:
        raise ValueError(
            "is no key of this table; use servers, client, max_batch_mb, readers, registry, or a "
            'property of librdkafka such as "security.protocol"'
        )
    return name


Property = Annotated[Secret | bool | int | float | str, BeforeValidator(_property)]


def _servers(value: object) -> object:
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",")]
    return tuple(value) if isinstance(value, list) else value


def _flat(table: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield properties by their dotted names, whether or not these are in quotes."""
    for name, value in table.items():
        if isinstance(value, dict) and not value.keys() & {"env", "file"}:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


class RegistryConfig(BaseModel):
    """A schema registry, which answers as Confluent's does."""

    model_config = _STRICT

    url: str
    user: str | None = None
    password: Property | None = Field(default=None, repr=False)
    ca: str | None = Field(default=None, min_length=1)

    @field_validator("url")
    @classmethod
    def _of_http(cls, url: str) -> str:
        if re.fullmatch(r"https?://[^\s/@?#]+(/[^\s?#]*)?", url) is None:
            raise ValueError(
                'is no address; write such as "https://registry:8081", user and password beside it'
            )
        return url.rstrip("/")

    @model_validator(mode="after")
    def _both(self) -> RegistryConfig:
        if (self.user is None) != (self.password is None):
            raise ValueError("needs user and password, or none of them")
        return self

    @field_serializer("password", when_used="json")
    def _without_secret(self, password: Property | None) -> str | None:
        return None if password is None else HIDDEN


class KafkaConfig(BaseModel):
    """The brokers, the client, and the client's properties.

    In a file the properties stand beside the other keys, under librdkafka's names. Their
    values may be secret, and so are in no repr and, but for those of harmless names, not in
    the model as JSON.
    """

    model_config = _STRICT

    servers: Annotated[tuple[str, ...], BeforeValidator(_servers)] = Field(min_length=1)
    client: Literal["auto", "librdkafka", "kafka-python", "poll"] = "auto"
    max_batch_mb: int | None = Field(default=None, ge=1, le=1024)
    readers: int = Field(default=1, ge=1, le=1024)
    registry: RegistryConfig | None = None
    properties: dict[Annotated[str, AfterValidator(_name)], Property] = Field(
        default={}, repr=False
    )

    @model_validator(mode="before")
    @classmethod
    def _gathered(cls, table: Any) -> Any:
        """Gather the keys that are not this model's: properties of the client."""
        if not isinstance(table, dict) or "properties" in table:
            return table
        own = {name: table[name] for name in cls.model_fields if name in table}
        others = {name: value for name, value in table.items() if name not in own}
        return {**own, "properties": dict(_flat(others))}

    @field_validator("servers")
    @classmethod
    def _with_ports(cls, servers: tuple[str, ...]) -> tuple[str, ...]:
        for server in servers:
            port = re.fullmatch(r"(?:[\w.-]+|\[[\da-fA-F:.]+\]):(\d{1,5})", server)
            if port is None or not 0 < int(port[1]) < 65536:
                raise ValueError('must be hosts with ports; write such as "broker:9092"')
        return servers

    @field_serializer("properties", when_used="json")
    def _without_secrets(self, properties: dict[str, Property]) -> dict[str, Any]:
        hidden = self.hidden
        return {name: HIDDEN if name in hidden else value for name, value in properties.items()}

    @property
    def hidden(self) -> frozenset[str]:
        """The properties of which the values are never shown."""
        return frozenset(
            name
            for name, value in self.properties.items()
            if isinstance(value, Secret) or not _SHOWN.fullmatch(name)
        )
