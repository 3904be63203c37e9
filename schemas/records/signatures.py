"""Signatures of what is written as JSON: who has the key has written it."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable
from typing import Any

Sign = Callable[[str], str]
"""Returns the signature of a text."""


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
    ValueError
        If it is missing, or another.
    """
    if not isinstance(signature, str):
        raise ValueError("it is not signed, and state.key is set")
    if not hmac.compare_digest(signature.encode("utf-8", "replace"), sign(text).encode()):
        raise ValueError("it is signed with another key")
