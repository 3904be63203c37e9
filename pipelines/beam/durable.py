"""Durable cells on Beam state, and the memory that spares rebuilding from them.

What is in memory is worth only as much as its token: an object is held
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


class StepStates:
    """The objects of one step of one job, by key, each valid for one token.

    They lie in the memory of the process under the names of job and step, so that
    every instance of the step finds them, however often the runner makes a new one.
    Pickled, it is nothing but those names.

    Parameters
    ----------
    job, step
        The names.
    """

    def __init__(self, job: str, step: str) -> None:
        self.scope = (job, step)

    def pop(self, key: int, token: str) -> Any | None:
        """Take the object of a key out; None if there is none, or it is of another token."""
        with _LOCK:
            found, value = _STATES.get(self.scope, {}).pop(key, ("", None))
        return value if found == token else None

    def put(self, key: int, token: str, value: Any) -> None:
        """Put an object back."""
        with _LOCK:
            _STATES.setdefault(self.scope, {})[key] = (token, value)

    def begin_with(self, key: int, value: Any) -> None:
        """Give a key the object that its state begins with."""
        self.put(key, _INITIAL, value)

    def values(self) -> dict[int, Any]:
        """Return the objects by key, without taking them out."""
        with _LOCK:
            return {key: value for key, (_, value) in _STATES.get(self.scope, {}).items()}

    def forget(self) -> None:
        """Drop all objects."""
        with _LOCK:
            _STATES.pop(self.scope, None)


_STATES: dict[tuple[str, str], dict[int, tuple[str, Any]]] = {}
_LOCK = threading.Lock()
_INITIAL = "initial"
"""The token of what a key's state begins with."""


class Bundle:
    """The objects that one bundle works on, between first touch and finish.

    Parameters
    ----------
    states
        Those of the step.
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
            Reads the `META` cell, None where nothing was committed; called at the
            first touch alone.
        rebuild
            Makes the object from the rest of ``meta`` (empty if None) and the cells.
        """
        if key in self.live:
            return self.live[key][1]
        meta = read_meta()
        known = json.loads(meta) if meta is not None else {}
        value = self.states.pop(key, known.get("token", _INITIAL))
        if value is None:
            value = rebuild(known)
        self.live[key] = (secrets.token_hex(16), value)
        return value

    def sealed(self, key: int, meta: dict[str, Any]) -> bytes:
        """Return the `META` cell's new contents: `meta` under the bundle's token."""
        return json.dumps({**meta, "token": self.live[key][0]}, separators=(",", ":")).encode()

    def finish(self) -> None:
        """Hand the objects back."""
        for key, (token, value) in self.live.items():
            self.states.put(key, token, value)
        self.live = {}
