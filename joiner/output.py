"""What leaves a join when an envelope is applied."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from joiner.actions import PendingActions
from schemas.events import Outcome
from schemas.hashing import Int64s


@dataclass(frozen=True)
class DeadRows:
    """Records of one source that leave no sample, and why.

    Parameters
    ----------
    emit
        When that was decided: a function of the log alone, by which dead letters are
        ordered; microseconds, ascending, shape (n,).
    """

    outcome: Outcome
    stream: int
    source: int
    batch: pa.RecordBatch
    emit: Int64s


@dataclass
class JoinOutput:
    """What applying an envelope brought about.

    Parameters
    ----------
    samples, corrections
        As `joiner.samples` builds them, in each batch in order of emit time.
    joined
        Joined actions by number of the action stream.
    dead
        Records that leave no sample.
    letters
        Dead letters to hand on as they are: those of records that are no events.
    settled
        Records that settled, by stream.
    dropped
        Negatives that sampling left out.
    """

    samples: list[pa.RecordBatch] = field(default_factory=list)
    joined: dict[int, list[pa.RecordBatch]] = field(default_factory=dict)
    corrections: list[pa.RecordBatch] = field(default_factory=list)
    dead: list[DeadRows] = field(default_factory=list)
    letters: list[pa.RecordBatch] = field(default_factory=list)
    settled: dict[int, int] = field(default_factory=dict)
    dropped: int = 0

    def settle(self, stream: int, records: int) -> None:
        """Count records that settled."""
        self.settled[stream] = self.settled.get(stream, 0) + records

    def bury(
        self, outcome: Outcome, stream: int, source: int, batch: pa.RecordBatch, emit: Int64s
    ) -> None:
        """Add records that leave no sample, decided at `emit`, shape (n,)."""
        if (emit[1:] < emit[:-1]).any():
            order = np.argsort(emit, kind="stable")
            batch, emit = batch.take(pa.array(order)), emit[order]
        self.dead.append(DeadRows(outcome, stream, source, batch, emit))

    def bury_actions(
        self, outcome: Outcome, actions: PendingActions, entries: Int64s, emit: Int64s
    ) -> None:
        """Add actions that change no label, decided at `emit`, shape (n,)."""
        order = np.argsort(entries)
        entries, emit = entries[order], emit[order]
        for rows in actions.rows(entries):
            at = emit[np.searchsorted(entries, rows.entries)]
            self.bury(outcome, rows.stream + 1, rows.source, rows.batch, at)
