"""Traffic as the messages of a live stream, with the faults of real ones.

The messages are a function of what is asked for: the same ones in each partition, in the
same order, whatever the pace at which they are taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from headrace.pipelines.jobs.faults import Fault
from headrace.pipelines.jobs.generate import (
    START,
    WINDOW,
    Floats,
    Int64s,
    Traffic,
    clicks_of,
    evenly,
    expected_loss,
    hex_keys,
    impressions_of,
    schedule_of,
)
from headrace.schemas.config.durations import MINUTE, SECOND

STREAMS = ("impressions", "clicks")

FAULTS = {
    "disorder": "2 % of the impressions come up to 2 s late, out of order",
    "duplicates": "0.2 % of the impressions and 0.5 % of the clicks come twice",
    "late": "0.1 % of the impressions and 0.4 % of the clicks come after the window",
    "orphans": "0.3 % of the clicks again, with the key of no impression",
    "broken": "0.1 % of the messages again, cut off after 40 characters",
    "doubled-clicks": "10 % of the clicks again within a second, under another click_id",
    "dead-clicks": "in the third of every five minutes no click is sent: they are lost",
    "skew": "the last partition of impressions comes two minutes late",
    "idle": "in the second and third of every five minutes the first partition has no impression",
    "burst": "half of the impressions of each minute come in its last three seconds",
}
"""The faults of a live stream: what each does."""

_CODES = {name: code for code, name in enumerate(FAULTS, 1)}
_ROWS = 32_768
_SKEW = 2 * MINUTE
_CYCLE = 5 * MINUTE
_CLICKS_DEAD = (2 * MINUTE, 3 * MINUTE)
_PARTITION_IDLE = (1 * MINUTE, 3 * MINUTE)
_BEFORE_BURST, _BURST_RATE = 57 * SECOND, 10
_BROKEN_AFTER = 40
_LATE_BY = 10 * SECOND
"""Later than the window and the `out_of_orderness` of the configuration."""

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class LiveTraffic:
    """What to generate.

    Parameters
    ----------
    rate
        Impressions per second of event time.
    impressions
        Number of impressions before faults; None for no end.
    seed
        Equal seeds give equal messages.
    start
        The first event time, microseconds UTC.
    window
        Within so much after its impression, less than this, a click comes, microseconds.
    partitions
        Of each topic. A key is in the same one of both.
    faults
        Names in `FAULTS`.
    timed
        What changes stretches of the stream. With any, impressions have a region and an app
        version.
    """

    rate: int
    impressions: int | None = None
    seed: int = 1
    start: int = START
    window: int = WINDOW
    partitions: int = 4
    faults: frozenset[str] = frozenset()
    timed: tuple[Fault, ...] = ()


@dataclass(frozen=True)
class Messages:
    """Messages of both topics in the order in which they are sent.

    Parameters
    ----------
    table
        ``due`` (int64, the event time at which a message is sent, microseconds UTC; never
        falls), ``stream`` (int8, in `STREAMS`), ``partition`` (int32), ``key`` and ``value``
        (text), ``fault`` (int8, what is wrong with it), ``loss`` (float64: of an impression
        that is sent for the first time, the expected log loss of the best prediction).
    """

    table: pa.Table

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @property
    def due(self) -> Int64s:
        """When each message is sent."""
        due: Int64s = self.table.column("due").to_numpy()
        return due

    def slice(self, begin: int, end: int) -> Messages:
        """Return the messages in ``[begin, end)``."""
        return Messages(self.table.slice(begin, end - begin))


class Sent:
    """How many messages were sent, whether these are all, and what is known about them."""

    def __init__(self) -> None:
        self.complete = False
        self.streams = np.zeros(len(STREAMS), np.int64)
        self.shown = 0
        self.loss = 0.0
        self.faults = np.zeros(len(FAULTS) + 1, np.int64)

    def add(self, messages: Messages) -> None:
        """Count messages."""
        table = messages.table
        loss = table.column("loss").to_numpy()
        self.streams += np.bincount(table.column("stream").to_numpy(), minlength=len(STREAMS))
        self.shown += int(np.count_nonzero(loss))
        self.loss += float(loss.sum())
        faults = table.column("fault").to_numpy()
        self.faults += np.bincount(faults, minlength=self.faults.size)

    def as_json(self) -> dict[str, object]:
        """Return messages by stream, the log loss, and messages by fault."""
        counts = dict(zip(STREAMS, self.streams.tolist(), strict=True))
        faults = {name: int(self.faults[code]) for name, code in _CODES.items()}
        return {
            **counts,
            "log_loss": self.loss / self.shown if self.shown else None,
            "faults": {name: count for name, count in faults.items() if count},
        }


def live_messages(live: LiveTraffic) -> Iterator[Messages]:
    """Yield all messages of a stream, in the order in which they are sent."""
    waiting: list[pa.Table] = []
    for number, begin in enumerate(range(0, live.impressions or 2**62, _ROWS)):
        count = _ROWS if live.impressions is None else min(_ROWS, live.impressions - begin)
        waiting.append(_chunk(live, number, begin, count))
        # No impression of a later chunk is before this.
        elapsed = np.array([(begin + count) * (SECOND / live.rate)])
        until = live.start + int(_paced(live)(elapsed)[0])
        split = [np.searchsorted(table.column("due").to_numpy(), until) for table in waiting]
        now = [table.slice(0, at) for table, at in zip(waiting, split, strict=True)]
        later = [table.slice(at) for table, at in zip(waiting, split, strict=True)]
        waiting = [table for table in later if table.num_rows]
        yield Messages(_by_due(now))
    if waiting:
        yield Messages(_by_due(waiting))


def _by_due(tables: list[pa.Table]) -> pa.Table:
    table = pa.concat_tables(tables)
    order = np.argsort(table.column("due").to_numpy(), kind="stable")
    return table.take(pa.array(order)).combine_chunks()


def _paced(live: LiveTraffic) -> Callable[[Floats], Floats]:
    return _in_bursts if "burst" in live.faults else evenly


def _in_bursts(elapsed: Floats) -> Floats:
    """Move the second half of each minute into its end."""
    minute, of_minute = np.divmod(elapsed, MINUTE)
    half = MINUTE / 2
    moved = np.where(
        of_minute < half,
        of_minute * (_BEFORE_BURST / half),
        _BEFORE_BURST + (of_minute - half) / _BURST_RATE,
    )
    return minute * MINUTE + moved


def _chunk(live: LiveTraffic, number: int, begin: int, count: int) -> pa.Table:
    """Return the messages of some impressions and their clicks, by due time.

    Every fault has chances of its own, so that none changes the rest of the stream.
    """
    traffic = Traffic(
        rate=live.rate, seed=live.seed, window=live.window, start=live.start,
        regions=bool(live.timed), faults=live.timed,
    )  # fmt: skip
    random = np.random.default_rng([live.seed, number])
    shown, chances = impressions_of(traffic, random, begin, count, _paced(live))
    p = chances.p
    clicks = clicks_of(traffic, shown, p, random)
    if live.timed:
        schedule = schedule_of(traffic)
        part, _ = schedule.part(number, shown, p, clicks)
        shown, p = schedule.settled(part.shown), part.p[~part.lost]
        clicks = schedule.logged(part.clicks, part.added, number)
    if "idle" in live.faults:
        there = ~_idle(live, shown)
        shown, p = shown.filter(pa.array(there)), p[there]
        clicks = clicks.filter(pc.is_in(clicks.column("request_id"), shown.column("request_id")))
    return _by_due(
        [
            _impression_messages(_Topic(live, number, 0), shown, expected_loss(p)),
            _click_messages(_Topic(live, number, 1), clicks),
        ]
    )


def _idle(live: LiveTraffic, shown: pa.Table) -> Bools:
    first = _partitions(shown.column("request_id"), live.partitions) == 0
    idle: Bools = first & _phase(live, shown.column("time").to_numpy(), _PARTITION_IDLE)
    return idle


def _phase(live: LiveTraffic, time: Int64s, phase: tuple[int, int]) -> Bools:
    of_cycle = (time - live.start) % _CYCLE
    return (phase[0] <= of_cycle) & (of_cycle < phase[1])


class _Topic:
    """Makes messages of the rows of a chunk for one topic, and adds faults.

    Parameters
    ----------
    live
        What to generate.
    chunk
        The number of the chunk.
    stream
        Of the topic, in `STREAMS`.
    """

    def __init__(self, live: LiveTraffic, chunk: int, stream: int) -> None:
        self.live, self.chunk, self.stream = live, chunk, stream

    def messages(self, rows: pa.Table, fault: int = 0, loss: Floats | None = None) -> pa.Table:
        count, key = rows.num_rows, rows.column("request_id")
        return pa.table(
            {
                "due": rows.column("time"),
                "stream": np.full(count, self.stream, np.int8),
                "partition": _partitions(key, self.live.partitions),
                "key": key,
                "value": json_objects(rows),
                "fault": np.full(count, fault, np.int8),
                "loss": np.zeros(count) if loss is None else loss,
            }
        )

    def chosen(self, fault: str, count: int, share: float) -> tuple[Int64s, np.random.Generator]:
        """Return the rows that have a fault, and where its other chances come from."""
        seed = [self.live.seed, self.chunk, self.stream, _CODES[fault]]
        random = np.random.default_rng(seed)
        if fault not in self.live.faults:
            return np.empty(0, np.int64), random
        return np.flatnonzero(random.random(count) < share), random

    def delayed(
        self, messages: pa.Table, fault: str, share: float, least: int, most: int
    ) -> pa.Table:
        """Delay some messages by a time in ``[least, most)``."""
        chosen, random = self.chosen(fault, messages.num_rows, share)
        due, faults = (messages.column(name).to_numpy().copy() for name in ("due", "fault"))
        due[chosen] += random.integers(least, most, chosen.size)
        faults[chosen] = _CODES[fault]
        return _with(messages, due=due, fault=faults)

    def late(self, messages: pa.Table, share: float) -> pa.Table:
        """Delay some messages beyond the window."""
        least = self.live.window + _LATE_BY
        return self.delayed(messages, "late", share, least, 2 * least)

    def repeated(self, messages: pa.Table, share: float) -> pa.Table:
        """Send some messages again, soon after."""
        chosen, random = self.chosen("duplicates", messages.num_rows, share)
        again = _copies(messages, chosen, "duplicates")
        due = again.column("due").to_numpy() + random.integers(0, 5 * SECOND, chosen.size)
        return pa.concat_tables([messages, _with(again, due=due)])

    def broken(self, messages: pa.Table) -> pa.Table:
        """Send the beginning of some values again."""
        chosen, _ = self.chosen("broken", messages.num_rows, 0.001)
        again = _copies(messages, chosen, "broken")
        half = pc.utf8_slice_codeunits(again.column("value"), 0, _BROKEN_AFTER)
        return pa.concat_tables([messages, _with(again, value=half)])


def _impression_messages(topic: _Topic, shown: pa.Table, loss: Floats) -> pa.Table:
    messages = topic.messages(shown, loss=loss)
    messages = topic.delayed(messages, "disorder", 0.02, 0, 2 * SECOND)
    messages = topic.late(messages, 0.001)
    messages = topic.broken(topic.repeated(messages, 0.002))
    if "skew" in topic.live.faults:
        last = messages.column("partition").to_numpy() == topic.live.partitions - 1
        due = messages.column("due").to_numpy() + np.where(last, _SKEW, 0)
        messages = _with(messages, due=due)
    return messages


def _click_messages(topic: _Topic, clicks: pa.Table) -> pa.Table:
    arrives, clicks = clicks.column("arrives"), clicks.drop_columns(["arrives"])
    messages = _with(topic.messages(clicks), due=arrives)
    messages = topic.repeated(topic.late(messages, 0.004), 0.005)
    tables = [messages]
    for fault, share in (("doubled-clicks", 0.1), ("orphans", 0.003)):
        chosen, random = topic.chosen(fault, clicks.num_rows, share)
        more = clicks.take(pa.array(chosen))
        time = more.column("time").to_numpy() + random.integers(0, SECOND, chosen.size)
        more = _with(more, time=time, click_id=hex_keys(random, chosen.size))
        if fault == "orphans":
            more = _with(more, request_id=hex_keys(random, chosen.size))
        tables.append(topic.messages(more, _CODES[fault]))
    messages = topic.broken(pa.concat_tables(tables))
    if "dead-clicks" in topic.live.faults:
        dead = _phase(topic.live, messages.column("due").to_numpy(), _CLICKS_DEAD)
        messages = messages.filter(pa.array(~dead))
    return messages


def _copies(messages: pa.Table, chosen: Int64s, fault: str) -> pa.Table:
    """Return messages once more, as those of a fault."""
    count = chosen.size
    again = messages.take(pa.array(chosen))
    return _with(again, fault=np.full(count, _CODES[fault], np.int8), loss=np.zeros(count))


def _with(table: pa.Table, **columns: object) -> pa.Table:
    for name, values in columns.items():
        at = table.schema.get_field_index(name)
        array = values if isinstance(values, pa.ChunkedArray) else pa.array(values)
        table = table.set_column(at, name, array)
    return table


def _partitions(keys: pa.ChunkedArray, partitions: int) -> npt.NDArray[np.int32]:
    """Return the partition of each key: the number in its first eight digits, by remainder."""
    if not len(keys):
        return np.empty(0, np.int32)
    text = pc.cast(pc.utf8_slice_codeunits(keys, 0, 8).combine_chunks(), pa.binary())
    digits = np.frombuffer(text.buffers()[2], np.uint8, 8 * len(text)).reshape(-1, 8)
    values = (digits & 15) + 9 * (digits >> 6)
    numbers = values.astype(np.int64) @ (16 ** np.arange(8)[::-1])
    return (numbers % partitions).astype(np.int32)


def json_objects(rows: pa.Table) -> pa.Array:
    """Return each row as the text of a JSON object.

    Text must need no escapes, and numbers must be finite, as those of the generator are.
    """
    parts: list[object] = []
    between = "{"
    for name, column in zip(rows.column_names, rows.columns, strict=True):
        quote = '"' if pa.types.is_string(column.type) else ""
        values = pc.cast(column, pa.string())
        if column.null_count:  # a null has no quotes
            quoted = pc.binary_join_element_wise(quote, values, quote, "")
            values, quote = pc.fill_null(quoted, "null"), ""
        parts += [f'{between}"{name}": {quote}', values]
        between = f"{quote}, "
    return pc.binary_join_element_wise(*parts, f"{quote}}}", "")
