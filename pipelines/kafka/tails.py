"""Where a topic ends that a run writes: which of its rows are there, by the last of each partition.

The last message of each partition has a header that says whose it is, and how many rows of the
run are written with it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Annotated, Any

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition
from confluent_kafka import KafkaError as Code
from pydantic import Field

from headrace.pipelines.kafka.fetching import Place
from headrace.pipelines.kafka.topics import Brokers, UnreachableError, explained
from headrace.schemas.errors import KafkaError
from headrace.schemas.records.restored import Count, Text, checked, written


@written
class _Noted:
    rows: Count
    topic_id: Text
    ends: dict[Annotated[str, Field(pattern=r"^(0|[1-9]\d{0,8})$")], Count]


HEADER = "headrace"
"""Name of the header: the run, a slash, and the number of rows up to the end of the message."""

_REACH = 1000
"""How far before the end the last message is looked for at first."""

_SILENT_S = 20.0
"""So long after its end was asked for, a partition must have been read to it."""


@dataclass(frozen=True)
class Position:
    """How far a run has come in a topic.

    Parameters
    ----------
    rows
        How many rows are written.
    topic_id
        The id of the topic: one that is deleted and created again has another.
    ends
        By partition, an offset behind all these rows, and before all that follow.
    """

    rows: int
    topic_id: str
    ends: dict[int, int]

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON types."""
        ends = {str(number): end for number, end in self.ends.items()}
        return {"rows": self.rows, "topic_id": self.topic_id, "ends": ends}

    @classmethod
    def from_json(cls, noted: dict[str, Any]) -> Position:
        """Return what `as_json` has noted.

        Raises
        ------
        DamagedError
            If it is none.
        """
        checked(_Noted, noted, "topic")
        ends = {int(number): end for number, end in noted["ends"].items()}
        return cls(noted["rows"], noted["topic_id"], ends)


@dataclass(frozen=True)
class Tail:
    """The end of a topic.

    Parameters
    ----------
    position
        How far the run has come.
    last
        Key and value of its last message, None if it was not looked at.
    """

    position: Position
    last: tuple[bytes | None, bytes] | None = None


def read_tail(brokers: Brokers, topic: str, run: str, since: Position | None = None) -> Tail:
    """Find out how many rows of a run a topic has.

    Parameters
    ----------
    brokers, topic
        Where to look.
    run
        Whose rows.
    since
        A position at which the run has been; nothing before it is read.

    Raises
    ------
    UnreachableError
        If no broker answers.
    KafkaError
        If the topic has messages of another run or producer, is another topic than `since`
        says, has lost what was written after that, or cannot be read to its end.
    """
    cluster = brokers.describe([topic], committed=False)
    bounds, topic_id = cluster.topics[topic], cluster.ids[topic]
    if since is not None:
        # Partitions that were added later are not used: the messages of a key would move.
        bounds = {number: of for number, of in bounds.items() if number in since.ends}
    firsts = {number: begin for number, (begin, _) in bounds.items()}
    ends = {number: end for number, (_, end) in bounds.items()}
    if since is not None:
        check_since(topic, since, topic_id, ends)
        firsts = {number: max(first, since.ends[number]) for number, first in firsts.items()}
    found = _last_messages(brokers, topic, firsts, ends)
    rows, last = 0 if since is None else since.rows, None
    for number, (begin, _) in bounds.items():
        message = found.get(number)
        if message is None:
            if since is not None and begin > since.ends[number]:
                raise KafkaError.tail_lost(str(Place(topic, number)))
            continue
        noted = _rows_noted(message, run)
        if noted > rows:
            rows, last = noted, (message.key(), message.value())
    return Tail(Position(rows, topic_id, ends), last)


def check_owner(brokers: Brokers, topic: str, run: str) -> None:
    """Check that a topic ends with messages of a run, or is empty, while it may write.

    Raises
    ------
    KafkaError
        If not.
    """
    bounds = brokers.describe([topic]).topics[topic]
    firsts = {number: begin for number, (begin, _) in bounds.items()}
    ends = {number: end for number, (_, end) in bounds.items()}
    for message in _last_messages(brokers, topic, firsts, ends).values():
        _rows_noted(message, run)


def check_since(topic: str, since: Position, topic_id: str, ends: dict[int, int]) -> None:
    """Check that a topic still is the one of a position, and no shorter.

    Raises
    ------
    KafkaError
        If not.
    """
    if topic_id != since.topic_id:
        raise KafkaError.recreated(topic)
    for number, end in since.ends.items():
        if ends.get(number, 0) < end:
            raise KafkaError.beyond(str(Place(topic, number)), end, ends.get(number, 0))


def header_of(run: str, rows: int) -> bytes:
    """Return the value of the header."""
    return b"%s/%d" % (run.encode(), rows)


def _rows_noted(message: Message, run: str) -> int:
    """Return the number of rows that a message of a run notes."""
    for name, value in message.headers() or ():
        if name == HEADER and isinstance(value, bytes):
            of, _, rows = value.rpartition(b"/")
            if of == run.encode() and rows.isdigit():
                return int(rows)
    place = Place(message.topic(), message.partition())
    raise KafkaError.not_of_run(str(place), message.offset())


def _last_messages(
    brokers: Brokers, topic: str, firsts: dict[int, int], ends: dict[int, int]
) -> dict[int, Message]:
    """Return the last message of each partition that has one in ``[first, end)``."""
    missing = {number for number, end in ends.items() if end > firsts[number]}
    found: dict[int, Message] = {}
    reach = _REACH
    while missing:
        # Aborted messages and the marks of transactions fill offsets too.
        begins = {number: max(firsts[number], ends[number] - reach) for number in missing}
        found |= _read_ends(brokers, topic, begins, ends)
        missing -= {number for number in missing
                    if number in found or begins[number] == firsts[number]}  # fmt: skip
        reach *= 30
    return found


def _read_ends(
    brokers: Brokers, topic: str, begins: dict[int, int], ends: dict[int, int]
) -> dict[int, Message]:
    consumer = Consumer(
        {
            **brokers.properties,
            "group.id": "headrace",  # the library asks for a name; it is never used
            "auto.offset.reset": "error",
            "enable.auto.commit": "false",
            "enable.partition.eof": "true",
            "isolation.level": "read_committed",
        }
    )
    try:
        consumer.assign([TopicPartition(topic, number, at) for number, at in begins.items()])
        return _consumed(consumer, topic, dict(begins), ends)
    except KafkaException as error:
        code = error.args[0]
        if code.code() in (Code._TRANSPORT, Code._TIMED_OUT, Code._ALL_BROKERS_DOWN):
            raise UnreachableError(f"{topic}: {code.str()}") from error
        raise explained(topic, code.code(), code.str()) from error
    finally:
        consumer.close()


def _consumed(
    consumer: Consumer, topic: str, at: dict[int, int], ends: dict[int, int]
) -> dict[int, Message]:
    found: dict[int, Message] = {}
    until_s = time.monotonic() + _SILENT_S
    while behind := [number for number in at if at[number] < ends[number]]:
        for message in consumer.consume(10_000, 0.02):
            number, error = message.partition(), message.error()
            if error is None:
                found[number] = message
                at[number] = message.offset() + 1
                until_s = time.monotonic() + _SILENT_S
            elif error.code() == Code._PARTITION_EOF:
                at[number] = max(at[number], message.offset())
            else:
                raise KafkaException(error)
        if time.monotonic() > until_s:
            place = Place(topic, behind[0])
            raise KafkaError.tail_open(str(place), at[behind[0]], ends[behind[0]])
    return found
