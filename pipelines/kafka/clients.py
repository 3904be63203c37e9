"""Which client reads: the one that is configured, or the fastest that works."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from headrace.pipelines.kafka.fetching import Client
from headrace.pipelines.kafka.topics import Brokers, Cluster
from headrace.schemas.errors import ConfigError, KafkaError

_CLIENTS = {
    "librdkafka": ("librdkafka", "Librdkafka"),
    "kafka-python": ("kafkapython", "KafkaPython"),
    "poll": ("kafkapython", "Poll"),
}
"""The module and the class of each, the fastest first."""


def connect(brokers: Brokers, cluster: Cluster, warn: Callable[[str], None]) -> Client:
    """Return the client of a configuration.

    Parameters
    ----------
    brokers
        The brokers, with the configuration.
    cluster
        The topics that will be read.
    warn
        Called with a sentence if it is not the fastest.

    Raises
    ------
    ConfigError
        If the client does not know a property, or cannot keep to ``max_batch_mb``.
    KafkaError
        If the configured client, or none, can be used here.
    """
    kafka = brokers.kafka
    if kafka.client != "auto":
        if kafka.max_batch_mb is not None and kafka.client != "kafka-python":
            raise ConfigError(
                brokers.file, "kafka.max_batch_mb", f"cannot be kept by {kafka.client}",
                kafka.max_batch_mb, 'set client = "kafka-python", or leave it out',
            )  # fmt: skip
        return _made(kafka.client, brokers, cluster)
    if kafka.max_batch_mb is not None:
        warn("kafka: kafka-python reads, as librdkafka cannot keep to max_batch_mb")
        return _made("kafka-python", brokers, cluster)
    reasons: list[str] = []
    for name in _CLIENTS:
        try:
            client = _made(name, brokers, cluster)
        except (ConfigError, KafkaError) as error:
            reasons.append(str(error))
            continue
        if reasons:
            warn(f"kafka: {name} reads, which is slower ({'; '.join(reasons)})")
        return client
    raise KafkaError(f"kafka: no client can be used ({'; '.join(reasons)})")


def _made(name: str, brokers: Brokers, cluster: Cluster) -> Client:
    module, of = _CLIENTS[name]
    try:
        found = import_module(f"headrace.pipelines.kafka.{module}")
    except ImportError as error:
        hint = "pip install 'headrace[kafka]'"
        raise KafkaError(f"kafka: {error.name} is not installed; {hint}") from error
    client: Client = getattr(found, of)(brokers, cluster)
    return client
