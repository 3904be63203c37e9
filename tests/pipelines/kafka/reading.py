"""Reading a partition to its end, by our clients and by one that serves as the oracle."""

from __future__ import annotations

from confluent_kafka import Consumer, TopicPartition

from headrace.pipelines.kafka.clients import connect
from headrace.pipelines.kafka.fetching import Place

CLIENTS = ("librdkafka", "kafka-python", "poll")
FETCHES = 150
"""More than any reading here needs: what makes no progress fails."""


def connected(broker, name, topics, cluster=None, **keys):
    """Connect a client to a broker, with the topics as they are or as they were."""
    brokers = broker.brokers(client=name, **keys)
    return connect(brokers, cluster or brokers.describe(topics), pytest_fails)


def pytest_fails(warning):
    raise AssertionError(warning)


def rows_of(messages):
    """Return messages as (offset, timestamp, value), after checking their form."""
    offsets, values = messages.offsets.tolist(), messages.values.to_pylist()
    assert messages.values.validate(full=True) is None
    assert len(offsets) == len(messages.timestamps) == len(values) == len(messages)
    assert offsets == sorted(set(offsets))
    assert not offsets or offsets[-1] < messages.next_offset
    assert messages.next_offset <= messages.end
    return list(zip(offsets, messages.timestamps.tolist(), values, strict=True))


def read_on(fetcher, end, position=0, rows=1000, size=1 << 20):
    """Read until a position."""
    found = []
    for _ in range(FETCHES):
        messages = fetcher.fetch(rows, size, 200)
        new = rows_of(messages)
        assert len(new) <= rows
        assert all(offset >= position for offset, _, _ in new)
        position = messages.next_offset
        found += new
        if position >= end:
            return found
    raise AssertionError(f"no further than {position} of {end}")


def read(broker, name, topic, begin=0, end=None, rows=1000, size=1 << 20, **keys):
    """Read partition 0 from an offset to an end, by default that of now."""
    with connected(broker, name, [topic], **keys) as client:
        end = broker.brokers().describe([topic]).topics[topic][0][1] if end is None else end
        return read_on(client.open(Place(topic, 0), begin), end, begin, rows, size)


def oracle(broker, topic, begin=0):
    """Read partition 0 by the library's own consumer."""
    consumer = Consumer(
        {
            "bootstrap.servers": broker.servers, "group.id": "oracle", "enable.auto.commit": False,
            "auto.offset.reset": "error", "enable.partition.eof": True, "check.crcs": True,
        }
    )  # fmt: skip
    consumer.assign([TopicPartition(topic, 0, begin)])
    found = []
    while True:
        message = consumer.poll(10)
        assert message is not None
        if message.error() is not None:
            assert message.error().name() == "_PARTITION_EOF", message.error()
            consumer.close()
            return found
        found.append((message.offset(), message.timestamp()[1], message.value()))
