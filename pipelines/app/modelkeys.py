"""With what key a model must have been signed, as the options of a command say."""

from __future__ import annotations

import argparse

from headrace.pipelines.run.secrets import read_secret
from headrace.schemas.config.secrets import Secret


def given_key(options: argparse.Namespace) -> str | None:
    """Return the secret that ``--key-env`` or ``--key-file`` names, None without one.

    Raises
    ------
    ConfigError
        If it is not there.
    """
    for name, place in (("env", options.key_env), ("file", options.key_file)):
        if place is not None:
            return read_secret(f"--key-{name}", Secret(**{name: place}), "command line")
    return None
