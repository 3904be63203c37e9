"""Predictions as a server would make them: when an impression is known, scored when it settles.

A learner that predicts a sample just before it learns it has seen all that came while the
sample waited for its label, and with an early emission it is scored by labels that may still
change: both flatter. Here some impressions are predicted with the models as they were when
these became known, and scored with their final labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headrace.learners.learner import Floats
from headrace.schemas.records.events import EMIT, KEY0, KEY1, TIME

_FILE = "served.arrow"
_OWN = "margin:"


@dataclass(frozen=True)
class Scored:
    """Impressions that settled, with what was predicted of them when they were known.

    Parameters
    ----------
    rows
        Their final labels, and the columns by which they are told apart, shape (m,).
    margins
        By learner the log-odds, float64, shape (m,); NaN where it could not serve yet, or had
        no offset for the row.
    """

    rows: pa.RecordBatch
    margins: dict[str, Floats]


class Serving:
    """Predictions that wait for their impressions to settle.

    Parameters
    ----------
    learners
        Names of the learners.
    epoch
        What is held is kept by epochs of event time of this length, microseconds; it changes
        no result.
    """

    def __init__(self, learners: tuple[str, ...], epoch: int) -> None:
        self.learners = learners
        self.epoch = epoch
        self.schema = pa.schema(
            [(KEY0, pa.uint64()), (KEY1, pa.uint64()), (TIME, pa.int64())]
            + [(_OWN + name, pa.float64()) for name in learners]
        )
        self.held: dict[int, list[pa.RecordBatch]] = {}
        """By number of the epoch; each batch in the order in which its rows were known."""

    def hold(self, rows: pa.RecordBatch, margins: Mapping[str, Floats]) -> None:
        """Hold predictions until their impressions settle.

        Parameters
        ----------
        rows
            The impressions in `headrace.schemas.records.events.SERVED_ORDER`, shape (n,).
        margins
            By learner the log-odds of each, shape (n,).
        """
        columns = [rows.column(name) for name in (KEY0, KEY1, TIME)]
        columns += [pa.array(margins[name]) for name in self.learners]
        batch = pa.RecordBatch.from_arrays(columns, schema=self.schema)
        number = batch.column(TIME).to_numpy() // self.epoch
        for of in np.unique(number):
            part = batch.filter(pa.array(number == of))
            self.held.setdefault(int(of), []).append(part)

    def score(self, settled: pa.RecordBatch) -> Scored:
        """Return what was predicted of impressions that settle now.

        Parameters
        ----------
        settled
            Final labels in `headrace.schemas.records.events.MATURE_ORDER`, shape (n,): all of
            their emit times, and in each call later ones than in the last.
        """
        wait = int(settled.column(EMIT)[0].as_py() - settled.column(TIME)[0].as_py())
        until = int(settled.column(EMIT)[-1].as_py()) - wait
        due = [number for number in sorted(self.held) if number <= until // self.epoch]
        parts = [part for number in due for part in self.held[number]]
        found = pa.concat_batches(parts) if parts else self.schema.empty_table()
        # Of copies with one event time it finds the first, which is the one that is kept.
        where = pc.index_in(_identities(settled), value_set=_identities(found))
        margins = {}
        for name in self.learners:
            margin = found.column(_OWN + name).take(where)
            margins[name] = margin.to_numpy(zero_copy_only=False)
        for number in due:
            if (number + 1) * self.epoch <= until:
                del self.held[number]
        return Scored(settled, margins)

    @property
    def open(self) -> int:
        """How many predictions wait, those of copies among them."""
        return sum(part.num_rows for parts in self.held.values() for part in parts)

    def save(self, folder: Path) -> None:
        """Write what waits to a folder."""
        folder.mkdir(parents=True)
        options = pa.ipc.IpcWriteOptions(compression="lz4")
        with pa.ipc.new_file(str(folder / _FILE), self.schema, options=options) as writer:
            for number in sorted(self.held):
                for part in self.held[number]:
                    writer.write_batch(part)

    def load(self, folder: Path) -> None:
        """Replace what waits by what `save` wrote."""
        self.held = {}
        with pa.ipc.open_file(str(folder / _FILE)) as reader:
            for at in range(reader.num_record_batches):
                part = reader.get_batch(at)
                number = part.column(TIME)[0].as_py() // self.epoch
                self.held.setdefault(number, []).append(part)


def _identities(rows: pa.RecordBatch | pa.Table) -> pa.Array:
    """Return key and event time of each row as one value, shape (n,)."""
    columns = [rows.column(name).to_numpy() for name in (KEY0, KEY1, TIME)]
    whole = np.column_stack([column.view(np.uint64) for column in columns])
    buffer = pa.py_buffer(np.ascontiguousarray(whole))
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(24), len(whole), [None, buffer])
