"""The fastest client: librdkafka's batches of messages, gathered by one kernel.

The library is the one inside of ``confluent-kafka``. Of its Python classes none is used here,
as each makes several objects a message; its public C functions give addresses of messages.
"""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from confluent_kafka import KafkaError as Code
from confluent_kafka import cimpl

from headrace.pipelines.kafka.fetching import (
    Fetcher,
    Messages,
    Place,
    allocated,
    check_limits,
    nothing,
    values_array,
)
from headrace.pipelines.kafka.gathering import gather, survey
from headrace.pipelines.kafka.properties import Properties
from headrace.pipelines.kafka.topics import Brokers, Cluster, explained
from headrace.pipelines.kafka.watched import WatchedClient
from headrace.schemas.errors import KafkaError

_OLDEST = 0x02060000
"""Since 2.6 it has all that is used here."""

_QUEUED_KB = 65_536
"""Values read ahead, of all partitions together; what librdkafka keeps with each comes to it."""

_FETCHED_BYTES = 8 << 20
"""Asked for at a time, of all partitions together, compressed; a larger batch comes as a whole."""

_OURS: Properties = {
    "auto.offset.reset": "error",
    "check.crcs": "true",
    "enable.auto.commit": "false",
    "enable.partition.eof": "true",
    "isolation.level": "read_committed",
}

_UNREADABLE = (Code._BAD_MSG, Code._BAD_COMPRESSION, Code._UNDERFLOW, Code._NOT_IMPLEMENTED)
_UNKNOWN = (Code._UNKNOWN_TOPIC, Code._UNKNOWN_PARTITION, Code.UNKNOWN_TOPIC_OR_PART)

_CONSUMER, _ERROR_EVENTS = 1, 8

Address = ctypes.c_void_p
_FUNCTIONS: dict[str, tuple[Any, list[Any]]] = {
    "rd_kafka_version": (ctypes.c_int, []),
    "rd_kafka_conf_new": (Address, []),
    "rd_kafka_conf_destroy": (None, [Address]),
    "rd_kafka_conf_set": (ctypes.c_int, [Address, ctypes.c_char_p, ctypes.c_char_p,
                                         ctypes.c_char_p, ctypes.c_size_t]),
    "rd_kafka_conf_set_events": (None, [Address, ctypes.c_int]),
    "rd_kafka_conf_set_log_cb": (None, [Address, Address]),
    "rd_kafka_new": (Address, [ctypes.c_int, Address, ctypes.c_char_p, ctypes.c_size_t]),
    "rd_kafka_destroy": (None, [Address]),
    "rd_kafka_last_error": (ctypes.c_int, []),
    "rd_kafka_err2str": (ctypes.c_char_p, [ctypes.c_int]),
    "rd_kafka_topic_new": (Address, [Address, ctypes.c_char_p, Address]),
    "rd_kafka_topic_destroy": (None, [Address]),
    "rd_kafka_consume_start": (ctypes.c_int, [Address, ctypes.c_int32, ctypes.c_int64]),
    "rd_kafka_consume_stop": (ctypes.c_int, [Address, ctypes.c_int32]),
    "rd_kafka_consume_batch": (ctypes.c_ssize_t, [Address, ctypes.c_int32, ctypes.c_int, Address,
                                                  ctypes.c_size_t]),
    "rd_kafka_message_errstr": (ctypes.c_char_p, [Address]),
    "rd_kafka_message_destroy": (None, [Address]),
    "rd_kafka_message_timestamp": (ctypes.c_int64, [Address, Address]),
    "rd_kafka_get_watermark_offsets": (ctypes.c_int, [Address, ctypes.c_char_p, ctypes.c_int32,
                                                      Address, Address]),
    "rd_kafka_queue_get_main": (Address, [Address]),
    "rd_kafka_queue_poll": (Address, [Address, ctypes.c_int]),
    "rd_kafka_queue_destroy": (None, [Address]),
    "rd_kafka_event_error": (ctypes.c_int, [Address]),
    "rd_kafka_event_error_string": (ctypes.c_char_p, [Address]),
    "rd_kafka_event_destroy": (None, [Address]),
}  # fmt: skip
"""The functions that are used: what they return and take."""


@cache
def library() -> ctypes.CDLL:
    """Return the library that ``confluent_kafka`` has loaded, with the types of functions.

    Raises
    ------
    KafkaError
        If it is too old, or this is no machine of 64 bits.
    """
    # A name is looked up in what the module was linked with too, wherever that lies.
    found = ctypes.CDLL(cimpl.__file__)
    for name, (returns, takes) in _FUNCTIONS.items():
        function = getattr(found, name, None)
        if function is None:
            raise KafkaError(f"librdkafka has no {name}; install confluent-kafka 2.6 or later")
        function.restype, function.argtypes = returns, takes
    if found.rd_kafka_version() < _OLDEST:
        raise KafkaError("librdkafka is too old; install confluent-kafka 2.6 or later")
    if sys.maxsize < 2**62:
        raise KafkaError('messages are laid out for 64 bits; set client = "poll"')
    return found


def _shares(partitions: int) -> Properties:
    """Return how much of each partition may be read ahead, so that all of them are bounded."""
    queued = _QUEUED_KB // max(partitions, 1)
    fetched = _FETCHED_BYTES // max(partitions, 1)
    return {
        "queued.min.messages": "100000",
        "queued.max.messages.kbytes": str(max(queued, 256)),
        "fetch.message.max.bytes": str(min(max(fetched, 64 << 10), 1 << 20)),
    }


class _Message(ctypes.Structure):
    """The parts of ``rd_kafka_message_t`` that tell of an error."""

    _fields_ = (
        ("error", ctypes.c_int32),
        ("topic", Address),
        ("partition", ctypes.c_int32),
        ("payload", Address),
        ("size", ctypes.c_size_t),
        ("key", Address),
        ("key_size", ctypes.c_size_t),
        ("offset", ctypes.c_int64),
    )


class Librdkafka(WatchedClient):
    """A connection by librdkafka.

    Parameters
    ----------
    brokers
        How to connect, and whom to ask about topics.
    cluster
        The topics as they were found.

    Raises
    ------
    KafkaError
        If the library cannot be used.
    """

    name = "librdkafka"

    def __init__(self, brokers: Brokers, cluster: Cluster) -> None:
        self.lib = library()
        super().__init__(brokers, cluster)
        share = _shares(sum(map(len, cluster.topics.values())))
        self.handle = self._connect({**share, **brokers.properties, **_OURS})
        self.events = self.lib.rd_kafka_queue_get_main(self.handle)

    def _connect(self, properties: Properties) -> Any:
        lib, said = self.lib, ctypes.create_string_buffer(512)
        conf = lib.rd_kafka_conf_new()
        lib.rd_kafka_conf_set_events(conf, _ERROR_EVENTS)
        lib.rd_kafka_conf_set_log_cb(conf, None)
        for name, value in properties.items():
            if lib.rd_kafka_conf_set(conf, name.encode(), value.encode(), said, len(said)):
                lib.rd_kafka_conf_destroy(conf)
                raise self.brokers.refused(said.value.decode())
        handle = lib.rd_kafka_new(_CONSUMER, conf, said, len(said))
        if not handle:
            lib.rd_kafka_conf_destroy(conf)
            raise self.brokers.refused(said.value.decode())
        return handle

    def _opened(self, place: Place, offset: int) -> Fetcher:
        return _Fetcher(self, place, offset)

    def close(self) -> None:
        """Close all fetchers and the connection."""
        super().close()
        if self.handle:
            self.lib.rd_kafka_queue_destroy(self.events)
            self.lib.rd_kafka_destroy(self.handle)
            self.handle = None

    def note_trouble(self) -> None:
        """Take note of the last trouble with the connection."""
        while event := self.lib.rd_kafka_queue_poll(self.events, 0):
            text = self.lib.rd_kafka_event_error_string(event)
            # Which comes after another one that says why.
            if text and self.lib.rd_kafka_event_error(event) != Code._ALL_BROKERS_DOWN:
                self.trouble = self.brokers.shown(text.decode())
            self.lib.rd_kafka_event_destroy(event)


@dataclass
class _Held:
    """Messages that were taken from the queue: those in ``[first, last)`` are still there."""

    addresses: np.ndarray[Any, np.dtype[np.int64]]
    first: int = 0
    last: int = 0


class _Fetcher(Fetcher):
    def __init__(self, client: Librdkafka, place: Place, offset: int) -> None:
        self.client, self.lib, self.place = client, client.lib, place
        self.position = offset
        self.at_end = False
        self.held = _Held(np.empty(0, np.int64))
        self.kinds = np.zeros(1, np.int64)
        self.name = place.topic.encode()
        self.failure: KafkaError | None = None
        self.topic = self.lib.rd_kafka_topic_new(client.handle, self.name, None)
        if self.lib.rd_kafka_consume_start(self.topic, place.partition, offset):
            why = self.lib.rd_kafka_err2str(self.lib.rd_kafka_last_error()).decode()
            self.lib.rd_kafka_topic_destroy(self.topic)
            self.topic = None
            raise KafkaError(f"{place}: cannot be read from {offset} on ({why})")

    def fetch(self, max_rows: int, max_bytes: int, wait_ms: int) -> Messages:
        check_limits(max_rows, max_bytes)
        held = self.held
        if held.first == held.last:
            self._take(max_rows, wait_ms)
        self._pass_errors()
        if held.first == held.last:
            self.client.note_trouble()
            self._look()
            return nothing(self.position, self._end())
        messages = self._gathered(min(held.last, held.first + max_rows), max_bytes)
        self.at_end, self.client.trouble = False, None
        # That the end is reached is known now, if its mark has come.
        self._pass_ends()
        return Messages(*messages, self.position, self._end())

    def _take(self, most: int, wait_ms: int) -> None:
        """Take messages from the queue: all that are there, or else the first that comes."""
        held = self.held
        if held.addresses.size < most:
            held.addresses = np.empty(most, np.int64)
        taken = self._batch(0, most, 0)
        if taken == 0 and wait_ms > 0:
            # A batch is waited for until it is full.
            taken = self._batch(0, 1, wait_ms)
            taken += self._batch(taken, most - taken, 0) if taken else 0
        held.first, held.last = 0, taken

    def _batch(self, at: int, most: int, wait_ms: int) -> int:
        where = self.held.addresses.ctypes.data + 8 * at
        return int(
            self.lib.rd_kafka_consume_batch(self.topic, self.place.partition, wait_ms, where, most)
        ) if most else 0  # fmt: skip

    def _gathered(self, last: int, max_bytes: int) -> tuple[Any, Any, Any]:
        held, lib = self.held, self.lib
        rows = last - held.first
        offsets, timestamps, sizes = (np.empty(rows, np.int64) for _ in range(3))
        last, total = survey(
            held.addresses, held.first, last, max_bytes, offsets, timestamps, sizes, self.kinds,
            _address(lib.rd_kafka_message_timestamp),
        )  # fmt: skip
        rows = last - held.first
        ends, buffer = np.empty(rows + 1, np.int32), allocated(total)
        destroy = _address(lib.rd_kafka_message_destroy)
        # First, as nothing may be destroyed twice if this is interrupted.
        first, held.first = held.first, last
        gather(held.addresses, first, last, sizes, ends, buffer, destroy)
        offsets = offsets[:rows]
        if offsets[0] < self.position:
            raise KafkaError(f"{self.place}: {offsets[0]} came after {self.position - 1}")
        self.position = int(offsets[-1]) + 1
        return offsets, timestamps[:rows], values_array(buffer, ends, sizes[:rows])

    def _first(self) -> _Message | None:
        """Return the first message that is held if it is an error."""
        held = self.held
        if held.first == held.last:
            return None
        message = _Message.from_address(int(held.addresses[held.first]))
        return message if message.error else None

    def _pass_ends(self) -> None:
        """Pass marks that the end of the partition was reached."""
        while (message := self._first()) is not None and message.error == Code._PARTITION_EOF:
            self.position = max(self.position, message.offset)
            self.at_end = True
            self._drop()

    def _pass_errors(self) -> None:
        """Pass the marks of ends, and refuse any other error, now and at every later call."""
        self._pass_ends()
        message = self._first()
        # What comes after the first error is not to be trusted, and may be another.
        if message is not None and self.failure is None:
            text = self.lib.rd_kafka_message_errstr(ctypes.addressof(message)) or b""
            self.failure = self._failure(message.error, text.decode())
        if self.failure is not None:
            raise self.failure

    def _look(self) -> None:
        try:
            self.client.watch.look()
        except KafkaError as error:
            self.failure = error
            raise

    def _drop(self) -> None:
        self.lib.rd_kafka_message_destroy(int(self.held.addresses[self.held.first]))
        self.held.first += 1

    def _failure(self, code: int, text: str) -> KafkaError:
        client = self.client
        if code == Code._AUTO_OFFSET_RESET:
            return client.brokers.out_of_range(self.place, self.position, client.cluster)
        if code in _UNREADABLE:
            return KafkaError.corrupt(str(self.place), self.position, text)
        if code in _UNKNOWN:
            return KafkaError.deleted(self.place.topic)
        return explained(str(self.place), code, text)

    def _end(self) -> int:
        """Return the greatest offset that brokers have told of."""
        low, high = ctypes.c_int64(-1), ctypes.c_int64(-1)
        if not self.at_end:
            self.lib.rd_kafka_get_watermark_offsets(
                self.client.handle, self.name, self.place.partition,
                ctypes.byref(low), ctypes.byref(high),
            )  # fmt: skip
        return max(self.position, high.value)

    def close(self) -> None:
        if self.topic is None:
            return
        while self.held.first < self.held.last:
            self._drop()
        self.lib.rd_kafka_consume_stop(self.topic, self.place.partition)
        self.lib.rd_kafka_topic_destroy(self.topic)
        self.topic = None
        self.client.forget(self)


def _address(function: Any) -> int:
    return ctypes.cast(function, Address).value or 0
