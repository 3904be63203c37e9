from datetime import UTC, datetime
from decimal import Decimal
from json import dumps
from random import Random

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.schemas.records.badvalues import BadValues, advice, counted
from headrace.schemas.records.columns import ColumnDecoder
from headrace.schemas.records.csvlines import CsvDecoder
from headrace.schemas.records.decoding import Lines
from headrace.schemas.records.jsonhead import infer_columns
from headrace.schemas.records.jsonlines import JsonDecoder
from headrace.schemas.records.notation import PLAIN, Notation
from headrace.schemas.records.values import fit, fit_all, parse_text
from headrace.schemas.types import JSON, parse_type

TIMESTAMP = parse_type("timestamp")
SCHEMA = pa.schema([("id", pa.string()), ("n", pa.int64()), ("x", pa.float64()), ("b", pa.bool_())])


def csv(*lines: bytes, first: int = 0):
    decoder = CsvDecoder(["id", "unused", "n", "x", "b"], SCHEMA)
    return decoder.decode(Lines.of(lines, first))


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
        records = decoder.decode(Lines.of(lines, 5))
        numbers = [*records.numbers.tolist(), *(reject.number for reject in records.rejects)]
        assert sorted(numbers) == list(range(5, 5 + len(lines)))
        assert records.batch.num_rows == records.numbers.size


JSON_SCHEMA = pa.schema([("id", pa.string()), ("n", pa.int64()), ("tags", pa.list_(pa.string()))])


def json(*lines: bytes):
    return JsonDecoder(JSON_SCHEMA).decode(Lines.of(lines))


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
    assert records.batch.to_pylist() == [
        {"id": "a", "n": None, "tags": None},
        {"id": None, "n": 1, "tags": None},
        {"id": "e", "n": None, "tags": None},
    ]
    assert records.numbers.tolist() == [0, 4, 9]
    assert [(r.number, r.reason.value) for r in records.rejects] == [
        (1, "undecodable"),
        (2, "undecodable"),
        (3, "undecodable"),
        (5, "wrong_type"),
        (6, "undecodable"),
        (7, "wrong_type"),
        (8, "wrong_type"),
    ]


@pytest.mark.parametrize(
    ("lines", "schema"),
    [
        ([b'{"a": 1}', b'{"a": 2.5}'], {"a": pa.float64()}),
        (
            [b'{"a": 1, "b": null}', b'{"b": "x"}'],
            {"a": pa.int64(), "b": pa.string()},
        ),
        ([b"broken", b'{"t": ["x"]}'], {"t": pa.list_(pa.string())}),
        ([b'{"a": true}'], {"a": pa.bool_()}),
        ([b'{"a": 1}', b'{"a": 2}', b'{"a": "x"}'], {"a": pa.int64()}),
        ([b'{"a": {}, "b": [[1]], "c": [{}]}'], {"a": JSON, "b": JSON, "c": JSON}),
        ([b'{"a": 9223372036854775808}', b'{"a": 1}'], {"a": pa.uint64()}),
        ([b'{"a": NaN, "b": 1}', b'{"a": 1.5, "b": 1e999}'], {"a": pa.float64(), "b": pa.int64()}),
        ([b'{"a":' * 5000 + b"1" + b"}" * 5000, b'{"b": 1}'], {"b": pa.int64()}),
        ([b'{"a": 9223372036854775808}', b'{"a": -1}'], {"a": pa.string()}),
        ([b'{"a": 18446744073709551616}'], {"a": pa.string()}),
        ([b'{"a": 9223372036854775808}', b'{"a": 1.5}'], {"a": pa.float64()}),
    ],
    ids=[
        "one fraction makes floats",
        "nulls do not count",
        "broken lines are ignored",
        "booleans",
        "the majority decides",
        "objects, and lists of them",
        "above 2^63",
        "numbers that JSON does not have",
        "too deep",
        "above 2^63 and below zero",
        "above 2^64",
        "above 2^63 and a fraction",
    ],
)
def test_json_columns_are_inferred_from_the_first_lines(lines, schema):
    """A column has the type of most of its values."""
    assert infer_columns(lines) == (schema, {})


def test_fields_of_objects_are_nested_columns():
    """At any depth; one whose own name has a point cannot be reached, nor one in a list."""
    lines = [
        b'{"e": {"id": "a", "at": {"x": 1}, "b.c": 1}, "l": [{"id": 1}], "e.id": 2}',
        b'{"e": {"at": {"x": 1.5}, "new": true}}',
        b'{"e": 7}',
    ]
    assert infer_columns(lines) == (
        {"e": JSON, "l": JSON, "e.id": pa.int64()},
        {"e.at": JSON, "e.at.x": pa.float64(), "e.new": pa.bool_()},
    )


def test_paths_lead_into_json_objects():
    """A path is null where it leads nowhere; the whole name is preferred, line by line."""
    schema = pa.schema([("e.id", pa.string()), ("e.at.x", pa.int64())])
    lines = [
        b'{"e": {"id": "a", "at": {"x": 1}}}',
        b'{"e": {"id": null, "at": null}}',
        b'{"e": null}',
        b'{"e": 7}',
        b'{"e.id": "whole", "e": {"id": "a", "at": {"x": "5"}}}',
        b'{"e.id": "whole", "e": {"id": "a"}, "e.at.x": 6}',
        b'{"e": {"id": "a", "at": {"x": "no"}}}',
    ]
    records = JsonDecoder(schema).decode(Lines.of(lines))
    ids = ["a", None, None, None, "whole", "whole"]
    assert records.batch.column("e.id").to_pylist() == ids
    assert records.batch.column("e.at.x").to_pylist() == [1, None, None, None, 5, 6]
    assert [(r.number, r.detail) for r in records.rejects] == [(6, "column e.at.x is not int64")]
    for line, row in zip(lines, records.batch.to_pylist(), strict=False):
        alone = JsonDecoder(schema).decode(Lines.of([line]))
        assert alone.batch.to_pylist() == [row]


def test_json_is_kept_as_it_is_written():
    """Beside paths into the same object, and in lines with numbers that are too large."""
    schema = pa.schema([("e", pa.string()), ("e.d", pa.string()), ("n", pa.int64())])
    decoder = JsonDecoder(schema, Notation(json={"e", "e.d"}))
    text = '{"d":  [1, {"z": 123456789012345678901234567890}],"u":"é"}'
    lines = [
        f'{{"e": {text}, "n": 5}}'.encode(),
        f'{{"e": {text}, "n": "5"}}'.encode(),
        b'{"e": "text", "n": 5}',
        b'{"e": null, "n": 5}',
        b'{"n": 5}',
        b'{"e": {"d":[1,  2]} , "n": NaN, "d": {}}',
    ]
    records = decoder.decode(Lines.of(lines))
    assert records.rejects == []
    inner = '[1, {"z": 123456789012345678901234567890}]'
    assert records.batch.column("e").to_pylist() == [
        text, text, '"text"', None, None, '{"d":[1,  2]}'
    ]  # fmt: skip
    assert records.batch.column("e.d").to_pylist() == [inner, inner, None, None, None, "[1,  2]"]


LENIENT = Notation({"n", "x", "b", "tags"})


def bad(records):
    return [(b.column, b.cause, b.numbers.tolist(), list(b.examples)) for b in records.bad]


def test_a_csv_value_that_does_not_fit_is_null_and_noted():
    """Where a column may have such values, they cost no record; where not, they do."""
    decoder = CsvDecoder(["id", "n", "x", "b"], SCHEMA, notation=LENIENT)
    lines = [b"a,1, 2.5 ,true", b"b,one,inf,0", b"c,2,\xff,1", b"d,1.5,abc,maybe", b"e,3,,"]
    records = decoder.decode(Lines.of(lines, 10))
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
    strict = CsvDecoder(["id", "n", "x", "b"], SCHEMA).decode(Lines.of(lines, 10))
    assert [reject.number for reject in strict.rejects] == [11, 12, 13]


def test_usual_texts_for_nothing_are_null_where_no_text_is_due():
    """A country may be called NA, but no number is."""
    decoder = CsvDecoder(["id", "n", "x", "b"], SCHEMA)
    lines = [f"{text},{text},{text},{text}".encode() for text in ("NA", "\\N", "null", "NaN", "")]
    records = decoder.decode(Lines.of(lines))
    assert records.rejects == records.bad == []
    assert records.batch.column("id").to_pylist() == ["NA", "\\N", "null", "NaN", None]
    for name in ("n", "x", "b"):
        assert records.batch.column(name).null_count == 5


def test_null_values_that_are_named_hold_for_every_column():
    """And only they do."""
    decoder = CsvDecoder(["id", "n", "x", "b"], SCHEMA, notation=Notation({"n"}, ("-",)))
    records = decoder.decode(Lines.of([b"-,-,-,-", b"NA,NA,1,1"]))
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
        b'{"id": [6], "n": 1}',
    ]
    records = JsonDecoder(JSON_SCHEMA, LENIENT).decode(Lines.of(lines, 20))
    assert records.batch.to_pylist() == [
        {"id": "a", "n": 12, "tags": ["x"]},
        {"id": "b", "n": 2, "tags": None},
        {"id": "c", "n": None, "tags": ["1", "y"]},
        {"id": "d", "n": None, "tags": None},
        {"id": "e", "n": None, "tags": []},
        {"id": "6", "n": 1, "tags": None},
    ]
    assert bad(records) == [
        ("n", "not int64", [22, 23], ["9223372036854775808", '{"deep": [1]}']),
        ("tags", "not list<string>", [21, 23], ['"x"', "{}"]),
    ]
    assert [(reject.number, reject.reason.value) for reject in records.rejects] == [
        (26, "wrong_type")
    ]


def test_lists_of_numbers_keep_their_type():
    """Whole numbers and fractions together are fractions; empty lists go with the others."""
    lines = [b'{"a": [], "b": [1], "c": [1.5]}', b'{"a": [1], "b": [2], "c": [1]}']
    assert infer_columns(lines).own == {
        "a": pa.list_(pa.int64()), "b": pa.list_(pa.int64()), "c": pa.list_(pa.float64())
    }  # fmt: skip


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


def parsed(texts, kind, notation=PLAIN):
    values, unfit = parse_text(pa.array([text.encode() for text in texts]), kind, notation)
    return values.to_pylist(), np.flatnonzero(unfit).tolist()


EUROPEAN = Notation(decimal=",", thousands=".")


@pytest.mark.parametrize(
    ("text", "notation", "number"),
    [
        ("1,5", Notation(decimal=","), 1.5),
        ("-,5e3", Notation(decimal=","), -500.0),
        ("1.5", Notation(decimal=","), None),
        ("1.234.567,89", EUROPEAN, 1234567.89),
        ("1234567,89", EUROPEAN, 1234567.89),
        ("1.5", EUROPEAN, None),
        ("12.34.567", EUROPEAN, None),
        ("1,234.5", Notation(thousands=","), 1234.5),
        ("1,5", Notation(thousands=","), None),
        ("1 234", Notation(thousands=" "), 1234.0),
        ("1\u202f234,5", Notation(decimal=",", thousands=" "), 1234.5),
        ("1\u00a0234", Notation(thousands=" "), 1234.0),
        ("1'234", Notation(thousands="'"), 1234.0),
        ("12.5%", PLAIN, None),
        ("1,5", PLAIN, None),
        ("1_000", PLAIN, None),
        ("0x10", PLAIN, None),
        ("1e999", PLAIN, None),
        ("+7", PLAIN, 7.0),
    ],
)
def test_numbers_are_written_as_a_stream_says(text, notation, number):
    """Groups are of three digits; anything else is no number, rather than another one."""
    values, unfit = parsed([text, "1"], pa.float64(), notation)
    assert values == [number, 1.0]
    assert unfit == ([0] if number is None else [])
    fitted, fits = fit(text, pa.float64(), notation)
    assert (fitted, fits) == (number, number is not None)


def test_texts_of_all_types():
    """With the greatest and the least that fit, and what does not."""
    assert parsed(["18446744073709551615", "0", "-1", "18446744073709551616"], pa.uint64()) == (
        [2**64 - 1, 0, None, None], [2, 3]
    )  # fmt: skip
    assert parsed(["-9223372036854775808", "9223372036854775808", "+1"], pa.int64()) == (
        [-(2**63), None, 1], [1]
    )  # fmt: skip
    assert parsed(["1.50", "1.005", "1e2", "12345678901", "x"], parse_type("decimal(12, 2)")) == (
        [Decimal("1.50"), None, Decimal("100.00"), None, None], [1, 3, 4]
    )  # fmt: skip
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    assert parsed(["2026-01-01T12:00", "2026-01-01 13:00:00+01:00", "12"], TIMESTAMP) == (
        [noon, noon, None], [2]
    )  # fmt: skip
    assert parsed(["[1, 2]", "[]", "[1", "7", '["1"]'], pa.list_(pa.int64())) == (
        [[1, 2], [], None, None, [1]], [2, 3]
    )  # fmt: skip


def test_json_values_of_all_types():
    """A number says nothing of the unit of a time, and decimals are exact."""
    values = ["2026-01-01T12:00Z", 1767268800, None]
    times, unfit = fit_all(values, TIMESTAMP)
    assert times.to_pylist() == [datetime(2026, 1, 1, 12, tzinfo=UTC), None, None]
    assert unfit.tolist() == [False, True, False]
    prices, unfit = fit_all([0.1, "0.30", 7, True, 1.005], parse_type("decimal(12, 2)"))
    assert prices.to_pylist() == [
        Decimal("0.10"), Decimal("0.30"), Decimal("7.00"), None, None
    ]  # fmt: skip
    assert unfit.tolist() == [False, False, False, True, True]


def test_without_quoting_quotes_are_text():
    """As in TSV files that are written by joining fields."""
    decoder = CsvDecoder(["id", "n"], pa.schema([("id", pa.string())]), "\t", quote="")
    records = decoder.decode(Lines.of([b'5" disc\t1', b'"a"\t2', b'"b\t3']))
    assert records.batch.column("id").to_pylist() == ['5" disc', '"a"', '"b']
    single = CsvDecoder(["id", "n"], pa.schema([("id", pa.string())]), quote="'")
    records = single.decode(Lines.of([b"'a,b',1", b'"c,2']))
    assert records.batch.column("id").to_pylist() == ["a,b", '"c']


@pytest.mark.parametrize(
    ("examples", "expected"),
    [
        (["12.5%", "3 %"], "Percent signs are not read"),
        (["1,234", "-12,000"], 'x.decimal = "," or x.thousands = ","'),
        (["1,5", "12,25"], 'x.decimal = ","'),
        (["1,234.5"], 'x.thousands = ","'),
        (["1.234,5"], 'x.decimal = "," and x.thousands = "."'),
        (['"1 234"'], 'x.thousands = " "'),
        (["1\u202f234,5"], 'x.decimal = "," and x.thousands = " "'),
        (["abc", "1,5"], 'x.decimal = ","'),
        (
            ["3,9%", "1.234,5"],
            "not read: log plain numbers, or declare the column as string. Set x.decimal",
        ),
        (["abc", "-"], "x.null_values"),
        ([], "x.null_values"),
    ],
)
def test_advice_goes_by_the_values(examples, expected):
    """Numbers as other countries write them have settings of their own."""
    assert expected in advice("x", examples)


VALUES = [
    None, True, False, 0, 1, -1, 2.0, 2.5, 1e300, 2**63, 2**64, -(2**63) - 1, 10**400, 0.1, "1",
    "1.5", "1.50", "1.005", " 7 ", "x", "", "NA", "true", "2026-01-01", "2026-01-01T00:00Z", "aGk=",
    "123456789012345678901234567890", [], [1], ["1"], [1.5], [True], [None], ["x"], {"a": 1},
]  # fmt: skip
ANY_TYPE = (
    "string", "bytes", "int64", "uint64", "float64", "bool", "timestamp", "decimal",
    "decimal(12, 2)", "decimal(12, 0)", "list<string>", "list<int64>", "list<uint64>",
    "list<float64>", "list<decimal>", "list<bytes>", "json",
)  # fmt: skip


def in_json(schema, notation, values):
    lines = [dumps({"v": value}).encode() for value in values]
    return JsonDecoder(schema, notation).decode(Lines.of(lines))


def in_csv(schema, notation, values):
    texts = ["" if value is None else str(value) for value in values]
    lines = ['"{}"'.format(text.replace('"', '""')).encode() for text in texts]
    return CsvDecoder(["v"], schema, notation=notation).decode(Lines.of(lines))


def in_columns(schema, notation, values):
    texts = [None if value is None else str(value) for value in values]
    rows = pa.RecordBatch.from_arrays([pa.array(texts, pa.string())], ["v"])
    return ColumnDecoder(schema, notation).decode(rows, 0)


@pytest.mark.parametrize("decode", [in_json, in_csv, in_columns])
@pytest.mark.parametrize("name", ANY_TYPE)
@pytest.mark.parametrize("has_nulls", [False, True], ids=["usual nulls", "other nulls"])
def test_what_becomes_of_a_value_does_not_depend_on_its_neighbours(decode, name, has_nulls):
    """Whatever else is decoded together with it: where a log is cut must change nothing."""
    kind = parse_type(name)
    as_json = kind == JSON
    schema = pa.schema([("v", pa.string() if as_json else kind)])
    nulls = ("NA", "x") if has_nulls else None
    notation = Notation(lenient={"v"}, null_values=nulls, json={"v"} if as_json else ())
    alone = [decode(schema, notation, [value]) for value in VALUES]
    expected = [one.batch.column("v")[0].as_py() for one in alone]
    unfit = [bool(one.bad) for one in alone]
    random = Random(name)
    for _ in range(20):
        chosen = random.sample(range(len(VALUES)), random.randint(2, len(VALUES)))
        records = decode(schema, notation, [VALUES[at] for at in chosen])
        assert records.batch.column("v").to_pylist() == [expected[at] for at in chosen]
        found = sorted(number for bad in records.bad for number in bad.numbers.tolist())
        assert found == [row for row, at in enumerate(chosen) if unfit[at]]
