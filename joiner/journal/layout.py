"""For how long the journal of a join keeps what, and its records of actions."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from headrace.joiner.journal.cells import RINGS, Ring
from headrace.joiner.plan.plans import JoinPlan
from headrace.joiner.state.actions import PendingActions
from headrace.schemas.records.envelope import batch_to_bytes
from headrace.schemas.records.hashing import Int64s

SEEN, DECIDED, MET = 0, 1, 2
"""What became of an action: it sees an impression, it is decided, it met one before that."""


def new_rings(plan: JoinPlan) -> dict[str, Ring]:
    """Return the rings of an empty journal by name."""
    return {name: Ring(name, span) for name, span in ring_spans(plan).items()}


def ring_bounds(plan: JoinPlan, clock: int) -> dict[str, int]:
    """Return the event time up to which each ring of the journal is of no more use."""
    forgotten = clock - plan.settle_delay - plan.dedup_horizon
    return {
        "impressions": clock - plan.settle_delay,
        "segments": clock - plan.settle_delay,
        "keys": forgotten,
        "retained": clock - plan.settle_delay - plan.retention,
        "actions": clock - actions_kept(plan),
        "held": clock - plan.release_delay - plan.group_span,
        "known": forgotten,
        "scheduled": clock - 1,
    }


def ring_spans(plan: JoinPlan) -> dict[str, int]:
    """Return how long, in event time, each ring of the journal keeps what it holds."""
    spans = {
        "impressions": plan.settle_delay,
        "segments": plan.settle_delay,
        "keys": plan.dedup_horizon,
        "retained": plan.settle_delay + plan.retention,
        "actions": actions_kept(plan),
        "held": plan.release_delay + plan.group_span,
        "known": plan.settle_delay + plan.dedup_horizon,
        "scheduled": plan.settle_delay,
    }
    return {name: spans[name] for name in RINGS}


def actions_kept(plan: JoinPlan) -> int:
    """Return how long after its event time an action may be asked for."""
    if not plan.meets and not plan.retention:
        return plan.action_deadline
    # It met an impression at most `early` later, which is retained for a while.
    return max(plan.action_deadline, plan.early + plan.settle_delay + plan.retention)


def record_of(actions: PendingActions, entries: Int64s, what: int) -> bytes:
    """Return what the journal says of actions: `SEEN`, `DECIDED` or `MET`."""
    columns = {
        "source": actions.source[entries],
        "offset": actions.offset[entries],
        "what": np.full(entries.size, what, np.int8),
        "time": actions.met[entries],
    }
    return batch_to_bytes(pa.RecordBatch.from_pydict(columns))
