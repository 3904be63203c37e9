"""Predictions as a server would make them: when an impression is known, scored when it settles.

A learner that predicts a sample just before it learns it has seen all that came while the
sample waited for its label, and with an early emission it is scored by labels that may still
change: both flatter. Here some impressions are predicted with the models as they were when
these became known, and scored with their final labels. What settled calibrates what is
predicted from then on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headrace.learners.calibration import REFIT, CalibrationMap, CalibrationPlan, Calibrator
from headrace.learners.guarding import LabelGuard
from headrace.learners.learner import Floats
from headrace.schemas.records.events import EMIT, KEY0, KEY1, TIME
from headrace.schemas.records.hashing import Bools, Int64s
from headrace.schemas.records.restored import expect, expect_times, restoring

_FILE = "served.arrow"
_OWN, _CALIBRATED, _CHAMPION = "margin:", "calibrated:", "champion:"


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
    calibrated
        Of learners with a calibration, those log-odds as calibrated when they were predicted.
    champions
        Of learners beside which a model serves, that model's log-odds; NaN before it did.
    """

    rows: pa.RecordBatch
    margins: dict[str, Floats]
    calibrated: dict[str, Floats] = field(default_factory=dict)
    champions: dict[str, Floats] = field(default_factory=dict)


class Held:
    """Predictions that wait for their impressions to settle.

    Parameters
    ----------
    names
        Names of the predictions, such as those of learners.
    epoch
        What is held is kept by epochs of event time of this length, microseconds; it changes
        no result.
    """

    def __init__(self, names: tuple[str, ...], epoch: int) -> None:
        self.names = names
        self.epoch = epoch
        self.schema = pa.schema(
            [(KEY0, pa.uint64()), (KEY1, pa.uint64()), (TIME, pa.int64())]
            + [(_OWN + name, pa.float64()) for name in names]
        )
        self.epochs: dict[int, list[pa.RecordBatch]] = {}
        """By number of the epoch; each batch in the order in which its rows were known."""

    @property
    def waiting(self) -> int:
        """How many impressions wait, copies among them."""
        return sum(part.num_rows for parts in self.epochs.values() for part in parts)

    def hold(self, rows: pa.RecordBatch, margins: Mapping[str, Floats]) -> None:
        """Hold predictions until their impressions settle.

        Parameters
        ----------
        rows
            The impressions in `headrace.schemas.records.events.SERVED_ORDER`, shape (n,).
        margins
            By name the log-odds of each, shape (n,).
        """
        columns = [rows.column(name) for name in (KEY0, KEY1, TIME)]
        columns += [pa.array(margins[name]) for name in self.names]
        batch = pa.RecordBatch.from_arrays(columns, schema=self.schema)
        number = batch.column(TIME).to_numpy() // self.epoch
        for of in np.unique(number):
            part = batch.filter(pa.array(number == of))
            self.epochs.setdefault(int(of), []).append(part)

    def take(self, settled: pa.RecordBatch) -> dict[str, Floats]:
        """Return what was predicted of impressions that settle now, by name; NaN for nothing.

        Parameters
        ----------
        settled
            Final labels in `headrace.schemas.records.events.MATURE_ORDER`, shape (n,): all of
            their emit times, and in each call later ones than in the last.
        """
        until = settled.column(TIME)[-1].as_py()
        due = [number for number in sorted(self.epochs) if number <= until // self.epoch]
        parts = [part for number in due for part in self.epochs[number]]
        found = pa.concat_batches(parts) if parts else self.schema.empty_table()
        # Of copies with one event time it finds the first, which is the one that is kept.
        where = pc.index_in(_identities(settled), value_set=_identities(found))
        margins = {}
        for name in self.names:
            margin = found.column(_OWN + name).take(where)
            margins[name] = margin.to_numpy(zero_copy_only=False)
        for number in due:
            if (number + 1) * self.epoch <= until:
                del self.epochs[number]
        return margins

    def save(self, folder: Path) -> None:
        """Write what waits to a folder."""
        folder.mkdir(parents=True)
        options = pa.ipc.IpcWriteOptions(compression="lz4")
        with pa.ipc.new_file(str(folder / _FILE), self.schema, options=options) as writer:
            for number in sorted(self.epochs):
                for part in self.epochs[number]:
                    writer.write_batch(part)

    def load(self, folder: Path) -> None:
        """Replace what waits by what `save` wrote.

        Raises
        ------
        DamagedError
            If it is not what is written.
        """
        self.epochs = {}
        with restoring(_FILE), pa.ipc.open_file(str(folder / _FILE)) as reader:
            expect(reader.schema.equals(self.schema), _FILE, "has other columns")
            for at in range(reader.num_record_batches):
                part = reader.get_batch(at)
                part.validate(full=True)
                expect(part.num_rows, _FILE, "a batch has no rows")
                nulls = sum(column.null_count for column in part.columns)
                expect(not nulls, _FILE, "has nulls")
                expect_times(part.column(TIME).to_numpy(), _FILE)
                number = part.column(TIME)[0].as_py() // self.epoch
                self.epochs.setdefault(number, []).append(part)


class Served(Protocol):
    """What must be known of a learner to score and calibrate it."""

    @property
    def label(self) -> str:
        """Name of its label."""

    @property
    def calibration(self) -> CalibrationPlan | None:
        """How it is calibrated; None for not at all."""

    def scores(self, settled: pa.RecordBatch) -> Bools:
        """Return which impressions with final labels its predictions are scored on, shape (n,)."""


class Serving:
    """Predictions of impressions when they are known, their scores, and calibration by these.

    Parameters
    ----------
    learners
        The learners by name.
    epoch
        See `Held`.
    gated
        Whether predictions of models that serve are kept beside those of the learners.

    Attributes
    ----------
    held
        Predictions of impressions that have not settled.
    calibrators
        Of learners with a calibration, by name.
    """

    def __init__(self, learners: Mapping[str, Served], epoch: int, gated: bool = False) -> None:
        self.learners = learners
        self.calibrators = {
            name: Calibrator(learner.calibration)
            for name, learner in learners.items()
            if learner.calibration is not None
        }
        self.gated = tuple(learners) if gated else ()
        calibrated = (_CALIBRATED + name for name in self.calibrators)
        champions = (_CHAMPION + name for name in self.gated)
        self.held = Held((*learners, *calibrated, *champions), epoch)

    def map_of(self, name: str) -> CalibrationMap | None:
        """Return the map by which a learner's predictions are calibrated now, None for none."""
        return self.calibrators[name].map if name in self.calibrators else None

    def export(self) -> dict[str, Any]:
        """Return the state of the calibrators as JSON types; that of `held` is saved apart."""
        return {name: calibrator.export() for name, calibrator in self.calibrators.items()}

    def restore(self, state: dict[str, Any]) -> None:
        """Replace the state of the calibrators by what `export` returned."""
        for name, calibrator in self.calibrators.items():
            calibrator.restore(state[name])

    def observe(
        self,
        known: pa.RecordBatch | None,
        margins: Mapping[str, Floats],
        settled: pa.RecordBatch | None,
        champions: Mapping[str, Floats] = MappingProxyType({}),
        guards: Mapping[str, LabelGuard] = MappingProxyType({}),
    ) -> Scored | None:
        """Take in what became known and what settled in a time; return the latter scored.

        Parameters
        ----------
        known
            Impressions in `headrace.schemas.records.events.SERVED_ORDER`, shape (n,).
        margins
            By learner the log-odds of each, not calibrated, shape (n,).
        settled
            Final labels in `headrace.schemas.records.events.MATURE_ORDER`.
        champions
            By learner the log-odds of the model that serves, shape (n,).
        guards
            By label; what settles during a disconnect does not calibrate.
        """
        if not self.calibrators:
            return self._observe(known, margins, settled, champions)
        parts = []
        # A map holds for a period: those that came before it settled, or became known.
        for period in np.unique(np.concatenate([_periods(known), _periods(settled)])):
            for calibrator in self.calibrators.values():
                calibrator.advance(int(period))
            now, then = (slice(*np.searchsorted(_periods(rows), (period, period + 1)))
                         for rows in (known, settled))  # fmt: skip
            own, theirs = ({name: margin[now] for name, margin in of.items()}
                           for of in (margins, champions))  # fmt: skip
            part = self._observe(_cut(known, now), own, _cut(settled, then), theirs)
            if part is not None:
                self._fit_later(part, guards)
                parts.append(part)
        return _joined(parts) if parts else None

    def _observe(
        self,
        known: pa.RecordBatch | None,
        margins: Mapping[str, Floats],
        settled: pa.RecordBatch | None,
        champions: Mapping[str, Floats],
    ) -> Scored | None:
        if known is not None:
            maps = {name: calibrator.map for name, calibrator in self.calibrators.items()}
            held = dict(margins)
            for name, of in maps.items():
                held[_CALIBRATED + name] = of.apply(margins[name], known)
            for name, margin in champions.items():
                # A server calibrates whatever model it has.
                served = maps[name].apply(margin, known) if name in maps else margin
                held[_CHAMPION + name] = served
            self.held.hold(known, held)
        if settled is None:
            return None
        found = self.held.take(settled)
        return Scored(
            settled,
            {name: found[name] for name in self.learners},
            {name: found[_CALIBRATED + name] for name in self.calibrators},
            {name: found[_CHAMPION + name] for name in self.gated},
        )

    def _fit_later(self, scored: Scored, guards: Mapping[str, LabelGuard]) -> None:
        """Add what settled to the sums to which the next maps are fitted."""
        for name, calibrator in self.calibrators.items():
            learner, margin = self.learners[name], scored.margins[name]
            fit = np.isfinite(margin) & learner.scores(scored.rows)
            if (guard := guards.get(learner.label)) is not None:
                columns = {of: scored.rows.column(of) for of in guard.columns}
                fit &= ~guard.held_at(scored.rows.column(EMIT).to_numpy(), columns)
            own = np.flatnonzero(fit)
            rows = scored.rows.take(pa.array(own))
            label = rows.column(learner.label).cast(pa.float64()).to_numpy()
            calibrator.observe(margin[own], label, rows)


def _identities(rows: pa.RecordBatch | pa.Table) -> pa.Array:
    """Return key and event time of each row as one value, shape (n,)."""
    columns = [rows.column(name).to_numpy() for name in (KEY0, KEY1, TIME)]
    whole = np.column_stack([column.view(np.uint64) for column in columns])
    buffer = pa.py_buffer(np.ascontiguousarray(whole))
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(24), len(whole), [None, buffer])


def _periods(rows: pa.RecordBatch | None) -> Int64s:
    if rows is None:
        return np.empty(0, np.int64)
    periods: Int64s = rows.column(EMIT).to_numpy() // REFIT
    return periods


def _cut(rows: pa.RecordBatch | None, here: slice) -> pa.RecordBatch | None:
    if rows is None or here.start == here.stop:
        return None
    return rows.slice(here.start, here.stop - here.start)


def _joined(parts: list[Scored]) -> Scored:
    def whole(found: list[dict[str, Floats]]) -> dict[str, Floats]:
        return {name: np.concatenate([of[name] for of in found]) for name in found[0]}

    return Scored(
        pa.concat_batches([part.rows for part in parts]),
        whole([part.margins for part in parts]),
        whole([part.calibrated for part in parts]),
        whole([part.champions for part in parts]),
    )
