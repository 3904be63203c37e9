"""A schema registry is asked, and what it says or does not say."""

from __future__ import annotations

import pytest

from headrace.pipelines.kafka.registry import Registry
from headrace.schemas.config.kafka import KafkaConfig
from headrace.schemas.errors import ConfigError, KafkaError
from tests.pipelines.kafka.schemaregistry import SchemaRegistry

EVENT = {"type": "record", "name": "E", "fields": [{"name": "id", "type": "string"}]}


@pytest.fixture
def server():
    server = SchemaRegistry()
    yield server
    server.close()


def registry_at(url, pauses_s=(0, 0), **keys):
    kafka = KafkaConfig(servers="a:1", registry={"url": url, **keys})
    return Registry(kafka, "c.toml", {"PASSWORD": "pässword"}, pauses_s)


def test_a_schema_is_asked_for_once(server):
    """One that there is not, too."""
    server.register("events-value", 7, EVENT)
    registry = registry_at(server.url)
    assert registry.latest("events-value", "key") == registry.writer(7) == registry.writer(7)
    assert registry.writer(8) == registry.writer(8) == "the registry has no schema 8"
    assert server.asked == [
        "/subjects/events-value/versions/latest", "/schemas/ids/7", "/schemas/ids/8",
    ]  # fmt: skip


def test_subjects_may_have_any_name(server):
    """Slashes and blanks are no parts of the path."""
    server.subjects["a%2Fb%20c", "latest"] = {"schema": '"string"'}
    with pytest.raises(ConfigError, match="its newest schema is no schema of a record"):
        registry_at(server.url).latest("a/b c", "impressions.subject")


def test_schemas_may_refer_to_others(server):
    """Each of which is fetched, and what it refers to itself."""
    device = {"type": "enum", "name": "Device", "symbols": ["a"]}
    ad = {"type": "record", "name": "Ad", "fields": [{"name": "device", "type": "Device"}]}
    event = {
        "type": "record",
        "name": "E",
        "fields": [{"name": "ad", "type": "Ad"}, {"name": "device", "type": "Device"}],
    }
    server.register("device", 1, device)
    to_device = {"name": "Device", "subject": "device", "version": 1}
    server.register("ad", 2, ad, references=[to_device])
    to_ad = {"name": "Ad", "subject": "ad", "version": 2}
    server.register("events", 3, event, references=[to_ad, to_device])
    columns = registry_at(server.url).writer(3).columns()
    assert list(columns.all) == ["ad.device", "ad", "device"]


def test_what_cannot_be_used_is_the_reason_of_rejects(server):
    """Not an error: other messages may have been written with a schema that can be."""
    server.register("a", 1, "string")
    server.register("b", 2, EVENT, schemaType="JSON")
    registry = registry_at(server.url)
    assert registry.writer(1) == "schema 1 is no schema of a record"
    assert registry.writer(2) == "schema 2 is JSON, not Avro"


def test_a_registry_that_does_not_answer_is_asked_again(server):
    """A message is never a reject because of the network."""
    server.register("a", 1, EVENT)
    registry = registry_at(server.url)
    server.broken = 2
    assert list(registry.writer(1).columns().all) == ["id"]
    server.broken = 3
    with pytest.raises(KafkaError) as error:
        registry.writer(2)
    assert str(error.value) == (
        f"{server.url}: the registry does not answer (HTTP 502); check kafka.registry and the "
        "network, and run the same command again"
    )
    assert registry.writer(2) == "the registry has no schema 2"


def test_an_answer_that_is_not_the_registrys_says_nothing(server):
    """Such as that of a proxy, or of another server."""
    registry = registry_at(server.url + "/elsewhere")
    with pytest.raises(KafkaError, match=r"does not answer \(HTTP 404\)"):
        registry.writer(1)
    server.schemas[2] = {"other": 1}
    with pytest.raises(KafkaError, match=r"does not answer \(its answer has no schema\)"):
        registry_at(server.url).writer(2)
    server.schemas[3] = b"<html>"
    with pytest.raises(KafkaError, match=r"does not answer \(its answer is not JSON\)"):
        registry_at(server.url).writer(3)


def test_at_the_start_it_is_asked_once(server):
    """A wrong address is said at once, as is a subject that there is not."""
    registry = registry_at(server.url, pauses_s=(1000,))
    with pytest.raises(ConfigError) as error:
        registry.latest("events", "impressions.subject")
    assert str(error.value) == (
        f"c.toml: impressions.subject: the registry at {server.url} has no such subject (got "
        "'events'); name one, or give schema"
    )
    server.broken = 1
    with pytest.raises(KafkaError, match="HTTP 502"):
        registry.latest("events", "impressions.subject")
    server.close()
    with pytest.raises(KafkaError, match="Connection refused"):
        registry.latest("events", "impressions.subject")


def test_user_and_password_are_sent(server):
    """And shown nowhere."""
    server.login = "me:pässword"
    server.register("a", 1, EVENT)
    secret = {"env": "PASSWORD"}
    assert registry_at(server.url, user="me", password=secret).latest("a", "key")
    with pytest.raises(KafkaError) as error:
        registry_at(server.url, user="me", password="wr0ng").latest("a", "key")
    assert str(error.value) == (
        f"{server.url}: the registry refuses the user or the password; correct "
        "kafka.registry.user and password"
    )
    kafka = KafkaConfig(servers="a:1", registry={"url": server.url, "user": "me",
                                                 "password": "wr0ng"})  # fmt: skip
    for shown in (repr(kafka), kafka.model_dump_json()):
        assert "wr0ng" not in shown
    with pytest.raises(ConfigError, match=r"kafka.registry.password: .* no variable NONE"):
        registry_at(server.url, user="me", password={"env": "NONE"})
    with pytest.raises(ConfigError, match=r"kafka.registry.ca: cannot be read"):
        registry_at(server.url, ca="nowhere.pem")
