"""From a configuration to the sinks of its topics."""

from __future__ import annotations

import json
import logging

import pyarrow as pa
import pytest
from confluent_kafka import Producer

from headrace.learners.registry import parameter_models
from headrace.pipelines.kafka.properties import DEFAULTS, for_kafka_python, for_producer
from headrace.pipelines.kafka.topicoutputs import open_topics
from headrace.pipelines.kafka.topics import UnreachableError
from headrace.pipelines.run.place import LETTERS
from headrace.pipelines.sinks.outputs import folders_beside
from headrace.pipelines.sources.inputs import resolve
from headrace.pipelines.sources.letters import PLACED_LETTERS
from headrace.schemas.config.loading import load_config
from headrace.schemas.records.events import EMIT, FOREVER
from tests.pipelines.kafka.topicjobs import read_topic

CONFIG = """
[impressions]
path = "impressions.jsonl"
key = ["user", "slot"]
time = { column = "time", unit = "s" }

[actions.click]
path = "clicks.jsonl"
key = ["user", "slot"]
time = { column = "time", unit = "s" }
window = "10m"

[join]
joined = true
retention = "1h"

[kafka]
servers = "SERVERS"

[outputs]
samples = "labelled"
corrections = { topic = "corrected", format = "arrow" }
dead_letters = "refused"
joined.click = "joined"
"""


def sinks_of(folder, servers, text=CONFIG):
    line = '{"user": "u", "slot": 1, "time": 1700000000, "price": 1.5}\n'
    (folder / "impressions.jsonl").write_text(line)
    (folder / "clicks.jsonl").write_text(line)
    path = folder / "c.toml"
    path.write_text(text.replace("SERVERS", servers))
    config = load_config(path, parameter_models())
    inputs = resolve(config)
    types = inputs.schema_of(0)
    return open_topics(config, inputs.join, types, "run", 10), inputs


def filled(schema, **values):
    """Return a row that is null but for some values."""
    row = {name: [values.get(name)] for name in schema.names}
    return pa.table(row, schema)


def test_each_output_goes_to_its_topic(broker, tmp_path):
    """Under the names of a run's outputs, with columns as in folders and keys of the join."""
    topics = {name: broker.create(name=f"out-{name}")
              for name in ("labelled", "corrected", "refused", "joined")}  # fmt: skip
    text = CONFIG
    for name, topic in topics.items():
        text = text.replace(f'"{name}"', f'"{topic}"')
    sinks, inputs = sinks_of(tmp_path, broker.servers, text)
    assert set(sinks) == {"samples", LETTERS, *folders_beside(inputs).values()}
    assert sinks["samples"].schema.names[-1] == EMIT
    assert sinks[LETTERS].schema.equals(PLACED_LETTERS)
    key = {"user": "u", "slot": 1}
    for name, sink in sinks.items():
        sink.open()
        row = {"source": "a"} if name == LETTERS else {**key, EMIT: 5}
        sink.append(filled(sink.schema, **row))
        sink.complete_until(FOREVER)
        sink.commit()
        sink.confirm()
        sink.close()

    def found(name):
        return [parts[1:3] for parts in read_topic(broker.servers, topics[name], 1)[0]]

    [(labelled_key, labelled)] = found("labelled")
    assert labelled_key == b'["u",1]'
    assert list(json.loads(labelled)) == sinks["samples"].schema.names[:-1]
    [(joined_key, joined)] = found("joined")
    assert joined_key == labelled_key
    assert list(json.loads(joined)) == ["user", "slot", "event_time", "price", "click_time"]
    [(letter_key, letter)] = found("refused")
    assert letter_key is None
    assert list(json.loads(letter)) == PLACED_LETTERS.names[:-1]
    [(batch_key, batch)] = found("corrected")
    assert batch_key is None
    assert pa.ipc.open_stream(batch).read_all().to_pylist() == [json.loads(labelled)]


def test_nothing_is_asked_before_it_is_needed(tmp_path):
    """And then a broker that does not answer is told within seconds."""
    sinks, _ = sinks_of(tmp_path, "127.0.0.1:1")
    sinks["samples"].delivery.brokers.patience_s = 1
    with pytest.raises(UnreachableError, match=r"^kafka: 127.0.0.1:1 cannot be reached; check"):
        sinks["samples"].open()


def test_without_outputs_there_are_no_sinks(tmp_path):
    text = CONFIG[: CONFIG.index("[kafka]")]
    assert sinks_of(tmp_path, "", text)[0] == {}


OF_CONSUMERS = {
    **DEFAULTS, "queued.min.messages": "10", "queued.max.messages.kbytes": "1000",
    "fetch.min.bytes": "1", "fetch.message.max.bytes": "1000", "fetch.error.backoff.ms": "5",
    "max.partition.fetch.bytes": "1000", "session.timeout.ms": "9000", "client.rack": "r",
    "max.poll.interval.ms": "300000", "heartbeat.interval.ms": "3000",
    "group.instance.id": "i", "partition.assignment.strategy": "range",
    "coordinator.query.interval.ms": "1000", "log_level": "4",
}  # fmt: skip


@pytest.mark.parametrize("filtered", [True, False])
def test_a_producer_is_given_no_properties_of_consumers(filtered):
    """Of which it would say that they are not its own."""
    said = []
    logger = logging.Logger("test")
    logger.handle = lambda record: said.append(record.getMessage())
    properties = for_producer(OF_CONSUMERS, "t") if filtered else OF_CONSUMERS
    Producer(properties, logger=logger).poll(0.2)
    assert any("is a consumer property" in text for text in said) != filtered


def test_a_reader_is_given_no_properties_of_producers():
    ours = {"transaction.timeout.ms": "1", "linger.ms": "5", "compression.type": "lz4",
            "batch.size": "1", "queue.buffering.max.kbytes": "1"}  # fmt: skip
    assert for_kafka_python({**ours, "client.id": "a"}, "c.toml") == {"client_id": "a"}
