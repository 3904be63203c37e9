"""Rings of cells over event time, and for how long each ring keeps what it holds.

A ring has a few cells; what is appended goes to the cell of its latest event
time, and a cell is cleared once all of it has expired.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from headrace.joiner.journal.cells import Cells
from headrace.joiner.plan.plans import JoinPlan
from headrace.schemas.records.events import NEVER
from headrace.schemas.records.restored import Moment, Text, checked, expect

CELLS = 6
"""Cells of a ring."""
RINGS = (
    "impressions", "segments", "keys", "retained", "actions", "held", "known", "scheduled"
)  # fmt: skip
AHEAD = "ahead"
"""One cell, in no ring: envelopes that came ahead of their turn."""


def is_cell(ring: str, cell: int) -> bool:
    """Return whether the journal of a shard has such a cell."""
    return (ring in RINGS and 0 <= cell < CELLS) or (ring, cell) == (AHEAD, 0)


class Lifetime(NamedTuple):
    """Which event times a ring holds when the clock is at ``c``: ``(c - until, c - since]``.

    Parameters
    ----------
    until
        How long after its event time a thing is of use, microseconds.
    since
        How long after its event time it comes into the ring. A source may be ahead of
        the clock: some come before 0.
    """

    until: int
    since: int = 0


def lifetimes(plan: JoinPlan) -> dict[str, Lifetime]:
    """Return for how long each ring keeps what it holds, by its name."""
    settle = plan.settle_delay
    found = {
        "impressions": Lifetime(settle),
        "segments": Lifetime(settle),
        "keys": Lifetime(plan.remembered_for, settle),
        "retained": Lifetime(plan.retained_for, settle),
        "actions": Lifetime(plan.asked_for),
        "held": Lifetime(plan.held_for, settle),
        "known": Lifetime(plan.remembered_for),
        # Its event time is that of the emission, which is yet to come.
        "scheduled": Lifetime(1, 1 - settle),
    }
    return {name: found[name] for name in RINGS}


class Ring:
    """Which cell holds what event times; the bookkeeping of one ring.

    Parameters
    ----------
    name
        One of `RINGS`.
    lifetime
        How long something stays in the ring.
    """

    def __init__(self, name: str, lifetime: Lifetime) -> None:
        self.name = name
        self.lifetime = lifetime
        # Two cells more than the span needs: one being filled, one being emptied.
        self.width = max(1, -(-(lifetime.until - lifetime.since) // (CELLS - 2)))
        self.latest = [NEVER] * CELLS
        """Latest event time in each cell, `NEVER` for an empty one."""

    def cell(self, time: int) -> int:
        """Return the cell for what is of use until `time` has expired."""
        return (time // self.width) % CELLS

    def append(self, cells: Cells, time: int, data: bytes) -> None:
        """Append what is of use until `time` has expired."""
        cell = self.cell(time)
        self.latest[cell] = max(self.latest[cell], time)
        cells.append(self.name, cell, data)

    def expire(self, cells: Cells, clock: int) -> None:
        """Clear the cells in which everything has expired."""
        bound = clock - self.lifetime.until
        for cell, latest in enumerate(self.latest):
            if NEVER < latest <= bound:
                cells.clear(self.name, cell)
                self.latest[cell] = NEVER

    def read(self, cells: Cells) -> Iterable[bytes]:
        """Read everything in the ring."""
        for cell, latest in enumerate(self.latest):
            if latest > NEVER:
                yield from cells.read(self.name, cell)


class Rings:
    """The rings of a shard by name: what its journal remembers of itself.

    Parameters
    ----------
    plan
        The join.
    """

    def __init__(self, plan: JoinPlan) -> None:
        self._rings = {name: Ring(name, life) for name, life in lifetimes(plan).items()}

    def __getitem__(self, name: str) -> Ring:
        return self._rings[name]

    def expire(self, cells: Cells, clock: int) -> None:
        """Clear the cells of all rings in which everything has expired."""
        for ring in self._rings.values():
            ring.expire(cells, clock)

    def describe(self) -> dict[str, list[int]]:
        """Return the latest event time in each cell, as JSON types."""
        return {name: ring.latest for name, ring in self._rings.items()}

    def restore(self, described: dict[str, list[int]]) -> None:
        """Take over what `describe` returned.

        Raises
        ------
        DamagedError
            If it is not that of rings.
        """
        checked(dict[Text, list[Moment]], described, "rings")
        expect(described.keys() == self._rings.keys(), "rings", "are others than those of a join")
        for name, ring in self._rings.items():
            expect(len(described[name]) == CELLS, "rings", f"{name} must have {CELLS} cells")
            ring.latest = list(described[name])
