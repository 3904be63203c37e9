"""Messages that are Arrow IPC streams: their rows, and what is never believed of them."""

from __future__ import annotations

import base64
import random
import struct

import numpy as np
import pyarrow as pa
import pytest

from headrace.schemas.messages import arrow
from headrace.schemas.messages.arrow import ArrowDecoder
from headrace.schemas.messages.ipcstreams import MOST_ROWS
from headrace.schemas.records.events import Reason
from headrace.schemas.records.notation import Notation

BITS = 20


def stream(*batches, compression=None, **options):
    """Return the IPC stream of batches."""
    out = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression=compression, **options)
    with pa.ipc.new_stream(out, batches[0].schema, options=options) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return out.getvalue().to_pybytes()


def batch(**columns):
    return pa.record_batch(columns)


def parts(values, kinds, rows=8192, begin=0, **notation):
    """Decode values at the offsets 0, 1, ... into columns of these types."""
    decoder = ArrowDecoder(pa.schema(kinds), Notation(**notation))
    firsts = np.arange(len(values)) << BITS
    column = pa.array(values, pa.binary())
    return list(decoder.parts(column, firsts, begin, len(values) << BITS, rows))


def decoded(values, kinds, **notation):
    """Decode values; return the columns' values, and why others are rejects."""
    (part,) = parts(values, kinds, **notation)
    return part.records.batch.to_pydict(), [(r.number, r.detail) for r in part.records.rejects]


def place(number):
    return number >> BITS, number & (1 << BITS) - 1


INT = {"a": pa.int64()}


def test_rows_are_numbered_by_message_and_row():
    """Over batches and compressions; a message may have none."""
    some = batch(a=[1, 2]), batch(a=[3])
    values = [stream(*some), stream(batch(a=[4]), compression="lz4"), stream(some[0].slice(2)),
              stream(*some, compression="zstd")]  # fmt: skip
    (part,) = parts(values, INT)
    assert part.records.batch.to_pydict() == {"a": [1, 2, 3, 4, 1, 2, 3]}
    places = [place(number) for number in part.records.numbers.tolist()]
    assert places == [(0, 0), (0, 1), (0, 2), (1, 0), (3, 0), (3, 1), (3, 2)]
    assert part.end == 4 << BITS
    assert part.records.rejects == []


@pytest.mark.parametrize("rows", [1, 2, 3, 100])
def test_records_do_not_depend_on_where_parts_are_cut(rows):
    """Nor on where reading begins: it goes on at the next row, inside of a message too."""
    one = stream(batch(a=[1, 2, 3, 4]), batch(a=[5]))
    values = [one, b"broken", stream(batch(b=["x"], a=[1.5])), None, one]

    def found(begin):
        at, records = begin, []
        for part in parts(values, INT, rows, begin):
            numbers = part.records.numbers.tolist()
            rejects = [(reject.number, reject.detail) for reject in part.records.rejects]
            assert all(at <= number < part.end for number in (*numbers, *(n for n, _ in rejects)))
            assert len(numbers) <= rows
            column = part.records.batch.column("a").to_pylist()
            records += sorted([*zip(numbers, column, strict=True), *rejects])
            at = part.end
        assert at == len(values) << BITS
        return records

    whole = found(0)
    assert len(whole) == 13
    for begin in [number for number, _ in whole] + [number + 1 for number, _ in whole]:
        assert found(begin) == [record for record in whole if record[0] >= begin]


def test_few_bytes_are_decoded_at_a_time(monkeypatch):
    """However many rows are asked for; a single row may be larger."""
    monkeypatch.setattr(arrow, "_BYTES", 1000)
    value = stream(batch(a=["x" * 100] * 50))
    assert {len(part.records) for part in parts([value], {"a": pa.string()})} <= {8, 9, 5}
    value = stream(batch(a=["x" * 2000] * 3))
    assert [len(part.records) for part in parts([value], {"a": pa.string()})] == [1, 1, 1]


def test_a_message_that_is_broken_is_one_reject():
    """Others are read; its record is the value."""
    good = stream(batch(a=[1]))
    cases = {
        None: "null value",
        b"": "empty value",
        good[:-8]: "it ends too early",
        good + b"\0": "bytes are left after its end",
        good[:-9]: "is no Arrow IPC stream (",
        b"{}": "is no Arrow IPC stream (",
        b'{"a": 1, "b": 2}': "is no Arrow IPC stream (",
    }
    for value, why in cases.items():
        (part,) = parts([good, value, good], INT)
        assert part.records.batch.to_pydict() == {"a": [1, 1]}
        (reject,) = part.records.rejects
        assert (place(reject.number), reject.reason) == ((1, 0), Reason.UNDECODABLE)
        assert reject.detail.startswith(why)
        assert base64.b64decode(reject.record) == (value or b"")


@pytest.mark.parametrize("compression", [None, "lz4", "zstd"])
def test_a_message_that_is_cut_anywhere_is_broken(compression):
    """Between its batches too, where Arrow itself sees an end."""
    value = stream(batch(a=[1, 2]), batch(a=[3]), compression=compression)
    assert decoded([value], INT)[1] == []
    for size in range(len(value)):
        columns, rejects = decoded([value[:size]], INT)
        assert (columns, len(rejects)) == ({"a": []}, 1)


def test_a_message_of_which_a_later_batch_is_broken_gives_no_row():
    value = stream(batch(a=["one"]), batch(a=["two", "three"]))
    at = value.rindex(struct.pack("<3i", 0, 3, 8))  # offsets of the second batch
    broken = value[: at + 8] + struct.pack("<i", 1 << 30) + value[at + 12 :]
    columns, ((_, why),) = decoded([broken], {"a": pa.string()})
    assert columns == {"a": []}
    assert "ffset" in why


def test_text_that_is_not_utf_8_is_broken():
    value = stream(batch(a=["abc"])).replace(b"abc", b"a\xffc")
    columns, ((_, why),) = decoded([value], {"a": pa.string()})
    assert columns == {"a": []}
    assert "UTF8" in why


TOO_LARGE = "more than 256 MB uncompressed"


@pytest.mark.parametrize("declared", [257 << 20, 1 << 62, (1 << 63) - 1])
def test_a_message_that_declares_too_much_is_not_uncompressed(declared):
    """Not a byte of it: 2^62 could not be allocated."""
    value = stream(batch(a=list(range(1000))), compression="lz4")
    at = value.index(struct.pack("<q", 8000))
    bomb = value[:at] + struct.pack("<q", declared) + value[at + 8 :]
    assert decoded([bomb], INT) == ({"a": []}, [(0, TOO_LARGE)])


def test_a_size_that_is_not_true_is_broken():
    value = stream(batch(a=list(range(1000))), compression="lz4")
    at = value.index(struct.pack("<q", 8000))
    for size in (7999, 8001, 0, -2):
        wrong = value[:at] + struct.pack("<q", size) + value[at + 8 :]
        assert decoded([wrong], INT)[0] == {"a": []}


def shared(text, times):
    """Return columns in which one text stands many times, though it lies there once."""
    index = pa.array([0] * times, pa.int8())
    view = np.frombuffer(pa.array([text], pa.string_view()).buffers()[1], np.uint8)
    text_of = pa.array([text], pa.string_view()).buffers()[2]
    views = pa.Array.from_buffers(
        pa.string_view(), times, [None, pa.py_buffer(np.tile(view, times)), text_of]
    )
    words = pa.DictionaryArray.from_arrays(index, [text])
    listed = pa.ListArray.from_arrays(list(range(times + 1)), words)
    return [words, views, listed, pa.StructArray.from_arrays([words], ["b"])]


@pytest.mark.parametrize("number", range(4))
def test_values_that_are_shared_count_as_often_as_they_are_there(number):
    """A dictionary of a megabyte is small; written out 300 times it is not."""
    text = "x" * (1 << 20)
    small, large = shared(text, 3)[number], shared(text, 300)[number]
    columns, rejects = decoded([stream(batch(a=small))], {"a": pa.string()}, json={"a"})
    assert rejects == []
    assert [len(value) >= 1 << 20 for value in columns["a"]] == [True] * 3
    value = stream(batch(a=large))
    assert len(value) < 4 << 20
    assert decoded([value], {"a": pa.string()}) == ({"a": []}, [(0, TOO_LARGE)])
    # Of a column that is not read no value is written out.
    assert decoded([stream(batch(a=large, b=[1] * 300))], {"b": pa.int64()})[1] == []


def test_a_dictionary_that_grows_counts_for_each_batch_that_has_it():
    """As Arrow makes a new one of the old one and what is added."""
    word = "x" * (1 << 20)
    words = [f"{n}{word}" for n in range(24)]
    growing = [
        batch(a=pa.DictionaryArray.from_arrays([n - 1], words[:n])) for n in range(1, len(words))
    ]
    few = stream(*growing[:5], compression="lz4", emit_dictionary_deltas=True)
    columns, rejects = decoded([few], {"a": pa.string()})
    assert (columns, rejects) == ({"a": words[:5]}, [])
    many = stream(*growing, compression="lz4", emit_dictionary_deltas=True)
    assert decoded([many], {"a": pa.string()}) == ({"a": []}, [(0, TOO_LARGE)])


def test_values_without_bytes_are_bounded_too():
    """Lists of nulls take no bytes, however many they are."""
    many = pa.ListArray.from_arrays([0, 1 << 26], pa.nulls(1 << 26))
    value = stream(batch(a=many))
    assert len(value) < 1_000
    assert decoded([value], INT) == ({"a": []}, [(0, "more than 67,108,864 values")])


def test_a_message_of_too_many_rows_is_one_reject():
    most = pa.record_batch([pa.nulls(MOST_ROWS)], ["b"])
    one = pa.record_batch([pa.nulls(1)], ["b"])
    found = parts([stream(most)], INT, rows=1 << 20)
    assert sum(len(part.records) for part in found) == 1 << 20
    assert found[-1].records.numbers[-1] == (1 << BITS) - 1
    assert decoded([stream(most, one)], INT)[1] == [(0, "more than 1,048,576 rows")]


def test_columns_are_those_of_parquet():
    """Dictionaries, views, large and fixed-size types, extensions, and nested columns."""
    item = pa.array([{"price": 1.5, "tag": "x"}, None])
    columns = {
        "words": pa.array(["a", None]).dictionary_encode(),
        "views": pa.array(["a", None], pa.string_view()),
        "large": pa.array(["a", None], pa.large_string()),
        "bytes": pa.array([b"ab", None], pa.binary(2)),
        "tags": pa.array([["a"], None], pa.list_(pa.string_view())),
        "uuid": pa.array([b"0123456789abcdef", None], pa.uuid()),
        "numbers": pa.array([1, None], pa.int8()),
        "item": item,
        "map": pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int8())),
    }
    kinds = {
        "words": pa.string(), "views": pa.string(), "large": pa.string(), "bytes": pa.binary(),
        "tags": pa.list_(pa.string()), "uuid": pa.binary(), "numbers": pa.float64(),
        "item.price": pa.float64(), "item.tag": pa.string(), "item": pa.string(),
        "map": pa.string(), "missing": pa.int64(),
    }  # fmt: skip
    found, rejects = decoded([stream(batch(**columns))], kinds, json={"item", "map"})
    assert rejects == []
    assert {name: first for name, (first, _) in found.items()} == {
        "words": "a", "views": "a", "large": "a", "bytes": b"ab", "tags": ["a"],
        "uuid": b"0123456789abcdef", "numbers": 1.0, "item.price": 1.5, "item.tag": "x",
        "item": '{"price": 1.5, "tag": "x"}', "map": '[["k", 1]]', "missing": None,
    }  # fmt: skip
    assert {second for _, second in found.values()} == {None}


def test_columns_without_rows_or_values():
    """Of all kinds that share values, in which buffers may be missing."""
    text, words = pa.string_view(), pa.dictionary(pa.int8(), pa.string())
    kinds = [text, words, pa.dictionary(pa.int8(), pa.null()),
             pa.list_(text), pa.list_(pa.null(), 0), pa.large_list(words), pa.map_(text, words),
             pa.struct([("c", words)])]  # fmt: skip
    for kind in kinds:
        for rows in (0, 2):
            value = stream(batch(a=pa.nulls(rows, kind), b=pa.nulls(rows, pa.int64())))
            found = decoded([value], {"a": pa.string(), "b": pa.int64()}, json={"a"})
            assert found == ({"a": [None] * rows, "b": [None] * rows}, [])


def test_types_that_differ_are_converted_or_bad_values():
    """A message may have other columns than the one before it."""
    values = [stream(batch(a=column)) for column in (
        pa.array([1]), pa.array(["2"]), pa.array(["two"]), pa.array([3.0]), pa.array([3.5]),
        pa.array([5], pa.timestamp("ms")), pa.array([{"b": 1}]),
    )]  # fmt: skip
    found = parts(values, INT, lenient={"a"})
    column = [value for part in found for value in part.records.batch.column("a").to_pylist()]
    assert column == [1, 2, None, 3, None, None, None]
    bad = [(int(number) >> BITS, of.examples[0]) for part in found for of in part.records.bad
           for number in of.numbers]  # fmt: skip
    assert bad == [(2, "two"), (4, "3.5"), (5, "1970-01-01 00:00:00.005000"), (6, "{'b': 1}")]
    rejects = [place(r.number) for part in parts(values, INT) for r in part.records.rejects]
    assert rejects == [(2, 0), (4, 0), (5, 0), (6, 0)]


@pytest.mark.parametrize(
    ("column", "why"),
    [
        (pa.array([[1]], pa.list_view(pa.int64())), "list_view<item: int64> is not read"),
        (pa.RunEndEncodedArray.from_arrays([1], [7]),
         "run_end_encoded<run_ends: int64, values: int64> is not read"),
        (pa.DictionaryArray.from_arrays([0], pa.array(["x"], pa.string_view())),
         "dictionary<values=string_view, indices=int64, ordered=0> is not read"),
        (pa.StructArray.from_arrays([pa.array([1]), pa.array([1])], ["b", "b"]),
         "struct<b: int64, b: int64> has two fields of one name"),
    ],
)  # fmt: skip
def test_columns_of_types_that_are_not_read(column, why):
    """They make a message broken, unless nobody asks for them."""
    value = stream(batch(a=column, b=[5]))
    assert decoded([value], INT)[1] == [(0, f"column a: {why}")]
    assert decoded([value], {"b": pa.int64()}) == ({"b": [5]}, [])


def test_two_columns_of_one_name_are_broken():
    value = stream(pa.record_batch([pa.array([1]), pa.array([2]), pa.array([3])], ["a", "a", "b"]))
    assert decoded([value], INT)[1] == [(0, "it has two columns a")]
    assert decoded([value], {"b": pa.int64()}) == ({"b": [3]}, [])


def test_times_that_no_calendar_has_are_text_in_json():
    item = pa.array([{"at": 2**62}, {"at": 5}], pa.struct([("at", pa.timestamp("s"))]))
    columns, rejects = decoded([stream(batch(a=item))], {"a": pa.string()}, json={"a"})
    assert rejects == []
    assert str(2**62) in columns["a"][0]
    alone = decoded([stream(batch(a=item.slice(1)))], {"a": pa.string()}, json={"a"})
    assert alone[0]["a"] == columns["a"][1:] == ['{"at": "1970-01-01 00:00:05"}']


def test_damage_anywhere_is_no_exception():
    """Bytes that are changed at random: what is read has the form of its types."""
    rows = 5
    words = pa.array(["x", "y", None, "x", "y"])
    value = stream(
        batch(
            a=list(range(rows)), b=words, c=words.dictionary_encode(),
            d=pa.array(["x" * 20] * rows, pa.string_view()), e=[[1, 2]] * rows,
            f=pa.array([{"g": 1, "h": ["z"]}] * rows),
            i=pa.array([1] * rows, pa.duration("s")), j=pa.array([1] * rows, pa.date32()),
        ),
        compression="lz4",
    )  # fmt: skip
    kinds = {"a": pa.int64(), "b": pa.string(), "c": pa.string(), "d": pa.string(),
             "e": pa.list_(pa.int64()), "f": pa.string(), "f.g": pa.int64(), "i": pa.string(),
             "j": pa.timestamp("us", "UTC")}  # fmt: skip
    assert parts([value], kinds, json={"f"})[0].records.rejects == []
    at_random, broken = random.Random(0), 0
    for _ in range(400):
        changed = bytearray(value)
        for _ in range(at_random.choice([1, 3])):
            changed[at_random.randrange(len(value))] = at_random.choice([0, 1, 127, 128, 255])
        for part in parts([bytes(changed)], kinds, lenient=kinds.keys(), json={"f"}):
            part.records.batch.validate(full=True)
            broken += len(part.records.rejects)
    assert 100 < broken < 400
