"""JSON files with a checksum of their contents, so that damage shows when they are read."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from headrace.pipelines.run.disk import write_text
from headrace.pipelines.run.remote import Address
from headrace.pipelines.run.secrets import read_secret
from headrace.schemas.config.models import Config
from headrace.schemas.config.secrets import Secret
from headrace.schemas.errors import ConfigError
from headrace.schemas.records.signatures import Sign, Signer, canonical, check_signature

_OWN, _HMAC = "sha256", "hmac"
KEY = "state.key"
_SHORTEST = 16


class SigningKey:
    """Signs what a run writes, so that its readers know that one of them has written it.

    Sent to another process it is the place of the secret, which that reads itself.

    Parameters
    ----------
    place
        Where the secret is.
    file
        The configuration file: paths are relative to its folder, errors name it.

    Raises
    ------
    ConfigError
        If the secret is not there, or is too short.
    """

    def __init__(self, place: Secret, file: str) -> None:
        self.place, self.file = place, file
        text = read_secret(KEY, place, file)
        if len(text) < _SHORTEST:
            fact = f"is shorter than {_SHORTEST} characters"
            raise ConfigError(file, KEY, fact, hint="make one with: openssl rand -hex 32")
        self._signer = Signer(text.encode())

    def __call__(self, text: str) -> str:
        """Return the signature of a text."""
        return self._signer(text)

    def __reduce__(self) -> tuple[type[SigningKey], tuple[Secret, str]]:
        return SigningKey, (self.place, self.file)

    @classmethod
    def of(cls, config: Config) -> SigningKey | None:
        """Return that of a configuration, None if it has none."""
        return None if config.state.key is None else cls(config.state.key, config.file)


def write_signed(path: Path, content: dict[str, Any], sign: Sign | None = None) -> None:
    """Write JSON to a file, with the checksum of `content` as one more key, and a signature."""
    write_text(path, signed(content, sign))


def signed(content: dict[str, Any], sign: Sign | None = None) -> str:
    """Return the text that `write_signed` writes."""
    own = {_OWN: _digest(content)}
    if sign is not None:
        own[_HMAC] = sign(_canonical(content))
    return _text({**content, **own})


def read_signed(path: Path | Address, sign: Sign | None = None) -> dict[str, Any]:
    """Return the content that `write_signed` wrote.

    Parameters
    ----------
    path
        The file.
    sign
        What must have signed it; None for nothing, and then a signature is passed over.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is damaged; the message says what is wrong. `SignatureError` if it is not signed as
        it must be.
    """
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ValueError(f"it cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ValueError("it is not JSON") from error
    if not isinstance(content, dict) or _OWN not in content:
        raise ValueError("it has no checksum")
    formatted = text == _text(content)
    signature = content.pop(_HMAC, None)
    if content.pop(_OWN) != _digest(content):
        raise ValueError("its checksum does not match")
    if not formatted:
        raise ValueError("its formatting was changed")
    if sign is not None:
        check_signature(signature, _canonical(content), sign)
    return content


def _text(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=1) + "\n"


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(_canonical(content).encode()).hexdigest()


def _canonical(content: dict[str, Any]) -> str:
    # Once through JSON, which turns numeric keys into text.
    return canonical(json.loads(json.dumps(content)))
