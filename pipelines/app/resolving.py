"""From a configuration to its logs, wherever they are: files or topics."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from importlib import import_module
from types import ModuleType

from headrace.learners.registry import ALGORITHMS, Algorithms
from headrace.pipelines.sinks.sink import LiveSink
from headrace.pipelines.sources.continued import Past
from headrace.pipelines.sources.inputs import Inputs
from headrace.pipelines.sources.inputs import resolve as resolve_files
from headrace.pipelines.sources.source import Growing
from headrace.schemas.config.models import Config
from headrace.schemas.errors import ConfigError
from headrace.schemas.records.events import IMPRESSIONS

_LOG = logging.getLogger("headrace")


def resolve(
    config: Config, algorithms: Algorithms = ALGORITHMS, past: Past | None = None
) -> Inputs:
    """Find and inspect the files or topics of a configuration, or what is new of its files.

    Raises
    ------
    ConfigError, KafkaError
        For the first thing wrong.
    """
    if not config.topics:
        return resolve_files(config, algorithms, past)
    if past is not None:
        key = next(iter(config.topics))
        hint = "to go on with topics, use headrace stream, which goes on by itself"
        raise ConfigError(config.file, key, "is of a topic, and --continue reads files", hint=hint)
    return _topics(config).resolve_topics(config, _LOG.warning, algorithms)


def resolve_live(
    config: Config, until_end: bool, algorithms: Algorithms = ALGORITHMS
) -> tuple[Inputs, Growing]:
    """Find the topics of a configuration, which go on; or end where they end now.

    Raises
    ------
    ConfigError, KafkaError
        For the first thing wrong.
    """
    if not config.topics:
        hint = "write topic in place of path; or replay the files: headrace replay"
        raise ConfigError(config.file, "impressions.path", "is of files, which end", hint=hint)
    inputs = _topics(config).resolve_topics(config, _LOG.warning, algorithms)
    from headrace.pipelines.kafka.livetopics import live_topics

    return inputs, live_topics(inputs, until_end)


def open_output_topics(inputs: Inputs, run: str, begins: bool) -> Mapping[str, LiveSink]:
    """Return the sinks of outputs that go to topics, by the names of outputs.

    Parameters
    ----------
    inputs
        The job.
    run
        Names the run: the same whenever it goes on.
    begins
        Whether it just begins: then the topics must have no messages of another.

    Raises
    ------
    ConfigError, KafkaError
        For the first thing wrong.
    """
    if not inputs.config.outputs.topics:
        return {}
    from headrace.pipelines.kafka.topicoutputs import open_topics

    types = inputs.schema_of(IMPRESSIONS)
    sinks = open_topics(inputs.config, inputs.join, types, run, inputs.join.epoch)
    for sink in sinks.values() if begins else ():
        sink.open()
    return sinks


def _topics(config: Config) -> ModuleType:
    """Return the module of topics: Kafka's clients are an extra, and take a while to import."""
    try:
        return import_module("headrace.pipelines.kafka.topiclogs")
    except ImportError as error:
        fact, hint = f"needs {error.name}, which is not installed", "pip install 'headrace[kafka]'"
        raise ConfigError(config.file, "kafka", fact, hint=hint) from error
