import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.schemas.records.badvalues import BadValues, counted
from headrace.schemas.records.csvlines import CsvDecoder
from headrace.schemas.records.decoding import Lenience, Lines
from headrace.schemas.records.jsonlines import JsonDecoder, infer_json_schema

SCHEMA = pa.schema([("id", pa.string()), ("n", pa.int64()), ("x", pa.float64()), ("b", pa.bool_())])


def csv(*lines: bytes, first: int = 0):
    decoder = CsvDecoder(["id", "unused", "n", "x", "b"], SCHEMA)
    return decoder.decode(Lines(first, list(lines)))


def test_csv_fields_become_values_of_their_types():
    """Unused columns are skipped, empty fields are null, quotes are respected."""
    records = csv(b"a,-,1,0.5,true", b'"b, c",-,-7,1e3,0', b",-,,,")
    assert records.batch.to_pylist() == [
        {"id": "a", "n": 1, "x": 0.5, "b": True},
        {"id": "b, c", "n": -7, "x": 1000.0, "b": False},
        {"id": None, "n": None, "x": None, "b": None},
    ]
    assert records.numbers.tolist() == [0, 1, 2]
    assert records.rejects == []


def test_a_broken_csv_line_is_rejected_and_its_neighbours_are_kept():
    """Each reject has the line's number, a reason and the text."""
    records = csv(
        b"a,-,1,0.5,true",
        b"too,few",
        b"",
        b'"unclosed,-,1,1,1',
        b"b,-,1.5,0,1",
        b"c,-,2,abc,1",
        b"d,-,3,0,maybe",
        b"\xff\xfe,-,4,0,1",
        b"e,-,99999999999999999999,0,1",
        b"f,-,9223372036854775808,0,1",
        b"g,-,5,0,1",
        first=100,
    )
    assert records.batch.column("id").to_pylist() == ["a", "g"]
    assert records.numbers.tolist() == [100, 110]
    assert [(r.number, r.reason.value, r.detail) for r in records.rejects] == [
        (101, "undecodable", "2 fields where 5 are due"),
        (102, "undecodable", "empty line"),
        (103, "undecodable", "unbalanced quotes"),
        (104, "wrong_type", "column n is not int64"),
        (105, "wrong_type", "column x is not float64"),
        (106, "wrong_type", "column b is not bool"),
        (107, "undecodable", "not UTF-8"),
        (108, "wrong_type", "column n is not int64"),
        (109, "wrong_type", "column n is not int64"),
    ]
    assert records.rejects[0].record == "too,few"
    assert records.rejects[6].record == "\\xff\\xfe,-,4,0,1"


BYTES = st.binary(max_size=12) | st.text('ab1,."\r\\ ', max_size=12).map(str.encode)


@settings(deadline=None, max_examples=300)
@given(st.lists(BYTES.map(lambda line: line.replace(b"\n", b"")), max_size=8))
def test_every_line_becomes_one_row_or_one_reject(lines):
    """Whatever bytes it holds, of CSV and of JSON."""
    schema = pa.schema([("a", pa.string()), ("b", pa.int64())])
    for decoder in (CsvDecoder(["a", "b"], schema), JsonDecoder(schema)):
        records = decoder.decode(Lines(5, lines))
        numbers = [*records.numbers.tolist(), *(reject.number for reject in records.rejects)]
        assert sorted(numbers) == list(range(5, 5 + len(lines)))
        assert records.batch.num_rows == records.numbers.size


JSON_SCHEMA = pa.schema([("id", pa.string()), ("n", pa.int64()), ("tags", pa.list_(pa.string()))])


def json(*lines: bytes):
    return JsonDecoder(JSON_SCHEMA).decode(Lines(0, list(lines)))


def test_json_objects_become_rows():
    """Missing keys are null, unknown ones are ignored."""
    records = json(b'{"id": "a", "n": 1, "tags": ["x", "y"]}', b'{"other": {}, "id": null}')
    assert records.batch.to_pylist() == [
        {"id": "a", "n": 1, "tags": ["x", "y"]},
        {"id": None, "n": None, "tags": None},
    ]


def test_a_broken_json_line_is_rejected_and_its_neighbours_are_kept():
    """Blank, cut, doubled and mistyped lines are rejects; the others keep their numbers."""
    records = json(
        b'{"id": "a"}', b"", b'{"id": "b"', b'{"id": "c"}{"id": "d"}', b'{"n": "1"}',
        b'{"n": 1.5}', b'{"id": "\xff"}', b"[1]", b'{"n": 9223372036854775808}', b'{"id": "e"}',
    )  # fmt: skip
    assert records.batch.column("id").to_pylist() == ["a", "e"]
    assert records.numbers.tolist() == [0, 9]
    assert [(r.number, r.reason.value) for r in records.rejects] == [
        (1, "undecodable"),
        (2, "undecodable"),
        (3, "undecodable"),
        (4, "wrong_type"),
        (5, "wrong_type"),
        (6, "undecodable"),
        (7, "wrong_type"),
        (8, "wrong_type"),
    ]


@pytest.mark.parametrize(
    ("lines", "schema"),
    [
        ([b'{"a": 1}', b'{"a": 2.5}'], pa.schema([("a", pa.float64())])),
        (
            [b'{"a": 1, "b": null}', b'{"b": "x"}'],
            pa.schema([("a", pa.int64()), ("b", pa.string())]),
        ),
        ([b'{"a": {}}', b"broken", b'{"t": ["x"]}'], pa.schema([("t", pa.list_(pa.string()))])),
        ([b'{"a": true}'], pa.schema([("a", pa.bool_())])),
        ([b'{"a": 1}', b'{"a": 2}', b'{"a": "x"}'], pa.schema([("a", pa.int64())])),
    ],
    ids=[
        "one fraction makes floats",
        "nulls do not count",
        "objects and broken lines are ignored",
        "booleans",
        "the majority decides",
    ],
)
def test_json_columns_are_inferred_from_the_first_lines(lines, schema):
    """A column has the type of most of its values."""
    assert infer_json_schema(lines) == schema


LENIENT = Lenience({"n", "x", "b", "tags"})


def bad(records):
    return [(b.column, b.cause, b.numbers.tolist(), list(b.examples)) for b in records.bad]


def test_a_csv_value_that_does_not_fit_is_null_and_noted():
    """Where a column may have such values, they cost no record; where not, they do."""
    decoder = CsvDecoder(["id", "n", "x", "b"], SCHEMA, lenience=LENIENT)
    lines = [b"a,1, 2.5 ,true", b"b,one,inf,0", b"c,2,\xff,1", b"d,1.5,abc,maybe", b"e,3,,"]
    records = decoder.decode(Lines(10, lines))
    assert records.batch.to_pylist() == [
        {"id": "a", "n": 1, "x": 2.5, "b": True},
        {"id": "b", "n": None, "x": None, "b": False},
        {"id": "d", "n": None, "x": None, "b": None},
        {"id": "e", "n": 3, "x": None, "b": None},
    ]
    assert bad(records) == [
        ("n", "not int64", [11, 13], ["one", "1.5"]),
        ("x", "not float64", [11, 13], ["inf", "abc"]),
        ("b", "not bool", [13], ["maybe"]),
    ]
    strict = CsvDecoder(["id", "n", "x", "b"], SCHEMA).decode(Lines(10, lines))
    assert [reject.number for reject in strict.rejects] == [11, 12, 13]


def test_usual_texts_for_nothing_are_null_where_no_text_is_due():
    """A country may be called NA, but no number is."""
    decoder = CsvDecoder(["id", "n", "x", "b"], SCHEMA)
    lines = [f"{text},{text},{text},{text}".encode() for text in ("NA", "\\N", "null", "NaN", "")]
    records = decoder.decode(Lines(0, lines))
    assert records.rejects == records.bad == []
    assert records.batch.column("id").to_pylist() == ["NA", "\\N", "null", "NaN", None]
    for name in ("n", "x", "b"):
        assert records.batch.column(name).null_count == 5


def test_null_values_that_are_named_hold_for_every_column():
    """And only they do."""
    decoder = CsvDecoder(["id", "n", "x", "b"], SCHEMA, lenience=Lenience({"n"}, ("-",)))
    records = decoder.decode(Lines(0, [b"-,-,-,-", b"NA,NA,1,1"]))
    assert records.batch.column("id").to_pylist() == [None, "NA"]
    assert bad(records) == [("n", "not int64", [1], ["NA"])]


def test_a_json_value_that_does_not_fit_is_null_and_noted():
    """Numbers as text fit if they are whole; the record's other values stay."""
    lines = [
        b'{"id": "a", "n": "12", "tags": ["x"]}',
        b'{"id": "b", "n": 2.0, "tags": "x"}',
        b'{"id": "c", "n": 9223372036854775808, "tags": [1, "y"]}',
        b'{"id": "d", "n": {"deep": [1]}, "tags": {}}',
        b'{"id": "e", "n": "NA", "tags": []}',
        b'{"id": 6, "n": 1}',
    ]
    records = JsonDecoder(JSON_SCHEMA, LENIENT).decode(Lines(20, lines))
    assert records.batch.to_pylist() == [
        {"id": "a", "n": 12, "tags": ["x"]},
        {"id": "b", "n": 2, "tags": None},
        {"id": "c", "n": None, "tags": ["1", "y"]},
        {"id": "d", "n": None, "tags": None},
        {"id": "e", "n": None, "tags": []},
    ]
    assert bad(records) == [
        ("tags", "not list<item: string>", [21, 23], ['"x"', "{}"]),
        ("n", "not int64", [22, 23], ["9223372036854775808", '{"deep": [1]}']),
    ]
    assert [(reject.number, reject.reason.value) for reject in records.rejects] == [
        (25, "wrong_type")
    ]


def test_lists_of_numbers_keep_their_type():
    """Whole numbers and fractions together are fractions; empty lists go with the others."""
    lines = [b'{"a": [], "b": [1], "c": [1.5], "d": [[1]]}', b'{"a": [1], "b": [2], "c": [1]}']
    assert infer_json_schema(lines) == pa.schema(
        [("a", pa.list_(pa.int64())), ("b", pa.list_(pa.int64())), ("c", pa.list_(pa.float64()))]
    )


def test_bad_values_are_cut_where_records_are():
    """What lies behind the cut is counted with what lies there."""
    values = BadValues.of("n", "not int64", np.array([3, 5, 9]), ["a", "b" * 100, "c"])
    head, tail = values.cut(5)
    assert (head.numbers.tolist(), head.examples) == ([3], ("a",))
    assert (tail.numbers.tolist(), tail.examples[1:]) == ([5, 9], ("c",))
    assert len(tail.examples[0]) == 80
    once = counted(counted({}, [head]), [tail])
    assert (
        once
        == counted({}, [values])
        == {"n": {"not int64": {"count": 3, "examples": list(values.examples)}}}
    )
