"""How far a shard is, and what it has counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from headrace.joiner.plan.plans import JoinPlan
from headrace.joiner.samples.output import JoinOutput
from headrace.schemas.config.durations import HOUR
from headrace.schemas.records.events import FOREVER, IMPRESSIONS, NEVER, TIME, Outcome
from headrace.schemas.records.restored import Count, Flag, Int, Moment, checked, expect, written


@written
class _Described:
    position: list[Count]
    progress: list[Moment]
    rejected: list[Count]
    ended: list[Flag]
    exhausted: list[Flag]
    received: list[Count]
    spans: list[tuple[Moment, Moment]]
    outcomes: list[tuple[Count, Outcome, Count]]
    dropped: Count
    looked_up: dict[Literal["memory", "journal"], Count]
    copies: list[tuple[Count, Moment, Count]]
    shown: Moment
    clock: Moment
    sequence: Count
    told_epoch: Int


@dataclass
class Tally:
    """How far a shard is, and what it has counted.

    Parameters
    ----------
    position, progress, rejected, ended, exhausted
        Per source: the position of the next row, its progress, invalid records so far,
        whether it has ended, and whether no row of it comes any more.
    received, spans
        Per stream: records so far, and the least and greatest of their event times.
    outcomes
        Records that are decided, by stream and outcome.
    dropped
        Negatives that sampling left out.
    looked_up
        Impressions found for actions that met them, by where: ``memory`` or ``journal``.
    shown
        The greatest progress of a source of impressions with rows to come: no more than an
        event time of theirs, or the time to which an idle source was raised.
    clock
        The least progress that has had its consequences.
    copies
        Duplicates of actions that the trainer has not been told of: stream, hour in which they
        lie (microseconds), and how many.
    sequence, told_epoch
        Number of the next envelope for the trainer, and the epoch that the last told.
    """

    position: list[int]
    progress: list[int]
    rejected: list[int]
    ended: list[bool]
    exhausted: list[bool]
    received: list[int]
    spans: list[list[int]]
    outcomes: Counter[tuple[int, Outcome]] = field(default_factory=Counter)
    dropped: int = 0
    looked_up: Counter[str] = field(default_factory=Counter)
    copies: list[list[int]] = field(default_factory=list)
    shown: int = NEVER
    clock: int = NEVER
    sequence: int = 0
    told_epoch: int = NEVER

    @classmethod
    def empty(cls, plan: JoinPlan) -> Tally:
        """Return that of a shard that has seen nothing."""
        sources, streams = plan.sources, len(plan.stream_names)
        starts = [plan.starts.get(source, 0) for source in range(sources)]
        return cls(
            starts, [NEVER] * sources, [0] * sources, [False] * sources, [False] * sources,
            [0] * streams, [[FOREVER, NEVER] for _ in range(streams)],
        )  # fmt: skip

    def go_on(self, plan: JoinPlan, reopened: Mapping[int, int]) -> None:
        """Go on with more sources than before, and count from here.

        What is open now counts as received.

        Parameters
        ----------
        plan
            The join, with the sources so far, by the same numbers, and more.
        reopened
            The sources that have not ended, among them all that are new, and the progress that
            each begins with. The others hold the clock back no more.
        """
        for source in range(len(self.position), plan.sources):
            self.position.append(plan.starts.get(source, 0))
        self.progress = [reopened.get(source, FOREVER) for source in range(plan.sources)]
        self.ended = [source not in reopened for source in range(plan.sources)]
        self.exhausted = list(self.ended)
        self.rejected = [0] * plan.sources
        self.shown = max(self.shown, self.spans[IMPRESSIONS][1])
        counts = self.outcome_counts(plan.stream_names)
        self.received = [counts[name][Outcome.OPEN.value] for name in plan.stream_names]
        self.spans = [[FOREVER, NEVER] for _ in plan.stream_names]
        self.outcomes, self.looked_up, self.dropped = Counter(), Counter(), 0

    def receive(self, stream: int, batch: pa.RecordBatch) -> None:
        """Count records that came."""
        self.received[stream] += batch.num_rows
        if batch.num_rows:
            time = batch.column(TIME).to_numpy()
            first, last = self.spans[stream]
            self.spans[stream] = [min(first, int(time.min())), max(last, int(time.max()))]

    def add(self, output: JoinOutput) -> None:
        """Count what an envelope brought about."""
        self.dropped += output.dropped
        for place, found in output.looked_up.items():
            self.looked_up[place] += found
        for stream, records in output.settled.items():
            self.outcomes[stream, Outcome.SETTLED] += records
        for dead in output.dead:
            self.outcomes[dead.stream, dead.outcome] += dead.batch.num_rows
            if dead.stream and dead.outcome is Outcome.DUPLICATE:
                hours = dead.batch.column(TIME).to_numpy() // HOUR * HOUR
                for hour, count in zip(*np.unique(hours, return_counts=True), strict=True):
                    self.copies.append([dead.stream, int(hour), int(count)])

    def take_copies(self, names: tuple[str, ...]) -> list[list[Any]]:
        """Take out the duplicates of actions by stream name and hour."""
        taken, self.copies = self.copies, []
        return [[names[stream], hour, count] for stream, hour, count in taken]

    def outcome_counts(self, names: tuple[str, ...]) -> dict[str, dict[str, int]]:
        """Return records by stream name and outcome; what has none yet is open."""
        counts: dict[str, dict[str, int]] = {name: {} for name in names}
        for (stream, outcome), count in sorted(self.outcomes.items()):
            counts[names[stream]][outcome.value] = count
        for name, received in zip(names, self.received, strict=True):
            counts[name][Outcome.OPEN.value] = received - sum(counts[name].values())
        return counts

    def fits(self, plan: JoinPlan) -> None:
        """Go on if this may be of a shard of a join, or of one that had fewer sources.

        Raises
        ------
        DamagedError
            If it is not.
        """
        sources, streams = len(self.position), len(plan.stream_names)
        per_source = (self.progress, self.rejected, self.ended, self.exhausted)
        expect(sources <= plan.sources, "tally", f"has {sources} sources of {plan.sources}")
        expect(
            all(len(of) == sources for of in per_source), "tally", "is not of one set of sources"
        )
        expect(len(self.received) == len(self.spans) == streams, "tally", "has other streams")
        named = [stream for stream, _ in self.outcomes] + [stream for stream, *_ in self.copies]
        expect(all(stream < streams for stream in named), "tally", "counts another stream")
        expect(self.clock <= min(self.progress), "tally", "has a clock beyond its sources")

    def describe(self) -> dict[str, Any]:
        """Return all of it as JSON types."""
        described = {part.name: getattr(self, part.name) for part in fields(self)}
        outcomes = [[stream, o.value, n] for (stream, o), n in sorted(self.outcomes.items())]
        return {**described, "outcomes": outcomes}

    @classmethod
    def restore(cls, described: dict[str, Any]) -> Tally:
        """Return that of which `describe` returned `described`.

        Raises
        ------
        DamagedError
            If it is not what `describe` returns.
        """
        checked(_Described, described, "tally")
        outcomes = Counter({(s, Outcome(o)): n for s, o, n in described["outcomes"]})
        looked_up = Counter(described["looked_up"])
        return cls(**{**described, "outcomes": outcomes, "looked_up": looked_up})


def received(tallies: Iterable[Tally], names: tuple[str, ...]) -> dict[str, int]:
    """Return how many records all shards have received, by stream name."""
    by_stream = zip(*(tally.received for tally in tallies), strict=True)
    return dict(zip(names, map(sum, by_stream), strict=True))
