"""What brokers are asked, and what is said if they do not answer or refuse."""

from __future__ import annotations

import re
import socket
import time
from concurrent.futures import Future

import pytest
from confluent_kafka import KafkaError as Code
from confluent_kafka import KafkaException

from headrace.pipelines.kafka.properties import for_kafka_python, properties_of
from headrace.pipelines.kafka.topics import Brokers
from headrace.schemas.config.kafka import KafkaConfig
from headrace.schemas.errors import ConfigError, KafkaError
from tests.pipelines.kafka.broker import Record

SASL = {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN"}


def user(name, password):
    return {**SASL, "sasl.username": name, "sasl.password": password}


def test_a_topic_is_described_by_where_its_partitions_begin_and_end(broker):
    """Deleted records are before the beginning; the id is that of this topic alone."""
    topic, other = broker.create(partitions=2), broker.create()
    broker.produce(topic, [b"a"] * 10)
    broker.produce(topic, [b"b"] * 3, partition=1)
    broker.delete_records(topic, 4)
    cluster = broker.brokers().describe([topic, other, topic])
    assert cluster.topics == {topic: {0: (4, 10), 1: (0, 3)}, other: {0: (0, 0)}}
    assert cluster.id
    assert len(set(cluster.ids.values())) == 2


def test_an_open_transaction_ends_what_can_be_read(broker):
    """The end is where its first record is, until it is committed."""
    topic = broker.create()
    broker.produce(topic, [b"a"] * 5)
    producer = broker.producer(transactional_id="open", enable_idempotence=True)
    producer.init_transactions(30)
    producer.begin_transaction()
    broker.put(producer, topic, [b"b"] * 3)
    producer.flush(30)
    assert broker.brokers().describe([topic]).topics[topic] == {0: (0, 5)}
    producer.commit_transaction(30)
    until = time.monotonic() + 20
    while broker.brokers().describe([topic]).topics[topic] != {0: (0, 9)}:  # its mark comes later
        assert time.monotonic() < until


def test_reading_begins_early_late_or_at_a_time(broker):
    """At a time between two milliseconds it is the later one, beyond all it is the end."""
    topic = broker.create(partitions=2)
    broker.produce(topic, [Record(b"a", timestamp=1000 + at) for at in range(10)])
    broker.delete_records(topic, 2)
    brokers = broker.brokers()
    cluster = brokers.describe([topic])
    firsts = {"earliest": 2, "latest": 10, 1_005_000: 5, 1_005_001: 6, 0: 2, 2_000_000: 10}
    for start, offset in firsts.items():
        assert brokers.first_offsets(cluster, start) == {topic: {0: offset, 1: 0}}, start


@pytest.mark.parametrize("code", [Code.UNKNOWN_LEADER_EPOCH, Code.NOT_LEADER_FOR_PARTITION])
def test_what_brokers_answer_of_a_topic_that_is_just_created_is_asked_again(broker, code):
    topic = broker.create()
    brokers = broker.brokers()
    admin, refused = brokers.admin, []

    class Busy:
        def list_offsets(self, specs, **keys):
            if refused:
                return admin.list_offsets(specs, **keys)
            refused.append(specs)
            futures = {place: Future() for place in specs}
            for future in futures.values():
                future.set_exception(KafkaException(Code(code)))
            return futures

        def __getattr__(self, name):
            return getattr(admin, name)

    brokers.admin = Busy()
    assert brokers.describe([topic]).topics == {topic: {0: (0, 0)}}
    assert refused


def test_a_missing_topic_is_named(broker):
    topic = broker.create()
    with pytest.raises(KafkaError, match=f"^nowhere: no such topic at {broker.servers}; create"):
        broker.brokers().describe([topic, "nowhere"])


@pytest.mark.parametrize("said", ["cannot be reached", "does not answer as a broker"])
def test_a_broker_that_does_not_answer_is_named_within_seconds(said):
    """Nothing listens there, or something that says nothing."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        if said != "cannot be reached":
            listening.listen()
        port = listening.getsockname()[1]
        kafka = KafkaConfig(servers=f"127.0.0.1:{port}")
        began = time.monotonic()
        with pytest.raises(KafkaError, match=f"^kafka: 127.0.0.1:{port} {said}; check servers"):
            Brokers(kafka, "c.toml", patience_s=3).describe(["a"])
        assert time.monotonic() - began < 6


def test_a_wrong_password_is_told_and_not_shown(broker):
    brokers = broker.brokers(servers=broker.address("sasl"), **user("reader", "hunter2"))
    with pytest.raises(KafkaError, match=r"refuses the user or the password; check sasl") as error:
        brokers.describe(["a"])
    assert "hunter2" not in str(error.value)


def test_a_right_password_is_taken_and_a_user_without_rights_refused(broker):
    topic = broker.create()
    sasl = broker.address("sasl")
    described = broker.brokers(servers=sasl, **user("reader", "reader")).describe([topic])
    assert described.topics == {topic: {0: (0, 0)}}
    with pytest.raises(KafkaError, match=f"^{topic}: the user may not read this topic; grant"):
        broker.brokers(servers=sasl, **user("stranger", "stranger")).describe([topic])


def test_a_certificate_must_be_known(broker):
    topic = broker.create()
    tls = {"servers": broker.address("tls"), "security.protocol": "SSL"}
    brokers = broker.brokers(**tls, **{"ssl.ca.location": broker.certificate})
    assert brokers.describe([topic]).topics == {topic: {0: (0, 0)}}
    with pytest.raises(KafkaError, match=r"a certificate or a key that does not fit; check ssl.ca"):
        broker.brokers(**tls).describe([topic])


def test_a_listener_of_another_protocol_is_told(broker):
    with pytest.raises(KafkaError, match=r"check servers, and that security.protocol is that of"):
        broker.brokers(servers=broker.address("tls")).describe(["a"])


def test_no_word_of_librdkafka_shows_a_secret():
    kafka = KafkaConfig(
        servers="127.0.0.1:1",
        **{
            "security.protocol": "SASL_SSL", "sasl.mechanism": "PLAIN", "sasl.username": "u",
            "sasl.password": "hunter2",
        },
    )  # fmt: skip
    shown = Brokers(kafka, "c.toml").shown("SASL_SSL: hunter2 is wrong: hunter2")
    assert shown == "SASL_SSL: (hidden) is wrong: (hidden)"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("fetch.wiat.ms", 5, 'kafka.fetch.wiat.ms: is refused by librdkafka (No such '
         'configuration property: "fetch.wiat.ms")'),
        ("fetch.wait.max.ms", "soon", "kafka.fetch.wait.max.ms: is refused by librdkafka (Invalid "
         'value for configuration property "fetch.wait.max.ms")'),
    ],
)  # fmt: skip
def test_a_property_that_librdkafka_refuses_is_named(name, value, said):
    kafka = KafkaConfig(servers="127.0.0.1:1", **{name: value})
    with pytest.raises(ConfigError, match=f"^c.toml: {re.escape(said)}$"):
        Brokers(kafka, "c.toml")


def test_secrets_are_found_in_variables_and_files(tmp_path):
    """Files are relative to the configuration; the line end of a file is no part of a secret."""
    (tmp_path / "key").write_text("from file\n")
    kafka = KafkaConfig(
        servers="a:1",
        **{"sasl.password": {"env": "PASSWORD"}, "ssl.key.password": {"file": "key"}},
    )
    file = str(tmp_path / "c.toml")
    found = properties_of(kafka, file, {"PASSWORD": "from variable"})
    assert found["sasl.password"] == "from variable"
    assert found["ssl.key.password"] == "from file"
    fact = "kafka.sasl.password: the environment has no variable PASSWORD; set it"
    with pytest.raises(ConfigError, match=fact):
        properties_of(kafka, file, {})
    (tmp_path / "key").unlink()
    fact = r"kafka.ssl.key.password: the file key cannot be read \(No such file or directory\); "
    with pytest.raises(ConfigError, match=fact):
        properties_of(kafka, file, {"PASSWORD": ""})


def test_properties_are_translated_for_kafka_python():
    """And refused if it has no counterpart."""
    kafka = KafkaConfig(
        servers="a:1,b:2",
        **{"security.protocol": "SASL_SSL", "sasl.mechanisms": "PLAIN", "ssl.ca.location": "ca.pem",
           "ssl.endpoint.identification.algorithm": "none", "fetch.message.max.bytes": 1000},
    )  # fmt: skip
    assert for_kafka_python(properties_of(kafka, "c.toml"), "c.toml") == {
        "bootstrap_servers": ["a:1", "b:2"],
        "client_id": "headrace",
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "PLAIN",
        "ssl_cafile": "ca.pem",
        "ssl_check_hostname": False,
        "max_partition_fetch_bytes": 1000,
        "fetch_max_wait_ms": 50,
        "reconnect_backoff_max_ms": 500,
    }
    for name, said in (
        ("sasl.oauthbearer.method", "has no counterpart in kafka-python; leave it out, or set"),
        ("fetch.wait.max.ms", "is no whole number"),
    ):
        kafka = KafkaConfig(servers="a:1", **{name: "x"})
        with pytest.raises(ConfigError, match=f"kafka.{name}: {said}"):
            for_kafka_python(properties_of(kafka, "c.toml"), "c.toml")
