"""From a configuration to its logs, wherever they are: files or topics."""

from __future__ import annotations

import logging

from headrace.learners.registry import ALGORITHMS, Algorithms
from headrace.pipelines.sources.inputs import Inputs
from headrace.pipelines.sources.inputs import resolve as resolve_files
from headrace.schemas.config.models import Config
from headrace.schemas.errors import ConfigError

_LOG = logging.getLogger("headrace")


def resolve(config: Config, algorithms: Algorithms = ALGORITHMS) -> Inputs:
    """Find and inspect the files or topics of a configuration.

    Raises
    ------
    ConfigError, KafkaError
        For the first thing wrong.
    """
    if not config.topics:
        return resolve_files(config, algorithms)
    # Kafka's clients are an extra, and take a while to import.
    try:
        from headrace.pipelines.kafka.topiclogs import resolve_topics
    except ImportError as error:
        fact, hint = f"needs {error.name}, which is not installed", "pip install 'headrace[kafka]'"
        raise ConfigError(config.file, "kafka", fact, hint=hint) from error
    return resolve_topics(config, _LOG.warning, algorithms)
