"""The secret of a join: where it is read, and how workers know that they have the same."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from headrace.pipelines.run.secrets import read_secret
from headrace.schemas.config.secrets import Secret
from headrace.schemas.errors import ConfigError
from headrace.schemas.records.keyed import PUBLIC, KeyedHash

KEY = "join.secret"
_SHORTEST = 16
PUBLIC_KEYS = (
    "join.secret is not set: who writes events can find keys that join those of others; "
    "docs/security.md says what else"
)
"""For the user of a run whose logs come from elsewhere, if `JoinSecret.is_public`."""


class JoinSecret:
    """The hash of join keys that a configuration asks for.

    Sent to another process it is the place of the secret and a mark: the process reads the
    secret itself, and finds that it is the same.

    Parameters
    ----------
    place
        Where the secret is; None if there is none, and the hash is that which everybody knows.
    file
        The configuration file: paths are relative to its folder, errors name it.
    environment
        The variables that it may name.

    Attributes
    ----------
    by
        The hash.

    Raises
    ------
    ConfigError
        If the secret is not there, or is too short.
    """

    def __init__(
        self, place: Secret | None, file: str, environment: Mapping[str, str] = os.environ
    ) -> None:
        self.place, self.file = place, file
        self.by = PUBLIC
        if place is not None:
            text = read_secret(KEY, place, file, environment)
            if len(text) < _SHORTEST:
                fact = f"is shorter than {_SHORTEST} characters"
                hint = "make one with: openssl rand -hex 32"
                raise ConfigError(file, KEY, fact, hint=hint)
            self.by = KeyedHash(text.encode())

    @property
    def is_public(self) -> bool:
        """Whether everybody can compute the hash."""
        return self.by is PUBLIC

    @property
    def mark(self) -> str:
        """Says whether two secrets are the same, and nothing else of them."""
        return self.by.mark

    def __reduce__(self) -> Any:
        return _reopened, (self.place, self.file, self.mark)


def _reopened(place: Secret | None, file: str, mark: str) -> JoinSecret:
    """Read the secret in another process.

    Raises
    ------
    ConfigError
        If it is another one there.
    """
    found = JoinSecret(place, file)
    if found.mark != mark:
        fact = "is another one on this worker than where the job was started"
        raise ConfigError(file, KEY, fact, hint="give every worker the same secret")
    return found
