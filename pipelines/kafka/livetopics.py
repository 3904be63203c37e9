"""Topics as the logs of a job that goes on: each partition a log that grows."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headrace.pipelines.kafka.topiclogs import TopicLog
from headrace.pipelines.kafka.topics import Brokers, TopicWatch
from headrace.pipelines.sources.inputs import Inputs
from headrace.pipelines.sources.source import Chunk

_NO_WAIT_MS = 0
_VERIFIED_WITHIN_S = 2.0


@dataclass(frozen=True)
class GrowingTopic:
    """A partition of a topic, with the records that are still to come.

    Parameters
    ----------
    log
        The partition as it was found.
    end
        Position at which it ends; None for never.
    """

    log: TopicLog
    end: int | None

    @property
    def number(self) -> int:
        """Number among all partitions."""
        return self.log.number

    @property
    def stream(self) -> int:
        """Number of its stream."""
        return self.log.stream

    @property
    def name(self) -> str:
        """Its name in dead letters."""
        return self.log.name

    def chunks(self, rows: int, skip: int = 0) -> Iterator[Chunk | None]:
        """Read the records from `skip` on; None where none have come yet."""
        return self.log.read(rows, skip, self.end, _NO_WAIT_MS)


class LiveTopics:
    """The topics of a job, as `headrace.pipelines.sources.source.Growing`.

    Parameters
    ----------
    logs
        The partitions as they were found.
    start
        Where a run begins: ``"earliest"``, ``"latest"``, or a time, microseconds UTC.
    until_end
        Whether they end where they ended when they were found.
    """

    def __init__(self, logs: Sequence[TopicLog], start: int | str, until_end: bool) -> None:
        self.found = logs, start, until_end
        self.partitions = [GrowingTopic(log, log.end if until_end else None) for log in logs]
        self.brokers: Brokers = logs[0].connection.brokers
        cluster = logs[0].connection.cluster
        self.cluster, self.start = cluster, start
        self.watch = TopicWatch(self.brokers, cluster, growing=not until_end)

    def __reduce__(self) -> Any:
        return LiveTopics, self.found

    def identity(self) -> dict[str, list[Any]]:
        """Return ids and schemas of the topics, by the names of the partitions in the cluster."""
        found = [at.log.identity() for at in self.partitions]
        return {name: [topic, *schema] for name, (topic, _, *schema) in found}

    def starts(self) -> list[int]:
        """Return the positions at which a run begins."""
        found = self.brokers.first_offsets(self.cluster, self.start)
        logs = [at.log for at in self.partitions]
        return [log.position(found[log.place.topic][log.place.partition]) for log in logs]

    def ends(self, numbers: Collection[int]) -> Mapping[int, int] | None:
        """Return where partitions end now; None if brokers do not answer."""
        asked = [at for at in self.partitions if at.number in numbers]
        found = self.brokers.ends(at.log.place for at in asked)
        if found is None:
            return None
        return {at.number: at.log.position(found[at.log.place]) for at in asked}

    def verify(self) -> bool:
        """Make sure that the topics are those that were found; see `TopicWatch.verify`."""
        return self.watch.verify(_VERIFIED_WITHIN_S)


def live_topics(inputs: Inputs, until_end: bool) -> LiveTopics:
    """Return the topics of a job that `resolve_topics` found, as they grow."""
    logs = [log for log in inputs.logs if isinstance(log, TopicLog)]
    return LiveTopics(logs, inputs.config.live.start, until_end)
