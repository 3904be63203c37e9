"""What brokers have: topics, their partitions, where these begin and end."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from confluent_kafka import IsolationLevel, KafkaException, TopicCollection, TopicPartition
from confluent_kafka import KafkaError as Code
from confluent_kafka.admin import AdminClient, OffsetSpec

from headrace.pipelines.kafka.fetching import Place
from headrace.pipelines.kafka.properties import properties_of
from headrace.schemas.config.kafka import HIDDEN, KafkaConfig
from headrace.schemas.errors import ConfigError, KafkaError

_ANSWER_S = 15.0
_SOON_S = 2.0

_FINAL = (Code._AUTHENTICATION, Code._SSL)
"""What does not change by waiting."""

_PASSING = (
    Code.NOT_LEADER_FOR_PARTITION,
    Code.LEADER_NOT_AVAILABLE,
    Code.UNKNOWN_LEADER_EPOCH,
    Code.FENCED_LEADER_EPOCH,
)
"""What is answered while a partition is just being created, or moves to another broker."""

_FORBIDDEN = (
    Code.TOPIC_AUTHORIZATION_FAILED,
    Code.CLUSTER_AUTHORIZATION_FAILED,
    Code.GROUP_AUTHORIZATION_FAILED,
)

Offsets = dict[str, dict[int, int]]
"""An offset for each partition of each topic."""


@dataclass(frozen=True)
class Cluster:
    """Topics as they were when they were asked for.

    Parameters
    ----------
    id
        The cluster's own name for itself.
    topics
        By topic and partition ``(begin, end)``: the offset of the first record, and the
        offset after the last that can be read; records of open transactions are beyond it.
    ids
        The id of each topic: one that is deleted and created again has another.
    """

    id: str
    topics: dict[str, dict[int, tuple[int, int]]]
    ids: dict[str, str]


class _PassingError(KafkaError):
    """An answer that will soon be another."""


class UnreachableError(KafkaError):
    """No broker answers, which may be otherwise soon."""


class Brokers:
    """The brokers that a configuration names, to be asked about topics.

    Parameters
    ----------
    kafka
        The table ``[kafka]``.
    file
        The configuration file: paths of secrets are relative to its folder, errors name it.
    environment
        The variables that secrets may name.
    patience_s
        Within so many seconds a broker must answer for the first time.

    Raises
    ------
    ConfigError
        If a secret is not found, or librdkafka refuses a property.
    """

    def __init__(
        self,
        kafka: KafkaConfig,
        file: str,
        environment: Mapping[str, str] = os.environ,
        patience_s: int = 8,
    ) -> None:
        self.kafka, self.file, self.patience_s = kafka, file, patience_s
        self.servers = ", ".join(kafka.servers)
        self.properties = properties_of(kafka, file, environment)
        self._trouble: list[Code] = []
        try:
            self.admin = AdminClient({**self.properties, "error_cb": self._note})
        except KafkaException as error:
            raise self.refused(error.args[0].str()) from error

    def __reduce__(self) -> Any:
        # Secrets stay where they are: another process finds its own.
        return Brokers, (self.kafka, self.file)

    def describe(self, topics: Iterable[str], committed: bool = True) -> Cluster:
        """Return what the cluster has of some topics.

        Parameters
        ----------
        topics
            Their names.
        committed
            Whether partitions end before the first open transaction.

        Raises
        ------
        UnreachableError
            If no broker can be reached, within seconds.
        KafkaError
            If a topic does not exist, or may not be read.
        """
        names = sorted(set(topics))
        cluster = self.cluster_id()
        asked = self.admin.describe_topics(TopicCollection(names), request_timeout=_ANSWER_S)
        found = {name: self._answer(future, name) for name, future in asked.items()}
        places = [
            TopicPartition(name, partition.id)
            for name in names
            for partition in found[name].partitions
        ]
        begins = self._offsets(dict.fromkeys(places, OffsetSpec.earliest()), committed)
        ends = self._offsets(dict.fromkeys(places, OffsetSpec.latest()), committed)
        return Cluster(
            cluster,
            {name: {number: (begin, ends[name][number]) for number, begin in of.items()}
             for name, of in begins.items()},
            {name: str(found[name].topic_id) for name in names},
        )  # fmt: skip

    def out_of_range(self, place: Place, position: int, cluster: Cluster) -> KafkaError:
        """Return why brokers have no records at a position that was read from before.

        Parameters
        ----------
        place, position
            The partition and the position.
        cluster
            The topics as they were then.
        """
        try:
            now = self.describe([place.topic])
        except KafkaError as error:
            return error
        if now.ids[place.topic] != cluster.ids[place.topic]:
            return KafkaError.recreated(place.topic)
        begin, end = now.topics[place.topic].get(place.partition, (0, 0))
        if position < begin:
            return KafkaError.gap(str(place), position, begin)
        return KafkaError.beyond(str(place), position, end)

    def first_offsets(self, cluster: Cluster, start: int | str) -> Offsets:
        """Return where reading begins.

        Parameters
        ----------
        cluster
            The topics.
        start
            ``"earliest"``, ``"latest"``, or a time in microseconds UTC: then it is the first
            record with this timestamp or a later one; at the end if there is none.
        """
        if start in ("earliest", "latest"):
            end = start == "latest"
            return {
                topic: {number: bounds[end] for number, bounds in partitions.items()}
                for topic, partitions in cluster.topics.items()
            }
        # Timestamps are milliseconds: the first that is not before the time.
        at = OffsetSpec.for_timestamp(-(-int(start) // 1000))
        found = self._offsets(
            {TopicPartition(topic, number): at
             for topic, partitions in cluster.topics.items() for number in partitions}
        )  # fmt: skip
        return {
            topic: {number: cluster.topics[topic][number][1] if offset < 0 else offset
                    for number, offset in of.items()}
            for topic, of in found.items()
        }  # fmt: skip

    def ends(self, places: Iterable[Place]) -> dict[Place, int] | None:
        """Return where partitions end now, with records that cannot be read yet.

        Returns
        -------
        dict or None
            None unless brokers answer for all of them within two seconds.
        """
        specs = {TopicPartition(at.topic, at.partition): OffsetSpec.latest() for at in places}
        asked = self.admin.list_offsets(
            specs, isolation_level=IsolationLevel.READ_UNCOMMITTED, request_timeout=_SOON_S
        )
        until_s = time.monotonic() + _SOON_S
        try:
            return {
                Place(at.topic, at.partition): int(
                    future.result(max(until_s - time.monotonic(), 0.0)).offset
                )
                for at, future in asked.items()
            }
        except (KafkaException, TimeoutError):
            return None

    def refused(self, text: str) -> ConfigError:
        """Return the error of a property that librdkafka refuses, with its words."""
        named = [name for name in self.properties if name in text]
        key = f"kafka.{max(named, key=len)}" if named else "kafka"
        return ConfigError(self.file, key, f"is refused by librdkafka ({self.shown(text)})")

    def shown(self, text: str) -> str:
        """Return a text of librdkafka without values that may be secret."""
        values = {self.properties[name] for name in self.kafka.hidden} - {""}
        # The longest first: a short one may be a part of it.
        for value in sorted(values, key=len, reverse=True):
            text = text.replace(value, HIDDEN)
        return text

    def _offsets(
        self, specs: Mapping[TopicPartition, OffsetSpec], committed: bool = True
    ) -> Offsets:
        until_s = time.monotonic() + self.patience_s
        while True:
            try:
                return self._offsets_now(specs, committed)
            except _PassingError:
                if time.monotonic() > until_s:
                    raise
            time.sleep(0.1)

    def _offsets_now(self, specs: Mapping[TopicPartition, OffsetSpec], committed: bool) -> Offsets:
        if not specs:
            return {}
        level = IsolationLevel.READ_COMMITTED if committed else IsolationLevel.READ_UNCOMMITTED
        asked = self.admin.list_offsets(
            dict(specs), isolation_level=level, request_timeout=_ANSWER_S
        )
        found: Offsets = {}
        for place, future in asked.items():
            answer = self._answer(future, place.topic)
            found.setdefault(place.topic, {})[place.partition] = answer.offset
        return found

    def cluster_id(self) -> str:
        """Connect, and return the cluster's own name for itself.

        Raises
        ------
        KafkaError
            If no broker can be reached, within seconds; says why.
        """
        for _ in range(self.patience_s):
            try:
                return str(self.admin.list_topics(topic="", timeout=1).cluster_id)
            except KafkaException:
                self.admin.poll(0)
                if any(error.code() in _FINAL for error in self._trouble):
                    break
        raise self._unreachable()

    def _answer(self, future: Future[Any], topic: str) -> Any:
        try:
            return future.result(2 * _ANSWER_S)
        except (KafkaException, TimeoutError) as error:
            code = error.args[0] if isinstance(error, KafkaException) else None
            raise self._wrong(code, topic) from error

    def _wrong(self, code: Code | None, topic: str) -> KafkaError:
        if code is None or code.code() in (Code._TRANSPORT, Code._TIMED_OUT):
            return self._unreachable()
        if code.code() == Code.UNKNOWN_TOPIC_OR_PART:
            return KafkaError.no_topic(topic, self.servers)
        if code.code() in _PASSING:
            return _PassingError(f"{topic}: {code.str()}")
        return explained(topic, code.code(), code.str())

    def _note(self, error: Code) -> None:
        self._trouble.append(error)

    def _unreachable(self) -> UnreachableError:
        """Say why no broker answers, by the most telling of what librdkafka has met."""
        for kind, what in (
            (Code._AUTHENTICATION, "refuses the user or the password; check sasl.mechanism, "
             "sasl.username and sasl.password"),
            (Code._SSL, "has a certificate or a key that does not fit; check ssl.ca.location, "
             "and that its certificate is for this host"),
            (Code._RESOLVE, "is not known by this name; check servers"),
            (Code._TRANSPORT, "cannot be reached; check servers, and that it runs"),
        ):  # fmt: skip
            for error in self._trouble:
                if error.code() == kind:
                    return UnreachableError(
                        f"kafka: {self.servers} {what} ({self.shown(error.str())})"
                    )
        return UnreachableError(
            f"kafka: {self.servers} does not answer as a broker; check servers, and that "
            "security.protocol is that of the broker's listener"
        )


class TopicWatch:
    """Asks again and again whether topics are still those that were described.

    A topic that is deleted and created again has the same name and other records at the same
    offsets; and one that is deleted just has no more records, which clients do not tell.

    Parameters
    ----------
    brokers
        Whom to ask.
    cluster
        The topics.
    every_s
        `look` asks again after so many seconds.
    growing
        Whether records are read that come after the topics were described: then another
        number of partitions is an error, since nobody would read the new ones.
    """

    def __init__(
        self, brokers: Brokers, cluster: Cluster, every_s: float = 2.0, growing: bool = False
    ) -> None:
        self.brokers, self.cluster, self.every_s = brokers, cluster, every_s
        self.growing = growing
        self.asked: dict[str, Future[Any]] | None = None
        self.next_s = time.monotonic() + every_s
        self.missing: set[str] = set()

    def look(self) -> None:
        """Ask if it is time, or look at the answer if it has come; does not wait.

        Raises
        ------
        KafkaError
            If a topic was deleted or created again.
        """
        now_s = time.monotonic()
        if self.asked is None and now_s >= self.next_s:
            self.asked = self._ask()
        if self.asked is not None and all(future.done() for future in self.asked.values()):
            asked, self.asked, self.next_s = self.asked, None, now_s + self.every_s
            self._judge(asked)

    def verify(self, wait_s: float = 2 * _ANSWER_S) -> bool:
        """Ask and wait: all that was read before the call was of these topics.

        Parameters
        ----------
        wait_s
            How long to wait for an answer.

        Returns
        -------
        bool
            Whether brokers have answered.

        Raises
        ------
        KafkaError
            If a topic was deleted or created again, or has another number of partitions.
        """
        if not self._judge(self._ask(), wait_s):
            return False
        return not self.missing or self._judge(self._ask(), wait_s)

    def _ask(self) -> dict[str, Future[Any]]:
        topics = TopicCollection(sorted(self.cluster.ids))
        return dict(self.brokers.admin.describe_topics(topics, request_timeout=_ANSWER_S))

    def _judge(self, asked: Mapping[str, Future[Any]], wait_s: float = 2 * _ANSWER_S) -> bool:
        missing = set()
        until_s = time.monotonic() + wait_s
        for topic, future in asked.items():
            try:
                found = future.result(max(until_s - time.monotonic(), 0.0))
            except (KafkaException, TimeoutError) as error:
                code = error.args[0].code() if isinstance(error, KafkaException) else None
                if code in _FORBIDDEN:
                    raise KafkaError.forbidden(topic) from error
                if code != Code.UNKNOWN_TOPIC_OR_PART:
                    return False
                missing.add(topic)
            else:
                if str(found.topic_id) != self.cluster.ids[topic]:
                    raise KafkaError.recreated(topic)
                then, now = len(self.cluster.topics[topic]), len(found.partitions)
                if self.growing and now != then:
                    raise KafkaError.repartitioned(topic, then, now)
        # A broker that has just been started may not know of a topic yet.
        for topic in sorted(self.missing & missing):
            raise KafkaError.deleted(topic)
        self.missing = missing
        return True


def explained(what: str, code: int, text: str) -> KafkaError:
    """Return the error of an answer of brokers.

    Parameters
    ----------
    what
        The topic or partition that was asked for.
    code, text
        The number and the words of the answer.
    """
    if code in _FORBIDDEN:
        return KafkaError.forbidden(what)
    return KafkaError(f"{what}: {text}")
