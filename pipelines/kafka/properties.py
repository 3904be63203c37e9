"""The properties of clients: those of the configuration, with secrets, and our defaults."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping

from headrace.pipelines.run.secrets import read_secret
from headrace.schemas.config.kafka import KafkaConfig
from headrace.schemas.config.secrets import Secret
from headrace.schemas.errors import ConfigError

Properties = dict[str, str]
"""Names and values as librdkafka takes them."""

DEFAULTS: Properties = {
    "client.id": "headrace",
    # The default waits a second after a queue was full, two thirds of the time idle.
    "fetch.queue.backoff.ms": "5",
    # A partition with new records waits for the answer to a request for those without.
    "fetch.wait.max.ms": "50",
    # By default ten seconds, in which a broker has long been restarted.
    "reconnect.backoff.max.ms": "500",
    "socket.keepalive.enable": "true",
    "log_level": "0",
}
"""What is set unless the configuration has it."""


def properties_of(
    kafka: KafkaConfig,
    file: str,
    environment: Mapping[str, str] = os.environ,
) -> Properties:
    """Return the client's properties of a configuration, with its secrets.

    Parameters
    ----------
    kafka
        The table.
    file
        The configuration file: paths of secrets are relative to its folder, errors name it.
    environment
        The variables that secrets may name.

    Raises
    ------
    ConfigError
        If a secret cannot be found; names the variable or the file.
    """
    found = {"bootstrap.servers": ",".join(kafka.servers), **DEFAULTS}
    for name, value in kafka.properties.items():
        if isinstance(value, Secret):
            found[name] = read_secret(f"kafka.{name}", value, file, environment)
        else:
            found[name] = str(value).lower() if isinstance(value, bool) else str(value)
    return found


_PYTHON_NAMES = {
    "bootstrap.servers": "bootstrap_servers",
    "client.id": "client_id",
    "client.rack": "client_rack",
    "security.protocol": "security_protocol",
    "sasl.mechanism": "sasl_mechanism",
    "sasl.mechanisms": "sasl_mechanism",
    "sasl.username": "sasl_plain_username",
    "sasl.password": "sasl_plain_password",
    "sasl.kerberos.service.name": "sasl_kerberos_service_name",
    "ssl.ca.location": "ssl_cafile",
    "ssl.certificate.location": "ssl_certfile",
    "ssl.key.location": "ssl_keyfile",
    "ssl.key.password": "ssl_password",
    "ssl.crl.location": "ssl_crlfile",
    "ssl.cipher.suites": "ssl_ciphers",
    "ssl.endpoint.identification.algorithm": "ssl_check_hostname",
    "fetch.min.bytes": "fetch_min_bytes",
    "fetch.max.bytes": "fetch_max_bytes",
    "fetch.message.max.bytes": "max_partition_fetch_bytes",
    "max.partition.fetch.bytes": "max_partition_fetch_bytes",
    "fetch.wait.max.ms": "fetch_max_wait_ms",
    "receive.message.max.bytes": "receive_message_max_bytes",
    "reconnect.backoff.ms": "reconnect_backoff_ms",
    "reconnect.backoff.max.ms": "reconnect_backoff_max_ms",
    "retry.backoff.ms": "retry_backoff_ms",
    "socket.timeout.ms": "request_timeout_ms",
    "socket.receive.buffer.bytes": "receive_buffer_bytes",
    "socket.send.buffer.bytes": "send_buffer_bytes",
    "connections.max.idle.ms": "connections_max_idle_ms",
    "topic.metadata.refresh.interval.ms": "metadata_max_age_ms",
    "metadata.max.age.ms": "metadata_max_age_ms",
}
"""Properties that kafka-python has under another name."""

_CONVERSIONS: dict[str, Callable[[str], object]] = {
    "bootstrap.servers": lambda value: value.split(","),
    "ssl.endpoint.identification.algorithm": lambda value: value != "none",
}

_OF_PRODUCERS = re.compile(
    r"(transaction|linger|compression|batch|queue\.buffering|message|delivery|request)\..*"
)
"""Properties of outputs, which nothing that reads needs."""

_OF_LIBRDKAFKA_ALONE = {"fetch.queue.backoff.ms", "socket.keepalive.enable", "log_level"}


def for_kafka_python(properties: Properties, file: str) -> dict[str, object]:
    """Return properties as kafka-python takes them, without those of producers.

    Raises
    ------
    ConfigError
        If it has no counterpart of one.
    """
    found: dict[str, object] = {}
    for name, value in properties.items():
        if name in _OF_LIBRDKAFKA_ALONE and DEFAULTS[name] == value:
            continue
        if _OF_PRODUCERS.fullmatch(name):
            continue
        if name not in _PYTHON_NAMES:
            fact = "has no counterpart in kafka-python"
            hint = 'leave it out, or set client = "librdkafka"'
            raise ConfigError(file, f"kafka.{name}", fact, hint=hint)
        number = name.endswith((".ms", ".bytes"))
        convert = _CONVERSIONS.get(name, int if number else str)
        try:
            found[_PYTHON_NAMES[name]] = convert(value)
        except ValueError as error:
            raise ConfigError(file, f"kafka.{name}", "is no whole number", value) from error
    return found


_OF_CONSUMERS = re.compile(
    r"(fetch|queued|group|auto\.(commit|offset)|offset\.store|consume)\..*"
    r"|max\.(poll\.interval\.ms|partition\.fetch\.bytes)|(session|heartbeat)\..*"
    r"|partition\.assignment\.strategy|client\.rack|coordinator\.query\.interval\.ms"
)
"""Properties of which a producer only says that they are none of its own."""


def for_producer(properties: Properties, transactional_id: str) -> Properties:
    """Return properties as a producer of transactions takes them.

    Parameters
    ----------
    properties
        Those of the configuration.
    transactional_id
        The name by which brokers know the producer: a new one of this name ends the old one.
    """
    return {
        "compression.type": "lz4",
        "linger.ms": "5",
        "queue.buffering.max.kbytes": "65536",
        "transaction.timeout.ms": "60000",
        **{name: value for name, value in properties.items() if not _OF_CONSUMERS.fullmatch(name)},
        "transactional.id": transactional_id,
    }
