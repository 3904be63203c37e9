"""Batches as brokers store them: decoded, or refused with a reason."""

from __future__ import annotations

import io

import cramjam
import numpy as np
import pyarrow as pa
import pytest
from crc32c import crc32c
from kafka.record import MemoryRecordsBuilder

from headrace.pipelines.kafka.recordbatches import Batches, CorruptBatchError, uncompressed

CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
VALUES = [b"first", None, b"", b"x" * 300, b"last"]


def batch(values=VALUES, codec="none", offset=0):
    builder = MemoryRecordsBuilder(2, CODECS[codec], 1 << 20, offset=offset)
    for at, value in enumerate(values):
        builder.append(1_000 + at, b"key", value, [("header", b"1")])
    builder.close()
    return builder.buffer()


def batches(data, least=0, most_bytes=1 << 20):
    return Batches(data, least, (), crc32c, most_bytes)


def rows(decoded):
    count = decoded.offsets.size
    ends, buffer = decoded.values(0, count)
    values = [
        None if size < 0 else bytes(buffer[begin:end])
        for size, begin, end in zip(decoded.sizes.tolist(), ends, ends[1:], strict=False)
    ]
    return list(zip(decoded.offsets.tolist(), decoded.timestamps.tolist(), values, strict=True))


ROWS = [(at, 1_000 + at, value) for at, value in enumerate(VALUES)]


@pytest.mark.parametrize("codec", CODECS)
def test_records_of_several_batches_are_decoded(codec):
    """Those from the asked offset on; a last batch that was cut off is left out."""
    data = batch(codec=codec) + batch(codec=codec, offset=10)
    all_rows = [*ROWS, *((at + 10, time, value) for at, time, value in ROWS)]
    for least in (0, 3, 11):
        found = batches(data + batch(codec=codec, offset=20)[:-1], least)
        decoded = found.decode(1000, 1 << 20)
        assert rows(decoded) == [row for row in all_rows if row[0] >= least]
        assert decoded.next_offset == 15
        assert found.end == (15, 0)
        assert not found.left


def test_batches_are_decoded_as_far_as_they_are_wanted():
    """By rows, or by bytes; a part of the rows is copied from any of them."""
    data = b"".join(batch(offset=10 * at) for at in range(6))
    found = batches(data)
    first = found.decode(6, 1 << 20)
    assert first.offsets.tolist() == [*range(5), *range(10, 15)]
    second = found.decode(1000, 500)
    assert second.offsets.tolist() == [*range(20, 25), *range(30, 35)]
    assert (first.next_offset, second.next_offset) == (15, 35)
    ends, buffer = first.values(3, 7)
    assert ends.tolist() == [0, 300, 304, 309, 309]
    assert bytes(buffer) == b"x" * 300 + b"last" + b"first"


@pytest.mark.parametrize("codec", CODECS)
def test_any_flipped_bit_is_noticed(codec):
    """From the byte for the format on; what is before it is not in the checksum."""
    good = batch(codec=codec)
    for at in range(16, len(good)):
        data = bytearray(batch(offset=0) + good)
        data[len(batch(offset=0)) + at] ^= 1 << (at % 8)
        found = batches(bytes(data))
        assert rows(found.decode(1000, 1 << 20)) == ROWS
        assert found.left
        for _ in range(2):
            with pytest.raises(CorruptBatchError):
                found.decode(1000, 1 << 20)


def signed(data):
    """Make the checksum right again, as a client would that has written this."""
    checksum = crc32c(bytes(data[21:]))
    return bytes(data[:17]) + checksum.to_bytes(4, "big") + bytes(data[21:])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda data: data.__setitem__(16, 1), "it has the format of before Kafka 0.11; let the"),
        (lambda data: data.__setitem__(16, 3), "its format is unknown"),
        (lambda data: data.__setitem__(slice(8, 12), b"\0\0\0\1"), "its length is wrong"),
        (lambda data: data.__setitem__(slice(57, 61), b"\0\0\0\6"), "its record 5 is malformed"),
        (lambda data: data.__setitem__(slice(57, 61), b"\0\0\0\4"), "its record 4 is malformed"),
        (lambda data: data.__setitem__(slice(57, 61), b"\x7f\0\0\0"), "it has fewer records than"),
        (lambda data: data.__setitem__(slice(57, 61), b"\xff\0\0\0"), "it has fewer records than"),
        (lambda data: data.__setitem__(61, 0xFF), "its record 0 is malformed"),
        (lambda data: data.__setitem__(22, 5), "unknown compression 5"),
        (lambda data: data.__setitem__(22, 4), "ZSTD decompress failed"),
        (lambda data: data.__setitem__(22, 2), "snappy"),
    ],
)
def test_a_batch_with_a_right_checksum_may_be_wrong_too(change, said):
    data = bytearray(batch())
    change(data)
    with pytest.raises(CorruptBatchError, match=said):
        batches(signed(data)).decode(1000, 1 << 20)


def test_a_malformed_batch_is_refused_after_those_before_it():
    bad = bytearray(batch(offset=10))
    bad[57:61] = b"\0\0\0\6"
    found = batches(batch() + signed(bad))
    assert rows(found.decode(1000, 1 << 20)) == ROWS
    with pytest.raises(CorruptBatchError, match="its record 5 is malformed"):
        found.decode(1000, 1 << 20)


def xerial(data):
    """Compress as the Java client does, in blocks."""
    out = io.BytesIO()
    out.write(b"\x82SNAPPY\0" + b"\0\0\0\1" * 2)
    for at in range(0, len(data), 1000):
        block = bytes(cramjam.snappy.compress_raw(data[at : at + 1000]))
        out.write(len(block).to_bytes(4, "big") + block)
    return out.getvalue()


def compress(codec):
    return {
        "snappy": lambda data: bytes(cramjam.snappy.compress_raw(data)),
        "xerial": xerial,
    }.get(codec, lambda data: twice(codec, data))


def twice(codec, data):
    """Compress in two frames, which are read as one."""
    half = len(data) // 2
    sink = pa.BufferOutputStream()
    for part in (data[:half], data[half:]):
        one = pa.BufferOutputStream()
        with pa.CompressedOutputStream(one, codec) as stream:
            stream.write(part)
        sink.write(one.getvalue())
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize("codec", ["gzip", "snappy", "xerial", "lz4", "zstd"])
def test_what_is_larger_than_allowed_is_not_uncompressed(codec):
    """Nothing is held of it but as much as is allowed."""
    number = CODECS["snappy" if codec == "xerial" else codec]
    data = np.arange(5000, dtype=np.uint8).tobytes()
    packed = memoryview(compress(codec)(data))
    assert bytes(uncompressed(number, packed, 5000)) == data
    with pytest.raises(CorruptBatchError, match="more than 0 MB uncompressed; raise max_batch_mb"):
        uncompressed(number, packed, 4999)
    with pytest.raises(CorruptBatchError):
        uncompressed(number, packed[:-3], 1 << 20)
    bomb = memoryview(compress(codec)(bytes(50 << 20)))
    before = pa.default_memory_pool().max_memory()
    with pytest.raises(CorruptBatchError, match="more than 1 MB"):
        uncompressed(number, bomb, 1 << 20)
    assert pa.default_memory_pool().max_memory() <= max(before, 4 << 20)
