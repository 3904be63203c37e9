"""The hash of join keys: what is equal, and what cannot be found without the secret."""

import pickle
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest

from headrace.schemas.records.hashing import PUBLISHED, Kind, hash_columns, uniform
from headrace.schemas.records.keyed import PUBLIC, KeyedHash
from headrace.schemas.records.samevalues import same_values
from headrace.schemas.records.siphash import siphash

SECRET = KeyedHash(b"a secret of the tests")
ALL = 2**64 - 1
C1, C2 = 0x87C37B91114253D5, 0x4CF5AD432745937F


def rotate(x, by):
    return (x << by | x >> (64 - by)) & ALL


def unmixed(x):
    """Invert `fmix64`."""
    x ^= x >> 33
    x = x * pow(0xC4CEB9FE1A85EC53, -1, 2**64) & ALL
    x ^= x >> 33
    x = x * pow(0xFF51AFD7ED558CCD, -1, 2**64) & ALL
    return x ^ x >> 33


def unfinished(h1, h2, size):
    """Return the state of MurmurHash3 before its finalisation."""
    h2 = (h2 - h1) & ALL
    h1 = (h1 - h2) & ALL
    h1, h2 = unmixed(h1), unmixed(h2)
    h2 = (h2 - h1) & ALL
    h1 = (h1 - h2) & ALL
    return h1 ^ size, h2 ^ size


def last_block(target, state, size):
    """Return 16 bytes that lead from a state of MurmurHash3 to a digest of `size` bytes."""
    h1, h2 = unfinished(*target, size)
    s1, s2 = state
    fifth = pow(5, -1, 2**64)
    m2 = rotate(((h2 - 0x38495AB5) * fifth - h1) & ALL, 64 - 31) ^ s2
    m1 = rotate(((h1 - 0x52DCE729) * fifth - s2) & ALL, 64 - 27) ^ s1
    k1 = rotate(m1 * pow(C2, -1, 2**64) & ALL, 64 - 31) * pow(C1, -1, 2**64) & ALL
    k2 = rotate(m2 * pow(C1, -1, 2**64) & ALL, 64 - 33) * pow(C2, -1, 2**64) & ALL
    return k1.to_bytes(8, "little") + k2.to_bytes(8, "little")


def after_block(block):
    """Return the state of MurmurHash3 after 16 bytes."""
    k1, k2 = (int.from_bytes(block[at : at + 8], "little") for at in (0, 8))
    h1 = rotate(k1 * C1 & ALL, 31) * C2 & ALL
    h1 = (rotate(h1, 27) * 5 + 0x52DCE729) & ALL
    h2 = rotate(k2 * C2 & ALL, 33) * C1 & ALL
    h2 = ((rotate(h2, 31) + h1) * 5 + 0x38495AB5) & ALL
    return h1, h2


def digests(values, by):
    return [(int(a), int(b)) for a, b in zip(*hash_columns(values, by), strict=True)]


def forged(site, key):
    """Return an id with which another site has the key of two columns, by the published hash."""
    (target,) = digests([pa.array([part]) for part in key], PUBLISHED)
    (own,) = digests([pa.array([site])], PUBLISHED)
    block = b"".join(half.to_bytes(8, "little") for half in own)
    # First the digest that the id must have, then 16 bytes that have it.
    wanted = last_block(target, after_block(block), 32)
    halves = int.from_bytes(wanted[:8], "little"), int.from_bytes(wanted[8:], "little")
    return last_block(halves, (0, 0), 16)


def test_a_key_that_forges_another_by_the_published_hash_does_not_by_a_keyed_one():
    """Of two columns: the id is computed, not searched. Neither by that which everybody knows."""
    key, other = (b"news", b"request-1"), b"ours"
    own = [pa.array([part]) for part in (other, forged(other, key))]
    theirs = [pa.array([part]) for part in key]
    assert digests(own, PUBLISHED) == digests(theirs, PUBLISHED)
    for by in (PUBLIC, SECRET):
        assert digests(own, by) != digests(theirs, by)


def test_ids_that_survive_sampling_cannot_be_found_without_the_secret():
    """Those found with the hash that everybody knows survive as often as any others."""
    ids = pa.array([f"id-{number}" for number in range(200_000)])
    survivors = ids.filter(pa.array(uniform(hash_columns([ids], PUBLIC)[0], 0) < 0.01))
    assert len(survivors) > 1_500
    draw = uniform(hash_columns([survivors], SECRET)[0], 0)
    # Three standard errors of a share of 0.01.
    assert abs((draw < 0.01).mean() - 0.01) < 3 * (0.01 / len(survivors)) ** 0.5
    assert abs(draw.mean() - 0.5) < 3 * (1 / 12 / len(survivors)) ** 0.5


EQUAL = {
    "text and bytes": (pa.array(["a", "", "é"]), pa.array([b"a", b"", "é".encode()])),
    "integers of any width": (pa.array([1, -1], pa.int8()), pa.array([1, -1], pa.int64())),
    "signed and unsigned": (pa.array([1, 2**62], pa.uint64()), pa.array([1, 2**62], pa.int64())),
    "booleans and integers": (pa.array([True, False]), pa.array([1, 0], pa.int32())),
    "whole decimals and integers": (
        pa.array([Decimal(7), Decimal(-3)], pa.decimal128(20, 0)), pa.array([7, -3])
    ),
    "decimals and floats": (
        pa.array([Decimal("0.5"), Decimal("2.25")], pa.decimal128(9, 2)), pa.array([0.5, 2.25])
    ),
    "times and integers": (pa.array([5, 6], pa.timestamp("us")), pa.array([5, 6])),
    "dates and integers": (pa.array([5, 6], pa.date32()), pa.array([5, 6])),
    "floats of two widths": (pa.array([0.5, 2.0], pa.float32()), pa.array([0.5, 2.0])),
    "not a number, to the bit": (pa.array([np.nan, -0.0]), pa.array([np.nan, -0.0])),
}  # fmt: skip


@pytest.mark.parametrize("pair", EQUAL.values(), ids=EQUAL)
def test_equal_values_are_equal_by_any_hash_and_in_themselves(pair):
    """What is one key for the hash is one key where the keys themselves are compared."""
    for by in (PUBLISHED, PUBLIC, SECRET):
        assert digests([pair[0]], by) == digests([pair[1]], by)
    assert same_values(*pair).all()


OTHER = {
    "text": (pa.array(["a", "ab"]), pa.array(["b", "abc"])),
    "signs of zero": (pa.array([0.0]), pa.array([-0.0])),
    "large unsigned and negative": (pa.array([2**64 - 1], pa.uint64()), pa.array([-1])),
    "text and bytes": (pa.array(["a"]), pa.array([b"b"])),
    "numbers": (pa.array([5, 7], pa.int32()), pa.array([6, 8])),
}


@pytest.mark.parametrize("pair", OTHER.values(), ids=OTHER)
def test_other_values_are_not(pair):
    """Neither by the hash nor in themselves."""
    for by in (PUBLISHED, PUBLIC, SECRET):
        assert not {*digests([pair[0]], by)} & {*digests([pair[1]], by)}
    assert not same_values(*pair).any()


def test_kinds_have_keys_of_their_own():
    """Bytes of text, of an integer, of a float, and of the digests of two columns."""
    word = (5).to_bytes(8, "little")
    number = np.frombuffer(word, np.float64)
    columns = [pa.array([word]), pa.array([5]), pa.array(number), pa.array([5], pa.uint64())]
    found = [digests([column], SECRET)[0] for column in columns]
    assert len(set(found)) == 3
    assert found[1] == found[3]
    whole = digests(columns[:2], SECRET)[0]
    parts = b"".join(half.to_bytes(8, "little") for pair in found[:2] for half in pair)
    assert digests([pa.array([parts])], SECRET)[0] != whole
    assert len({siphash(word, key.tobytes()) for key in SECRET._keys.values()}) == len(Kind)


def test_a_mark_says_whether_secrets_are_equal_and_they_travel_nowhere():
    """Not in a pickle, nor in a text; equal ones have equal hashes."""
    same, other = KeyedHash(b"a secret of the tests"), KeyedHash(b"a secret of the test")
    assert same.mark == SECRET.mark != other.mark
    column = [pa.array(["key"])]
    assert digests(column, same) == digests(column, SECRET) != digests(column, other)
    assert repr(SECRET) == "KeyedHash()"
    with pytest.raises(TypeError, match="is not sent to other processes"):
        pickle.dumps(SECRET)


def test_without_a_secret_keys_have_the_same_digests_everywhere():
    """A digest that changes makes another order of all outputs, and needs another layout."""
    assert digests([pa.array(["request-1"])], PUBLIC) == [
        (7553379407390511238, 14639794409835767323)
    ]
    assert digests([pa.array(["news"]), pa.array([7])], PUBLIC) == [
        (16105235563251425820, 14452590466911107504)
    ]
