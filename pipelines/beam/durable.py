"""Durable cells on Beam state, and the cache that spares rebuilding from them.

What is in memory is worth only as much as its token: the cache holds an object
under a random token, the step's ``meta`` cell names the token of the state that
was committed, and only if they are equal is the object the one that belongs to
the cells. It is taken out when a bundle first touches it and put back when the
bundle finishes, under a new token, so that neither a failed bundle nor one of
two racing attempts can leave a wrong object behind.
"""

from __future__ import annotations

import inspect
import json
import secrets
import threading
from collections.abc import Callable, Iterable
from typing import Any

import apache_beam as beam
from apache_beam.coders import BytesCoder
from apache_beam.transforms.userstate import BagStateSpec, ReadModifyWriteStateSpec

from headrace.joiner.journal.rings import AHEAD, CELLS, RINGS

META = "meta"
BAG_NAMES = (*(f"{ring}_{cell}" for ring in RINGS for cell in range(CELLS)), f"{AHEAD}_0")


def with_cells(*bags: str) -> Callable[[Any], Any]:
    """Declare a stateful ``process(self, element, *cells)``: `META` first, then `bags`.

    Beam finds state by the defaults of named parameters; this writes the
    signature, so that a ring of cells need not be spelt out.
    """

    def decorate(process: Any) -> Any:
        keyword = inspect.Parameter.POSITIONAL_OR_KEYWORD
        specs = [ReadModifyWriteStateSpec(META, BytesCoder())]
        specs += [BagStateSpec(name, BytesCoder()) for name in bags]
        process.__signature__ = inspect.Signature(
            [
                inspect.Parameter("self", keyword),
                inspect.Parameter("element", keyword),
                *(
                    inspect.Parameter(spec.name, keyword, default=beam.DoFn.StateParam(spec))
                    for spec in specs
                ),
            ]
        )
        return process

    return decorate


class BeamCells:
    """The cells of a journal (`headrace.joiner.journal.cells`) on Beam's bags.

    Parameters
    ----------
    bags
        The bags in the order of `BAG_NAMES`.
    """

    durable = True
    compressed = True

    def __init__(self, bags: Iterable[Any]) -> None:
        self.bags = dict(zip(BAG_NAMES, bags, strict=True))

    def append(self, ring: str, cell: int, data: bytes) -> None:
        """Add `data` to a cell."""
        self.bags[f"{ring}_{cell}"].add(data)

    def read(self, ring: str, cell: int) -> Iterable[bytes]:
        """Return the contents of a cell."""
        return self.bags[f"{ring}_{cell}"].read()

    def clear(self, ring: str, cell: int) -> None:
        """Empty a cell."""
        self.bags[f"{ring}_{cell}"].clear()


class TokenCache:
    """Objects of a process by (scope, key), each valid for one token.

    One under the token `INITIAL` is what a key's state begins with.
    """

    def __init__(self) -> None:
        self._entries: dict[tuple[str, int], tuple[str, Any]] = {}
        self._lock = threading.Lock()

    def pop(self, scope: str, key: int, token: str) -> Any | None:
        """Take the object out; None if there is none, or it is of another token."""
        with self._lock:
            found, value = self._entries.pop((scope, key), ("", None))
        return value if found == token else None

    def put(self, scope: str, key: int, token: str, value: Any) -> None:
        """Put an object back."""
        with self._lock:
            self._entries[scope, key] = (token, value)

    def values(self, scope: str) -> dict[int, Any]:
        """Return the objects of a scope by key, without taking them out."""
        with self._lock:
            return {
                key: value for (name, key), (_, value) in self._entries.items() if name == scope
            }

    def forget(self, scope: str) -> None:
        """Drop everything of a scope."""
        with self._lock:
            for name in [name for name in self._entries if name[0] == scope]:
                del self._entries[name]


INITIAL = "initial"
CACHE = TokenCache()


class Bundle:
    """The objects that one bundle works on, between first touch and finish.

    Parameters
    ----------
    scope
        Names the job and step; the cache is shared by the process.
    """

    def __init__(self, scope: str) -> None:
        self.scope = scope
        self.live: dict[int, tuple[str, Any]] = {}

    def touch(
        self,
        key: int,
        read_meta: Callable[[], bytes | None],
        rebuild: Callable[[dict[str, Any]], Any],
    ) -> Any:
        """Return the object of a key, from this bundle, the cache, or `rebuild`.

        Parameters
        ----------
        key
            The key of the state.
        read_meta
            Reads the `META` cell, None where nothing was committed; called at the
            first touch alone.
        rebuild
            Makes the object from the rest of ``meta`` (empty if None) and the cells.
        """
        if key in self.live:
            return self.live[key][1]
        meta = read_meta()
        known = json.loads(meta) if meta is not None else {}
        value = CACHE.pop(self.scope, key, known.get("token", INITIAL))
        if value is None:
            value = rebuild(known)
        self.live[key] = (secrets.token_hex(16), value)
        return value

    def sealed(self, key: int, meta: dict[str, Any]) -> bytes:
        """Return the `META` cell's new contents: `meta` under the bundle's token."""
        return json.dumps({**meta, "token": self.live[key][0]}, separators=(",", ":")).encode()

    def finish(self) -> None:
        """Hand the objects back to the cache."""
        for key, (token, value) in self.live.items():
            CACHE.put(self.scope, key, token, value)
        self.live = {}
