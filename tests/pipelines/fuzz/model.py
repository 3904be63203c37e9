"""What the documents say of a case: its samples, dead letters, and counts.

Every window is a day and ``early`` half of one, and all times of a log lie within an hour: so
an action belongs to the impression of its key, and nothing is late, in whatever order it comes.
"""

from __future__ import annotations

import struct
from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from tests.pipelines.fuzz.cases import Case, Cell, Column, File, Row, Stream
from tests.pipelines.fuzz.values import USUAL_NULLS

BAD = object()


@dataclass
class Record:
    """A valid record: its place, key, and values by column."""

    time_us: int
    file: int
    position: int
    key: tuple[Any, ...]
    values: dict[str, Any]

    @property
    def place(self) -> tuple[int, int, int]:
        return self.time_us, self.file, self.position


@dataclass
class Expected:
    """What becomes of a case.

    Parameters
    ----------
    sound
        Whether the documents say that it works.
    input
        Number of records by stream.
    outcomes
        Counts by stream and outcome.
    letters
        Reasons that a dead letter may have, by stream, number of its file and position.
    bad
        Counts of bad values by stream and column.
    samples
        Values by key and column.
    sure
        Keys of the samples that cannot have been dropped by sampling.
    """

    sound: bool = True
    input: dict[str, int] = field(default_factory=dict)
    outcomes: dict[str, Counter[str]] = field(default_factory=dict)
    letters: dict[tuple[str, int, int], frozenset[str]] = field(default_factory=dict)
    bad: dict[str, dict[str, int]] = field(default_factory=dict)
    samples: dict[tuple[Any, ...], dict[str, Any]] = field(default_factory=dict)
    sure: set[tuple[Any, ...]] = field(default_factory=set)


def same(value: Any) -> Any:
    """Return a form of a value in which equal values are equal, and -0.0 is not 0.0."""
    if isinstance(value, list):
        return tuple(same(item) for item in value)
    if isinstance(value, float):
        if value.is_integer() and struct.pack("d", value) != struct.pack("d", -0.0):
            return int(value)
        return struct.pack("d", value) if value == value else "NaN"
    if isinstance(value, Decimal) and value == int(value):
        return int(value)
    return value


def read(stream: Stream, column: Column, cell: Cell) -> Any:
    """Return what a cell is read as; `BAD` if it does not fit."""
    if cell.raw is None or (stream.form == "csv" and cell.raw == ""):
        return None
    nulls = stream.options.get("null_values")
    if nulls is None and column.kind.name not in ("string", "bytes"):
        nulls = USUAL_NULLS
    if cell.text is not None and cell.text in (nulls or ()):
        return None
    return BAD if cell.bad else cell.value


def used(stream: Stream, case: Case) -> list[str]:
    """Return the columns that a sample has of a stream, besides key and time."""
    names = [name for name in stream.columns if name not in (*stream.key, stream.time)]
    if "columns" not in stream.options:
        return names if stream is case.streams[0] else []
    chosen = stream.options["columns"]
    return [
        name for name in names if name in chosen or set(stream.columns[name].roles) - {"carried"}
    ]


def expect(case: Case) -> Expected:
    """Return what the documents say becomes of a case."""
    expected = Expected()
    valid = {stream.name: _records(case, stream, expected) for stream in case.streams}
    shown, *actions = case.streams
    kept: dict[tuple[Any, ...], Record] = {}
    for record in sorted(valid[shown.name], key=lambda record: record.place):
        if record.key in kept:
            _bury(expected, shown, record, "duplicate")
        else:
            kept[record.key] = record
            expected.outcomes[shown.name]["settled"] += 1
    for key, record in kept.items():
        names = used(shown, case)
        expected.samples[key] = {name: record.values[name] for name in names}
        expected.samples[key]["event_time"] = record.time_us
        rate = _rate(case, record)
        if rate == 1:
            expected.sure.add(key)
    for stream in actions:
        counted: dict[tuple[Any, ...], list[Record]] = {key: [] for key in kept}
        for record in sorted(valid[stream.name], key=lambda record: record.place):
            if record.key in kept:
                counted[record.key].append(record)
                expected.outcomes[stream.name]["settled"] += 1
            else:
                _bury(expected, stream, record, "orphan")
        for key, records in counted.items():
            sample = expected.samples[key]
            sample[stream.name] = bool(records)
            sample[f"{stream.name}_count"] = len(records)
            sample[f"{stream.name}_time"] = records[0].time_us if records else None
            for name in used(stream, case) if "columns" in stream.options else ():
                sample[f"{stream.name}_{name}"] = records[0].values[name] if records else None
            if records:
                expected.sure.add(key)
    return expected


def _bury(expected: Expected, stream: Stream, record: Record, reason: str) -> None:
    expected.outcomes[stream.name][reason] += 1
    expected.letters[stream.name, record.file, record.position] = frozenset((reason,))


def _rate(case: Case, record: Record) -> float:
    sampling = case.tables.get("sampling", {})
    if case.keep is not None:
        value = record.values[case.keep]
        if value is not None and value > 3:
            return 1
    if case.rates is not None:
        column, rates = case.rates
        return rates.get(record.values[column], 1)
    return sampling.get("negative_rate", 1)


def _records(case: Case, stream: Stream, expected: Expected) -> list[Record]:
    """Return the valid records of a stream; count the others."""
    valid: list[Record] = []
    expected.outcomes[stream.name] = Counter()
    bad: Counter[str] = Counter()
    good: Counter[str] = Counter()
    expected.input[stream.name] = sum(len(file.rows) for file in stream.files)
    for number, file in enumerate(stream.files):
        for position, row in enumerate(file.rows):
            found = _record(stream, file, row, set(used(stream, case)), good, bad)
            if isinstance(found, frozenset):
                expected.outcomes[stream.name]["invalid"] += 1
                expected.letters[stream.name, number, position] = found
            else:
                key, values = found
                valid.append(Record(row.time_us, number, position, key, values))
    rejecting = stream.options.get("bad_values") == "reject"
    expected.bad[stream.name] = {} if rejecting else dict(+bad)
    if not valid or any(not good[name] for name in +bad):
        expected.sound = False
    for name, column in stream.columns.items():
        if stream.form == "jsonl" and not column.declared and not good[name]:
            expected.sound = False  # nothing says of what type it is
    return valid


def _record(
    stream: Stream, file: File, row: Row, chosen: set[str], good: Counter[str], bad: Counter[str]
) -> frozenset[str] | tuple[tuple[Any, ...], dict[str, Any]]:
    """Return key and values of a record, or the reasons for which it may be invalid."""
    if row.damage:
        return row.reasons
    values: dict[str, Any] = {}
    for name, column in stream.columns.items():
        there = file.columns is not None and name in file.columns
        values[name] = read(stream, column, row.cells[name]) if there else None
    key = tuple(values[name] for name in stream.key)
    reasons = set(row.reasons)
    if any(part in (None, "", b"") for part in key):
        reasons.add("null_key")
    if values[stream.time] is None:
        reasons.add("null_time")
    wrong = [name for name in chosen if values[name] is BAD]
    if stream.options.get("bad_values") == "reject" and wrong:
        reasons.add("wrong_type")
    for name in values:
        good[name] += values[name] is not BAD and values[name] is not None
        bad[name] += values[name] is BAD and name in chosen
    if reasons:
        return frozenset(reasons)
    parts = tuple(part.encode() if isinstance(part, str) else part for part in key)
    return parts, {name: None if value is BAD else value for name, value in values.items()}
