import datetime
from decimal import Decimal

import mmh3
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.schemas.records.hashing import (
    assign_shards,
    hash_bytes,
    hash_column,
    hash_columns,
    uniform,
)


def digests(column):
    return [(int(a), int(b)) for a, b in zip(*hash_column(column), strict=True)]


@settings(deadline=None)  # kernels are compiled on the way
@given(st.lists(st.binary(max_size=70), max_size=20), st.integers(0, 2**31))
def test_bytes_hash_as_in_murmurhash3(values, seed):
    """Digests are those of MurmurHash3_x64_128, whatever the length."""
    assert digests(pa.array(values, pa.binary())) == [
        mmh3.hash64(v, 0, signed=False) for v in values
    ]
    for value in values:
        assert hash_bytes(value, seed) == mmh3.hash64(value, seed, signed=False)


@settings(deadline=None)  # kernels are compiled on the way
@given(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=20))
def test_integers_hash_as_their_eight_bytes(values):
    """An integer hashes as its little-endian bytes with seed 1."""
    expected = [mmh3.hash64(v.to_bytes(8, "little", signed=True), 1, signed=False) for v in values]
    assert digests(pa.array(values, pa.int64())) == expected


def test_integer_widths_agree_and_differ_from_text():
    """5 is 5 in any integer type, and never "5"."""
    narrow, wide = pa.array([5], pa.int8()), pa.array([5], pa.uint64())
    assert digests(narrow) == digests(wide)
    assert digests(narrow) != digests(pa.array(["5"]))


def test_slices_hash_as_copies():
    """A slice of an array hashes as the values it shows."""
    whole = pa.array(["a", "bb", "ccc", "dddd"])
    assert digests(whole.slice(1, 2)) == digests(pa.array(["bb", "ccc"]))
    assert digests(whole.slice(4)) == []


def test_several_columns_hash_as_their_concatenated_digests():
    """A key of two columns is the hash of both 16-byte digests, so ("ab","c") is not ("a","bc")."""
    first, second = hash_columns([pa.array(["ab", "a"]), pa.array(["c", "bc"])])
    parts = [mmh3.hash_bytes(text, 0) for text in ("ab", "c")]
    assert (int(first[0]), int(second[0])) == mmh3.hash64(b"".join(parts), 0, signed=False)
    assert first[0] != first[1]


def test_floats_booleans_and_timestamps_have_digests_and_structs_are_refused():
    """The error names the type."""
    moment = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    for column in (
        pa.array([1.5]),
        pa.array([True]),
        pa.array([moment], pa.timestamp("us", "UTC")),
    ):
        assert len(digests(column)) == 1
    with pytest.raises(TypeError, match="no stable hash is defined for columns of type struct"):
        hash_column(pa.array([{"a": 1}]))


def test_shards_are_in_range_and_get_equal_shares():
    """A shard is taken from the high bits of the hash."""
    hashes, _ = hash_column(pa.array(range(80_000)))
    counts = np.bincount(assign_shards(hashes, 8), minlength=8)
    assert counts.size == 8
    assert abs(counts - 10_000).max() < 500


def test_uniform_numbers_of_two_seeds_are_even_and_independent():
    """Shares below a bound are those of chance, for one seed and for both together."""
    hashes, _ = hash_column(pa.array(range(100_000)))
    one, other = uniform(hashes, 7), uniform(hashes, 8)
    assert ((one >= 0) & (one < 1)).all()
    for bound in (0.1, 0.3, 0.9):
        assert abs((one < bound).mean() - bound) < 0.005
    assert abs(((one < 0.1) & (other < 0.1)).mean() - 0.01) < 0.002


def test_large_unsigned_integers_do_not_equal_negative_ones():
    """Equal values of any width and sign match; equal bytes of different values do not."""
    signed, _ = hash_column(pa.array([-1, 5, 2**63 - 1], pa.int64()))
    unsigned, _ = hash_column(pa.array([2**64 - 1, 5, 2**63 - 1], pa.uint64()))
    assert (signed == unsigned).tolist() == [False, True, True]


def test_whole_decimals_are_the_integers_that_they_are():
    """Whatever their precision; beyond 64 bits they are their digits; with a fraction, floats."""
    values = [-(2**63), -1, 0, 2**63 - 1, None]
    large = [2**63, 2**64 - 1]
    huge = [2**64, -(2**63) - 1]
    whole = pa.array(map(Decimal, [*values[:-1], *large, *huge]), pa.decimal128(30, 0))
    assert digests(whole) == [
        *digests(pa.array(values[:-1], pa.int64())),
        *digests(pa.array(large, pa.uint64())),
        *digests(pa.array(map(str, huge))),
    ]
    small = pa.array([Decimal(7), None], pa.decimal128(20, 0))
    assert digests(small)[0] == digests(pa.array([7]))[0]
    assert digests(pa.array([Decimal("1.50")], pa.decimal128(12, 2))) == digests(pa.array([1.5]))
