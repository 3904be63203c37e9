"""A schema registry, by the two questions that reading needs."""

from __future__ import annotations

import base64
import json
import os
import ssl
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Any

from headrace.pipelines.run.secrets import read_secret
from headrace.schemas.config.kafka import KafkaConfig
from headrace.schemas.config.secrets import Secret
from headrace.schemas.errors import ConfigError, KafkaError
from headrace.schemas.messages.avroschemas import AvroSchema, AvroSchemaError

_ANSWER_S = 8
_PAUSES_S = (0.5, 1, 2, 4, 8, 15, 30)
"""Pauses between questions while a run reads, before it gives up."""

_UNKNOWN = {40401: "subject", 40402: "version", 40403: "schema"}
"""Codes of answers that say that there is no such thing."""

_LARGEST = 16 << 20


class _UnknownError(Exception):
    """The registry has no such subject, version or schema."""


class Registry:
    """A registry; schemas are asked for once.

    Parameters
    ----------
    kafka
        The table ``[kafka]``, with a registry.
    file
        The configuration file: paths are relative to its folder, errors name it.
    environment
        The variables that secrets may name.
    pauses_s
        Pauses between questions if there is no answer, s.

    Raises
    ------
    ConfigError
        If a secret or the certificate is not found.
    """

    def __init__(
        self,
        kafka: KafkaConfig,
        file: str,
        environment: Mapping[str, str] = os.environ,
        pauses_s: tuple[float, ...] = _PAUSES_S,
    ) -> None:
        assert kafka.registry is not None
        self.kafka, self.file, self.pauses_s = kafka, file, pauses_s
        self.url = kafka.registry.url
        self._login = self._authorization(environment)
        self._context = self._trust()
        self._known: dict[int, AvroSchema | str] = {}
        # Partitions are read on several threads.
        self._lock = threading.Lock()

    def __reduce__(self) -> Any:
        # Secrets stay where they are: another process finds its own.
        return Registry, (self.kafka, self.file)

    def _authorization(self, environment: Mapping[str, str]) -> str | None:
        registry = self.kafka.registry
        if registry is None or registry.user is None:
            return None
        password = registry.password
        if isinstance(password, Secret):
            password = read_secret("kafka.registry.password", password, self.file, environment)
        return "Basic " + base64.b64encode(f"{registry.user}:{password}".encode()).decode()

    def _trust(self) -> ssl.SSLContext | None:
        registry = self.kafka.registry
        if registry is None or registry.ca is None:
            return None
        path = Path(self.file).parent / registry.ca
        try:
            return ssl.create_default_context(cafile=path)
        except (OSError, ssl.SSLError) as error:
            fact = f"cannot be read ({error.strerror or error})"
            raise ConfigError(self.file, "kafka.registry.ca", fact, registry.ca) from error

    def latest(self, subject: str, key: str) -> AvroSchema:
        """Return the newest schema of a subject.

        Parameters
        ----------
        subject, key
            Its name, and the key of the configuration that would name it.

        Raises
        ------
        ConfigError
            If there is no such subject, or its schema is not Avro's.
        KafkaError
            If the registry does not answer.
        """
        try:
            answer = self._ask(f"/subjects/{_quoted(subject)}/versions/latest")
            return self._schema(answer)
        except _UnknownError as error:
            fact = f"the registry at {self.url} has no such subject"
            raise ConfigError(self.file, key, fact, subject, "name one, or give schema") from error
        except AvroSchemaError as error:
            fact = f"its newest schema {error}"
            raise ConfigError(self.file, key, fact, subject) from error

    def writer(self, number: int) -> AvroSchema | str:
        """Return the schema of a number, or why there is none that can be used.

        Raises
        ------
        KafkaError
            If the registry does not answer, for two minutes.
        """
        with self._lock:
            if number not in self._known:
                try:
                    answer = self._ask(f"/schemas/ids/{number}", self.pauses_s)
                    self._known[number] = self._schema(answer)
                except _UnknownError:
                    self._known[number] = f"the registry has no schema {number}"
                except AvroSchemaError as error:
                    self._known[number] = f"schema {number} {error}"
            return self._known[number]

    def _schema(self, answer: Mapping[str, Any]) -> AvroSchema:
        kind = answer.get("schemaType", "AVRO")
        if kind != "AVRO":
            raise AvroSchemaError(f"is {kind}, not Avro")
        references: dict[str, str] = {}
        self._gather(answer, references)
        return AvroSchema.of(_text(answer), list(references.values()))

    def _gather(self, answer: Mapping[str, Any], found: dict[str, str]) -> None:
        """Collect the schemas that one refers to, each after those that it refers to itself."""
        for reference in answer.get("references") or ():
            if reference["name"] not in found:
                where = f"/subjects/{_quoted(reference['subject'])}/versions/{reference['version']}"
                inner = self._ask(where, self.pauses_s)
                self._gather(inner, found)
                found[reference["name"]] = _text(inner)

    def _ask(self, path: str, pauses_s: tuple[float, ...] = ()) -> Mapping[str, Any]:
        """Ask, again after each of the pauses if there is no answer.

        Raises
        ------
        KafkaError
            If there is none after the last; or the registry refuses user and password.
        """
        for pause_s in pauses_s:
            try:
                return self._ask_once(path)
            except _SilentError:
                time.sleep(pause_s)
        try:
            return self._ask_once(path)
        except _SilentError as error:
            raise KafkaError(
                f"{self.url}: the registry does not answer ({error}); check kafka.registry and the "
                "network, and run the same command again"
            ) from error

    def _ask_once(self, path: str) -> Mapping[str, Any]:
        request = urllib.request.Request(
            self.url + path, headers={"Accept": "application/vnd.schemaregistry.v1+json"}
        )
        if self._login is not None:
            # Not to be sent on to where the registry may redirect.
            request.add_unredirected_header("Authorization", self._login)
        try:
            with urllib.request.urlopen(
                request, timeout=_ANSWER_S, context=self._context
            ) as response:
                answer = json.loads(response.read(_LARGEST))
        except urllib.error.HTTPError as error:
            raise self._refused(error) from error
        except urllib.error.URLError as error:
            raise _SilentError(str(error.reason)) from error
        except (OSError, HTTPException) as error:
            raise _SilentError(str(error) or type(error).__name__) from error
        except ValueError as error:
            raise _SilentError("its answer is not JSON") from error
        if not isinstance(answer, dict) or not isinstance(answer.get("schema"), str):
            raise _SilentError("its answer has no schema")
        return answer

    def _refused(self, error: urllib.error.HTTPError) -> Exception:
        if error.code in (401, 403):
            return KafkaError(
                f"{self.url}: the registry refuses the user or the password; correct "
                "kafka.registry.user and password"
            )
        try:
            code = json.loads(error.read(_LARGEST)).get("error_code")
        except (ValueError, AttributeError, OSError, HTTPException):
            code = None
        # Only its own code says that there is none: a proxy answers 404 too.
        return _UnknownError() if code in _UNKNOWN else _SilentError(f"HTTP {error.code}")


class _SilentError(Exception):
    """There is no answer of a registry."""


def _quoted(name: str) -> str:
    return urllib.parse.quote(name, safe="")


def _text(answer: Mapping[str, Any]) -> str:
    text = answer["schema"]
    assert isinstance(text, str)
    return text
