"""How far the outputs of a run are complete, from what was released and what was written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from headrace.schemas.records.events import NEVER

Part = tuple[str, int]
"""The rows of an epoch in an output: its name, and where the epoch begins, microseconds."""


@dataclass(frozen=True)
class Released:
    """What the training step has released at once.

    Parameters
    ----------
    since, until
        All rows emitted in ``[since, until)``, microseconds.
    parts
        Where they go: one file each.
    """

    since: int
    until: int
    parts: list[Part]


class Marks:
    """Tells up to where everything that was released is written; both come in any order.

    Attributes
    ----------
    until
        All rows emitted before this are written, microseconds.
    """

    def __init__(self) -> None:
        self.until = NEVER
        self.released: dict[int, Released] = {}
        self.written: set[Part] = set()

    def wrote(self, part: Part) -> None:
        """Note that a file is written."""
        self.written.add(part)
        self._advance()

    def release(self, released: Released) -> None:
        """Note that files will be written, or have been."""
        self.released[released.since] = released
        self._advance()

    def _advance(self) -> None:
        while (due := self.released.get(self.until)) and self.written.issuperset(due.parts):
            del self.released[self.until]
            self.written.difference_update(due.parts)
            self.until = due.until

    def export(self) -> dict[str, Any]:
        """Return the state as JSON types."""
        return {
            "until": self.until,
            "released": [[of.since, of.until, of.parts] for of in self.released.values()],
            "written": sorted(self.written),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Replace the state by what `export` returned."""
        self.until = state["until"]
        self.written = {(output, time) for output, time in state["written"]}
        self.released = {
            since: Released(since, until, [(output, time) for output, time in parts])
            for since, until, parts in state["released"]
        }
