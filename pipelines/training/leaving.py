"""What an earlier run has put out already of the rows that a run which goes on from it releases."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from headrace.learners.guarding import Held
from headrace.learners.learning import Learned, Mode
from headrace.learners.ordering import Epoch
from headrace.schemas.records.events import EMIT
from headrace.schemas.records.hashing import Bools

_SETTLED = "window"
"""The emission of samples that leave when the clock is at their emit time, not past it."""


def still_to_leave(learned: Learned, clock: int, mode: Mode) -> Learned:
    """Leave out of an epoch what left while the clock of a run stopped at a time.

    Parameters
    ----------
    learned
        The epoch.
    clock
        The time, microseconds.
    mode
        When samples leave, see `headrace.joiner.plan.emission`.
    """
    epoch, left = learned.epoch, _left(learned.epoch, clock)
    held = {}
    for label, of in learned.held.items():
        stays = ~left[of.rows]
        if stays.any():
            held[label] = Held(of.rows[stays], of.reasons.filter(pa.array(stays)))
    until = clock if mode == _SETTLED else clock - 1
    return replace(
        learned,
        epoch=replace(epoch, order=epoch.order[~left[epoch.order]]),
        held=held,
        journal=[row for row in learned.journal if row["decided"] > until],
    )


def _left(epoch: Epoch, clock: int) -> Bools:
    emit = epoch.column(EMIT)
    settled = pa.chunked_array(
        [pc.equal(part.column("emission").cast(pa.string()), _SETTLED) for part in epoch.parts]
    )
    left: Bools = (emit < clock) | ((emit == clock) & settled.to_numpy())
    return left
