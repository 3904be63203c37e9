"""The latest counts of every shard, and their totals."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from headrace.schemas.records.envelope import SampleEnvelope
from headrace.schemas.records.restored import (
    Count,
    Int,
    Moment,
    Text,
    checked,
    expect,
    written,
)


@written
class _Written:
    samples: Count
    published: Count
    positions: list[tuple[Count, Count]]
    outcomes: list[dict[Text, dict[Text, Int]]]
    dropped: list[Count]
    spans: list[list[tuple[Moment, Moment]]]
    looked_up: list[dict[Text, Count]]
    ends: list[Moment]


@dataclass(frozen=True)
class Totals:
    """The counts of all shards together.

    Parameters
    ----------
    samples
        Samples that were put in order.
    positions
        Per source, records read and records rejected.
    outcomes
        Records by stream and outcome, without rejected ones.
    dropped
        Negatives that sampling dropped.
    spans
        Per stream the least and greatest event time, microseconds.
    looked_up
        Impressions found for joined actions, by where they were.
    ends
        Per source its last progress.
    """

    samples: int
    positions: list[list[int]]
    outcomes: dict[str, dict[str, int]]
    dropped: int
    spans: list[tuple[int, int]]
    looked_up: dict[str, int]
    ends: list[int]


class Ledger:
    """Keeps the latest counts of every shard; each covers the shard's part of the log so far.

    Parameters
    ----------
    shards
        How many shards there are.
    """

    def __init__(self, shards: int) -> None:
        self.samples = self.published = 0
        """Samples put in order, and of these what the published models have learned."""
        self.positions: list[list[int]] = []
        self.outcomes: list[dict[str, dict[str, int]]] = [{} for _ in range(shards)]
        self.dropped = [0] * shards
        self.spans: list[list[list[int]]] = [[] for _ in range(shards)]
        self.looked_up: list[dict[str, int]] = [{} for _ in range(shards)]
        self.ends: list[int] = []
        self._copies: list[list[Any]] = []

    def note(self, envelope: SampleEnvelope) -> None:
        """Record the counts of an envelope, which must be the latest of its shard."""
        # Every shard reads all sources, and none is behind its own clock.
        self.positions = envelope.positions
        self.outcomes[envelope.shard] = envelope.outcomes
        self.dropped[envelope.shard] = envelope.dropped
        self.spans[envelope.shard] = envelope.spans
        self.looked_up[envelope.shard] = envelope.looked_up
        # All shards send the same.
        self.ends = envelope.ends or self.ends
        self._copies += envelope.copies

    def take_copies(self) -> list[list[Any]]:
        """Take out the duplicates of actions noted since the last call: stream, hour, how many."""
        taken, self._copies = self._copies, []
        return taken

    def tally(self) -> dict[str, dict[str, int]]:
        """Return the records by stream and outcome so far, without rejected ones."""
        outcomes: dict[str, dict[str, int]] = {}
        for of_shard in self.outcomes:
            for stream, counts in of_shard.items():
                total = outcomes.setdefault(stream, {})
                for outcome, count in counts.items():
                    total[outcome] = total.get(outcome, 0) + count
        return outcomes

    def totals(self) -> Totals:
        """Return the totals; every shard must have sent an envelope."""
        return Totals(
            self.samples,
            self.positions,
            self.tally(),
            sum(self.dropped),
            [
                (min(first for first, _ in of_stream), max(last for _, last in of_stream))
                for of_stream in zip(*self.spans, strict=True)
            ],
            dict(sum((Counter(found) for found in self.looked_up), Counter())),
            self.ends,
        )

    def export(self) -> dict[str, Any]:
        """Return the state as JSON types."""
        return {name: of for name, of in vars(self).items() if not name.startswith("_")}

    def restore(self, state: dict[str, Any]) -> None:
        """Replace the state by what `export` returned.

        Raises
        ------
        DamagedError
            If it is not what `export` returns.
        """
        checked(_Written, state, "ledger")
        for name in ("outcomes", "dropped", "spans", "looked_up"):
            fact = f"{name} must have {len(self.dropped)} shards"
            expect(len(state[name]) == len(self.dropped), "ledger", fact)
        self.samples, self.published = state["samples"], state["published"]
        self.positions = state["positions"]
        self.outcomes = state["outcomes"]
        self.dropped = state["dropped"]
        self.spans = state["spans"]
        self.looked_up = state["looked_up"]
        self.ends = state["ends"]
