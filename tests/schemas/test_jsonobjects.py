"""The reader of ordinary JSON objects finds what a parser of all JSON finds."""

import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from headrace.schemas.records.jsonlines import JsonDecoder
from headrace.schemas.records.jsonobjects import ObjectReader
from headrace.schemas.records.notation import PLAIN, Notation
from headrace.schemas.records.spans import Spans

SCHEMA = pa.schema(
    {
        "id": pa.string(), "n": pa.int64(), "u": pa.uint64(), "x": pa.float64(), "b": pa.bool_(),
        "tags": pa.list_(pa.string()), "xs": pa.list_(pa.float64()), "größe": pa.string(),
    }
)  # fmt: skip
LENIENT = Notation({"n", "u", "x", "b", "tags", "xs"}, ("NA", "-"))

NUMBERS = (
    st.integers(-(2**66), 2**66)
    | st.floats(allow_nan=False)
    | st.sampled_from([2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 2**64 - 1, 2**64, 1e22, -0.0])
)
SCALARS = st.none() | st.booleans() | NUMBERS | st.text(max_size=6) | st.just("NA")
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3)
    ),
    max_leaves=6,
)
FITTING = {
    "id": st.text(max_size=20), "n": st.integers(-(2**63), 2**63 - 1),
    "u": st.integers(0, 2**64 - 1), "x": NUMBERS, "b": st.booleans(),
    "tags": st.lists(st.text(max_size=3), max_size=3), "xs": st.lists(NUMBERS, max_size=3),
    "größe": st.text(max_size=3), "more": VALUES, "": VALUES,
}  # fmt: skip


@st.composite
def objects(draw):
    """Draw an object as some program writes it, now and then with a value of another type."""
    names = draw(st.lists(st.sampled_from(list(FITTING)), unique=True))
    odd = draw(st.integers(0, 9)) == 0
    record = {name: draw(VALUES if odd else FITTING[name] | st.none()) for name in names}
    text = json.dumps(
        record,
        ensure_ascii=draw(st.booleans()),
        separators=draw(st.sampled_from([(",", ":"), (", ", ": "), ("\t,\r", " :\n")])),
    )
    return text.encode("utf-8", "surrogatepass")


@st.composite
def damaged(draw):
    """Draw an object of which some bytes are missing, others, or too many."""
    line = draw(objects())
    begin, end = sorted(draw(st.tuples(*[st.integers(0, len(line))] * 2)))
    end = min(end, begin + 3)
    more = draw(st.binary(max_size=2) | st.sampled_from([b'"', b"\\", b",", b"}", b"0", b"."]))
    return line[:begin] + more + line[end:]


def decoded(lines, notation, reader):
    decoder = JsonDecoder(SCHEMA, notation)
    assert decoder.reader is not None
    if not reader:
        decoder.reader = None
    records = decoder.decode_values(Spans.of_lines(lines), np.arange(3, 3 + len(lines)))
    records.batch.validate(full=True)
    bad = {(found.column, found.cause, number)
           for found in records.bad for number in found.numbers.tolist()}  # fmt: skip
    return repr(records.batch.to_pylist()), records.numbers.tolist(), records.rejects, bad


@given(st.lists(objects() | damaged(), max_size=4), st.sampled_from([PLAIN, LENIENT]))
@example([b'{"x": 1e400}', b'{"x": 1e-5}', b'{"x": -0}', b'{"x": 0.1234567890123456789}'], PLAIN)
@example([b'{"x": 01}', b'{"x": 1.}', b'{"x": .5}', b'{"x": +1}', b'{"x": 1e}', b'{"x": -}'], PLAIN)
@example([b'{"n": 1, "n": 2}', b'{"n": 1, "\\u006e": 2}', b'{"more": 1, "more": 2}'], PLAIN)
@example([b'{"id": "\xed\xa0\x80"}', b'{"id": "\xc0\x80"}', b'{"id": "\xf4\x90\x80\x80"}'], PLAIN)
@example([b'{"id": "\\ud83d\\ude00"}', b'{"id": "\\ud83d"}', b'{"more": "\\ude00"}'], PLAIN)
@example([b'{"more": "\xff"}', b'{"more": [}', b'{"more": {"a" 1}}', b'{"more": [1,]}'], PLAIN)
@example([b"{}", b" { } ", b"{,}", b'{"n": 1,}', b'{"n": 1}}', b"", b"[]", b"null", b"{"], PLAIN)
@example([b'{"tags": ["a", null]}', b'{"tags": ["a", 1]}', b'{"xs": [1, 1e999]}'], LENIENT)
@example([b'{"more":' + b"[" * 61 + b"]" * 61 + b"}"], PLAIN)
def test_ordinary_objects_are_read_as_any_other(lines, notation):
    """The same columns, rejects and bad values as from a parser that knows all of JSON."""
    assert decoded(lines, notation, reader=True) == decoded(lines, notation, reader=False)


@pytest.mark.parametrize(
    "line",
    [
        '{"id": "a", "n": -5, "u": 9999999999999999999, "x": 0.25, "b": true, "tags": ["x"]}',
        '{"id": "Zürich \\u00e9 \\"x\\"", "x": 0.12345678901234567, "größe": "ä", "n": null}',
        '{"more": {"deep": [{"a": null}, []], "b": 1e5}, "x": 1.5e-7, "xs": [], "b": false}',
        '{"n": 9223372036854775807, "u": 0, "x": 12, "xs": [1, 2.5], "tags": [], "id": ""}',
    ],
)
def test_ordinary_objects_are_read(line):
    """So the test above compares two ways, and the faster one is taken."""
    batch, rows = ObjectReader(SCHEMA, PLAIN).read(Spans.of_lines([line.encode()]))
    assert rows.tolist() == [0]
    value = json.loads(line)
    assert batch.to_pylist() == [{name: value.get(name) for name in SCHEMA.names}]


@pytest.mark.parametrize(
    "odd", ['"', "\\", "\x1f", "\x80", "ä", "\\u00e9", "\xff", "\x7f"], ids=repr
)
def test_text_is_read_whatever_it_has_at_any_place(odd):
    """Text is looked at eight bytes at a time: each of them counts."""
    texts = ["a" * at + odd + "a" * (size - at) for size in range(18) for at in range(size + 1)]
    lines = [f'{{"id": "{text}"}}'.encode() for text in texts]
    lines += [line.replace("ÿ".encode(), b"\xff") for line in lines]
    assert decoded(lines, PLAIN, reader=True) == decoded(lines, PLAIN, reader=False)
