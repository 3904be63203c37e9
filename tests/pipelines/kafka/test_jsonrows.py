"""Rows as JSON: every type, and values that need care."""

from __future__ import annotations

import base64
import datetime as dt
import json
import math
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.pipelines.kafka.jsonrows import json_rows, key_texts, values_of

UTC = dt.UTC
LATE = dt.datetime(2099, 12, 31, 23, 59, 59, 999999, UTC)
TYPES = {
    "text": (pa.string(), ["a", None, 'q"\\\n\x01é☃', "", "\x7f\u2028"],
             ["a", None, 'q"\\\n\x01é☃', "", "\x7f\u2028"]),
    "json text": (pa.string(), ['{"a": [1, "b"]}', None], ['{"a": [1, "b"]}', None]),
    "large text": (pa.large_string(), ["a", None], ["a", None]),
    "bytes": (pa.binary(), [b"\x00\xff", None, b""],
              [base64.b64encode(b"\x00\xff").decode(), None, ""]),
    "int64": (pa.int64(), [-(2**63), None, 2**63 - 1], [-(2**63), None, 2**63 - 1]),
    "uint64": (pa.uint64(), [2**64 - 1, None], [2**64 - 1, None]),
    "int8": (pa.int8(), [-128, None], [-128, None]),
    "float64": (pa.float64(), [0.1, None, 1e300, -0.0, math.nan, math.inf, -math.inf, 5e-324],
                [0.1, None, 1e300, -0.0, None, None, None, 5e-324]),
    "float32": (pa.float32(), [0.5, None, math.nan], [0.5, None, None]),
    "bool": (pa.bool_(), [True, None, False], [True, None, False]),
    "null": (pa.null(), [None], [None]),
    "timestamp": (pa.timestamp("us", "UTC"), [dt.datetime(1970, 1, 1, tzinfo=UTC), None, LATE],
                  ["1970-01-01T00:00:00.000000Z", None, "2099-12-31T23:59:59.999999Z"]),
    "timestamp elsewhere": (pa.timestamp("ms", "Europe/Berlin"),
                            [dt.datetime(2026, 7, 1, 12, tzinfo=UTC), None],
                            ["2026-07-01T12:00:00.000Z", None]),
    "timestamp without zone": (pa.timestamp("s"), [dt.datetime(2026, 7, 1, 12), None],
                               ["2026-07-01T12:00:00Z", None]),
    "nanoseconds": (pa.timestamp("ns", "UTC"), [1, None],
                    ["1970-01-01T00:00:00.000000001Z", None]),
    "date": (pa.date32(), [dt.date(2026, 1, 2), None], ["2026-01-02", None]),
    "time": (pa.time64("us"), [dt.time(1, 2, 3, 4), None], ["01:02:03.000004", None]),
    "decimal": (pa.decimal128(38, 9),
                [Decimal("1.5"), None, Decimal("0"), Decimal("-1E-9"), Decimal(10) ** 28],
                ["1.500000000", None, "0.000000000", "-0.000000001", f"1{'0' * 28}.{'0' * 9}"]),
    "list": (pa.list_(pa.int64()), [[1, None, 2], None, []], [[1, None, 2], None, []]),
    "list of text": (pa.list_(pa.string()), [['a"', None], [], None], [['a"', None], [], None]),
    "list of times": (pa.list_(pa.timestamp("us", "UTC")), [[LATE], None],
                      [["2099-12-31T23:59:59.999999Z"], None]),
    "list of numbers": (pa.list_(pa.float64()), [[math.nan, 1.5]], [[None, 1.5]]),
    "dictionary": (pa.dictionary(pa.int32(), pa.string()), ["a", None, "a"], ["a", None, "a"]),
    "struct": (pa.struct([("a", pa.int64())]), [{"a": 1}, None], [{"a": 1}, None]),
}  # fmt: skip


def strict(text):
    """Parse JSON that is JSON: no NaN, no repeated key."""

    def once(pairs):
        assert len(dict(pairs)) == len(pairs)
        return dict(pairs)

    def refuse(constant):
        raise AssertionError(constant)

    return json.loads(text, parse_constant=refuse, object_pairs_hook=once)


@pytest.mark.parametrize("name", TYPES)
def test_each_type_has_one_notation(name):
    """Whole, as a slice, in chunks, and without rows."""
    kind, values, expected = TYPES[name]
    rows = pa.table({'the "column"': pa.array(values, kind)})
    found = [strict(text) for text in json_rows(rows)]
    assert found == [{'the "column"': value} for value in expected]
    assert [type(row['the "column"']) for row in found] == [type(value) for value in expected]
    assert [strict(text) for text in json_rows(rows.slice(1))] == found[1:]
    chunks = pa.concat_tables([rows.slice(1), rows.slice(0, 1), rows])
    assert [strict(text) for text in json_rows(chunks)] == [*found[1:], found[0], *found]
    assert json_rows(rows.slice(0, 0)) == []
    assert json_rows(rows.schema.empty_table()) == []


def test_columns_keep_their_order_and_lines_are_compact():
    rows = pa.table({"b": [1], "a": ["x"], "z": pa.array([None], pa.string())})
    assert json_rows(rows) == [b'{"b":1,"a":"x","z":null}']


@given(st.lists(st.none() | st.text(st.characters(codec="utf-8"))))
def test_any_text_is_read_back(texts):
    rows = pa.table({"text": pa.array(texts, pa.string())})
    assert [strict(text)["text"] for text in json_rows(rows)] == texts


@given(st.lists(st.floats()))
def test_any_number_is_read_back_to_the_bit(numbers):
    rows = pa.table({"x": pa.array(numbers, pa.float64())})
    found = [strict(text)["x"] for text in json_rows(rows)]
    expected = [number if math.isfinite(number) else None for number in numbers]
    assert found == expected
    signs = [math.copysign(1, number) for number in found if number is not None]
    assert signs == [math.copysign(1, number) for number in expected if number is not None]


def test_a_key_of_one_column_is_its_value_and_of_several_an_array():
    rows = pa.table(
        {
            "text": ["a", "é"], "bytes": pa.array([b"\x00", b"\xff"]), "n": np.array([1, -2]),
            "whole": pa.array([Decimal(5), Decimal(6)], pa.decimal128(20, 0)),
        }
    )  # fmt: skip

    def keys(*columns):
        return values_of(key_texts(rows, columns))

    assert keys("text") == [b"a", "é".encode()]
    assert keys("bytes") == [b"\x00", b"\xff"]
    assert keys("n") == [b"1", b"-2"]
    assert keys("whole") == [b"5", b"6"]
    assert keys("text", "n") == [b'["a",1]', '["é",-2]'.encode()]
