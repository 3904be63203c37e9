"""Envelopes: what travels between Beam steps and lies in the journal.

An envelope is four bytes of magic that carry the version, the length of a
JSON header, the header, and perhaps an Arrow IPC stream of batches.
"""

from __future__ import annotations

import io
import json
import struct
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

from schemas.errors import EnvelopeError

_EVENTS = b"HRE1"
_SAMPLES = b"HRS1"
_LENGTH = struct.Struct("<4sI")


@dataclass(frozen=True, slots=True)
class EventEnvelope:
    """One shard's rows of one block of a source.

    Parameters
    ----------
    stream
        0 for impressions, ``1 + i`` for action stream ``i``.
    source, sources
        Number of the source, and how many there are over all streams.
    begin, end
        The block's positions in its source, ``[begin, end)``, counting
        rejected records too. Equal where only progress is told.
    progress
        Event time (microseconds UTC) before which the source has no further row.
    rejected
        Invalid records of the source so far, up to ``end``.
    batch
        The rows of the shard in source order, or None for none.
    """

    stream: int
    source: int
    sources: int
    begin: int
    end: int
    progress: int
    rejected: int = 0
    batch: pa.RecordBatch | None = None

    def encode(self) -> bytes:
        """Write the envelope as bytes."""
        header = [
            self.stream,
            self.source,
            self.sources,
            self.begin,
            self.end,
            self.progress,
            self.rejected,
        ]
        has_rows = self.batch is not None and self.batch.num_rows
        return _pack(_EVENTS, header, [self.batch] if has_rows else [])

    @staticmethod
    def recognizes(data: bytes) -> bool:
        """Tell an event envelope from other bytes."""
        return data[:4] == _EVENTS

    @classmethod
    def decode(cls, data: bytes) -> EventEnvelope:
        """Read an envelope; its batch shares the memory of `data`."""
        header, batches = _unpack(_EVENTS, data)
        return replace(cls(*header), batch=batches[0] if batches else None)


@dataclass(frozen=True, slots=True)
class SampleEnvelope:
    """One shard's samples since its last envelope.

    Parameters
    ----------
    shard, shards
        Which shard of how many.
    sequence
        Number of the envelope within its shard, from 0 without gaps.
    progress
        Emit time up to which, that included, the shard has sent every sample.
    positions
        Per source, records read and records rejected so far.
    outcomes
        Records of this shard so far, by stream and outcome.
    dropped
        Negatives of this shard that sampling left out so far.
    spans
        Per stream the least and greatest event time seen, microseconds.
    batches
        The samples, in each batch in order of emit time.
    """

    shard: int
    shards: int
    sequence: int
    progress: int
    positions: list[list[int]] = field(default_factory=list)
    outcomes: dict[str, dict[str, int]] = field(default_factory=dict)
    dropped: int = 0
    spans: list[list[int]] = field(default_factory=list)
    batches: list[pa.RecordBatch] = field(default_factory=list)

    def encode(self) -> bytes:
        """Write the envelope as bytes."""
        header = [
            self.shard,
            self.shards,
            self.sequence,
            self.progress,
            self.positions,
            self.outcomes,
            self.dropped,
            self.spans,
        ]
        return _pack(_SAMPLES, header, self.batches)

    @classmethod
    def decode(cls, data: bytes) -> SampleEnvelope:
        """Read an envelope; its batches share the memory of `data`."""
        header, batches = _unpack(_SAMPLES, data)
        return replace(cls(*header), batches=batches)


def batch_to_bytes(batch: pa.RecordBatch) -> bytes:
    """Write one batch as an Arrow IPC stream."""
    return _with_body(b"", [batch])


def batch_from_bytes(data: bytes | memoryview) -> pa.RecordBatch:
    """Read the one batch of an Arrow IPC stream without copying it."""
    return pa.ipc.open_stream(pa.py_buffer(data)).read_next_batch()


def _pack(magic: bytes, header: list[Any], batches: list[pa.RecordBatch]) -> bytes:
    text = json.dumps(header, separators=(",", ":")).encode()
    # Arrow wants its buffers aligned to 8 bytes; a copy would follow otherwise.
    text += b" " * (-(len(text) + _LENGTH.size) % 8)
    start = _LENGTH.pack(magic, len(text)) + text
    return _with_body(start, batches) if batches else start


def _with_body(start: bytes, batches: list[pa.RecordBatch]) -> bytes:
    # BytesIO hands its memory over as bytes; Arrow's own stream would copy it once more.
    sink = io.BytesIO(start)
    sink.seek(len(start))
    with pa.ipc.new_stream(pa.PythonFile(sink, "w"), batches[0].schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return sink.getvalue()


def _unpack(magic: bytes, data: bytes) -> tuple[list[Any], list[pa.RecordBatch]]:
    if len(data) < _LENGTH.size or data[:4] != magic:
        raise EnvelopeError(
            f"expected an envelope {magic.decode()} (got {data[:4]!r}); "
            "it was written by another version or step"
        )
    _, length = _LENGTH.unpack_from(data)
    body = _LENGTH.size + length
    header = json.loads(data[_LENGTH.size : body])
    if body == len(data):
        return header, []
    return header, list(pa.ipc.open_stream(pa.py_buffer(memoryview(data)[body:])))
