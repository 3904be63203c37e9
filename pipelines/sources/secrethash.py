"""Hashes with a secret: where it is read, and how workers know that they have the same."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from headrace.pipelines.run.secrets import read_secret
from headrace.schemas.config.models import Config
from headrace.schemas.config.secrets import Secret
from headrace.schemas.errors import ConfigError
from headrace.schemas.records.hashing import Hash, Kind, Offsets, UInt8s, UInt64s
from headrace.schemas.records.keyed import PUBLIC, KeyedHash

JOIN_SECRET, HASH_KEY = "join.secret", "features.hash_key"
PUBLIC_KEYS = (
    "join.secret is not set: who writes events can find keys that join those of others; "
    "docs/security.md says what else"
)
"""For the user of a run whose logs come from elsewhere, if `JoinSecret.is_public`."""
_SHORTEST = 16


class SecretHash:
    """A `KeyedHash` whose secret stays where it is.

    Sent to another process it is the place of the secret and a mark: the process reads the
    secret itself, and finds that it is the same.

    Parameters
    ----------
    key
        The key of the configuration, for errors.
    place
        Where the secret is.
    file
        The configuration file: paths are relative to its folder, errors name it.
    environment
        The variables that it may name.

    Raises
    ------
    ConfigError
        If the secret is not there, or is too short.
    """

    def __init__(
        self, key: str, place: Secret, file: str, environment: Mapping[str, str] = os.environ
    ) -> None:
        self.key, self.place, self.file = key, place, file
        text = read_secret(key, place, file, environment)
        if len(text) < _SHORTEST:
            fact = f"is shorter than {_SHORTEST} characters"
            raise ConfigError(file, key, fact, hint="make one with: openssl rand -hex 32")
        self._hash = KeyedHash(text.encode())

    @property
    def mark(self) -> str:
        """Says whether two secrets are the same, and nothing else of them."""
        return self._hash.mark

    def of_bytes(
        self, kind: Kind, data: UInt8s, offsets: Offsets, out1: UInt64s, out2: UInt64s
    ) -> None:
        """Hash the bytes between neighbouring offsets, as `Hash` says."""
        self._hash.of_bytes(kind, data, offsets, out1, out2)

    def of_words(self, kind: Kind, words: UInt64s, out1: UInt64s, out2: UInt64s) -> None:
        """Hash words of 8 bytes, as `Hash` says."""
        self._hash.of_words(kind, words, out1, out2)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.key!r}, {self.place!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SecretHash) and other.mark == self.mark

    def __hash__(self) -> int:
        return hash(self.mark)

    def __reduce__(self) -> Any:
        return _reopened, (self.key, self.place, self.file, self.mark)


def _reopened(key: str, place: Secret, file: str, mark: str) -> SecretHash:
    """Read the secret in another process.

    Raises
    ------
    ConfigError
        If it is another one there.
    """
    found = SecretHash(key, place, file)
    if found.mark != mark:
        fact = "is another one on this worker than where the job was started"
        raise ConfigError(file, key, fact, hint="give every worker the same secret")
    return found


@dataclass(frozen=True)
class JoinSecret:
    """The hash of join keys that a configuration asks for.

    Parameters
    ----------
    own
        The hash with a secret; None if there is none, and it is that which everybody knows.
    """

    own: SecretHash | None = None

    @classmethod
    def of(cls, config: Config) -> JoinSecret:
        """Return that of a configuration.

        Raises
        ------
        ConfigError
            If the secret is not there, or is too short.
        """
        place = config.join.secret
        return cls(None if place is None else SecretHash(JOIN_SECRET, place, config.file))

    @property
    def by(self) -> Hash:
        """The hash."""
        return PUBLIC if self.own is None else self.own

    @property
    def is_public(self) -> bool:
        """Whether everybody can compute the hash."""
        return self.own is None

    @property
    def mark(self) -> str:
        """Says whether two secrets are the same, and nothing else of them."""
        return self.by.mark
