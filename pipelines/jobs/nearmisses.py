"""What lies nearest to an orphan: why no impression of its key was visible to it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from headrace.joiner.plan.rules import Durations, is_late, known_times
from headrace.pipelines.jobs.nearwords import BETWEEN, Near, details, finding
from headrace.pipelines.jobs.neighbours import Neighbours
from headrace.pipelines.sinks.lettersort import read_letters
from headrace.pipelines.sources.inputs import Inputs
from headrace.pipelines.sources.logevents import read_events
from headrace.pipelines.sources.sorting import sort_rows
from headrace.schemas.config.durations import HOUR
from headrace.schemas.records.events import (
    ARRIVAL,
    FOREVER,
    IMPRESSIONS,
    LETTER_ORDER,
    NEVER,
    TIME,
    Reason,
)
from headrace.schemas.records.hashing import Bools, Int64s
from headrace.schemas.types import matched_as

_CHUNK_ROWS = 65_536
_MOST_ORPHANS = 100_000


@dataclass
class NearMisses:
    """What was found, by action stream: details of its first orphans, and a finding.

    Parameters
    ----------
    details
        By stream, a text for each of its first orphans in the order of dead letters, "" where
        nothing was found.
    findings
        A sentence for each stream of which something was found.
    """

    details: dict[str, pa.Array] = field(default_factory=dict)
    findings: list[str] = field(default_factory=list)

    def amended(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Add what was found to the details of all dead letters, which come in order."""
        passed = dict.fromkeys(self.details, 0)
        for batch in batches:
            where = batch.schema.get_field_index("detail")
            texts = batch.column(where)
            for name, found in self.details.items():
                rows = _orphans_of(name, batch)
                known = found.slice(passed[name], rows.size)
                passed[name] += rows.size
                more = np.full(batch.num_rows, "", np.object_)
                more[rows[: len(known)]] = known.to_numpy(zero_copy_only=False)
                texts = pc.binary_join_element_wise(texts, pa.array(more, pa.string()), "")
            yield batch.set_column(where, "detail", texts)


def _orphans_of(stream: str, letters: pa.RecordBatch) -> Int64s:
    orphans = pc.equal(letters.column("reason"), Reason.ORPHAN.value)
    of_stream = pc.equal(letters.column("stream"), stream)
    return np.flatnonzero(pc.and_(orphans, of_stream).to_numpy(zero_copy_only=False))


@dataclass(frozen=True)
class _Keys:
    """Keys of n records as texts: as they are, loosely, and the part that may be shared."""

    exact: pa.Array
    loose: pa.Array
    part: pa.Array

    @classmethod
    def of(cls, columns: list[pa.Array], shared: tuple[int, ...]) -> _Keys:
        """Return those of key columns, of which `shared` are the part."""
        texts = [column.cast(pa.string()) for column in columns]
        part = _joined([texts[at] for at in shared]) if shared else _joined(texts)
        return cls(_joined(texts), loosened(texts), part)


def _joined(texts: list[pa.Array]) -> pa.Array:
    return pc.binary_join_element_wise(*texts, BETWEEN) if len(texts) > 1 else texts[0]


def loosened(texts: list[pa.Array]) -> pa.Array:
    """Return keys without case, blanks and leading zeros, in which near misses may differ."""
    plain = [pc.utf8_lower(pc.utf8_trim_whitespace(text)) for text in texts]
    return _joined([pc.replace_substring_regex(text, r"^0+(.)", r"\1") for text in plain])


@dataclass(frozen=True)
class _Orphans:
    """The first orphans of a stream, n of them, in the order of dead letters."""

    stream: int
    keys: _Keys
    time: Int64s
    total: int


def near_misses(written: Path, inputs: Inputs, memory_bytes: int) -> NearMisses:
    """Look for what lies nearest to orphans, among all impressions.

    Reads the impression files again, of a run that continues another only its own. The join
    never matches keys this way; it only shows what may be wrong. Keys of bytes are not compared,
    and of each stream only the first `_MOST_ORPHANS` orphans.

    Parameters
    ----------
    written
        Folder of the unsorted dead letters of the run.
    inputs
        Inputs of the run.
    memory_bytes
        Beyond this, sorting uses the disk.
    """
    scratch = str(written.parent)
    found = NearMisses()
    searches = [
        _Search(inputs, orphans)
        for orphans in _first_orphans(written, inputs, memory_bytes, scratch)
    ]
    if not searches:
        return found
    hours = _Hours(begun_before=inputs.past is not None)
    for log in inputs.logs_of(IMPRESSIONS):
        for batch in read_events(inputs, log, _CHUNK_ROWS, scratch):
            hours.add(batch.column(TIME).to_numpy())
            for search in searches:
                search.offer(batch)
    for search in searches:
        stream = inputs.streams[search.orphans.stream].name
        near = search.near(hours)
        found.details[stream] = details(near, inputs.join)
        sentence = finding(stream, near, inputs.join, search.orphans.total)
        if sentence is not None:
            found.findings.append(sentence)
    return found


def _first_orphans(
    written: Path, inputs: Inputs, memory_bytes: int, scratch: str
) -> Iterator[_Orphans]:
    kinds = [inputs.schema_of(stream.number).field(key).type for stream in inputs.streams
             for key in stream.events.key]  # fmt: skip
    if any(pa.types.is_binary(kind) for kind in kinds):
        return
    records: dict[str, list[str]] = {stream.name: [] for stream in inputs.streams[1:]}
    total = dict.fromkeys(records, 0)
    for batch in sort_rows(_orphans(written), LETTER_ORDER, memory_bytes, scratch):
        for name, texts in records.items():
            rows = _orphans_of(name, batch)
            total[name] += rows.size
            wanted = rows[: _MOST_ORPHANS - len(texts)]
            texts += batch.column("record").take(pa.array(wanted)).to_pylist()
    for stream in inputs.streams[1:]:
        if records[stream.name]:
            values = [json.loads(record) for record in records[stream.name]]
            keys = [_column(values, key) for key in stream.events.key]
            moments = _column(values, "event_time").cast(pa.timestamp("us", "UTC"))
            yield _Orphans(
                stream.number, _Keys.of(keys, _shared(inputs)),
                moments.cast(pa.int64()).to_numpy(), total[stream.name],
            )  # fmt: skip


def _orphans(written: Path) -> Iterator[pa.RecordBatch]:
    for batch in read_letters(written):
        yield batch.filter(pc.equal(batch.column("reason"), Reason.ORPHAN.value))


def _column(rows: list[dict[str, Any]], name: str) -> pa.Array:
    """Return values of records as texts, as Arrow writes numbers."""
    values = (row[name] for row in rows)
    return pa.array([v if isinstance(v, str) else json.dumps(v) for v in values], pa.string())


def _shared(inputs: Inputs) -> tuple[int, ...]:
    """Return which of the key columns an orphan may share with other impressions.

    Those of the group, or else all but the last: the item of a request.
    """
    key, group = inputs.streams[IMPRESSIONS].events.key, inputs.config.join.group
    if 0 < len(group) < len(key):
        return tuple(key.index(name) for name in group)
    return tuple(range(len(key) - 1))


class _Search:
    """The search for what lies nearest to the orphans of one stream."""

    def __init__(self, inputs: Inputs, orphans: _Orphans) -> None:
        self.orphans, self.plan = orphans, inputs.join
        self.key = inputs.streams[IMPRESSIONS].events.key
        self.own_key = inputs.streams[orphans.stream].events.key
        self.shared = _shared(inputs)
        self.durations = Durations.of(inputs.join)
        ours, theirs = (
            [matched_as(inputs.schema_of(stream).field(name).type) for name in key]
            for stream, key in ((orphans.stream, self.own_key), (IMPRESSIONS, self.key))
        )
        self.types = (ours, theirs)
        keys, time = orphans.keys, orphans.time
        self.exact = Neighbours(keys.exact, time + inputs.join.wait_for_impression)
        self.late = Neighbours(keys.exact, time + 1)
        self.loose = Neighbours(keys.loose, time + 1)
        self.part = Neighbours(keys.part, time + 1)

    def offer(self, batch: pa.RecordBatch) -> None:
        """Take in events of impressions."""
        keys = _Keys.of([batch.column(name) for name in self.key], self.shared)
        time, arrival = batch.column(TIME).to_numpy(), batch.column(ARRIVAL).to_numpy()
        self.loose.offer(keys.loose, time, time, keys.exact)
        if self.shared:
            self.part.offer(keys.part, time, time, keys.exact)
        if self.types[0] == self.types[1]:
            late = is_late.py_func(time, arrival, self.durations)
            known = known_times(batch)
            for nearest, at, chosen in (
                (self.exact, known, ~late), (self.late, time, late),
            ):  # fmt: skip
                if chosen.all():
                    nearest.offer(keys.exact, at, time, keys.exact)
                elif chosen.any():
                    texts = keys.exact.filter(pa.array(chosen))
                    nearest.offer(texts, at[chosen], time[chosen], texts)

    def near(self, hours: _Hours) -> Near:
        """Return what was found."""
        time = self.orphans.time
        empty = hours.empty(time - self.plan.longest_window, time + self.plan.early)
        return Near(
            time, self.orphans.keys.exact, self.own_key, self.key, self.types, self.shared,
            self.exact, self.late, self.loose, self.part, empty, *hours.around(time),
        )  # fmt: skip


class _Hours:
    """In which hours there are impressions.

    Parameters
    ----------
    begun_before
        Whether there are impressions before those that are added, it is not known when.
    """

    def __init__(self, begun_before: bool = False) -> None:
        self.begun_before = begun_before
        self.hours = np.empty(0, np.int64)

    def add(self, time: Int64s) -> None:
        """Note event times."""
        self.hours = np.union1d(self.hours, np.unique(time // HOUR))

    def empty(self, begin: Int64s, end: Int64s) -> Bools:
        """Tell of stretches of time whether no hour that they touch has impressions."""
        first = np.searchsorted(self.hours, begin // HOUR)
        past = np.searchsorted(self.hours, end // HOUR, side="right")
        empty: npt.NDArray[np.bool_] = first == past
        return empty & (first > 0) if self.begun_before else empty

    def around(self, time: Int64s) -> tuple[Int64s, Int64s]:
        """Return when the last hour with impressions before a time ends, and the next begins.

        `NEVER` and `FOREVER` where there is none.
        """
        edges = np.concatenate([[NEVER], self.hours * HOUR, [FOREVER]])
        at = np.searchsorted(self.hours, time // HOUR)
        before = edges[at]
        return np.where(before == NEVER, NEVER, before + HOUR), edges[at + 1]
