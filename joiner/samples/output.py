"""What leaves a join when an envelope is applied."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headrace.joiner.state.actions import PendingActions
from headrace.schemas.records.events import Outcome
from headrace.schemas.records.hashing import Int64s


@dataclass(frozen=True)
class DeadRows:
    """Records of one source that leave no sample, and why.

    Parameters
    ----------
    outcome
        What became of them.
    stream, source
        Numbers of their stream and source.
    batch
        The records, n rows.
    impression
        Event time of the impression that it is about, microseconds, shape (n,): the one that an
        action belongs to, the latest that it sees without belonging to it, or the kept one of
        which an impression is a copy. None if there is none: of orphans and late impressions.
    counted
        Of actions whose id was counted already: those that were; None of others.
    """

    outcome: Outcome
    stream: int
    source: int
    batch: pa.RecordBatch
    impression: Int64s | None = None
    counted: CountedActions | None = None


class CountedActions(NamedTuple):
    """Actions that counted; each column of shape (n,).

    Parameters
    ----------
    time
        Event time, microseconds.
    source, number
        Number of the source, and of the record in its partition.
    """

    time: Int64s
    source: npt.NDArray[np.int32]
    number: Int64s

    @classmethod
    def of(cls, actions: PendingActions, entries: Int64s) -> CountedActions:
        """Return those of entries."""
        return cls(actions.time[entries], actions.source[entries], actions.numbers(entries))


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

    def bury(
        self,
        outcome: Outcome,
        stream: int,
        source: int,
        batch: pa.RecordBatch,
        impression: Int64s | None = None,
        counted: CountedActions | None = None,
    ) -> None:
        """Add records that leave no sample; see `DeadRows`."""
        self.dead.append(DeadRows(outcome, stream, source, batch, impression, counted))

    def bury_actions(
        self,
        outcome: Outcome,
        actions: PendingActions,
        entries: Int64s,
        impressions: Int64s | None = None,
        originals: Int64s | None = None,
    ) -> None:
        """Add actions that change no label.

        Parameters
        ----------
        outcome, actions, entries
            What became of which entries, shape (n,).
        impressions
            Event times as in `DeadRows`, by the numbers of entries; None of orphans.
        originals
            Of duplicates: the entry that was counted for each, shape (n,).
        """
        for at in actions.by_batch(entries):
            of_batch = entries[at]
            stream, source, batch = actions.payload(of_batch)
            about = None if impressions is None else impressions[of_batch]
            counted = None if originals is None else CountedActions.of(actions, originals[at])
            self.bury(outcome, stream + 1, source, batch, about, counted)
