"""Objects in memory that save rebuilding from durable cells.

An object in memory is trusted only by its token: it is kept under a random token,
the step's `META` cell names the token of the state that was committed, and only
if they are equal does the object belong to the cells. It is taken out when a
bundle first touches it and put back when the bundle finishes, under a new token,
so that neither a failed bundle nor one of two racing attempts can leave a wrong
object behind.
"""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Callable
from typing import Any

from headrace.schemas.errors import RunnerError

META = "meta"
"""The cell that names the token of the committed state."""


class StepStates:
    """The objects of one step of one job, by key, each valid for one token.

    The objects are in the memory of the process under the names of job and step, so that
    every instance of the step finds them, however often the runner makes a new one.
    Pickled, it consists of those names alone.

    Parameters
    ----------
    job, step
        Their names.
    retried
        Whether the runner may run a bundle again, or return to an older state. If not, a key
        that was here before must be here again.
    """

    def __init__(self, job: str, step: str, retried: bool = True) -> None:
        self.scope = (job, step)
        self.retried = retried

    def pop(self, key: int, token: str) -> Any | None:
        """Take out the object of a key; None if there is none, or it has another token.

        Raises
        ------
        RunnerError
            If the runner, which runs no bundle twice, has run two on one state.
        """
        with _LOCK:
            found, value = _STATES.get(self.scope, {}).pop(key, ("", None))
            seen = _SEEN.setdefault(self.scope, set())
            before = key in seen
            seen.add(key)
        if found == token:
            return value
        if before and not self.retried:
            raise RunnerError.lost_state(self.scope[1], key)
        return None

    def put(self, key: int, token: str, value: Any) -> None:
        """Put back the object of a key, valid for this token."""
        with _LOCK:
            _STATES.setdefault(self.scope, {})[key] = (token, value)

    def begin_with(self, key: int, value: Any) -> None:
        """Set the object that is valid before anything was committed for a key."""
        self.put(key, _INITIAL, value)

    def values(self) -> dict[int, Any]:
        """Return all objects by key, without taking them out."""
        with _LOCK:
            return {key: value for key, (_, value) in _STATES.get(self.scope, {}).items()}

    def forget(self) -> None:
        """Drop all objects of the step, for example when its job ends."""
        with _LOCK:
            _STATES.pop(self.scope, None)
            _SEEN.pop(self.scope, None)


_STATES: dict[tuple[str, str], dict[int, tuple[str, Any]]] = {}
_SEEN: dict[tuple[str, str], set[int]] = {}
"""The keys that this process has had."""
_LOCK = threading.Lock()
_INITIAL = "initial"
"""The token that is valid before anything was committed for a key."""


class Bundle:
    """The objects that one bundle works on, between first touch and finish.

    Parameters
    ----------
    states
        The objects of the step.
    """

    def __init__(self, states: StepStates) -> None:
        self.states = states
        self.live: dict[int, tuple[str, Any]] = {}

    def touch(
        self,
        key: int,
        read_meta: Callable[[], bytes | None],
        rebuild: Callable[[dict[str, Any]], Any],
    ) -> Any:
        """Return the object of a key, from this bundle, from memory, or from `rebuild`.

        Parameters
        ----------
        key
            The key of the state.
        read_meta
            Reads the `META` cell, None if nothing was committed; called only at the first
            touch.
        rebuild
            Makes the object from the contents of the `META` cell, empty if nothing was
            committed, and from the other cells.
        """
        if key in self.live:
            return self.live[key][1]
        data = read_meta()
        meta = json.loads(data) if data is not None else {}
        value = self.states.pop(key, meta.get("token", _INITIAL))
        if value is None:
            value = rebuild(meta)
        self.live[key] = (secrets.token_hex(16), value)
        return value

    def sealed(self, key: int, meta: dict[str, Any]) -> bytes:
        """Return new contents of the `META` cell: `meta` with the bundle's token."""
        return json.dumps({**meta, "token": self.live[key][0]}, separators=(",", ":")).encode()

    def finish(self) -> None:
        """Put all objects back, under the bundle's tokens."""
        for key, (token, value) in self.live.items():
            self.states.put(key, token, value)
        self.live = {}
