"""SipHash, beside vectors of others and a plain version."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.schemas.records.siphash import sip_bytes, sip_words, siphash

KEY = bytes(range(16))
ALL = 2**64 - 1

PUBLISHED = {
    0: "a3817f04ba25a8e66df67214c7550293",
    1: "da87c1d86b99af44347659119b22fc45",
    7: "a1f1ebbed8dbc153c0b84aa61ff08239",
    8: "3b62a9ba6258f5610f83e264f31497b4",
    15: "5493e99933b0a8117e08ec0f97cfc3d9",
    16: "6ee2a4ca67b054bbfd3315bf85230577",
    63: "5150d1772f50834a503e069a973fbd7c",
}
"""SipHash-2-4 of the bytes 0, 1, 2, ... up to a length: `vectors_sip128` of its authors."""

OF_OPENSSL = {
    0: "e77ebcb22788a5befd62db6add303001",
    1: "fc6f370460d3eda85e0573cc2b2ff063",
    7: "1084b923f2aae0c3a62f2ec80848ab77",
    8: "aa12fee1d5e3dab4724f16ab35f9c799",
    15: "c17e5505b2bd526c2921cdec1e7e0109",
    16: "d0a8d95715518eebb513b0f83d9e1793",
    63: "4c5800e34efe426f079f6b0aa75260ad",
}
"""SipHash-1-3 of the same, by ``openssl mac -macopt size:16 -macopt c-rounds:1 -macopt d-rounds:3
-macopt hexkey:000102030405060708090a0b0c0d0e0f -in FILE SIPHASH``, version 3.0.19."""


def plain(data, key, c, d):
    """SipHash as its paper writes it."""
    k0, k1 = (int.from_bytes(key[at : at + 8], "little") for at in (0, 8))
    v = [k0 ^ 0x736F6D6570736575, k1 ^ 0x646F72616E646F6D ^ 0xEE]
    v += [k0 ^ 0x6C7967656E657261, k1 ^ 0x7465646279746573]

    def rotate(x, by):
        return (x << by | x >> (64 - by)) & ALL

    def rounds(count):
        for _ in range(count):
            for a, b, by in ((0, 1, 13), (2, 3, 16)):
                v[a] = (v[a] + v[b]) & ALL
                v[b] = rotate(v[b], by) ^ v[a]
            v[0] = rotate(v[0], 32)
            for a, b, by in ((2, 1, 17), (0, 3, 21)):
                v[a] = (v[a] + v[b]) & ALL
                v[b] = rotate(v[b], by) ^ v[a]
            v[2] = rotate(v[2], 32)

    padded = data + bytes(-(len(data) + 1) % 8) + bytes([len(data) % 256])
    for at in range(0, len(padded), 8):
        word = int.from_bytes(padded[at : at + 8], "little")
        v[3] ^= word
        rounds(c)
        v[0] ^= word
    out = b""
    for which, mask in ((2, 0xEE), (1, 0xDD)):
        v[which] ^= mask
        rounds(d)
        out += (v[0] ^ v[1] ^ v[2] ^ v[3]).to_bytes(8, "little")
    return out


@pytest.mark.parametrize("size", PUBLISHED)
def test_digests_are_those_of_its_authors_and_of_openssl(size):
    """With 2 and 4 rounds those that its authors published, with 1 and 3 those of OpenSSL."""
    data = bytes(range(size))
    assert siphash(data, KEY, 2, 4).hex() == PUBLISHED[size]
    assert siphash(data, KEY).hex() == OF_OPENSSL[size]


@settings(deadline=None)  # kernels are compiled on the way
@given(st.lists(st.binary(max_size=600), max_size=5), st.binary(min_size=16, max_size=16))
def test_columns_have_the_digests_of_the_plain_version(values, key):
    """Of bytes of any lengths, also above 255, under any key; and of words."""
    offsets = np.cumsum([0, *map(len, values)]).astype(np.int32)
    data = np.frombuffer(b"".join(values), np.uint8)
    halves = np.frombuffer(key, "<u8")
    out = np.empty((2, len(values)), np.uint64)
    sip_bytes(data, offsets, *halves, *out)
    assert [pair.astype("<u8").tobytes() for pair in out.T] == [
        plain(value, key, 1, 3) for value in values
    ]
    words = np.array([len(values), 2**64 - 1 - len(values)], np.uint64)
    out = np.empty((2, 2), np.uint64)
    sip_words(words, *halves, *out)
    assert [pair.astype("<u8").tobytes() for pair in out.T] == [
        plain(word.astype("<u8").tobytes(), key, 1, 3) for word in words
    ]
