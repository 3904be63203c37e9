"""From matched actions to labels: the first action, the count, duplicates of an id."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headrace.joiner.plan.plans import ActionPlan, JoinPlan
from headrace.joiner.state.actions import PendingActions
from headrace.joiner.state.actiontable import Matches
from headrace.schemas.records.hashing import Bools, Int64s, UInt64s

TIMESTAMP = pa.timestamp("us", tz="UTC")


@dataclass(frozen=True)
class Labels:
    """What the actions say about n impressions.

    Parameters
    ----------
    first
        Per action stream the entry of each impression's first action, -1 for
        none; int64, shape (streams, n).
    count
        Per action stream the number of settled actions; int32, shape (streams, n).
    duplicates, originals
        Entries whose action id was counted already, and for each the entry that was counted.
    """

    first: Int64s
    count: npt.NDArray[np.int32]
    duplicates: Int64s
    originals: Int64s

    def select(self, rows: slice | Bools | Int64s) -> Labels:
        """Return the labels of some impressions."""
        first, count = self.first[:, rows], self.count[:, rows]
        return Labels(first, count, self.duplicates, self.originals)

    @property
    def positive(self) -> Bools:
        """Whether the impression has an action of any stream, shape (n,)."""
        positive: Bools = np.logical_or.reduce(self.count > 0, axis=0)
        return positive

    @property
    def undecided(self) -> Bools:
        """Whether the impression has no action of some stream, shape (n,)."""
        undecided: Bools = np.logical_or.reduce(self.count == 0, axis=0)
        return undecided


def label(rows: int, matches: Matches, actions: PendingActions, streams: int) -> Labels:
    """Give each impression its labels.

    Parameters
    ----------
    rows
        Number of impressions.
    matches
        Which settled action belongs to which impression, shape (m,).
    actions
        Where the entries are.
    streams
        Number of action streams.
    """
    row, entry = matches
    first = np.full((streams, rows), -1, np.int64)
    count = np.zeros((streams, rows), np.int32)
    if entry.size == 0:
        return Labels(first, count, entry, entry)
    stream = actions.stream[entry]
    order = np.lexsort(
        (actions.offset[entry], actions.source[entry], actions.time[entry], stream, row)
    )
    row, entry, stream = row[order], entry[order], stream[order]
    counted = first_of_id(row, stream, actions.id0[entry], actions.id1[entry])
    repeated = counted != np.arange(entry.size)
    duplicates, originals = entry[repeated], entry[counted[repeated]]
    row, entry, stream = row[~repeated], entry[~repeated], stream[~repeated]
    np.add.at(count, (stream, row), 1)
    begins = np.ones(entry.size, np.bool_)
    begins[1:] = (row[1:] != row[:-1]) | (stream[1:] != stream[:-1])
    first[stream[begins], row[begins]] = entry[begins]
    return Labels(first, count, duplicates, originals)


def first_of_id(
    row: Int64s,
    stream: npt.NDArray[np.int32],
    id0: UInt64s,
    id1: UInt64s,
) -> Int64s:
    """Return for each action the first of its id and impression; no id equals no other."""
    every = np.arange(row.size)
    order = np.lexsort((every, id1, id0, stream, row))
    begins = np.ones(row.size, np.bool_)
    begins[1:] = False
    for column in (row, stream, id0, id1):
        ordered = column[order]
        begins[1:] |= ordered[1:] != ordered[:-1]
    first = np.empty(row.size, np.int64)
    first[order] = order[np.maximum.accumulate(np.where(begins, every, 0))]
    return np.where((id0 != 0) | (id1 != 0), first, every)


def label_columns(
    plan: ActionPlan, stream: int, labels: Labels, actions: PendingActions, final: Bools
) -> list[tuple[str, pa.Array]]:
    """Build a stream's sample columns: label, time, count, carried columns, maturity.

    A label is mature when it cannot change any more: it is positive, or its
    impression has settled (`final`, shape (n,)). That its window has passed is not
    enough: an action within it may still come, disordered, until then.
    """
    first = labels.first[stream]
    has = first >= 0
    time = pa.array(np.where(has, actions.time[first], 0), mask=~has).cast(TIMESTAMP)
    columns = [
        (plan.name, pa.array(has)),
        (f"{plan.name}_time", time),
        (f"{plan.name}_count", pa.array(labels.count[stream])),
    ]
    if len(plan.carried):
        columns.extend(carried_columns(plan, first, actions))
    columns.append((f"{plan.name}_mature", pa.array(has | final)))
    return columns


def label_fields(plan: JoinPlan) -> list[pa.Field]:
    """Name and type of every label column of a sample."""
    fields = []
    for action in plan.actions:
        fields += [
            pa.field(action.name, pa.bool_()),
            pa.field(f"{action.name}_time", TIMESTAMP),
            pa.field(f"{action.name}_count", pa.int32()),
        ]
        fields += carried_fields(action)
        fields.append(pa.field(f"{action.name}_mature", pa.bool_()))
    return fields


def carried_fields(plan: ActionPlan) -> list[pa.Field]:
    """Name and type of the columns that a stream's actions carry into a sample."""
    return [pa.field(f"{plan.name}_{field.name}", field.type) for field in plan.carried]


def carried_columns(
    plan: ActionPlan, first: Int64s, actions: PendingActions
) -> list[tuple[str, pa.Array]]:
    """Build the columns that actions carry, null where the entry is -1."""
    names = plan.carried.names
    rows = np.flatnonzero(first >= 0)
    entries = first[rows]
    parts = []
    places = []
    for number in np.unique(actions.batch[entries]):
        of_batch = actions.batch[entries] == number
        chosen = pa.array(actions.row[entries[of_batch]])
        parts.append(actions.batches[number].select(names).take(chosen))
        places.append(rows[of_batch])
    table = pa.Table.from_batches(parts, plan.carried)
    # Where each impression finds its action in `table`; null for none.
    where = np.zeros(first.size, np.int64)
    if places:
        where[np.concatenate(places)] = np.arange(table.num_rows)
    index = pa.array(where, mask=first < 0)
    return [
        (f"{plan.name}_{name}", table.column(name).combine_chunks().take(index)) for name in names
    ]
