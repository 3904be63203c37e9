"""Signatures of what is written as JSON: who has the key has written it."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable
from typing import Any

Sign = Callable[[str], str]
"""Returns the signature of a text."""


class SignatureError(ValueError):
    """A text that is not signed as it must be; `hint` says what to do about the key."""

    def __init__(self, fact: str, hint: str) -> None:
        self.hint = hint
        super().__init__(fact)


class Signer:
    """Signs texts by HMAC-SHA256 [1]_. It is in no repr.

    Parameters
    ----------
    key
        The secret, of at least 16 bytes.

    References
    ----------
    .. [1] Krawczyk, Bellare, Canetti, HMAC: keyed-hashing for message authentication, RFC 2104.

    Examples
    --------
    >>> Signer(b"sixteen bytes at least")('{"a":1}')[:16]
    '97790d03693cdbb2'
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    def __call__(self, text: str) -> str:
        """Return the signature of a text, 64 hexadecimal digits."""
        return hmac.new(self._key, b"headrace state\n" + text.encode(), hashlib.sha256).hexdigest()


def canonical(content: Any) -> str:
    """Return JSON as a text that does not depend on how it is formatted."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def check_signature(signature: Any, text: str, sign: Sign) -> None:
    """Compare a signature with that of a text.

    Raises
    ------
    SignatureError
        If it is missing, or another.
    """
    if not isinstance(signature, str):
        hint = "unset state.key if you trust whoever wrote it"
        raise SignatureError("it is not signed, and state.key is set", hint)
    if not hmac.compare_digest(signature.encode("utf-8", "replace"), sign(text).encode()):
        hint = "set state.key as it was when it was written"
        raise SignatureError("it is signed with another key", hint)
