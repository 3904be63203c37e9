"""Actions that met no impression: when they came, from where, and what is nearest to them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from headrace.monitoring.notations import differ
from headrace.monitoring.shifts import FEWEST, Shifts
from headrace.pipelines.sources.inputs import Inputs
from headrace.pipelines.sources.plans import StreamPlan
from headrace.schemas.config.durations import HOUR, SECOND
from headrace.schemas.records.events import IMPRESSIONS, Reason
from headrace.schemas.records.hashing import Int64s

_LOST = (Reason.ORPHAN.value, Reason.OUTSIDE_WINDOW.value)
_MOST_ACTIONS = 100_000
"""Of so many actions of a stream, evenly spaced, the nearest impressions are looked for."""
_MOST_IMPRESSIONS = 1_000_000
_EXAMPLES = 1_000
_TIME = r'"event_time": "(?P<time>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d{1,6})?\+00:00)"'
_APART = 1 << 34
"""Seconds: more than there are from the first year to the last."""


@dataclass(frozen=True)
class Letters:
    """Counts of dead letters.

    Parameters
    ----------
    reasons
        By stream and reason.
    lost
        Actions that met no impression: by stream, by source and reason, by hour of event time.
    """

    reasons: dict[str, dict[str, int]] = field(default_factory=dict)
    lost: dict[str, dict[tuple[str, str], Counter[int]]] = field(default_factory=dict)

    def unmet(self, stream: str) -> Counter[int]:
        """Return how many actions of a stream met no impression, by hour."""
        return sum(self.lost.get(stream, {}).values(), Counter())

    def of_source(self, stream: str, source: str, reason: str, until: int) -> tuple[int, int]:
        """Return how many of a source's actions were lost for a reason, and how many by an hour."""
        hours = self.lost.get(stream, {}).get((source, reason), Counter())
        return hours.total(), sum(count for hour, count in hours.items() if hour < until)


def count_letters(letters: ds.Dataset) -> Letters:
    """Count dead letters."""
    found = Letters()
    for batch in letters.to_batches(columns=["stream", "source", "reason", "record"]):
        for stream, reason, count in _counted(batch, ["stream", "reason"]):
            of_stream = found.reasons.setdefault(stream, {})
            of_stream[reason] = of_stream.get(reason, 0) + count
        lost = batch.filter(pc.is_in(batch.column("reason"), value_set=pa.array(_LOST)))
        hours = pc.divide(_event_times(lost.column("record")), HOUR)
        lost = lost.drop_columns(["record"]).append_column("hour", hours)
        for stream, source, reason, hour, count in _counted(
            lost.filter(pc.is_valid(hours)), ["stream", "source", "reason", "hour"]
        ):
            of_source = found.lost.setdefault(stream, {}).setdefault((source, reason), Counter())
            of_source[hour * HOUR] += count
    return found


def _counted(batch: pa.RecordBatch, by: list[str]) -> Iterator[tuple[Any, ...]]:
    table = pa.Table.from_batches([batch]).group_by(by).aggregate([([], "count_all")])
    return zip(*(column.to_pylist() for column in table.columns), strict=True)


def _event_times(records: pa.Array) -> pa.Array:
    """Return the times of records as text, microseconds; null where there is none.

    Quotes inside of texts are escaped there, so none of them looks like this.
    """
    text = pc.extract_regex(records, _TIME).field("time")
    return text.cast(pa.timestamp("us", "UTC")).cast(pa.int64())


class Nearest:
    """The impressions that are nearest to actions of equal keys, among those with samples.

    Parameters
    ----------
    letters
        Dead letters of the run.
    inputs
        Its inputs.
    counted
        Counts of the letters.
    """

    def __init__(self, letters: ds.Dataset, inputs: Inputs, counted: Letters) -> None:
        self.key = inputs.streams[IMPRESSIONS].events.key
        self._keys: dict[str, list[pa.Array]] = {}
        self._times: dict[str, Int64s] = {}
        for stream in inputs.streams[1:]:
            lost = counted.unmet(stream.name).total()
            if lost >= FEWEST and not _of_bytes(stream, inputs):
                every = -(-lost // _MOST_ACTIONS)
                self._keys[stream.name], self._times[stream.name] = _some(letters, stream, every)
        wanted = [_joined(columns) for columns in self._keys.values()]
        self._wanted = pa.concat_arrays(wanted).unique() if wanted else pa.array([], pa.string())
        self._codes: list[Int64s] = []
        self._shown: list[Int64s] = []
        self._examples: list[list[str]] = [[] for _ in self.key]

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of samples that are needed."""
        return self.key if self._keys else ()

    def add(self, batch: pa.RecordBatch) -> None:
        """Look at samples with these columns and ``event_time``."""
        if not self._keys:
            return
        columns = [batch.column(name).cast(pa.string()) for name in self.key]
        for examples, column in zip(self._examples, columns, strict=True):
            examples += column.slice(0, _EXAMPLES - len(examples)).to_pylist()
        if sum(codes.size for codes in self._codes) > _MOST_IMPRESSIONS:
            return
        code = pc.index_in(_joined(columns), value_set=self._wanted)
        known = pc.is_valid(code)
        self._codes.append(code.filter(known).cast(pa.int64()).to_numpy())
        time = batch.column("event_time").cast(pa.int64()).filter(known)
        self._shown.append(time.to_numpy())

    def shifts_of(self, stream: str) -> Shifts:
        """Return the delays of actions of a stream that met no impression."""
        found = Shifts()
        if stream not in self._keys or not self._codes:
            return found
        shown = np.concatenate(self._codes) * _APART + np.concatenate(self._shown) // SECOND
        if not shown.size:
            return found
        shown.sort()
        code = pc.index_in(_joined(self._keys[stream]), value_set=self._wanted)
        own = code.cast(pa.int64()).to_numpy(zero_copy_only=False)
        action = own * _APART + self._times[stream] // SECOND
        after = np.minimum(np.searchsorted(shown, action), shown.size - 1)
        delays = []
        for at in (np.maximum(after - 1, 0), after):
            delay = action - shown[at]
            delays.append(np.where(shown[at] // _APART == own, delay, _APART))
        nearest = np.where(np.abs(delays[0]) <= np.abs(delays[1]), *delays)
        found.add_unmet(nearest[nearest < _APART] * SECOND)
        return found

    def notations_of(self, stream: str) -> dict[str, tuple[str, str]]:
        """Return examples of keys written otherwise than those of impressions, by column."""
        found = {}
        for name, here, there in zip(
            self.key, self._keys.get(stream, ()), self._examples, strict=False
        ):
            examples = differ(here.slice(0, _EXAMPLES).to_pylist(), there)
            if examples is not None:
                found[name] = examples
        return found


def _of_bytes(stream: StreamPlan, inputs: Inputs) -> bool:
    kinds = [
        inputs.schema_of(of.number).field(key).type
        for of in (inputs.streams[IMPRESSIONS], stream)
        for key in of.events.key
    ]
    return any(pa.types.is_binary(kind) for kind in kinds)


def _some(letters: ds.Dataset, stream: StreamPlan, every: int) -> tuple[list[pa.Array], Int64s]:
    """Return keys, column by column as text, and times of every so many lost actions."""
    wanted = (pc.field("stream") == stream.name) & pc.field("reason").isin(_LOST)
    records, seen = [], 0
    for batch in letters.to_batches(columns=["record"], filter=wanted):
        of = np.arange(-seen % every, batch.num_rows, every)
        records.append(batch.column("record").take(pa.array(of)))
        seen += batch.num_rows
    chosen = pa.concat_arrays(records)
    times = _event_times(chosen)
    chosen, times = chosen.filter(pc.is_valid(times)), times.drop_null()
    rows = [json.loads(record) for record in chosen.to_pylist()]
    keys = [pa.array([str(row[key]) for row in rows], pa.string()) for key in stream.events.key]
    return keys, times.to_numpy()


def _joined(columns: list[pa.Array]) -> pa.Array:
    return pc.binary_join_element_wise(*columns, "\x1f")
