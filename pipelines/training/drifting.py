"""What the samples of an epoch tell of drift: the watched columns of some rows, and all scores."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from headrace.learners.learning import Learned, TrainPlan
from headrace.monitoring.drift import Drift, DriftPlan
from headrace.monitoring.hourly import Rows, Watched
from headrace.schemas.records.events import KEY0


def drift_plan(plan: TrainPlan, types: pa.Schema, delay: int) -> DriftPlan:
    """Return what is watched: the columns of all features, each once, and the learners' scores.

    Parameters
    ----------
    plan
        The learners.
    types
        Type of each impression column.
    delay
        The longest time from an event to when it is decided, microseconds.
    """
    watched: dict[str, Watched] = {}
    for learner in plan.learners.values():
        separators = {of.column: of.separator for of in learner.features.multi_valued}
        for name in learner.features.columns:
            kind = types.field(name).type
            if name in separators or pa.types.is_list(kind) or pa.types.is_large_list(kind):
                watched[name] = Watched(name, "items", separators.get(name, " "))
            elif name in learner.features.numeric:
                watched[name] = Watched(name, "numbers")
            else:
                watched.setdefault(name, Watched(name, "values"))
    scores = (Watched(name, "scores") for name in plan.learners)
    labels = dict.fromkeys(learner.label for learner in plan.learners.values())
    fresh = frozenset(name for name, learner in plan.learners.items() if learner.start is None)
    return DriftPlan((*watched.values(), *scores), tuple(labels), delay, fresh)


def observe_drift(drift: Drift, learned: Learned) -> None:
    """Count the samples of an epoch."""
    epoch = learned.epoch
    if not epoch.parts or not drift.plan.watched:
        return
    time = epoch.column("event_time").astype("datetime64[us]").astype(np.int64)
    key = epoch.column(KEY0)
    for label in drift.plan.labels:
        drift.count(label, time, epoch.column(label), epoch.column(f"{label}_count"))
    rows, level = drift.wanted(time, key)
    if rows.size:
        scores = {}
        for name, margin in learned.margins.items():
            whole = np.full(time.size, np.nan)
            whole[learned.rows[name]] = margin
            scores[name] = whole[rows]
        names = [of.name for of in drift.plan.watched if of.kind != "scores"]
        taken, begin = [], 0
        for part in epoch.parts:
            first, last = np.searchsorted(rows, (begin, begin + part.num_rows))
            taken.append(part.select(names).take(pa.array(rows[first:last] - begin)))
            begin += part.num_rows
        columns = pa.concat_batches(taken)
        weight = 1.0 / epoch.column("sampling_rate")[rows]
        chosen = Rows(
            time[rows], key[rows], weight, {name: columns.column(name) for name in names}, scores
        )
        drift.observe(chosen, level)
