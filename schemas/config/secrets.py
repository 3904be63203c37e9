"""Values that are not in a configuration: it says where they are."""

from __future__ import annotations

from typing import Annotated

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_serializer,
    model_validator,
)

_HINT = 'write { env = "NAME" } or { file = "PATH" }'


class Secret(BaseModel):
    """A value that is not in the file: in a variable of the environment, or a file of its own."""

    # What is given may be the value itself, which must not show in an error.
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    env: str | None = Field(default=None, min_length=1)
    file: str | None = Field(default=None, min_length=1)

    @model_validator(mode="after")
    def _one_place(self) -> Secret:
        if (self.env is None) == (self.file is None):
            raise ValueError(f"give one of them; {_HINT}")
        return self

    @model_serializer
    def _as_written(self) -> dict[str, str | None]:
        return {"env": self.env} if self.file is None else {"file": self.file}


def secret_place(value: object) -> Secret:
    """Return where a secret is, from its table.

    Raises
    ------
    ValueError
        If it is no such table; says nothing of what it is, since that may be the secret.
    """
    if isinstance(value, Secret):
        return value
    if not isinstance(value, dict):
        raise ValueError(f"must not be in the configuration, which is copied to results; {_HINT}")
    try:
        return Secret(**value)
    except ValidationError as error:
        raise ValueError(f"is no value; {_HINT}") from error


SecretPlace = Annotated[Secret, BeforeValidator(secret_place)]
"""Of a key whose value may only be elsewhere."""
