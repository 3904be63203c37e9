"""The outputs of a configuration that go to topics."""

from __future__ import annotations

from functools import partial

import pyarrow as pa

from headrace.joiner.plan.plans import JoinPlan
from headrace.joiner.samples.joined import joined_schema
from headrace.joiner.samples.rows import sample_schema
from headrace.pipelines.kafka.delivery import Delivery
from headrace.pipelines.kafka.topics import Brokers
from headrace.pipelines.kafka.topicsink import (
    BatchTopic,
    Encode,
    LetterTopic,
    RowTopic,
    encode_arrow,
    encode_json,
)
from headrace.pipelines.run.place import LETTERS
from headrace.pipelines.sinks.lettersort import DEAD_LETTERS
from headrace.pipelines.sources.letters import PLACED_LETTERS
from headrace.schemas.config.models import Config
from headrace.schemas.records.events import EMIT


def open_topics(
    config: Config, join: JoinPlan, types: pa.Schema, run: str, epoch: int
) -> dict[str, RowTopic]:
    """Return the sinks of all outputs that go to topics, by the names of a run's outputs.

    Brokers are asked for nothing before a sink's first call. Each sink is to be used by one
    thread; `headrace.pipelines.sinks.several.Several` joins one with the sink of a folder.

    Parameters
    ----------
    config
        The configuration.
    join
        The join, which decides what outputs there are.
    types
        Type of each impression column.
    run
        Names the run: the same whenever it resumes, and never that of another run.
    epoch
        Length of an epoch of batches, microseconds.

    Raises
    ------
    ConfigError
        If a secret is not found, or a property is refused.
    """
    if config.kafka is None or not config.outputs.topics:
        return {}
    brokers = Brokers(config.kafka, config.file)
    samples = sample_schema(join, types)
    schemas = {
        f"joined/{action.name}": joined_schema(join, action, types) for action in join.actions
    }
    keys = join.columns[: join.keys]
    sinks: dict[str, RowTopic] = {}
    for name, topic in config.outputs.topics.items():
        arrow = topic.format == "arrow"
        delivery = Delivery(brokers, topic.topic, run)
        if name == DEAD_LETTERS:
            letters: Encode = encode_arrow if arrow else partial(encode_json, ())
            sinks[LETTERS] = LetterTopic(delivery, PLACED_LETTERS, letters)
            continue
        schema = schemas.get(name, samples).append(pa.field(EMIT, pa.int64()))
        if arrow:
            sinks[name] = BatchTopic(delivery, schema, encode_arrow, epoch)
        else:
            sinks[name] = RowTopic(delivery, schema, partial(encode_json, keys))
    return sinks
