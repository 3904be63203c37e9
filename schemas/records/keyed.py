"""The hash of join keys, groups and action ids, under a key of its own.

Who writes events chooses their keys. With a hash that anybody can compute, two keys of one digest
can be found, and then a click of one site belongs to the impression of another; or many keys that
fill one place of a table; or keys of which the sampling keeps all. Without the secret from which
the hash is made none of this can be found other than by trying, against the join itself.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from headrace.schemas.records.hashing import Kind, Offsets, UInt8s, UInt64s
from headrace.schemas.records.siphash import sip_bytes, sip_words

PUBLIC_SECRET = b"headrace: a secret that everybody knows"
"""What stands for a secret where none is set: joins are the same on every machine, and keys can be
forged by whoever tries."""


class KeyedHash:
    """SipHash-1-3 with 128 bits [1]_, for each kind of value under a key of its own.

    The keys are BLAKE2b [2]_ of the kind, keyed with BLAKE2b of the secret.

    Parameters
    ----------
    secret
        Any bytes. They cannot be had back from this object, but their hashes can be computed with
        it: it is in no pickle and no repr.

    Attributes
    ----------
    mark
        Says whether two hashes are of one secret, and nothing else of it: 32 hexadecimal digits.

    References
    ----------
    .. [1] See `headrace.schemas.records.siphash`.
    .. [2] RFC 7693.

    Examples
    --------
    >>> KeyedHash(b"one").mark == KeyedHash(b"another").mark
    False
    """

    def __init__(self, secret: bytes) -> None:
        root = hashlib.blake2b(secret, digest_size=32, person=b"headrace secret").digest()

        def derived(name: str) -> bytes:
            return hashlib.blake2b(name.encode(), key=root, digest_size=16).digest()

        self._keys = {kind: np.frombuffer(derived(kind.name), "<u8") for kind in Kind}
        self.mark = derived("mark").hex()

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    def __reduce__(self) -> Any:
        raise TypeError("the hash of a secret is not sent to other processes; let them read it")

    def of_bytes(
        self, kind: Kind, data: UInt8s, offsets: Offsets, out1: UInt64s, out2: UInt64s
    ) -> None:
        """Hash the bytes between neighbouring offsets, as `Hash` says."""
        sip_bytes(data, offsets, *self._keys[kind], out1, out2)

    def of_words(self, kind: Kind, words: UInt64s, out1: UInt64s, out2: UInt64s) -> None:
        """Hash words of 8 bytes, as `Hash` says."""
        sip_words(words, *self._keys[kind], out1, out2)


PUBLIC = KeyedHash(PUBLIC_SECRET)
"""The hash where no secret is set."""
