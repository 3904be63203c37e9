"""Producing generated messages to topics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
from confluent_kafka import KafkaError as Code
from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import NewTopic

from headrace.pipelines.kafka.topics import Brokers
from headrace.schemas.errors import KafkaError

_ANSWER_S = 30.0
_ROOM_S = 0.1
_BROKERS_DEFAULT = -1

PROPERTIES = {
    "acks": "all",
    "enable.idempotence": True,
    "compression.type": "lz4",
    "queue.buffering.max.messages": 200_000,
    # Calling back for each message would cost as much as producing it.
    "delivery.report.only.error": True,
}
"""What is set for producing."""


def create_topics(brokers: Brokers, topics: Sequence[str], partitions: int) -> None:
    """Create topics unless they are there.

    Raises
    ------
    KafkaError
        If no broker can be reached; if a topic is there with another number of partitions,
        or is refused.
    """
    brokers.cluster_id()
    new = [NewTopic(name, partitions, _BROKERS_DEFAULT) for name in topics]
    for name, created in brokers.admin.create_topics(new, request_timeout=_ANSWER_S).items():
        try:
            created.result(2 * _ANSWER_S)
        except KafkaException as error:
            if error.args[0].code() != Code.TOPIC_ALREADY_EXISTS:
                why = f"cannot be created ({error.args[0].str()})"
                hint = "create it, or let the user create topics"
                raise KafkaError(f"{name}: the topic {why}; {hint}") from error
            there = len(brokers.describe([name]).topics[name])
            if there != partitions:
                fact = f"the topic has {there} partitions (asked for {partitions})"
                hint = f"use --partitions {there}, or another --prefix"
                raise KafkaError(f"{name}: {fact}; {hint}") from error


class TopicOutlet:
    """Sends messages to topics; a `headrace.pipelines.jobs.pacing.Outlet`.

    Messages have the time at which they are produced. With event times of the past, brokers
    would soon delete them by retention, and with them what they know of the producer.

    Parameters
    ----------
    brokers
        Where the topics are.
    topics
        The topic of each stream.
    """

    def __init__(self, brokers: Brokers, topics: Sequence[str]) -> None:
        self.topics = tuple(topics)
        self.failure: KafkaError | None = None
        settings = {**brokers.properties, **PROPERTIES, "on_delivery": self._delivered}
        self.producer = Producer(settings)

    def send(self, messages: pa.Table) -> int:
        """Queue messages until the queue is full, and return how many.

        Parameters
        ----------
        messages
            ``stream`` (the number of the topic), ``partition``, ``key`` and ``value``.
        """
        names = ("stream", "partition", "key", "value")
        columns = [messages.column(name).to_pylist() for name in names]
        produce, topics, taken = self.producer.produce, self.topics, 0
        try:
            for stream, partition, key, value in zip(*columns, strict=True):
                produce(topics[stream], value, key, partition)
                taken += 1
        except BufferError:
            self.producer.poll(_ROOM_S)
        except KafkaException as error:
            self._delivered(error.args[0], None)
        return taken

    def check(self) -> None:
        """Raise the first error of a message."""
        self.producer.poll(0)
        if self.failure is not None:
            raise self.failure

    def close(self) -> None:
        """Wait until all messages are acknowledged.

        Raises
        ------
        KafkaError
            If a message was refused, or some are not acknowledged within half a minute.
        """
        left = self.producer.flush(_ANSWER_S)
        self.check()
        if left:
            fact = f"{left:,} messages were not acknowledged within {_ANSWER_S:.0f} s"
            raise KafkaError(f"{', '.join(self.topics)}: {fact}; check the brokers")

    def _delivered(self, error: Code | None, message: Any) -> None:
        if error is not None and self.failure is None:
            name = ", ".join(self.topics) if message is None else message.topic()
            hint = "check the brokers, the topic's limits, and that the user may write"
            self.failure = KafkaError(f"{name}: a message was refused ({error.str()}); {hint}")
