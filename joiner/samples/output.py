"""What leaves a join when an envelope is applied."""

from __future__ import annotations

from dataclasses import dataclass, field

import pyarrow as pa

from headrace.joiner.state.actions import PendingActions
from headrace.schemas.records.events import Outcome
from headrace.schemas.records.hashing import Int64s


@dataclass(frozen=True)
class DeadRows:
    """Records of one source that leave no sample, and why."""

    outcome: Outcome
    stream: int
    source: int
    batch: pa.RecordBatch


@dataclass
class JoinOutput:
    """What applying an envelope brought about.

    Parameters
    ----------
    samples, corrections
        As `headrace.joiner.samples.rows` builds them, in each batch in order of emit time.
    served, mature
        Impressions to be predicted now that they are known, and final labels to score that by.
    arrivals
        How many actions became known, by step of time.
    joined
        Joined actions by number of the action stream.
    dead
        Records that leave no sample.
    settled
        Records that settled, by stream.
    dropped
        Negatives that sampling left out.
    looked_up
        Impressions found for actions that met them, by where: ``memory`` or ``journal``.
    """

    samples: list[pa.RecordBatch] = field(default_factory=list)
    joined: dict[int, list[pa.RecordBatch]] = field(default_factory=dict)
    corrections: list[pa.RecordBatch] = field(default_factory=list)
    served: list[pa.RecordBatch] = field(default_factory=list)
    mature: list[pa.RecordBatch] = field(default_factory=list)
    arrivals: list[pa.RecordBatch] = field(default_factory=list)
    dead: list[DeadRows] = field(default_factory=list)
    settled: dict[int, int] = field(default_factory=dict)
    dropped: int = 0
    looked_up: dict[str, int] = field(default_factory=dict)

    def settle(self, stream: int, records: int) -> None:
        """Count records that settled."""
        self.settled[stream] = self.settled.get(stream, 0) + records

    def bury(self, outcome: Outcome, stream: int, source: int, batch: pa.RecordBatch) -> None:
        """Add records that leave no sample."""
        self.dead.append(DeadRows(outcome, stream, source, batch))

    def bury_actions(self, outcome: Outcome, actions: PendingActions, entries: Int64s) -> None:
        """Add actions that change no label."""
        for stream, source, batch in actions.rows(entries):
            self.bury(outcome, stream + 1, source, batch)
