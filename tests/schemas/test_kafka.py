"""The table ``[kafka]`` and streams that are topics: one clear line for anything wrong."""

from __future__ import annotations

import json

import pytest

from headrace.learners.registry import parameter_models
from headrace.schemas.config.loading import load_config
from headrace.schemas.config.secrets import Secret
from headrace.schemas.errors import ConfigError

GOOD = """
[kafka]
servers = "a:9092, b:9093"
"security.protocol" = "SASL_SSL"
sasl.mechanism = "PLAIN"
sasl.username = "reader"
"sasl.password" = { env = "KAFKA_PASSWORD" }
ssl.key.password = "in the file"
fetch.wait.max.ms = 20

[impressions]
topic = "impressions"
key = "id"
time = { column = "time", unit = "us" }
types = { id = "string", time = "int64", device = "string" }

[actions.click]
topic = "clicks.v2"
key = "id"
time = { column = "time", unit = "us" }
types = { id = "string", time = "int64" }
window = "10m"
"""


def load(tmp_path, text):
    path = tmp_path / "c.toml"
    path.write_text(text, encoding="utf-8")
    return load_config(path, parameter_models())


def test_properties_of_the_client_stand_beside_the_other_keys(tmp_path):
    """With their dotted names in quotes or not."""
    config = load(tmp_path, GOOD)
    assert config.kafka.servers == ("a:9092", "b:9093")
    assert config.kafka.client == "auto"
    assert config.kafka.properties == {
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "PLAIN",
        "sasl.username": "reader",
        "sasl.password": Secret(env="KAFKA_PASSWORD"),
        "ssl.key.password": "in the file",
        "fetch.wait.max.ms": 20,
    }
    assert config.topics == {"impressions": "impressions", "actions.click": "clicks.v2"}


def test_values_that_may_be_secret_are_shown_nowhere(tmp_path):
    """Neither in a repr nor in the model as JSON, which checkpoints and summaries have."""
    config = load(tmp_path, GOOD)
    shown = config.model_dump(mode="json")["kafka"]
    assert shown["properties"] == {
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "PLAIN",
        "sasl.username": "(hidden)",
        "sasl.password": "(hidden)",
        "ssl.key.password": "(hidden)",
        "fetch.wait.max.ms": 20,
    }
    for text in (repr(config), str(config.kafka), json.dumps(shown)):
        assert "in the file" not in text
        assert "KAFKA_PASSWORD" not in text


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('servers = "a:9092, b:9093"', "", "kafka.servers: is missing; add this key"),
        ('"a:9092, b:9093"', '"broker"', "kafka.servers: must be hosts with ports (got 'broker'); "
         'write such as "broker:9092"'),
        ('"a:9092, b:9093"', '"a:99999"', "kafka.servers: must be hosts with ports (got 'a:99999')"
         '; write such as "broker:9092"'),
        ("fetch.wait.max.ms", "clinet", "kafka.clinet: is no key of this table; use "
         "servers, client, max_batch_mb, readers, registry, or a property of librdkafka such as "
         '"security.protocol"'),
        ("fetch.wait.max.ms", "group.id", "kafka.group.id: cannot be set; offsets "
         "are kept in checkpoints, not in a group"),
        ("= 20", '= ["hunter2"]', "kafka.fetch.wait.max.ms: is no text, number or boolean; write "
         "it in quotes"),
        ('{ env = "KAFKA_PASSWORD" }', '{ env = "A", file = "B" }', "kafka.sasl.password: is no "
         'value; write { env = "NAME" } or { file = "PATH" }'),
        ("fetch.wait.max.ms = 20", 'client = "java"', "kafka.client: input should be 'auto', "
         "'librdkafka', 'kafka-python' or 'poll' (got 'java'); use one of these values"),
        ('topic = "impressions"', 'topic = "impressions"\npath = "x.csv"', "impressions.topic: is "
         "given beside path (got 'impressions'); leave one of them out"),
        ('topic = "impressions"', "", "impressions.path: is missing; add this key, or topic"),
        ('topic = "impressions"', 'path = "x.csv"', "impressions.path: cannot stand beside topics; "
         "actions.click has a topic: read all streams from topics, or all from files"),
        ('topic = "impressions"', 'topic = "a topic"', "impressions.topic: is no name of a topic "
         "(got 'a topic'); use letters, digits, . _ and -"),
        ('topic = "impressions"', 'topic = "impressions"\norder = "sort"', "impressions.order: has "
         "no meaning with topic (got 'sort'); leave it out"),
        ('topic = "impressions"', 'topic = "impressions"\nvalue = "bson"', "impressions.value: "
         "input should be 'json', 'avro', 'protobuf' or 'arrow' (got 'bson'); use one of these "
         "values"),
        ('topic = "impressions"', 'topic = "impressions"\nvalue = "avro"', "impressions.schema: is "
         "missing; name a file, or add [kafka.registry]"),
        ('topic = "impressions"', 'topic = "impressions"\nvalue = "protobuf"', "impressions."
         "schema: is missing; name the file that protoc --include_imports --descriptor_set_out "
         "writes"),
        ('topic = "impressions"', 'topic = "impressions"\nvalue = "protobuf"\nschema = "a.desc"',
         'impressions.message: is missing; such as "ads.Impression"'),
        ('topic = "impressions"', 'topic = "impressions"\nschema = "a.avsc"', "impressions.schema: "
         "has no meaning with value = \"json\" (got 'a.avsc'); leave it out, or set value"),
        ('topic = "impressions"', 'topic = "impressions"\nvalue = "avro"\nschema = "a.avsc"\n'
         'header = "confluent"', "kafka.registry: is missing, and impressions.header is "
         '"confluent"; add it: only a registry knows with which schema a message was written'),
        ('topic = "impressions"', 'topic = "impressions"\nvalue = "avro"\nschema = "a.avsc"\n'
         'subject = "s"', "impressions.subject: has no meaning without a registry (got 's'); "
         "leave it out"),
        ('topic = "impressions"', 'topic = "impressions"\nvalue = "arrow"\nheader = "none"',
         "impressions.header: has no meaning with value = \"arrow\" (got 'none'); leave it out, or "
         "set value"),
        ('topic = "impressions"', 'topic = "impressions"\nvalue = "arrow"\nsubject = "s"',
         "impressions.subject: has no meaning with value = \"arrow\" (got 's'); leave it out, or "
         "set value"),
        ('topic = "impressions"', 'topic = "impressions"\nvalue = "arrow"\nmessage = "a.B"',
         "impressions.message: has no meaning with value = \"arrow\" (got 'a.B'); leave it out, or "
         "set value"),
        ('topic = "impressions"', 'topic = "impressions"\nvalue = "arrow"\ncolumns = ["price"]',
         "impressions.columns: is a column without a type (got 'price'); add it to "
         'impressions.types, such as "price" = "string"'),
        ("fetch.wait.max.ms = 20", 'registry.url = "http://me:secret@a:8081"', "kafka.registry."
         "url: is no address (got 'http://a:8081'); write such as \"https://registry:8081\", user "
         "and password beside it"),
        ("fetch.wait.max.ms = 20", 'registry.url = "http://a:8081"\nregistry.user = "me"',
         "kafka.registry: needs user and password, or none of them"),
        ("fetch.wait.max.ms = 20", 'registry.url = "http://a:8081"\nregistry.password = ["p"]',
         "kafka.registry.password: is no text, number or boolean; write it in quotes"),
        ('types = { id = "string", time = "int64", device = "string" }', "", "impressions.key: is "
         "a column without a type (got 'id'); add it to impressions.types, such as \"id\" = "
         '"string"'),
        ('topic = "impressions"', 'topic = "impressions"\ncolumns = ["price"]', "impressions."
         "columns: is a column without a type (got 'price'); add it to impressions.types, such as "
         '"price" = "string"'),
        ('window = "10m"', 'window = "10m"\nid = "event"', "actions.click.id: is a column without "
         "a type (got 'event'); add it to actions.click.types, such as \"event\" = \"string\""),
        ("[kafka]", "[join]\nshards = 2\n[other]", "other: unknown key; use one of actions, "
         "features, guard, impressions, join, kafka, learner, learners, live, monitor, outputs, "
         "publish, replay, sampling, state"),
        ("fetch.wait.max.ms", "transactional.id", "kafka.transactional.id: cannot be set; a topic "
         "of outputs has one writer, named after it"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_one_line(tmp_path, old, new, said):
    """File, key, value and a hint; never the value of a property."""
    assert old in GOOD
    with pytest.raises(ConfigError) as error:
        load(tmp_path, GOOD.replace(old, new, 1))
    assert str(error.value) == f"{tmp_path}/c.toml: {said}"


def test_topics_need_brokers_and_brokers_topics(tmp_path):
    """A table that would not be used is refused, as is one that is missing."""
    without = GOOD[GOOD.index("[impressions]") :]
    with pytest.raises(ConfigError, match=r"c.toml: kafka: is missing; add \[kafka\] with servers"):
        load(tmp_path, without)
    files = GOOD.replace('topic = "impressions"', 'path = "a"').replace(
        'topic = "clicks.v2"', 'path = "b"'
    )
    with pytest.raises(ConfigError, match="kafka: has no meaning without topics; give each"):
        load(tmp_path, files)


OUTPUTS = """
[join]
joined = true
retention = "1h"

[outputs]
samples = "labelled"
corrections = { topic = "corrected", format = "arrow" }
dead_letters = "refused"
joined.click = "joined-clicks"
"""


def test_outputs_have_topics(tmp_path):
    """A name alone is short for a table."""
    config = load(tmp_path, GOOD + OUTPUTS)
    topics = {name: (topic.topic, topic.format) for name, topic in config.outputs.topics.items()}
    assert topics == {
        "samples": ("labelled", "json"),
        "corrections": ("corrected", "arrow"),
        "dead_letters": ("refused", "json"),
        "joined/click": ("joined-clicks", "json"),
    }
    assert load(tmp_path, GOOD).outputs.topics == {}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"labelled"', '"a topic"', "outputs.samples.topic: is no name of a topic (got 'a topic'); "
         "use letters, digits, . _ and -"),
        ('"labelled"', "3", "outputs.samples: is no topic (got 3); write its name, or "
         '{ topic = "NAME", format = "arrow" }'),
        ('format = "arrow"', 'format = "avro"', "outputs.corrections.format: input should be "
         "'json' or 'arrow' (got 'avro'); use one of these values"),
        ('format = "arrow"', 'fromat = "arrow"', "outputs.corrections.fromat: unknown key (got "
         "'arrow'); did you mean format?"),
        ('topic = "corrected", ', "", "outputs.corrections.topic: is missing; add this key"),
        ("dead_letters", "letters", "outputs.letters: unknown key (got 'refused'); "
         "did you mean dead_letters?"),
        ('retention = "1h"', "", "outputs.corrections: has no rows without join.retention (got "
         "'corrected'); set it, or leave this out"),
        ("joined = true", "", "outputs.joined.click: has no rows without join.joined (got "
         "'joined-clicks'); set join.joined = true"),
        ("joined.click", "joined.buy", "outputs.joined.buy: is no action stream; use one of click"),
        ('"labelled"', '"refused"', "outputs.dead_letters: is the topic of outputs.samples too "
         "(got 'refused'); give each its own"),
        ('"labelled"', '"clicks.v2"', "outputs.samples: is the topic of actions.click.topic too "
         "(got 'clicks.v2'); give each its own"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_outputs_is_said_in_one_line(tmp_path, old, new, said):
    assert old in OUTPUTS
    with pytest.raises(ConfigError) as error:
        load(tmp_path, GOOD + OUTPUTS.replace(old, new, 1))
    assert str(error.value) == f"{tmp_path}/c.toml: {said}"


def test_outputs_need_brokers(tmp_path):
    """Which are of use to them alone, too."""
    files = GOOD.replace('topic = "impressions"', 'path = "a"').replace(
        'topic = "clicks.v2"', 'path = "b"'
    )
    outputs = '[outputs]\nsamples = "labelled"\n'
    assert load(tmp_path, files + outputs).outputs.topics
    without = files[files.index("[impressions]") :]
    with pytest.raises(ConfigError, match=r"c.toml: kafka: is missing; add \[kafka\] with servers"):
        load(tmp_path, without + outputs)
