"""Reading secrets from where a configuration says that they are."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from headrace.schemas.config.secrets import Secret
from headrace.schemas.errors import ConfigError


def read_secret(
    key: str, secret: Secret, file: str, environment: Mapping[str, str] = os.environ
) -> str:
    """Return a secret.

    Parameters
    ----------
    key
        The key of the configuration, for errors.
    secret
        Where it is.
    file
        The configuration file: paths are relative to its folder, errors name it.
    environment
        The variables that it may name.

    Returns
    -------
    str
        Of a file all but the last line ends.

    Raises
    ------
    ConfigError
        If it is not there; names the variable or the file.
    """
    if secret.env is not None:
        if secret.env not in environment:
            fact = f"the environment has no variable {secret.env}"
            raise ConfigError(file, key, fact, hint="set it")
        return environment[secret.env]
    path = Path(file).parent / (secret.file or "")
    try:
        return path.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "is not UTF-8 text"
        fact = f"the file {secret.file} cannot be read ({why})"
        hint = f"paths are relative to {path.parent.resolve()}"
        raise ConfigError(file, key, fact, hint=hint) from error
