"""Messages with running numbers, each once in a topic, whatever fails.

There is one way to recover, from a restart of a broker as from a crash of the run: begin as a
new producer, which ends what the old one has left open, look at what the topic has, and write
the rest. What an error leaves undecided is never guessed.
"""

from __future__ import annotations

import logging
import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaError as Code
from confluent_kafka import KafkaException, Producer

from headrace.pipelines.kafka.properties import for_producer
from headrace.pipelines.kafka.tails import (
    HEADER,
    Position,
    check_owner,
    check_since,
    header_of,
    read_tail,
)
from headrace.pipelines.kafka.topics import Brokers, UnreachableError
from headrace.schemas.errors import KafkaError
from headrace.schemas.records.hashing import Int64s

_ANSWER_S = 30.0
_TRIES = 6
"""So often in a row a transaction may fail although brokers answer."""

_LARGEST_TRANSACTION = 16 << 20
"""Bytes of values after which a transaction ends early: they are kept until it has."""

_FENCED = (Code._FENCED, Code.PRODUCER_FENCED, Code.INVALID_PRODUCER_EPOCH)
_SILENT = logging.Logger("kafka", logging.CRITICAL + 1)
"""Being fenced librdkafka else writes to standard error; here it is an exception."""

_GONE = (Code._TRANSPORT, Code._TIMED_OUT, Code._ALL_BROKERS_DOWN, Code._MSG_TIMED_OUT)
_HINTS = {
    Code.MSG_SIZE_TOO_LARGE: "set message.max.bytes in [kafka] to the max.message.bytes of the "
    "topic, and raise that one if a row is larger",
    Code.INVALID_RECORD: "a compacted topic takes no messages without a key",
    Code.TOPIC_AUTHORIZATION_FAILED: "grant READ, WRITE and DESCRIBE on it",
    Code.CLUSTER_AUTHORIZATION_FAILED: "grant WRITE on the transactional id",
    Code.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: "grant WRITE on the transactional id",
    Code.INVALID_TRANSACTION_TIMEOUT: "set transaction.timeout.ms in [kafka] to at most the "
    "brokers' transaction.max.timeout.ms",
}
"""What does not change by trying again, and what to do about it."""


@dataclass(frozen=True)
class Messages:
    """Messages in the order in which they are written.

    Parameters
    ----------
    values
        Their values.
    keys
        Their keys, None if they have none.
    rows
        For each, how many rows of the run are written with it; they rise.
    hashes
        For each, a number that decides on its partition, ``(n,)`` int64.
    """

    values: Sequence[bytes]
    keys: Sequence[bytes] | None
    rows: Sequence[int]
    hashes: Int64s

    def after(self, rows: int) -> Messages:
        """Return those that are not within the first `rows` rows."""
        return self.cut(bisect_right(self.rows, rows), None)

    def cut(self, begin: int, end: int | None) -> Messages:
        """Return the messages in ``[begin, end)``."""
        part = slice(begin, end)
        keys = None if self.keys is None else self.keys[part]
        return Messages(self.values[part], keys, self.rows[part], self.hashes[part])


class Delivery:
    """Writes the messages of a run to a topic, in transactions.

    A message is seen by readers within `every_s` and the time that a commit takes. While no
    broker answers, calls block, for ever if need be.

    Parameters
    ----------
    brokers, topic
        Where to write.
    run
        Names the run: the same after a crash, another if the run begins anew.
    every_s
        Longest time from the first message of a transaction to its end.
    most
        Messages after which it ends early.
    clock
        Returns seconds.

    Attributes
    ----------
    trouble
        What the last failure was, None if all is well; to be shown while calls block.
    """

    def __init__(
        self,
        brokers: Brokers,
        topic: str,
        run: str,
        every_s: float = 0.2,
        most: int = 50_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.brokers, self.topic, self.run = brokers, topic, run
        self.every_s, self.most, self.clock = every_s, most, clock
        self.properties = for_producer(brokers.properties, f"headrace.{topic}")
        self.timeout_s = float(self.properties["transaction.timeout.ms"]) / 1000
        self.producer: Producer | None = None
        self.position = Position(0, "", {})
        self.rows = 0
        self.last: tuple[bytes | None, bytes] | None = None
        self.pending: list[Messages] = []
        self.pending_bytes = 0
        self.begun_s: float | None = None
        self.reason: Code | None = None
        self.trouble: str | None = None
        self.failure: KafkaError | None = None
        self.lock = threading.RLock()
        self.timer: threading.Timer | None = None

    def open(self, since: Position | None = None) -> int:
        """Become the only writer of the topic; return how many rows of the run it has.

        Parameters
        ----------
        since
            A position that `mark` has returned, None at the first start.

        Raises
        ------
        KafkaError
            See `read_tail`; if brokers cannot be reached, within seconds; or if they refuse
            transactions.
        """
        with self.lock:
            # Before, as a run that is refused must not end the producer of the one that writes.
            check_owner(self.brokers, self.topic, self.run)
            try:
                self._connect()
            except KafkaException as error:
                raise self._explained(error) from error
            tail = read_tail(self.brokers, self.topic, self.run, since)
            self.position, self.rows, self.last = tail.position, tail.position.rows, tail.last
            return self.rows

    def send(self, messages: Messages) -> None:
        """Write messages; those that the topic has are left out.

        Raises
        ------
        KafkaError
            If the topic has another last message than these say, or writing failed for good,
            also earlier.
        """
        with self.lock:
            self._check()
            self._compare(messages)
            messages = messages.after(self._sent())
            if not messages.rows:
                return
            self.pending.append(messages)
            self.pending_bytes += sum(map(len, messages.values))
            self._safely(lambda: self._produce(messages))
            count = sum(len(sent.values) for sent in self.pending)
            if count >= self.most or self.pending_bytes >= _LARGEST_TRANSACTION:
                self.flush()

    def flush(self) -> None:
        """End the transaction: all messages are in the topic, and readers see them."""
        with self.lock:
            self._check()
            if self.pending:
                self._safely(self._end)

    def mark(self) -> Position:
        """Return how far the topic has come, after a flush.

        Raises
        ------
        KafkaError
            If it was deleted or created again, or is shorter than it was.
        """
        with self.lock:
            self.flush()
            tries = 0
            while True:
                try:
                    cluster = self.brokers.describe([self.topic], committed=False)
                    break
                except KafkaError as error:
                    tries = self._waited(error, tries)
            bounds = cluster.topics[self.topic]
            # Partitions that were added since the run began are not used: keys would move.
            ends = {number: bounds[number][1] for number in self.position.ends if number in bounds}
            topic_id = cluster.ids[self.topic]
            check_since(self.topic, self.position, topic_id, ends)
            self.position = Position(self.rows, topic_id, ends)
            return self.position

    def close(self) -> None:
        """Write all messages, and end."""
        try:
            self.flush()
        finally:
            self.abandon()

    def _sent(self) -> int:
        return self.pending[-1].rows[-1] if self.pending else self.rows

    def _check(self) -> None:
        if self.failure is not None:
            raise self.failure

    def _compare(self, messages: Messages) -> None:
        """Check that the last message that was found is the one that this run writes there."""
        if self.last is None or messages.rows[-1] < self.rows:
            return
        at = next(i for i, noted in enumerate(messages.rows) if noted >= self.rows)
        key = None if messages.keys is None else messages.keys[at]
        if messages.rows[at] != self.rows or (key, messages.values[at]) != self.last:
            raise KafkaError.not_the_rows(self.topic, self.rows)
        self.last = None

    def _connect(self) -> None:
        self.abandon()
        self.reason = None
        reports = {"delivery.report.only.error": True, "on_delivery": self._note}
        try:
            self.producer = Producer({**self.properties, **reports}, logger=_SILENT)
        except KafkaException as error:
            raise self.brokers.refused(error.args[0].str()) from error
        self.producer.init_transactions(_ANSWER_S)

    def _note(self, error: Code, message: Any) -> None:
        # Of all messages that fail, the first says why: the others may just fail with it.
        if self.reason is None and error.code() not in (Code._PURGE_QUEUE, Code._PURGE_INFLIGHT):
            self.reason = error

    def abandon(self) -> None:
        """Forget the producer; an open transaction is ended by the next one, or by brokers."""
        self._stop_timer()
        producer, self.producer, self.begun_s = self.producer, None, None
        if producer is not None:
            producer.purge()

    def _produce(self, messages: Messages) -> None:
        producer = self.producer
        assert producer is not None
        if self.begun_s is None:
            producer.begin_transaction()
            self.begun_s = self.clock()
            self._start_timer()
        keys = [None] * len(messages.values) if messages.keys is None else messages.keys
        partitions = (messages.hashes % len(self.position.ends)).tolist()
        # What a partition ends with says how far the run has come: so do these of each call.
        last = set(dict(zip(partitions, range(len(partitions)), strict=True)).values())
        produce, topic = producer.produce, self.topic
        for at, (value, key, to) in enumerate(zip(messages.values, keys, partitions, strict=True)):
            headers = {HEADER: header_of(self.run, messages.rows[at])} if at in last else None
            while True:
                try:
                    produce(topic, value, key, to, headers=headers)
                    break
                except BufferError:  # as much waits as may: for the brokers
                    producer.poll(0.1)

    def _end(self) -> None:
        producer = self.producer
        assert producer is not None
        self._stop_timer()
        producer.commit_transaction()
        self.begun_s = None
        self._sent_until(self._sent())

    def _sent_until(self, rows: int) -> None:
        self.rows = rows
        left = [messages for messages in self.pending if messages.rows[-1] > rows]
        self.pending = [messages.after(rows) for messages in left]
        self.pending_bytes = sum(len(v) for messages in self.pending for v in messages.values)
        self.trouble = None

    def _safely(self, step: Callable[[], None]) -> None:
        try:
            try:
                step()
            except KafkaException as error:
                self._recover(error)
        except BaseException as error:
            # A transaction that has a part of a call's messages must never end well.
            self.abandon()
            if not isinstance(error, KafkaError):
                self.failure = KafkaError.not_delivered(self.topic, repr(error))
            else:
                self.failure = error
            raise

    def _recover(self, error: KafkaException) -> None:
        """Write what is pending as a new producer, as often as it takes."""
        tries = self._waited(error, 0)
        while self.pending:
            try:
                self._write_rest()
            except (KafkaException, KafkaError) as again:
                tries = self._waited(again, tries)

    def _write_rest(self) -> None:
        self._connect()
        tail = read_tail(self.brokers, self.topic, self.run, self.position).position
        if tail.rows < self.rows:
            raise KafkaError.tail_lost(self.topic)
        self._sent_until(tail.rows)
        for messages in self.pending:
            self._produce(messages)
        if self.pending:
            self._end()

    def _waited(self, error: KafkaException | KafkaError, tries: int) -> int:
        """Wait before trying again; return how often in a row brokers have refused.

        Raises
        ------
        KafkaError
            If trying again is of no use, or was not for long.
        """
        if isinstance(error, KafkaException):
            error = self._explained(error)
        if tries >= _TRIES:
            raise error
        self.trouble = str(error)
        time.sleep(min(0.1 * 2**tries, 2.0))
        return tries + (not isinstance(error, UnreachableError))

    def _explained(self, error: KafkaException) -> KafkaError:
        """Return the error of what may be otherwise soon; raise that of what will not."""
        code = error.args[0]
        if code.code() in _FENCED and not self._timed_out():
            raise KafkaError.fenced(self.topic) from error
        # What a transaction fails with says less than what a message of it failed with.
        codes = [code] if self.reason is None else [self.reason, code]
        why = self.brokers.shown(codes[0].str())
        for each in codes:
            if each.code() in _HINTS:
                raise KafkaError.not_delivered(self.topic, why, _HINTS[each.code()]) from error
        gone = any(each.code() in _GONE for each in codes)
        return (UnreachableError if gone else KafkaError).not_delivered(self.topic, why)

    def _timed_out(self) -> bool:
        """Return whether brokers may have ended the transaction, which looks like fencing."""
        return self.begun_s is not None and self.clock() - self.begun_s >= self.timeout_s

    def _start_timer(self) -> None:
        self.timer = threading.Timer(self.every_s, self._due)
        self.timer.daemon = True
        self.timer.start()

    def _stop_timer(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def _due(self) -> None:
        with self.lock:
            if self.timer is threading.current_thread() and self.failure is None:
                try:
                    self.flush()
                except KafkaError:  # it is kept, and raised by the next call
                    return
