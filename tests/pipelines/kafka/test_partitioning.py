"""A key goes to the partition to which Java's clients send it."""

from __future__ import annotations

import pyarrow as pa
import pytest
from confluent_kafka import Producer
from hypothesis import given
from hypothesis import strategies as st

from headrace.pipelines.kafka.partitioning import key_hashes


def murmur2(data):
    """Return the hash by which Java's clients choose partitions, as a positive number."""
    m, mask = 0x5BD1E995, 0xFFFFFFFF
    h = (0x9747B28C ^ len(data)) & mask
    words = len(data) // 4 * 4
    for at in range(0, words, 4):
        k = int.from_bytes(data[at : at + 4], "little") * m & mask
        h = h * m & mask ^ (k ^ k >> 24) * m & mask
    if rest := data[words:]:
        h = (h ^ int.from_bytes(rest, "little")) * m & mask
    h = (h ^ h >> 13) * m & mask
    return (h ^ h >> 15) & 0x7FFFFFFF


@given(st.lists(st.binary(max_size=40)))
def test_the_hash_is_that_of_java(keys):
    """Of a slice of an array too."""
    whole = pa.array([b"before", *keys, b"after"], pa.binary())
    assert key_hashes(whole.slice(1, len(keys))).tolist() == [murmur2(key) for key in keys]


@pytest.mark.parametrize("partitions", [1, 3, 8])
def test_the_partition_is_that_of_another_implementation(broker, partitions):
    """The one of librdkafka, when it is told to be compatible with Java."""
    topic = broker.create(partitions)
    keys = [f"key-{number}".encode() * (number % 5 + 1) for number in range(50)]
    found = {}
    producer = Producer(
        {"bootstrap.servers": broker.servers, "partitioner": "murmur2", "log_level": 0,
         "on_delivery": lambda _, message: found.update({message.key(): message.partition()})}
    )  # fmt: skip
    for key in keys:
        producer.produce(topic, b"", key)
    assert producer.flush(30) == 0
    expected = (key_hashes(pa.array(keys)) % partitions).tolist()
    assert [found[key] for key in keys] == expected
