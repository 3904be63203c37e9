"""Who meets whom, in the order in which impressions and actions become known.

A record is known at ``max(event time, arrival progress)``: the event time from
which on it can have a consequence. When a shard's clock is past that time, all
that was known by then has been applied, so the order of becoming known, with
ties broken by event time, source and offset, is a function of the log.

Of repeated impressions one is met, see `headrace.joiner.state.known`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numba as nb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headrace.joiner.plan.plans import JoinPlan
from headrace.joiner.plan.rules import belongs, comes_before, in_time, is_retained
from headrace.joiner.state.actions import PendingActions
from headrace.joiner.state.keytable import following_slot, probe, start
from headrace.joiner.state.known import KnownImpressions, keep, known_times, tags_of
from headrace.joiner.state.settling import column
from headrace.schemas.records.events import KEY0, KEY1, NEVER, OFFSET, TIME
from headrace.schemas.records.hashing import Int64s


@nb.njit(inline="always")
def _has_met(
    entry, slots, key0, key1, following, stream, time, arrival, source, offset, id0, id1, met, shown
):
    """Whether an action of the entry's stream met the impression before, and one of its id."""
    _, other = probe(slots, key0, key1, key0[entry], key1[entry])
    has_id = id0[entry] != np.uint64(0) or id1[entry] != np.uint64(0)
    any_other = False
    while other >= 0:
        if (
            stream[other] == stream[entry]
            and met[other] == shown
            and comes_before(other, entry, time, arrival, source, offset)
        ):
            any_other = True
            if not has_id:
                return True, False
            if id0[other] == id0[entry] and id1[other] == id1[entry]:
                return True, True
        other = following[other]
    return any_other, False


@nb.njit(cache=True, nogil=True)
def _meet(
    i_key0, i_key1, i_tag, i_time, i_known, shadowed,
    due, slots, key0, key1, following, stream, a_time, a_arrival, source, offset, id0, id1,
    met, tags, times, knowns, horizon, windows, rules,
    entry_out, time_out, known_out, at_out, first_out, repeated_out,
):  # fmt: skip
    pairs = 0
    entered = 0
    i = 0
    a = 0
    while i < i_time.size or a < due.size:
        if a < due.size:
            entry = due[a]
            a_known = max(a_time[entry], a_arrival[entry])
        if i < i_time.size and (a == due.size or i_known[i] <= a_known):
            kept = keep(tags, times, knowns, i_tag[i], i_time[i], i_known[i], horizon)
            shadowed[i] = not kept
            entered += kept
            if kept:
                waited = pairs
                _, entry = probe(slots, key0, key1, i_key0[i], i_key1[i])
                while entry >= 0:
                    if (
                        met[entry] == NEVER
                        and max(a_time[entry], a_arrival[entry]) < i_known[i]
                        and is_retained(i_time[i], a_arrival[entry], rules)
                        and in_time(i_known[i], a_time[entry], rules)
                        and belongs(i_time[i], a_time[entry], windows[stream[entry]], rules)
                    ):
                        # Into its place among those found, in the order of becoming known.
                        at = waited
                        while at > pairs and comes_before(
                            entry, entry_out[at - 1], a_time, a_arrival, source, offset
                        ):
                            entry_out[at] = entry_out[at - 1]
                            at -= 1
                        entry_out[at] = entry
                        waited += 1
                    entry = following[entry]
                while pairs < waited:
                    entry = entry_out[pairs]
                    first, repeated = _has_met(
                        entry, slots, key0, key1, following, stream, a_time, a_arrival, source,
                        offset, id0, id1, met, i_time[i],
                    )  # fmt: skip
                    met[entry] = i_time[i]
                    time_out[pairs] = i_time[i]
                    known_out[pairs] = i_known[i]
                    at_out[pairs] = i_known[i]
                    first_out[pairs] = not first
                    repeated_out[pairs] = repeated
                    pairs += 1
            i += 1
            continue
        a += 1
        tag = key1[entry] if key1[entry] != np.uint64(0) else np.uint64(1)
        at = start(tag, tags.size)
        while tags[at] != np.uint64(0):
            if (
                tags[at] == tag
                and is_retained(times[at], a_arrival[entry], rules)
                and in_time(knowns[at], a_time[entry], rules)
                and belongs(times[at], a_time[entry], windows[stream[entry]], rules)
            ):
                first, repeated = _has_met(
                    entry, slots, key0, key1, following, stream, a_time, a_arrival, source,
                    offset, id0, id1, met, times[at],
                )  # fmt: skip
                met[entry] = times[at]
                entry_out[pairs] = entry
                time_out[pairs] = times[at]
                known_out[pairs] = knowns[at]
                at_out[pairs] = a_known
                first_out[pairs] = not first
                repeated_out[pairs] = repeated
                pairs += 1
                break  # kept ones are a horizon apart: it belongs to no other
            at = following_slot(at, tags.size)
    return pairs, entered


@dataclass(frozen=True)
class Pairs:
    """Actions and the impressions they met, as they met; each column of shape (n,).

    Parameters
    ----------
    entry
        The action.
    time, known
        Event time of the impression, and when it was known.
    at
        When both were known.
    first
        Whether it is the impression's first action of its stream.
    repeated
        Whether an action of the same id had met the impression.
    """

    entry: Int64s
    time: Int64s
    known: Int64s
    at: Int64s
    first: npt.NDArray[np.bool_]
    repeated: npt.NDArray[np.bool_]

    def select(self, rows: npt.NDArray[Any] | slice) -> Pairs:
        """Return some of them."""
        return Pairs(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))


@dataclass(frozen=True)
class Fresh:
    """Impressions of one envelope that are not known yet."""

    source: int
    begin: int
    batch: pa.RecordBatch
    rows: Int64s
    known: Int64s


@dataclass
class Met:
    """What one step of the clock brought about.

    Parameters
    ----------
    kept, shadowed
        Impressions that became known, each a `Fresh`, by envelope.
    pairs
        Who met whom.
    """

    kept: list[Fresh] = field(default_factory=list)
    shadowed: list[Fresh] = field(default_factory=list)
    pairs: Pairs | None = None


class Arrivals:
    """Impressions and actions of a shard as they become known.

    Parameters
    ----------
    plan
        The join.
    """

    def __init__(self, plan: JoinPlan) -> None:
        self.fresh: list[Fresh] = []
        self.index = KnownImpressions(plan.dedup_horizon, plan.settle_delay + plan.dedup_horizon)

    def push(self, source: int, begin: int, batch: pa.RecordBatch, clock: int) -> None:
        """Add impressions; those known before `clock` are left out."""
        known = known_times(batch)
        rows = np.flatnonzero(known >= clock)
        if rows.size:
            self.fresh.append(Fresh(source, begin, batch, rows, known[rows]))

    def meet(self, since: int, clock: int, actions: PendingActions) -> Met:
        """Let everything that becomes known in ``[since, clock)`` meet."""
        due, rest = [], []
        for fresh in self.fresh:
            now = fresh.known < clock
            if now.any():
                due.append(_part(fresh, now))
            if not now.all():
                rest.append(_part(fresh, ~now))
        self.fresh = rest
        entries = actions.take_unmet(clock)
        met = Met()
        if not due and entries.size == 0:
            return met
        batches = [fresh.batch.select([KEY0, KEY1, TIME, OFFSET]).take(pa.array(fresh.rows))
                   for fresh in due]  # fmt: skip
        key0, key1, time, offset = (
            column(batches, name) if batches else np.empty(0, dtype)
            for name, dtype in ((KEY0, np.uint64), (KEY1, np.uint64), (TIME, np.int64),
                                (OFFSET, np.int64))
        )  # fmt: skip
        sizes = [fresh.rows.size for fresh in due]
        known = np.concatenate([np.empty(0, np.int64), *(fresh.known for fresh in due)])
        source = np.repeat(np.array([fresh.source for fresh in due], np.int64), sizes)
        order = np.lexsort((offset, source, time, known))
        shadowed = np.empty(time.size, np.bool_)
        self.index.make_room(time.size, since)
        size = actions.count
        pairs = Pairs(
            np.empty(size, np.int64), np.empty(size, np.int64), np.empty(size, np.int64),
            np.empty(size, np.int64), np.empty(size, np.bool_), np.empty(size, np.bool_),
        )  # fmt: skip
        index = self.index
        count, entered = _meet(
            key0[order], key1[order], tags_of(key1[order]), time[order], known[order], shadowed,
            entries, actions.slots, actions.key0, actions.key1, actions.following,
            actions.stream, actions.time, actions.arrival, actions.source, actions.offset,
            actions.id0, actions.id1, actions.met, index.tags, index.times, index.knowns,
            index.horizon, actions.windows, actions.times,
            pairs.entry, pairs.time, pairs.known, pairs.at, pairs.first, pairs.repeated,
        )  # fmt: skip
        index.count += entered
        met.pairs = pairs.select(slice(0, count))
        if not due:
            return met
        in_place = np.empty(time.size, np.bool_)
        in_place[order] = shadowed
        for fresh, mask in zip(due, np.split(in_place, np.cumsum(sizes)[:-1]), strict=True):
            if not mask.all():
                met.kept.append(_part(fresh, ~mask))
            if mask.any():
                met.shadowed.append(_part(fresh, mask))
        return met


def _part(fresh: Fresh, mask: npt.NDArray[np.bool_]) -> Fresh:
    if mask.all():
        return fresh
    return Fresh(fresh.source, fresh.begin, fresh.batch, fresh.rows[mask], fresh.known[mask])
