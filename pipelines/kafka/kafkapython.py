"""Clients by kafka-python: its batches as they come, decoded by a kernel, or its records.

The first needs some names that kafka-python does not document, so it takes only the versions for
which it was tested (`VERSIONS`); the second needs none, and takes ten times as long.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import kafka
import numpy as np
import pyarrow as pa
from crc32c import crc32c
from kafka import errors

from headrace.pipelines.kafka.fetching import (
    Fetcher,
    Messages,
    Place,
    check_limits,
    nothing,
    values_array,
)
from headrace.pipelines.kafka.properties import for_kafka_python
from headrace.pipelines.kafka.recordbatches import Aborted, Batches, CorruptBatchError, Decoded
from headrace.pipelines.kafka.topics import Brokers, Cluster, explained
from headrace.pipelines.kafka.watched import WatchedClient
from headrace.schemas.errors import KafkaError

VERSIONS = ("3.0.12",)
"""Versions of kafka-python of which the batches can be had."""

MAX_BATCH_MB = 256

_OURS = {
    "allow_auto_create_topics": False,
    "auto_offset_reset": "none",
    "check_crcs": True,
    "enable_auto_commit": False,
    "group_id": None,
    "isolation_level": "read_committed",
    "metrics_enabled": False,
}
_FETCHED_BYTES = 32 << 20
"""Asked for at a time, of all partitions together; as much has come before and is decoded."""


class KafkaPython(WatchedClient):
    """Connections by kafka-python, one for each partition.

    Parameters
    ----------
    brokers
        How to connect, and whom to ask about topics.
    cluster
        The topics as they were found.

    Raises
    ------
    ConfigError
        If it has no counterpart of a property.
    KafkaError
        If it cannot be used.
    """

    name = "kafka-python"

    def __init__(self, brokers: Brokers, cluster: Cluster) -> None:
        self.check()
        super().__init__(brokers, cluster)
        share = _FETCHED_BYTES // max(sum(map(len, cluster.topics.values())), 1)
        fetched = {"max_partition_fetch_bytes": min(max(share, 256 << 10), 4 << 20)}
        self.properties = {**fetched, **for_kafka_python(brokers.properties, brokers.file)}
        self.most_bytes = (brokers.kafka.max_batch_mb or MAX_BATCH_MB) << 20
        # It logs what is raised or retried, by default to the terminal.
        logging.getLogger("kafka").addHandler(logging.NullHandler())

    def check(self) -> None:
        """Check that batches can be had."""
        if kafka.__version__ not in VERSIONS:
            raise KafkaError(
                f"kafka-python {kafka.__version__} may give no batches; install {VERSIONS[-1]}"
            )

    def _opened(self, place: Place, offset: int) -> Fetcher:
        return _RawFetcher(self, place, offset)


class Poll(KafkaPython):
    """As `KafkaPython`, by documented names alone; slow."""

    name = "poll"

    def check(self) -> None:
        """Any version will do."""

    def _opened(self, place: Place, offset: int) -> Fetcher:
        return _PollFetcher(self, place, offset)


class _Fetcher(Fetcher):
    """A consumer of one partition; what it raises in our words."""

    def __init__(self, client: KafkaPython, place: Place, offset: int) -> None:
        self.client, self.place = client, place
        self.position = self.end = offset
        self.failure: KafkaError | None = None
        with self._explained():
            self.consumer: Any = kafka.KafkaConsumer(**{**client.properties, **_OURS})
        self.of = kafka.TopicPartition(place.topic, place.partition)
        self.consumer.assign([self.of])
        self.consumer.seek(self.of, offset)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Raise what has failed once at every later call too, in our words."""
        if self.failure is not None:
            raise self.failure
        try:
            yield
        except (errors.KafkaError, CorruptBatchError) as error:
            self.failure = self._failure(error)
            raise self.failure from error
        except KafkaError as error:
            self.failure = error
            raise

    def _failure(self, error: Exception) -> KafkaError:
        topic = self.place.topic
        if isinstance(error, errors.OffsetOutOfRangeError | errors.LogTruncationError):
            return self.client.brokers.out_of_range(self.place, self.position, self.client.cluster)
        if isinstance(error, CorruptBatchError | errors.CorruptRecordError):
            return KafkaError.corrupt(str(self.place), self.position, str(error))
        if isinstance(error, errors.TopicAuthorizationFailedError):
            return explained(topic, error.errno, str(error))
        return KafkaError(f"{self.place}: {error}")

    def close(self) -> None:
        self.consumer.close(autocommit=False)
        self.client.forget(self)


class _RawFetcher(_Fetcher):
    def __init__(self, client: KafkaPython, place: Place, offset: int) -> None:
        super().__init__(client, place, offset)
        self.batches: Batches | None = None
        self.decoded: Decoded | None = None
        self.row = 0
        self._hook()

    def _hook(self) -> None:
        """Let kafka-python hand over what brokers have answered, instead of records."""
        fetcher = self.consumer._fetcher
        parse = fetcher._parse_fetched_data

        def parsed(completed: Any) -> Any:
            # Where records end that can be read; it is kept nowhere else.
            stable = completed.partition_data.last_stable_offset
            self.end = max(self.end, stable)
            return parse(completed)

        fetcher._parse_fetched_data = parsed
        fetcher.PartitionRecords = partial(_Answer, most_bytes=self.client.most_bytes)

    def fetch(self, max_rows: int, max_bytes: int, wait_ms: int) -> Messages:
        check_limits(max_rows, max_bytes)
        with self._explained():
            while self.decoded is None:
                if self.batches is None or not self.batches.left:
                    self.batches = self._poll(wait_ms)
                if self.batches is None:
                    self.client.watch.look()
                    return nothing(self.position, max(self.position, self.end))
                self._decode(max_rows, max_bytes)
        return self._rows(self.decoded, max_rows, max_bytes)

    def _poll(self, wait_ms: int) -> Batches | None:
        answers = self.consumer.poll(wait_ms, max_records=1).get(self.of)
        return answers[0] if answers else None

    def _decode(self, max_rows: int, max_bytes: int) -> None:
        assert self.batches is not None
        decoded = self.batches.decode(max_rows, max_bytes)
        if decoded.offsets.size:
            self.decoded, self.row = decoded, 0
        else:
            self.position = decoded.next_offset

    def _rows(self, decoded: Decoded, max_rows: int, max_bytes: int) -> Messages:
        first, last = self.row, min(self.row + max_rows, decoded.offsets.size)
        sums = np.cumsum(np.maximum(decoded.sizes[first:last], 0))
        last = first + max(1, int(np.searchsorted(sums, max_bytes, "right")))
        last = min(last, decoded.offsets.size, first + max_rows)
        ends, buffer = decoded.values(first, last)
        offsets = decoded.offsets[first:last]
        self.row, self.position = last, int(offsets[-1]) + 1
        if last == decoded.offsets.size:
            self.decoded, self.position = None, decoded.next_offset
        return Messages(
            offsets, decoded.timestamps[first:last],
            values_array(buffer, ends, decoded.sizes[first:last]),
            self.position, max(self.position, self.end),
        )  # fmt: skip


class _Answer:
    """In place of kafka-python's ``PartitionRecords``: an answer gives its batches as one record.

    kafka-python then asks for what comes after the last of them.
    """

    def __init__(
        self, fetch_offset: int, place: Any, records: Any, *, most_bytes: int,
        aborted_transactions: Any, on_drain: Callable[[_Answer], None], **others: Any,
    ) -> None:  # fmt: skip
        data = records._buffer
        aborted = [Aborted(each.producer_id, each.first_offset)
                   for each in aborted_transactions or ()]  # fmt: skip
        self.batches = Batches(data, fetch_offset, aborted, crc32c, most_bytes)
        self.topic_partition, self.on_drain = place, on_drain
        self.next_fetch_offset, self.leader_epoch = fetch_offset, -1
        self.bytes_read = len(data)
        self.open = self.batches.left

    def __bool__(self) -> bool:
        return self.open

    def take(self, most: int) -> list[Batches]:
        self.next_fetch_offset, self.leader_epoch = self.batches.end
        self.drain()
        return [self.batches]

    def drain(self) -> None:
        self.open = False
        self.on_drain(self)


class _PollFetcher(_Fetcher):
    def __init__(self, client: KafkaPython, place: Place, offset: int) -> None:
        super().__init__(client, place, offset)
        self.records: list[Any] = []

    def fetch(self, max_rows: int, max_bytes: int, wait_ms: int) -> Messages:
        check_limits(max_rows, max_bytes)
        if not self.records:
            with self._explained():
                polled = self.consumer.poll(wait_ms, max_records=max_rows)
                self.records = polled.get(self.of, [])
                self._pass_holes()
                if not self.records:
                    self.client.watch.look()
                    return nothing(self.position, self.end)
        sizes = np.array([-1 if each.value is None else len(each.value)
                          for each in self.records[:max_rows]], np.int64)  # fmt: skip
        sums = np.cumsum(np.maximum(sizes, 0))
        count = max(1, int(np.searchsorted(sums, max_bytes, "right")))
        taken, self.records = self.records[:count], self.records[count:]
        offsets = np.array([each.offset for each in taken], np.int64)
        self.position = int(offsets[-1]) + 1
        self._pass_holes()
        return Messages(
            offsets, np.array([each.timestamp for each in taken], np.int64),
            pa.array([each.value for each in taken], pa.binary()), self.position, self.end,
        )  # fmt: skip

    def _pass_holes(self) -> None:
        """Go on to where kafka-python goes on, if all that it has given was returned."""
        if not self.records:
            self.position = max(self.position, self.consumer.position(self.of, timeout_ms=0))
        self.end = max(self.position, self._stable_end())

    def _stable_end(self) -> int:
        """Return where records end that can be read; of open transactions none can."""
        known = self.consumer.highwater(self.of)
        if known is None or known <= self.position or self.records:
            return known or 0
        return int(self.consumer.end_offsets([self.of], timeout_ms=1000)[self.of])
