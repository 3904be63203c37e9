"""Envelopes: what travels between Beam steps and is stored in the journal.

An envelope is four bytes of magic that carry the version, the length of a
JSON header, the header, and Arrow IPC streams of batches, plain or compressed by LZ4.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

from headrace.schemas.errors import DamagedError, EnvelopeError
from headrace.schemas.records.events import NEVER
from headrace.schemas.records.restored import Count, Flag, Int, Moment, Text, checked

_EVENTS = b"HRE4"
_SAMPLES = b"HRS5"
_ROWS = ""
_LENGTH = struct.Struct("<4sI")
_PLAIN = pa.ipc.IpcWriteOptions()
_COMPRESSED = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)


JOINED, CORRECTIONS = "joined", "corrections"
"""Names of the rows that leave a join beside its samples, in order of emit time. `JOINED` is
followed by the number of the action stream."""

SERVED, MATURE = "served", "mature"
"""Names of the rows beside the samples that only the trainer uses: impressions to be predicted
when they are known, and the final labels by which that is scored."""

ARRIVALS = "arrivals"
"""Name of further rows for the trainer: how many actions became known, by stream and step of time;
the emit time is the last microsecond of the step."""


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
        rejected records too. Equal if the envelope carries progress alone.
    progress
        Event time (microseconds UTC) before which the source has no further row.
    rejected
        Invalid records of the source so far, up to ``end``.
    batch
        The rows of the shard in source order, or None for none.
    ended
        Whether the source has ended at ``end``.
    exhausted
        Whether no row of it comes any more: what may still rise is its progress.
    """

    stream: int
    source: int
    sources: int
    begin: int
    end: int
    progress: int
    rejected: int = 0
    batch: pa.RecordBatch | None = None
    ended: bool = False
    exhausted: bool = False

    def encode(self, compress: bool = False) -> bytes:
        """Return the envelope as bytes that `decode` reads, its batch compressed if asked for."""
        header = [
            self.stream,
            self.source,
            self.sources,
            self.begin,
            self.end,
            self.progress,
            self.rejected,
            self.ended,
            self.exhausted,
        ]
        has_rows = self.batch is not None and self.batch.num_rows
        return _pack(_EVENTS, header, {_ROWS: [self.batch]} if has_rows else {}, compress)

    @staticmethod
    def recognizes(data: bytes) -> bool:
        """Return whether bytes are an event envelope of this version."""
        return data[:4] == _EVENTS

    @staticmethod
    def place_of(head: bytes) -> tuple[int, int]:
        """Return source and begin of the envelope that begins with these bytes, some hundred.

        Raises
        ------
        EnvelopeError
            If it is not an event envelope of this version.
        """
        header, _, _ = _header(_EVENTS, head)
        _, source, _, begin, *_ = _fields(_EVENT_HEADER, header)
        return source, begin

    @classmethod
    def decode(cls, data: bytes) -> EventEnvelope:
        """Read an envelope with its batch.

        Raises
        ------
        EnvelopeError
            If the bytes are not an event envelope of this version.
        """
        header, sections = _unpack(_EVENTS, data)
        if set(sections) - {_ROWS} or len(sections.get(_ROWS, ())) > 1:
            raise EnvelopeError("an event envelope must have one batch (got others)")
        *fields, ended, exhausted = _fields(_EVENT_HEADER, header)
        batch = sections[_ROWS][0] if sections else None
        return replace(cls(*fields), ended=ended, exhausted=exhausted, batch=batch)


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
        The shard has sent every sample up to and including this emit time.
    positions
        Per source, records read and records rejected so far.
    outcomes
        Records of this shard so far, by stream and outcome.
    dropped
        Negatives of this shard that sampling dropped so far.
    spans
        Per stream the least and greatest event time, microseconds.
    looked_up
        Impressions found for joined actions so far, by where they were.
    ends
        Per source its last progress; empty until all sources have ended.
    last
        The event time of the last impression, or the time to which an idle source of them was
        raised, if that is later; `NEVER` until all sources of impressions are exhausted.
    copies
        Duplicates of actions since the shard's last envelope: name of the stream, hour of their
        event times (microseconds), and how many.
    batches
        The samples, in each batch in order of emit time.
    beside
        Rows that leave beside the samples, by `JOINED` and a number, `CORRECTIONS`, `SERVED`,
        `MATURE` or `ARRIVALS`; in each batch in order of emit time.
    """

    shard: int
    shards: int
    sequence: int
    progress: int
    positions: list[list[int]] = field(default_factory=list)
    outcomes: dict[str, dict[str, int]] = field(default_factory=dict)
    dropped: int = 0
    spans: list[list[int]] = field(default_factory=list)
    looked_up: dict[str, int] = field(default_factory=dict)
    ends: list[int] = field(default_factory=list)
    last: int = NEVER
    copies: list[list[Any]] = field(default_factory=list)
    batches: list[pa.RecordBatch] = field(default_factory=list)
    beside: dict[str, list[pa.RecordBatch]] = field(default_factory=dict)

    def encode(self) -> bytes:
        """Return the envelope as bytes that `decode` reads."""
        header = [
            self.shard,
            self.shards,
            self.sequence,
            self.progress,
            self.positions,
            self.outcomes,
            self.dropped,
            self.spans,
            self.looked_up,
            self.ends,
            self.last,
            self.copies,
        ]
        return _pack(_SAMPLES, header, {_ROWS: self.batches, **self.beside})

    @classmethod
    def decode(cls, data: bytes) -> SampleEnvelope:
        """Read an envelope with its batches.

        Raises
        ------
        EnvelopeError
            If the bytes are not a sample envelope of this version.
        """
        header, sections = _unpack(_SAMPLES, data)
        batches = sections.pop(_ROWS, [])
        fields = _fields(_SAMPLE_HEADER, header)
        return replace(cls(*fields), batches=batches, beside=sections)


_EVENT_HEADER = tuple[Count, Count, Count, Count, Count, Moment, Count, Flag, Flag]
_SAMPLE_HEADER = tuple[
    Count, Count, Count, Moment, list[tuple[Count, Count]], dict[Text, dict[Text, Int]], Count,
    list[tuple[Moment, Moment]], dict[Text, Count], list[Moment], Moment,
    list[tuple[Text, Moment, Count]],
]  # fmt: skip


def _fields(kind: Any, header: list[Any]) -> list[Any]:
    """Return the fields of a header if they are of their kinds."""
    try:
        checked(kind, header, "header")
    except DamagedError as error:
        raise EnvelopeError(f"an envelope is damaged ({error})") from error
    return header


def batch_to_bytes(batch: pa.RecordBatch, compress: bool = False) -> bytes:
    """Write one batch as an Arrow IPC stream."""
    return bytes(_stream([batch], compress))


def batch_from_bytes(data: bytes | memoryview) -> pa.RecordBatch:
    """Read the one batch of an Arrow IPC stream.

    Raises
    ------
    EnvelopeError
        If it is damaged.
    """
    (batch,) = _batches(data)[:1] or [None]
    if batch is None:
        raise EnvelopeError("an Arrow stream must have a batch (got none)")
    return batch


def _batches(data: bytes | memoryview) -> list[pa.RecordBatch]:
    """Read a whole Arrow IPC stream.

    Its lengths and offsets are compared with what is there: others would be followed to
    wherever they point.
    """
    try:
        batches = list(pa.ipc.open_stream(pa.py_buffer(data)))
        for batch in batches:
            batch.validate(full=True)
            batch.schema.names  # noqa: B018 - names are not validated, and may not be UTF-8
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        why = " ".join(str(error).split())[:200]
        raise EnvelopeError(f"an Arrow stream is damaged ({why})") from error
    return batches


def _pack(
    magic: bytes,
    header: list[Any],
    sections: dict[str, list[pa.RecordBatch]],
    compress: bool = False,
) -> bytes:
    """Write a header and sections, each an Arrow IPC stream of batches of one schema."""
    bodies = [(name, _stream(batches, compress)) for name, batches in sections.items() if batches]
    sizes = [[name, len(body)] for name, body in bodies]
    text = json.dumps([*header, sizes], separators=(",", ":")).encode()
    # Arrow copies buffers that are not aligned to 8 bytes. The length of a stream is a
    # multiple of 8.
    text += b" " * (-(len(text) + _LENGTH.size) % 8)
    return b"".join((_LENGTH.pack(magic, len(text)), text, *(body for _, body in bodies)))


def _stream(batches: list[pa.RecordBatch], compress: bool) -> memoryview:
    sink = pa.BufferOutputStream()
    options = _COMPRESSED if compress else _PLAIN
    with pa.ipc.new_stream(sink, batches[0].schema, options=options) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return memoryview(sink.getvalue())


def _unpack(magic: bytes, data: bytes) -> tuple[list[Any], dict[str, list[pa.RecordBatch]]]:
    header, sizes, at = _header(magic, data)
    view = memoryview(data)
    sections = {}
    for name, size in sizes:
        sections[name] = _batches(view[at : at + size])
        at += size
    return header, sections


def _header(magic: bytes, data: bytes) -> tuple[list[Any], list[tuple[str, int]], int]:
    """Return a header, name and size of each section, and where the first begins."""
    if len(data) < _LENGTH.size or data[:4] != magic:
        raise EnvelopeError(
            f"expected an envelope {magic.decode()} (got {data[:4]!r}); "
            "it was written by another version or step"
        )
    _, length = _LENGTH.unpack_from(data)
    at = _LENGTH.size + length
    try:
        *header, sizes = json.loads(data[_LENGTH.size : at])
        checked(list[tuple[Text, Count]], sizes, "sizes")
    except (ValueError, TypeError, RecursionError, DamagedError) as error:
        raise EnvelopeError(f"the header of an envelope is damaged ({error})") from error
    return header, sizes, at
