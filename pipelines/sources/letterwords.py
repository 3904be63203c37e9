"""Why records left no sample, in words, with the times that decided it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headrace.joiner.plan.plans import JoinPlan
from headrace.joiner.samples.output import CountedActions, DeadRows
from headrace.pipelines.sources.numbering import Origin
from headrace.pipelines.sources.recordnames import record_names
from headrace.schemas.config.durations import format_duration
from headrace.schemas.records.events import ARRIVAL, TIME, Outcome
from headrace.schemas.records.hashing import Int64s
from headrace.schemas.records.texts import duration_texts, moment_texts, sentences


def letter_details(dead: DeadRows, plan: JoinPlan, sources: Sequence[Origin]) -> pa.Array:
    """Return a sentence for each of some records that the join could not use.

    Parameters
    ----------
    dead
        Events of one source with one outcome, n rows.
    plan
        The join.
    sources
        What the sources are, by number.

    Returns
    -------
    pyarrow.Array
        Texts, shape (n,); they depend on the log alone.
    """
    time = dead.batch.column(TIME).to_numpy()
    about = dead.impression
    if dead.outcome is Outcome.LATE:
        return _late(time if about is None else about, about is not None, dead, plan)
    if about is None:
        return _orphan(time, plan)
    if dead.outcome is Outcome.OUTSIDE_WINDOW:
        return _outside(time, about, plan.actions[dead.stream - 1].window, plan.early)
    if dead.counted is None:
        return _copy(time, about, plan.dedup_horizon)
    return _repeated(about, dead.counted, sources)


def _late(shown: Int64s, is_action: bool, dead: DeadRows, plan: JoinPlan) -> pa.Array:
    arrival = dead.batch.column(ARRIVAL).to_numpy()
    settled = moment_texts(shown + plan.settle_delay)
    already = sentences("its source was already at ", moment_texts(arrival))
    if is_action:
        shown = moment_texts(shown)
        return sentences(already, "; its impression of ", shown, " had settled at ", settled)
    return sentences(already, "; the impression had settled at ", settled)


def _orphan(time: Int64s, plan: JoinPlan) -> pa.Array:
    until = moment_texts(time + plan.wait_for_impression)
    return sentences("no impression of its key was remembered, or came before ", until)


def _outside(time: Int64s, shown: Int64s, window: int, early: int) -> pa.Array:
    delay = time - shown
    apart, impression = duration_texts(np.abs(delay)), moment_texts(shown)
    after = f"; its window is {format_duration(window)}"
    before = f"; early is {format_duration(early)}"
    return pc.if_else(
        pa.array(delay >= 0),
        sentences("it came ", apart, " after the impression of ", impression, after),
        sentences("it came ", apart, " before the impression of ", impression, before),
    )


def _copy(time: Int64s, shown: Int64s, horizon: int) -> pa.Array:
    where = pc.if_else(pa.array(shown <= time), " before; ", " after; ")
    apart = duration_texts(np.abs(time - shown))
    return sentences(
        "its key was kept of the impression of ", moment_texts(shown), ", ", apart, where,
        f"dedup_horizon is {format_duration(horizon)}",
    )  # fmt: skip


def _repeated(shown: Int64s, counted: CountedActions, sources: Sequence[Origin]) -> pa.Array:
    """Name the records that counted, source by source: each numbers its own in its way."""
    where = np.empty(shown.size, np.object_)
    for number in np.unique(counted.source):
        rows = np.flatnonzero(counted.source == number)
        where[rows] = _record_names(sources[number], counted.number[rows]).to_numpy(False)
    return sentences(
        "its id counted already for the impression of ", moment_texts(shown), ": ",
        pa.array(where, pa.string()), ", of ", moment_texts(counted.time),
    )  # fmt: skip


def _record_names(source: Origin, numbers: Int64s) -> pa.Array:
    numbering = source.numbering
    row = pa.array(numbering.row(numbers)) if numbering.row_bits else None
    return record_names(source.name, numbering.message(numbers), row)
