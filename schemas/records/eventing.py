"""From decoded records to events: time, arrival progress, digests.

Pure: the event depends on the record and on the running maximum of the event
times before it.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from headrace.schemas.config.durations import format_duration
from headrace.schemas.records.badvalues import BadValues
from headrace.schemas.records.decoding import Records, Reject
from headrace.schemas.records.epochs import parse_epochs, parse_timestamps
from headrace.schemas.records.events import (
    ARRIVAL,
    EARLIEST,
    FLOORED,
    GROUP0,
    GROUP1,
    ID0,
    ID1,
    KEY0,
    KEY1,
    LATEST,
    NEVER,
    OFFSET,
    RECORD,
    REPEATED,
    TIME,
    Reason,
    without_reserved,
)
from headrace.schemas.records.hashing import Bools, Hash, Int64s, hash_columns
from headrace.schemas.records.keyed import PUBLIC
from headrace.schemas.records.repeated import UNRESOLVED, in_zone, resolve
from headrace.schemas.records.utf8 import escaped
from headrace.schemas.types import type_name

ISO_FORMAT = "iso8601"


@dataclass(frozen=True)
class TimePlan:
    """Where a stream's event time is, and how it is written.

    Parameters
    ----------
    column
        Name of the column.
    unit
        Of numbers since 1970-01-01 UTC, also in text: ``ns`` (floored to microseconds),
        ``us``, ``ms`` or ``s``.
    format, zone
        Of text: a format of `strptime`, or `ISO_FORMAT`; and the zone of times without one.
    """

    column: str
    unit: str | None = None
    format: str | None = None
    zone: str = "UTC"


@dataclass(frozen=True)
class TrustedTime:
    """A time of each record that is taken as right, of a server or a broker.

    Parameters
    ----------
    time
        Where it is, and how it is written.
    within
        How far an event time may be after it, inclusive; microseconds.
    """

    time: TimePlan
    within: int


@dataclass(frozen=True)
class EventPlan:
    """How a stream's records become events.

    Parameters
    ----------
    stream
        0 for impressions, ``1 + i`` for action stream ``i``.
    key, group
        Columns of the join key and, among them, of the group.
    time
        Where the event time is.
    carried
        Columns that travel on.
    id
        Column of the action's id.
    trusted
        A time that event times must not be far after; None for none.
    """

    stream: int
    key: tuple[str, ...]
    time: TimePlan
    carried: tuple[str, ...]
    group: tuple[str, ...] = ()
    id: str | None = None
    trusted: TrustedTime | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column to read, each once."""
        names = [*self.key, self.time.column, *self.carried]
        if self.trusted is not None:
            names.append(self.trusted.time.column)
        if self.id is not None:
            names.append(self.id)
        return tuple(dict.fromkeys(names))


@dataclass
class Events:
    """Events of one source in its order, and the records that are not events."""

    batch: pa.RecordBatch
    rejects: list[Reject]
    bad: list[BadValues] = field(default_factory=list)


@dataclass(frozen=True)
class Times:
    """A time column as event times.

    Parameters
    ----------
    time
        int64 microseconds UTC, shape (n,); in the first pass of an hour that the zone
        repeats.
    null, bad
        Where the value is null; where it is not a time, or is outside
        ``[EARLIEST, LATEST)``; bool, shape (n,).
    unfit
        Where it is bad because it is text that is not written as is due, bool, shape (n,).
    repeated
        How much later the second pass of a repeated hour is, 0 where there is none, int64
        microseconds, shape (n,). None if the notation or the zone excludes such hours.
    floored
        Where a part of a microsecond is cut off, bool, shape (n,). None if the notation
        excludes it.
    """

    time: Int64s
    null: Bools
    bad: Bools
    unfit: Bools
    repeated: Int64s | None = None
    floored: Bools | None = None


def parse_times(column: pa.Array, plan: TimePlan) -> Times:
    """Convert a time column to microseconds UTC.

    Raises
    ------
    TypeError
        If the column's type does not fit the declared notation.
    """
    null = column.is_null().to_numpy(zero_copy_only=False)
    unreadable = np.zeros(len(column), np.bool_)
    repeated: Int64s | None = None
    floored: Bools | None = None
    kind = column.type
    if plan.format is not None:
        parsed, repeated = _parse_text_times(column, plan)
        unreadable = parsed.is_null().to_numpy(zero_copy_only=False) & ~null
        time = _int64(parsed)
    elif pa.types.is_timestamp(kind):
        moments, floored = parse_timestamps(column)
        if kind.tz is None:
            moments, repeated = in_zone(moments, plan.zone)
        time = _int64(moments)
    elif plan.unit is None:
        raise TypeError(f"column {plan.column} is {type_name(kind)} and needs a unit or a format")
    elif pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_string(kind):
        found = parse_epochs(column, plan.unit)
        bad = found.unfit | found.beyond
        return Times(found.time, found.null, bad, found.unfit, floored=found.floored)
    else:
        raise TypeError(f"column {plan.column} is {type_name(kind)}, not integer times")
    bad = (unreadable | (time < EARLIEST) | (time >= LATEST)) & ~null
    return Times(time, null, bad, unreadable, repeated, floored)


def _int64(column: pa.Array) -> Int64s:
    return pc.fill_null(column.cast(pa.int64()), 0).to_numpy(zero_copy_only=False)


def _parse_text_times(column: pa.Array, plan: TimePlan) -> tuple[pa.Array, Int64s | None]:
    """Return the moments and how much later second passes are, as `in_zone` does."""
    assert plan.format is not None
    text = column.cast(pa.string())
    if plan.format == ISO_FORMAT:
        return parse_iso(text, plan.zone)
    text, fraction, form = _without_fraction(text, plan.format)
    parsed = pc.strptime(text, format=form, unit="us", error_is_null=True)
    repeated = None
    if parsed.type.tz is None:
        parsed, repeated = in_zone(parsed, plan.zone)
    if fraction is not None:
        parsed = pc.add(parsed.cast(pa.int64()), fraction).cast(parsed.type)
    return parsed, repeated


def parse_iso(text: pa.Array, zone: str) -> tuple[pa.Array, Int64s | None]:
    """Parse ISO 8601; a time without an offset is of the zone."""
    offset = pc.match_substring_regex(text, _OFFSET)
    try:
        if pc.all(offset).as_py():
            _, repeated = in_zone(pa.nulls(len(text), pa.timestamp("us")), zone)
            return text.cast(pa.timestamp("us", "UTC")), repeated
        absolute = pc.if_else(offset, text, None).cast(pa.timestamp("us", "UTC"))
        naive = pc.if_else(offset, None, text).cast(pa.timestamp("us"))
    except pa.ArrowInvalid:  # one at least is not ISO, or of a form that Arrow does not know
        parsed = [_iso(value) for value in text.to_pylist()]
        aware = [value is not None and value.tzinfo is not None for value in parsed]
        chosen = zip(parsed, aware, strict=True)
        absolute = pa.array([v if a else None for v, a in chosen], pa.timestamp("us", "UTC"))
        chosen = zip(parsed, aware, strict=True)
        naive = pa.array([None if a else v for v, a in chosen], pa.timestamp("us"))
    moments, repeated = in_zone(naive, zone)
    return pc.coalesce(absolute, moments.cast(absolute.type)), repeated


_OFFSET = r"([Zz]|[+-][0-9]{2}(:?[0-9]{2})?)$"


def _iso(value: str | None) -> datetime | None:
    try:
        return datetime.fromisoformat(value) if value is not None else None
    except ValueError:
        return None


def _without_fraction(text: pa.Array, form: str) -> tuple[pa.Array, pa.Array | None, str]:
    """Take the fraction of the second out of text and format: Arrow does not parse it.

    Returns
    -------
    text, fraction, form
        The text without it, null where there is none; microseconds, int64; and the format
        without ``%f``. The fraction is None if the format has none.
    """
    before, mark, after = form.partition("%f")
    if not mark:
        return text, None, form
    if not before.endswith(("%S.", "%S,")) or "%f" in after:
        raise ValueError("%f must follow %S and a point or comma, once")
    # The last such group of digits: dates may have points too.
    parts = pc.extract_regex(text, r"^(?P<head>.*)[.,](?P<digits>[0-9]{1,6})(?P<tail>.*)$")
    head, digits, tail = (pc.struct_field(parts, name) for name in ("head", "digits", "tail"))
    whole = pc.binary_join_element_wise(head, tail, "")
    micros = pc.utf8_rpad(digits, 6, "0").cast(pa.int64())
    return whole, micros, before[:-1] + after


class EventBuilder:
    """Turn one source's records, in order, into events.

    Parameters
    ----------
    plan
        How the stream's records become events.
    out_of_orderness
        The source's progress is its greatest event time minus this, microseconds.
    in_order
        Whether the order of the records is that of time, but for some disorder; then it tells
        the passes of hours that the zone repeats.
    least
        Progress with which the source begins, microseconds.
    by
        The hash of keys, groups and ids.

    Attributes
    ----------
    greatest
        Greatest event time so far of those that move the clock, `NEVER` without one; microseconds.
    anchored
        Whether a row so far tells in which pass of a repeated hour the source is.
    counts
        Event times that needed a choice, see `headrace.schemas.summary.TimeCounts`.
    """

    def __init__(
        self, plan: EventPlan, out_of_orderness: int, in_order: bool = True, least: int = NEVER,
        by: Hash = PUBLIC,
    ) -> None:  # fmt: skip
        self.plan = plan
        self.by = by
        self.least = least
        self.out_of_orderness = out_of_orderness
        self.in_order = in_order
        self.greatest = NEVER
        self.anchored = False
        self.counts: Counter[str] = Counter()

    @property
    def progress(self) -> int:
        """Event time (microseconds UTC) before which a further row is out of order."""
        own = NEVER if self.greatest == NEVER else self.greatest - self.out_of_orderness
        return max(own, self.least)

    def check(self, records: Records) -> Events:
        """Reject records without key or valid time, and add event times.

        `finish` must follow, to resolve times in repeated hours and to add arrival progress
        and digests.
        """
        plan, batch, bad_values = self.plan, records.batch, records.bad
        times = parse_times(batch.column(plan.time.column), plan.time)
        time = times.time
        marks = {REPEATED: times.repeated, FLOORED: times.floored}
        null_key = np.zeros(batch.num_rows, np.bool_)
        for name in plan.key:
            null_key |= _empty(batch.column(name))
        wrong = [
            (null_key, Reason.NULL_KEY, f"key {list(plan.key)} is null or empty"),
            *_wrong_times(times, plan.time),
        ]
        if plan.trusted is not None:
            wrong += _untrusted(batch, time, plan.trusted)
        rejects = list(records.rejects)
        bad = np.logical_or.reduce([rows for rows, _, _ in wrong])
        if bad.any():
            for row in np.flatnonzero(bad):
                reason, detail = next((reason, detail) for rows, reason, detail in wrong
                                      if rows[row])  # fmt: skip
                rejects.append(Reject(int(records.numbers[row]), reason, detail,
                                      record_text(batch, int(row))))  # fmt: skip
            good = pa.array(~bad)
            batch, time = batch.filter(good), time[~bad]
            marks = {name: mark if mark is None else mark[~bad] for name, mark in marks.items()}
            records = Records(batch, records.numbers[~bad])
            rejects.sort(key=lambda reject: reject.number)
        columns = [(name, batch.column(name)) for name in self._travelling()]
        if plan.id is not None:
            id0, id1 = _hash_ids(batch.column(plan.id), self.by)
            columns += [(ID0, id0), (ID1, id1)]
        columns += [(TIME, pa.array(time)), (RECORD, pa.array(records.numbers))]
        columns += [(name, pa.array(mark)) for name, mark in marks.items() if mark is not None]
        names, arrays = zip(*columns, strict=True)
        events = pa.RecordBatch.from_arrays(list(arrays), names=list(names))
        return Events(events, rejects, bad_values)

    def finish(
        self, batch: pa.RecordBatch, offsets: Int64s | None = None, doubtful: Bools | None = None
    ) -> pa.RecordBatch:
        """Resolve repeated hours of the next events of the source; add arrival and digests.

        Parameters
        ----------
        batch
            Events from `check`, in the order of the source.
        offsets
            Their positions in that order, shape (n,); None if these equal the
            record numbers, which then need no separate column.
        doubtful
            Which do not move the clock (`headrace.schemas.records.jumps`), bool, shape (n,); None
            if all do.
        """
        keep_record = offsets is not None
        if offsets is None:
            offsets = batch.column(RECORD).to_numpy()
        time = self._resolved(batch)
        arrival = np.empty(time.size, np.int64)
        if time.size:
            moving = time if doubtful is None else np.where(doubtful, NEVER, time)
            running = np.maximum.accumulate(np.concatenate([[self.greatest], moving]))
            before = running[:-1]
            arrival = np.where(before == NEVER, NEVER, before - self.out_of_orderness)
            arrival = np.maximum(arrival, self.least)
            self.greatest = int(running[-1])
        dropped = {REPEATED, FLOORED, *(() if keep_record else (RECORD,))}
        columns = [
            (name, pa.array(time) if name == TIME else batch.column(name))
            for name in batch.schema.names
            if name not in dropped
        ]
        key0, key1 = hash_columns([batch.column(name) for name in self.plan.key], self.by)
        columns += [
            (OFFSET, pa.array(offsets)),
            (ARRIVAL, pa.array(arrival)),
            (KEY0, pa.array(key0)),
            (KEY1, pa.array(key1)),
        ]
        if self.plan.group:
            group = [batch.column(name) for name in self.plan.group]
            group0, group1 = hash_columns(group, self.by)
            columns += [(GROUP0, pa.array(group0)), (GROUP1, pa.array(group1))]
        names, arrays = zip(*columns, strict=True)
        return pa.RecordBatch.from_arrays(list(arrays), names=list(names))

    def _resolved(self, batch: pa.RecordBatch) -> Int64s:
        """Return event times, and count those that needed a choice."""
        time: Int64s = batch.column(TIME).to_numpy()
        if FLOORED in batch.schema.names:
            self.counts["floored"] += batch.column(FLOORED).true_count
        if REPEATED not in batch.schema.names:
            return time
        repeated = batch.column(REPEATED).to_numpy()
        if not self.in_order:
            self.counts[UNRESOLVED] += int(np.count_nonzero(repeated))
            return time
        time, counts = resolve(time, repeated, self.greatest, self.anchored)
        self.counts.update(counts)
        self.anchored |= time.size > counts[UNRESOLVED]
        return time

    def _travelling(self) -> list[str]:
        names = [*self.plan.key, *self.plan.carried]
        if self.plan.stream and self.plan.id is not None:
            names.append(self.plan.id)
        return list(dict.fromkeys(names))


_Wrong = tuple[Bools, Reason, str]
"""Which rows are wrong, shape (n,), the reason, and the detail."""


def _wrong_times(times: Times, plan: TimePlan) -> list[_Wrong]:
    """Return what is wrong with times; of a row the first counts."""
    column = f"column {plan.column}"
    return [
        (times.null, Reason.NULL_TIME, f"{column} is null"),
        (times.unfit, Reason.WRONG_TYPE, not_as_written(plan)),
        (times.bad, Reason.TIME_OUT_OF_RANGE, f"{column} is no time in 1970 to 2099"),
    ]


def _untrusted(batch: pa.RecordBatch, time: Int64s, trusted: TrustedTime) -> list[_Wrong]:
    """Return which rows have no trusted time, and which have a time far after it."""
    column = trusted.time.column
    found = parse_times(batch.column(column), trusted.time)
    # In an hour that the zone repeats, the later pass: nothing right is rejected.
    latest = found.time if found.repeated is None else found.time + found.repeated
    ahead = time > latest + trusted.within
    within = format_duration(trusted.within)
    detail = f"event time is more than {within} after the trusted time of column {column}"
    return [*_wrong_times(found, trusted.time), (ahead, Reason.TIME_JUMP, detail)]


def not_as_written(plan: TimePlan) -> str:
    """Say what is wrong with text that is no time in its notation."""
    due = f"written as {plan.format}" if plan.format is not None else "a number"
    return f"column {plan.column} is not {due}"


def _empty(column: pa.Array) -> npt.NDArray[np.bool_]:
    null = column.is_null()
    if pa.types.is_string(column.type) or pa.types.is_binary(column.type):
        null = pc.or_(null, pc.fill_null(pc.equal(pc.binary_length(column), 0), True))
    return null.to_numpy(zero_copy_only=False)


def _hash_ids(column: pa.Array, by: Hash) -> tuple[pa.Array, pa.Array]:
    id0, id1 = hash_columns([column], by)
    none = _empty(column)
    return pa.array(np.where(none, 0, id0)), pa.array(np.where(none, 0, id1))


def with_event_time(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return events without internal columns, with their time as the column ``event_time``."""
    times = batch.column(TIME).cast(pa.timestamp("us", tz="UTC"))
    return without_reserved(batch).append_column("event_time", times)


def record_text(batch: pa.RecordBatch, row: int) -> str:
    """Return one row as a JSON object; bytes as text, with escapes where they are not UTF-8."""
    values = {name: value_at(batch.column(name), row) for name in batch.schema.names}
    return json.dumps(values, default=as_text, ensure_ascii=False)


def value_at(column: pa.Array, row: int) -> object:
    """Return a value; as text if Python does not have it, such as a time beyond the year 9999.

    Text that is not UTF-8 has escapes where it is not.
    """
    # Python has no nanoseconds, and pandas, if it happens to be there, would lend its own.
    if "[ns" not in str(column.type):
        try:
            return column[row].as_py()
        except UnicodeDecodeError:
            return escaped(column, row)
        except (OverflowError, ValueError):  # a year beyond 9999, which Arrow allows
            pass
    try:
        return column[row].cast(pa.string()).as_py()
    except pa.ArrowNotImplementedError:  # nested
        return " ".join(column.slice(row, 1).to_string().split())


def as_text(value: object) -> str:
    """Return a value as text; of bytes with escapes where they are not UTF-8."""
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
