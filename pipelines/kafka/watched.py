"""What all clients share: whom to ask about topics, and the fetchers that are open."""

from __future__ import annotations

from abc import abstractmethod

from headrace.pipelines.kafka.fetching import Client, Fetcher, Place
from headrace.pipelines.kafka.topics import Brokers, Cluster, TopicWatch


class WatchedClient(Client):
    """A client that knows its fetchers, each of which tells it when it is closed.

    Parameters
    ----------
    brokers
        Whom to ask about topics.
    cluster
        The topics as they were found.
    """

    trouble: str | None = None

    def __init__(self, brokers: Brokers, cluster: Cluster) -> None:
        self.brokers, self.cluster = brokers, cluster
        self.watch = TopicWatch(brokers, cluster)
        self.fetchers: list[Fetcher] = []

    def open(self, place: Place, offset: int) -> Fetcher:
        """Read a partition from an offset on."""
        fetcher = self._opened(place, offset)
        self.fetchers.append(fetcher)
        return fetcher

    @abstractmethod
    def _opened(self, place: Place, offset: int) -> Fetcher:
        """Make a fetcher; it calls `forget` when it is closed."""

    def forget(self, fetcher: Fetcher) -> None:
        """Drop a fetcher that has been closed."""
        if fetcher in self.fetchers:
            self.fetchers.remove(fetcher)

    def verify(self) -> bool:
        """Make sure that topics are those that they were."""
        return self.watch.verify()

    def close(self) -> None:
        """Close all fetchers."""
        for fetcher in list(self.fetchers):
            fetcher.close()
