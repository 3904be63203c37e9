"""Beam coders of the elements that pass between steps.

Within a fused stage elements pass as they are, and Beam only asks for their
sizes; between stages and machines they are bytes. The graph declares the types
explicitly, because Beam would pickle elements of unknown types.
"""

from __future__ import annotations

import pickle
from typing import Generic, TypeVar

import apache_beam as beam
import numpy as np
import pyarrow as pa

from headrace.learners.learning import Learned
from headrace.learners.ordering import Epoch
from headrace.schemas.records.envelope import EventEnvelope, SampleEnvelope

E = TypeVar("E", EventEnvelope, SampleEnvelope)

_HEADER_BYTES = 100


class _EnvelopeCoder(beam.coders.Coder, Generic[E]):
    kind: type[E]

    def encode(self, value: E) -> bytes:
        return value.encode()

    def decode(self, encoded: bytes) -> E:
        return self.kind.decode(encoded)

    def is_deterministic(self) -> bool:
        return True


class EventEnvelopeCoder(_EnvelopeCoder[EventEnvelope]):
    """Codes event envelopes by their own format."""

    kind = EventEnvelope

    def estimate_size(self, value: EventEnvelope) -> int:
        """Return about how many bytes `encode` would write."""
        return _HEADER_BYTES + (value.batch.nbytes if value.batch is not None else 0)


class SampleEnvelopeCoder(_EnvelopeCoder[SampleEnvelope]):
    """Codes sample envelopes by their own format."""

    kind = SampleEnvelope

    def estimate_size(self, value: SampleEnvelope) -> int:
        """Return about how many bytes `encode` would write."""
        return _HEADER_BYTES + sum(batch.nbytes for batch in value.batches)


class LearnedCoder(beam.coders.Coder):
    """Codes `Learned` as an Arrow stream of its parts, with order, learned rows and log-odds."""

    def encode(self, value: Learned) -> bytes:
        """Return samples, order, learned rows and log-odds as bytes."""
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, value.epoch.parts[0].schema) as writer:
            for part in value.epoch.parts:
                writer.write_batch(part)
        samples = sink.getvalue().to_pybytes()
        margins = {name: margin.tobytes() for name, margin in value.margins.items()}
        order = value.epoch.order.tobytes()
        rows = {name: own.tobytes() for name, own in value.rows.items()}
        return pickle.dumps((samples, order, rows, margins))

    def decode(self, encoded: bytes) -> Learned:
        """Return the `Learned` that `encode` was given, its arrays read-only."""
        samples, order, rows, margins = pickle.loads(encoded)
        parts = list(pa.ipc.open_stream(samples))
        return Learned(
            Epoch(parts, np.frombuffer(order, np.int64)),
            {name: np.frombuffer(own, np.int64) for name, own in rows.items()},
            {name: np.frombuffer(margin) for name, margin in margins.items()},
        )

    def estimate_size(self, value: Learned) -> int:
        """Return about how many bytes `encode` would write."""
        arrays = (value.epoch.order, *value.rows.values(), *value.margins.values())
        return sum(part.nbytes for part in value.epoch.parts) + sum(a.nbytes for a in arrays)

    def is_deterministic(self) -> bool:
        """Equal samples have equal bytes."""
        return True


def register() -> None:
    """Register the coders with Beam, for the types they code."""
    beam.coders.registry.register_coder(EventEnvelope, EventEnvelopeCoder)
    beam.coders.registry.register_coder(SampleEnvelope, SampleEnvelopeCoder)
    beam.coders.registry.register_coder(Learned, LearnedCoder)
