"""Corrections: samples as they stand after an action that came too late for them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from headrace.joiner.plan.plans import JoinPlan
from headrace.joiner.plan.sampling import Selection
from headrace.joiner.samples.precedence import corrected_labels
from headrace.joiner.samples.rows import labelled, weighted
from headrace.joiner.state.actions import PendingActions
from headrace.joiner.state.fullkeys import same_keys
from headrace.joiner.state.gathered import Gathered
from headrace.joiner.state.impressions import Impressions
from headrace.joiner.state.retained import Retained
from headrace.schemas.records.events import ACTION_OFFSET, ACTION_SOURCE, ACTION_TIME


def corrections(
    plan: JoinPlan, actions: PendingActions, retained: Retained, clock: int
) -> pa.RecordBatch | None:
    """Make a correction for each late action known before `clock` that would have counted.

    A correction is the sample as it stands then: with all that counted, and with all
    corrections before this one. An action whose id did so leaves none.
    """
    late = actions.take_uncorrected(clock)
    if late.size == 0:
        return None
    labels, repeated = corrected_labels(late, actions, len(plan.actions))
    rows = np.flatnonzero(~repeated)
    if rows.size == 0:
        return None
    rows = rows[np.argsort(actions.arrival[late[rows]], kind="stable")]
    late = late[rows]
    emit, time = actions.arrival[late], actions.met[late]
    # When those were known is not asked: no two retained ones have one key and time.
    gathered = Gathered(Impressions(actions.key0[late], actions.key1[late], time, time))
    # What is known before its impression is forgotten finds it retained.
    retained.find(gathered, np.ones(late.size, np.bool_))
    impressions, observed = gathered.rows(), emit - time
    same = same_keys(impressions, plan.columns[: plan.keys], actions, late)
    if not same.all():
        late, emit, observed, rows = late[same], emit[same], observed[same], rows[same]
        impressions = impressions.filter(pa.array(same))
        if not late.size:
            return None
    sample = labelled(
        plan, impressions, labels.select(rows), actions, "correction", observed,
        actions.stream[late],
    )  # fmt: skip
    one = np.ones(rows.size)
    selection = Selection(one > 0, one, one, dict.fromkeys(plan.sampling.published, one))
    whole = weighted(plan, sample, emit, selection)
    for name, column in (
        (ACTION_TIME, actions.time[late]),
        (ACTION_SOURCE, actions.source[late]),
        (ACTION_OFFSET, actions.offset[late]),
    ):
        whole = whole.append_column(name, pa.array(column))
    return whole
