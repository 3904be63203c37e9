"""All clients give the same messages, and refuse the same ones, each with the same words."""

from __future__ import annotations

import contextlib
import itertools
import json
import time

import numpy as np
import pytest

from headrace.pipelines.kafka.fetching import Place
from headrace.schemas.errors import KafkaError
from tests.pipelines.kafka.broker import Record
from tests.pipelines.kafka.reading import CLIENTS, connected, oracle, read, read_on, rows_of

each_client = pytest.mark.parametrize("name", CLIENTS)


def some_records(count=60, seed=0):
    """Make records of all forms: nulls, empty ones, headers, bytes that are no text."""
    random = np.random.default_rng(seed)
    values = [b"", None, b"\0\xff", b"{}", random.bytes(5000), b"x" * 3000]
    keys = [None, b"", b"key"]
    headers = [(), (("a", b""),), (("a", b"1"), ("a", b"\0"))]
    return [
        Record(
            values[at % 7] if at % 7 < 6 else b"value %d" % at,
            keys[at % 3], headers[at % 4 % 3], 1_700_000_000_000 + int(random.integers(1000)),
        )
        for at in range(count)
    ]  # fmt: skip


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_all_clients_give_the_same_messages(broker, codec):
    """From the beginning and from the middle of a batch, however few rows or bytes at a time."""
    topic, records = broker.create(), some_records()
    broker.produce(topic, records, codec=codec, batch=7)
    expected = [(at, record.timestamp, record.value) for at, record in enumerate(records)]
    assert oracle(broker, topic) == expected
    cuts = ((0, 1000, 1 << 20), (0, 4, 1 << 20), (0, 1000, 1), (38, 5, 4000))
    for name in CLIENTS:
        with connected(broker, name, [topic]) as client:
            for begin, rows, size in cuts:
                fetcher = client.open(Place(topic, 0), begin)
                found = read_on(fetcher, len(expected), begin, rows, size)
                fetcher.close()
                assert found == expected[begin:], (name, begin, rows, size)


def test_records_of_aborted_and_open_transactions_are_not_read(broker):
    """Nor are marks; the position is after them, at the beginning of the open transaction."""
    topic = broker.create()
    producers = []
    for number in range(3):
        producer = broker.producer(batch=3, transactional_id=f"{topic}-{number}")
        producer.init_transactions(30)
        producers.append(producer)
    expected, offset = [], 0
    for at, (number, commits) in enumerate(((0, True), (1, False), (0, False), (1, True))):
        producer, other = producers[number], producers[1 - number]
        producer.begin_transaction()
        other.begin_transaction()
        values = [b"%d-%d" % (at, row) for row in range(8)]
        broker.put(producer, topic, values[:4])
        producer.flush(30)
        broker.put(other, topic, [b"aborted"] * 5)
        other.flush(30)
        broker.put(producer, topic, values[4:])
        producer.flush(30)
        broker.produce(topic, [b"no transaction"])
        producer.commit_transaction(30) if commits else producer.abort_transaction(30)
        other.abort_transaction(30)
        mine = [*range(offset, offset + 4), *range(offset + 9, offset + 13)]
        expected += list(zip(mine, values, strict=True)) if commits else []
        expected.append((offset + 13, b"no transaction"))
        offset += 16
    assert [(at, value) for at, _, value in oracle(broker, topic)] == expected
    producers[2].begin_transaction()
    broker.put(producers[2], topic, [b"open"] * 3)
    producers[2].flush(30)
    for name in CLIENTS:
        for begin in (0, 11):
            with connected(broker, name, [topic]) as client:
                fetcher = client.open(Place(topic, 0), begin)
                found = read_on(fetcher, offset, begin, rows=5)
                assert [(at, value) for at, _, value in found] == [
                    each for each in expected if each[0] >= begin
                ], (name, begin)
                idle = fetcher.fetch(10, 1 << 20, 100)
                assert (len(idle), idle.next_offset, idle.end) == (0, offset, offset), name
    producers[2].abort_transaction(30)


def test_timestamps_may_be_those_of_the_log(broker):
    topic = broker.create(message_timestamp_type="LogAppendTime")
    broker.produce(topic, some_records(20), batch=6, codec="lz4")
    expected = oracle(broker, topic)
    assert len(expected) == 20
    assert min(timestamp for _, timestamp, _ in expected) > 1_750_000_000_000
    for name in CLIENTS:
        assert read(broker, name, topic) == expected, name


def test_holes_of_compaction_are_passed(broker):
    """Also from an offset inside of one."""
    topic = broker.create(
        cleanup_policy="compact", segment_ms=200, min_cleanable_dirty_ratio=0.01,
        delete_retention_ms=0, max_compaction_lag_ms=200,
    )  # fmt: skip
    # A segment, which alone is compacted, ends by the times of records.
    times = itertools.count(1_700_000_000_000, 1000)
    records = [
        Record(b"%d" % at, b"key %d" % (at % 5 if at % 4 else at), timestamp=next(times))
        for at in range(40)
    ]
    broker.produce(topic, records, batch=4)
    until = time.monotonic() + 30
    while len(expected := oracle(broker, topic)) > 20:
        assert time.monotonic() < until, "nothing was compacted"
        time.sleep(0.5)
        broker.produce(topic, [Record(None, b"key 0", timestamp=next(times))])
    while expected != (expected := oracle(broker, topic)):
        time.sleep(1)  # the rest is compacted
    offsets = [at for at, _, _ in expected]
    after = next(row for row in range(1, len(offsets)) if offsets[row] - offsets[row - 1] > 1)
    for name in CLIENTS:
        assert read(broker, name, topic) == expected, name
        assert read(broker, name, topic, offsets[after] - 1) == expected[after:], name


@pytest.mark.parametrize("kills", [1, pytest.param(5, marks=pytest.mark.slow)])
def test_a_broker_that_is_killed_and_started_again_loses_and_doubles_nothing(broker, kills):
    """While it is produced to, and read by all clients; they go on within seconds."""
    # A broker that starts again forgets idempotent producers whose newest record is a day old
    # by its time, and a batch that such a producer sends again is there twice.
    now = int(time.time() * 1000)
    topic = broker.create(partitions=3)
    producer = broker.producer(batch=50, enable_idempotence=True)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connected(broker, name, [topic])) for name in CLIENTS]
        places = [Place(topic, number) for number in range(3)]
        fetchers = [client.open(place, 0) for client in clients for place in places]
        found = [[] for _ in fetchers]
        for kill in range(kills + 1):
            numbers = range(400 * kill, 400 * (kill + 1))
            values = [Record(b"%d" % at, timestamp=now) for at in numbers]
            for part in (values[:200], values[200:]):
                for place in places:
                    broker.put(producer, topic, part, place.partition)
                for fetcher, rows in zip(fetchers, found, strict=True):
                    rows += rows_of(fetcher.fetch(100, 1 << 20, 20))
                if part[0] == values[0] and kill:
                    broker.kill()
                    trouble = met_trouble(clients[0], fetchers[0], found[0])
                    broker.start()
                    assert "refused" in trouble or "Disconnected" in trouble
            assert producer.flush(60) == 0
            began = time.monotonic()
            for fetcher, rows in zip(fetchers, found, strict=True):
                rows += read_on(fetcher, 400 * (kill + 1), rows[-1][0] + 1 if rows else 0)
            assert time.monotonic() - began < 10
    for rows in found:
        assert [(at, int(value)) for at, _, value in rows] == [
            (at, at) for at in range(400 * (kills + 1))
        ]


def met_trouble(client, fetcher, rows):
    """Fetch until librdkafka has met that its broker is gone, which is no error."""
    for _ in range(50):
        if client.trouble is not None:
            return client.trouble
        rows += rows_of(fetcher.fetch(1000, 1 << 20, 100))
    return "none"


def test_a_corrupt_batch_is_refused_after_those_before_it(broker):
    """A bit was flipped on the broker's disk; its records are not skipped, now or later."""
    topics = {codec: broker.create() for codec in ("none", "zstd")}
    for codec, topic in topics.items():
        broker.produce(topic, [b"%0100d" % at for at in range(30)], codec=codec, batch=10)
    broker.stop()
    for topic in topics.values():
        (segment,) = broker.segments(topic)
        data = bytearray(segment.read_bytes())
        data[len(data) // 2] ^= 1
        segment.write_bytes(data)
    broker.start()
    for name, topic in itertools.product(CLIENTS, topics.values()):
        with connected(broker, name, [topic]) as client:
            fetcher = client.open(Place(topic, 0), 0)
            assert len(read_on(fetcher, 10, rows=10)) == 10
            for _ in range(2):
                said = rf"^{topic}\[0\]: the batch at 10 is corrupt \(.*\); restore the broker's"
                with pytest.raises(KafkaError, match=said):
                    read_on(fetcher, 30, 10)
        assert len(read(broker, name, topic, 20)) == 10


@pytest.mark.parametrize("codec", ["gzip", "lz4", "zstd", "snappy"])
def test_a_batch_that_is_too_large_uncompressed_is_refused(broker, codec):
    """Without uncompressing it all; what fits is read."""
    topic = broker.create(max_message_bytes=10_000_000)
    broker.produce(topic, [b"small"])
    broker.produce(topic, [bytes(6 << 20)], codec=codec)
    said = rf"^{topic}\[0\]: the batch at 1 is corrupt \(more than 4 MB uncompressed; raise max"
    with pytest.raises(KafkaError, match=said):
        read(broker, "kafka-python", topic, max_batch_mb=4)
    assert len(read(broker, "kafka-python", topic, max_batch_mb=8)) == 2


@each_client
def test_messages_of_megabytes_are_read(broker, name):
    """Those above the size of a request too, and each in a fetch that is meant for less."""
    topic = broker.create(max_message_bytes=10_000_000)
    values = [b"a" * 3_000_000, b"b", b"c" * 5_000_000]
    broker.produce(topic, values)
    found = read(broker, name, topic, size=1000, **{"fetch.message.max.bytes": 100_000})
    assert [value for _, _, value in found] == values


@each_client
def test_partitions_are_read_side_by_side(broker, name):
    """Each fetcher has its own; one that is closed may be opened again elsewhere."""
    topic, other = broker.create(partitions=2), broker.create()
    places = [Place(topic, 0), Place(topic, 1), Place(other, 0)]
    for number, place in enumerate(places):
        values = [b"%d %d" % (number, at) for at in range(50)]
        broker.produce(place.topic, values, place.partition, batch=10)
    with connected(broker, name, [topic, other]) as client:
        fetchers = [client.open(place, 0) for place in places]
        found = [[], [], []]
        while any(len(each) < 50 for each in found):
            for number, fetcher in enumerate(fetchers):
                found[number] += [value for _, _, value in rows_of(fetcher.fetch(7, 1000, 50))]
        for number in range(3):
            assert found[number] == [b"%d %d" % (number, at) for at in range(50)]
        fetchers[1].close()
        again = client.open(places[1], 45)
        assert [value for _, _, value in read_on(again, 50, 45)] == found[1][45:]


@each_client
def test_a_partition_that_grows_is_read_on(broker, name):
    """What is produced while a fetch waits comes at once, and an end is told as it is."""
    topic = broker.create()
    with connected(broker, name, [topic]) as client:
        fetcher = client.open(Place(topic, 0), 0)
        idle = fetcher.fetch(10, 1 << 20, 50)
        assert (len(idle), idle.next_offset, idle.end) == (0, 0, 0)
        found = []
        for part in range(5):
            broker.produce(topic, [b"%d" % (10 * part + at) for at in range(10)])
            found += read_on(fetcher, 10 * part + 10, 10 * part)
        assert [(at, value) for at, _, value in found] == [(at, b"%d" % at) for at in range(50)]
        idle = fetcher.fetch(10, 1 << 20, 200)
        assert (len(idle), idle.next_offset, idle.end) == (0, 50, 50)
        began = time.monotonic()
        assert len(fetcher.fetch(10, 1 << 20, 300)) == 0
        assert 0.2 < time.monotonic() - began < 1.5


@each_client
def test_records_that_were_deleted_are_named(broker, name):
    """Also if the log begins inside of a batch; what is left of it can be read."""
    topic = broker.create()
    broker.produce(topic, [b"%d" % at for at in range(30)], batch=10)
    broker.delete_records(topic, 15)
    assert [at for at, _, _ in read(broker, name, topic, 15)] == list(range(15, 30))
    said = rf"^{topic}\[0\]: records 4 to 14 were deleted before they were read; raise"
    with pytest.raises(KafkaError, match=said):
        read(broker, name, topic, 4)
    said = rf"^{topic}\[0\]: the log ends at 30, before the position 31; the topic was truncated"
    with pytest.raises(KafkaError, match=said):
        read(broker, name, topic, 31, end=40)


@each_client
def test_a_topic_that_is_deleted_is_named(broker, name):
    """After what it had was read, and again at every later fetch."""
    topic = broker.create()
    broker.produce(topic, [b"a"] * 10)
    with connected(broker, name, [topic]) as client:
        client.watch.every_s = client.watch.next_s = 0.2
        fetcher = client.open(Place(topic, 0), 0)
        assert len(read_on(fetcher, 10)) == 10
        assert client.verify()
        broker.delete(topic)
        for _ in range(2):
            with pytest.raises(KafkaError, match=f"^{topic}: the topic was deleted; create it"):
                read_on(fetcher, 11, 10)
        with pytest.raises(KafkaError, match=f"^{topic}: the topic was deleted; create it"):
            client.verify()


@each_client
def test_a_topic_that_is_created_again_is_another(broker, name):
    """If it is shorter, longer, or exactly as long as what was read."""
    topic = broker.create()
    broker.produce(topic, [b"a"] * 10)
    with connected(broker, name, [topic]) as client:
        client.watch.every_s = client.watch.next_s = 0.2
        fetcher = client.open(Place(topic, 0), 0)
        assert len(read_on(fetcher, 10)) == 10
        broker.delete(topic)
        created_again(broker, topic)
        broker.produce(topic, [b"b"] * 10)
        with pytest.raises(KafkaError, match=f"^{topic}: the topic was deleted"):
            read_on(fetcher, 11, 10)
        with pytest.raises(KafkaError, match=f"^{topic}: the topic was deleted and created again"):
            client.verify()


def created_again(broker, topic):
    """Create a topic when its name is free."""
    until = time.monotonic() + 20
    while True:
        try:
            return broker.create(name=topic)
        except Exception:
            assert time.monotonic() < until
            time.sleep(0.1)


@each_client
def test_a_user_without_rights_is_refused(broker, name):
    topic = broker.create()
    broker.produce(topic, [b"a"] * 10)
    cluster = broker.brokers().describe([topic])
    keys = {
        "servers": broker.address("sasl"), "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": "PLAIN", "sasl.username": "stranger", "sasl.password": "stranger",
    }  # fmt: skip
    with (
        connected(broker, name, [topic], cluster, **keys) as client,
        pytest.raises(KafkaError, match=rf"^{topic}.*: the user may not read this topic; grant"),
    ):
        read_on(client.open(Place(topic, 0), 0), 10)


@each_client
@pytest.mark.parametrize("listener", ["sasl", "tls"])
def test_passwords_and_certificates_are_those_of_the_configuration(broker, name, listener):
    topic = broker.create()
    broker.produce(topic, [b"a"] * 10)
    keys = {
        "sasl": {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN",
                 "sasl.username": "reader", "sasl.password": "reader"},
        "tls": {"security.protocol": "SSL", "ssl.ca.location": broker.certificate},
    }[listener]  # fmt: skip
    assert len(read(broker, name, topic, servers=broker.address(listener), **keys)) == 10


def test_values_become_records_by_the_decoder_of_json_lines(broker):
    """A tombstone and a broken value are rejects with the numbers of their offsets."""
    import pyarrow as pa

    from headrace.schemas.records.decoding import Lines
    from headrace.schemas.records.jsonlines import JsonDecoder

    topic = broker.create()
    values = [json.dumps({"id": f"{at}", "n": at}).encode() for at in range(5)]
    broker.produce(topic, [*values, None, b"{"])
    with connected(broker, "librdkafka", [topic]) as client:
        messages = client.open(Place(topic, 0), 0).fetch(10, 1 << 20, 2000)
    decoder = JsonDecoder(pa.schema({"id": pa.string(), "n": pa.int64()}))
    records = decoder.decode(Lines.of([value or b"" for value in messages.values.to_pylist()]))
    assert records.batch.to_pylist() == [{"id": f"{at}", "n": at} for at in range(5)]
    assert [(reject.number, reject.reason.name) for reject in records.rejects] == [
        (5, "UNDECODABLE"),
        (6, "UNDECODABLE"),
    ]
