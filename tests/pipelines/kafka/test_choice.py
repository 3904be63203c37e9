"""Which client reads, and what is said if it is not the fastest."""

from __future__ import annotations

import kafka
import pytest

from headrace.pipelines.kafka import librdkafka
from headrace.pipelines.kafka.clients import connect
from headrace.pipelines.kafka.topics import Brokers, Cluster
from headrace.schemas.config.kafka import KafkaConfig
from headrace.schemas.errors import ConfigError, KafkaError

NOTHING = Cluster("c", {}, {})


def chosen(warnings, **keys):
    brokers = Brokers(KafkaConfig(servers="127.0.0.1:1", **keys), "c.toml")
    with connect(brokers, NOTHING, warnings.append) as client:
        return client.name


@pytest.mark.parametrize("name", ["librdkafka", "kafka-python", "poll"])
def test_a_client_that_is_configured_is_taken(name):
    warnings = []
    assert chosen(warnings, client=name) == name
    assert warnings == []


def test_the_fastest_client_that_works_is_taken(monkeypatch):
    """With the reasons why others do not."""
    warnings = []
    assert chosen(warnings) == "librdkafka"
    assert warnings == []
    librdkafka.library.cache_clear()
    monkeypatch.setattr(librdkafka, "_OLDEST", 0x7F000000)
    assert chosen(warnings) == "kafka-python"
    old = "librdkafka is too old; install confluent-kafka 2.6 or later"
    assert warnings.pop() == f"kafka: kafka-python reads, which is slower ({old})"
    monkeypatch.setattr(kafka, "__version__", "3.1.0")
    assert chosen(warnings) == "poll"
    other = "kafka-python 3.1.0 may give no batches; install 3.0.12"
    assert warnings.pop() == f"kafka: poll reads, which is slower ({old}; {other})"
    with pytest.raises(KafkaError, match=r"^kafka-python 3.1.0 may give no batches; "):
        chosen(warnings, client="kafka-python")
    assert warnings == []


def test_a_bound_on_batches_is_kept_by_one_client_alone():
    """So it is the one that reads, unless another is configured."""
    warnings = []
    assert chosen(warnings, max_batch_mb=16) == "kafka-python"
    said = "kafka: kafka-python reads, as librdkafka cannot keep to max_batch_mb"
    assert warnings == [said]
    with pytest.raises(ConfigError, match=r"c.toml: kafka.max_batch_mb: cannot be kept by lib"):
        chosen(warnings, client="librdkafka", max_batch_mb=16)


def test_a_property_without_counterpart_leaves_one_client(monkeypatch):
    """A client that needs another one is refused with all reasons."""
    librdkafka.library.cache_clear()
    monkeypatch.setattr(librdkafka, "_OLDEST", 0x7F000000)
    with pytest.raises(KafkaError, match=r"^kafka: no client can be used \(librdkafka is too old"):
        chosen([], **{"socket.nagle.disable": True})


@pytest.fixture(autouse=True)
def _fresh():
    yield
    librdkafka.library.cache_clear()
