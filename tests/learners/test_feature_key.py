"""Features hashed with a key, beside plain Python that follows docs/features.md."""

import hashlib
import re
from pathlib import Path

import pyarrow as pa
import pytest

from headrace.learners.features import FeatureEncoder, Features, MultiValued
from headrace.schemas.records.keyed import KeyedHash
from tests.learners.test_feature_page import GOLDEN, NULL, fmix64, murmur
from tests.schemas.test_siphash import plain as siphash

PAGE = (Path(__file__).parents[2] / "docs" / "features.md").read_text(encoding="utf-8")
SAYS = (
    r"With the key `(.+)` the text `phone` of the categorical column `device` has the hash\n`(\w+)`"
)
SECRET, EXAMPLE = re.search(SAYS, PAGE).groups()
ALL = 2**64 - 1


def digest(kind, data):
    """Return the digest of bytes of a kind, as the page says."""
    root = hashlib.blake2b(SECRET.encode(), digest_size=32, person=b"headrace secret").digest()
    key = hashlib.blake2b(kind.encode(), digest_size=16, key=root).digest()
    return int.from_bytes(siphash(data, key, 1, 3)[:8], "little")


def encoded(batch, **features):
    by = KeyedHash(SECRET.encode())
    rows = FeatureEncoder(Features(**features, by=by), 64).encode(pa.RecordBatch.from_pydict(batch))
    return rows.indices[1:].tolist()


CASES = {
    "text": ("TEXT", b"phone", pa.array(["phone"])),
    "bytes": ("TEXT", b"\x00\xff", pa.array([b"\x00\xff"])),
    "an integer": ("INTEGER", (5).to_bytes(8, "little"), pa.array([5], pa.int8())),
    "a float": ("FLOAT", bytes.fromhex("000000000000e03f"), pa.array([0.5])),
    "a large one": ("UNSIGNED", b"\xff" * 8, pa.array([2**64 - 1], pa.uint64())),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_category_has_the_hash_of_the_page(case):
    """Names have no key, values have that of their kind."""
    kind, data, column = case
    hashed = fmix64(digest(kind, data) ^ murmur(b"categorical:device"))
    assert encoded({"device": column}, categorical=("device",)) == [hashed]
    if data == b"phone":
        assert f"{hashed:016x}" == EXAMPLE


def test_items_crosses_and_nulls_have_it_too():
    """Of each value its digest is with the key, and nothing else is."""
    batch = {"a": pa.array(["x", None]), "t": pa.array([["u", "v"], ["u"]])}
    x, u, v = (digest("TEXT", value) for value in (b"x", b"u", b"v"))
    tags = murmur(b"multi_valued:t")
    crossed = murmur(b"cross:a*t")

    def both(first, second):
        folded = fmix64((crossed * GOLDEN & ALL) ^ first)
        return fmix64(fmix64((folded * GOLDEN & ALL) ^ second))

    # Behind the intercept of the second row, which is left out.
    found = encoded(batch, multi_valued=(MultiValued("t"),), crosses=(("a", "t"),))
    assert found[:4] == [fmix64(u ^ tags), fmix64(v ^ tags), both(x, u), both(x, v)]
    assert found[5:] == [fmix64(u ^ tags), both(NULL, u)]
