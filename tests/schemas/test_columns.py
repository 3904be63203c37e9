import datetime as dt
from decimal import Decimal

import pyarrow as pa
import pytest

from headrace.schemas.records.columns import ColumnDecoder
from headrace.schemas.records.notation import Notation
from headrace.schemas.types import parse_type, readable

SCHEMA = pa.schema([("k", pa.int64()), ("n", pa.int64()), ("x", pa.float64()), ("t", pa.string())])
LENIENT = Notation({"n", "x", "t"})


def decode(columns, notation=LENIENT, first=10):
    return ColumnDecoder(SCHEMA, notation).decode(pa.RecordBatch.from_pydict(columns), first)


def test_columns_of_the_right_type_pass_as_they_are():
    """Without a copy, numbered from the first."""
    rows = pa.record_batch([[1, 2], [3, None], [0.5, 1.5], ["a", None]], schema=SCHEMA)
    records = ColumnDecoder(SCHEMA).decode(rows, 5)
    assert records.batch.equals(rows)
    assert records.numbers.tolist() == [5, 6]
    assert records.rejects == records.bad == []


def test_other_types_become_those_that_are_declared():
    """Text is read, fractions are whole or do not fit, dates become text."""
    records = decode({
        "k": pa.array(["1", "2", "3", "4"]),
        "n": [1.0, 2.5, None, -3.0],
        "x": pa.array(["0.5", " 1 ", "NA", "dear"]).dictionary_encode(),
        "t": [dt.date(2026, 1, 1)] * 4,
    })  # fmt: skip
    assert records.batch.to_pydict() == {
        "k": [1, 2, 3, 4],
        "n": [1, None, None, -3],
        "x": [0.5, 1.0, None, None],
        "t": ["2026-01-01"] * 4,
    }
    found = [(b.column, b.cause, b.numbers.tolist(), b.examples) for b in records.bad]
    assert found == [("n", "not int64", [11], ("2.5",)), ("x", "not float64", [13], ("dear",))]


def test_a_value_that_must_fit_and_does_not_makes_its_row_a_reject():
    """With its number and the row as it was; what else is wrong with it does not count."""
    records = decode({"k": ["1", "one", "3"], "n": ["1", "two", "x"], "t": ["a", "b", "c"]})
    assert records.batch.to_pydict() == {
        "k": [1, 3], "n": [1, None], "x": [None, None], "t": ["a", "c"],
    }  # fmt: skip
    assert records.numbers.tolist() == [10, 12]
    (reject,) = records.rejects
    assert (reject.number, reject.detail) == (11, "column k is not int64")
    assert reject.record == '{"k": "one", "n": "two", "t": "b"}'
    assert [(b.column, b.numbers.tolist()) for b in records.bad] == [("n", [12])]


def test_nested_values_do_not_fit_a_plain_column():
    """They are null and counted, not an error."""
    records = decode({"k": [1], "n": [[1, 2]], "x": [{"a": 1}], "t": [b"\xff"]})
    assert records.batch.to_pydict() == {"k": [1], "n": [None], "x": [None], "t": [None]}
    assert [b.column for b in records.bad] == ["n", "x", "t"]


def test_whole_numbers_too_large_for_a_fraction_are_rounded():
    """As in any conversion."""
    records = decode({"k": [1], "n": [1], "x": [2**60 + 1], "t": ["a"]})
    assert records.batch.column("x").to_pylist() == [float(2**60)]
    assert records.bad == []


STORED = {
    pa.timestamp("ns"): [0, 1, 1_767_225_600_000_000_001, -1],
    pa.timestamp("s"): [0, 1_767_225_600, 253_402_300_800],
    pa.timestamp("ms", "Europe/Berlin"): [0, 1_767_225_600_001],
    pa.date32(): [0, 20_000, 2_900_000],
    pa.float64(): [0.0, 2.0, 2.5, 1e300, float("nan"), float("inf")],
    pa.int64(): [0, 1, 5, -1, 2**53 + 1, 2**63 - 1],
    pa.uint64(): [0, 1, 2**64 - 1],
    pa.bool_(): [True, False],
    pa.decimal128(30, 2): [Decimal("1.50"), Decimal(2), Decimal("99999999999999999999.25")],
    pa.binary(): [b"a", b"\xff", b"", b"12"],
    pa.list_(pa.int64()): [[1], [2**62, None], [2**53 + 1]],
    pa.list_(pa.string()): [["1"], ["x"], [], [None]],
}
DECLARED = ("string", "int64", "uint64", "float64", "bool", "timestamp", "decimal",
            "decimal(12, 2)", "list<string>", "list<int64>", "list<float64>")  # fmt: skip
READABLE = [(stored, name) for stored in STORED for name in DECLARED
            if readable(stored, parse_type(name))]  # fmt: skip


@pytest.mark.parametrize(("stored", "name"), READABLE, ids=str)
def test_what_becomes_of_a_stored_value_does_not_depend_on_its_neighbours(stored, name):
    """Each alone is what it is among the others."""
    schema = pa.schema([("v", parse_type(name))])

    def decoded(values):
        rows = pa.RecordBatch.from_arrays([pa.array(values, stored)], ["v"])
        records = ColumnDecoder(schema, Notation({"v"})).decode(rows, 0)
        bad = {number for values in records.bad for number in values.numbers.tolist()}
        column = records.batch.column("v")
        return [(column.slice(row, 1).to_string(), row in bad) for row in range(len(values))]

    assert decoded(STORED[stored]) == [decoded([value])[0] for value in STORED[stored]]


def test_nanoseconds_of_a_stored_time_are_floored():
    """Before 1970 too."""
    rows = pa.RecordBatch.from_arrays([pa.array([-1, 1_001], pa.timestamp("ns"))], ["v"])
    schema = pa.schema([("v", parse_type("timestamp"))])
    records = ColumnDecoder(schema).decode(rows, 0)
    assert records.batch.column("v").cast(pa.int64()).to_pylist() == [-1, 1]


@pytest.mark.parametrize(
    ("kind", "most"),
    [(pa.timestamp("s"), 2**63 // 10**6), (pa.timestamp("ms", "UTC"), 2**63 // 1000),
     (pa.date32(), 106_751_991), (pa.date64(), 106_751_991 * 86_400_000)],
    ids=str,
)  # fmt: skip
def test_a_stored_time_that_microseconds_cannot_hold_is_a_bad_value(kind, most):
    """It says which, although Python has no such time; its neighbours stay."""
    number = pa.int32() if kind == pa.date32() else pa.int64()
    beyond = most + (86_400_000 if kind == pa.date64() else 1)
    column = pa.array([most, beyond, None, -beyond, -most, 0], number).cast(kind)
    schema = pa.schema([("v", parse_type("timestamp"))])
    rows = pa.RecordBatch.from_arrays([column], ["v"])
    records = ColumnDecoder(schema, Notation({"v"})).decode(rows, 0)
    found = records.batch.column("v")
    assert found.is_null().to_pylist() == [False, True, True, True, False, False]
    assert found[5].value == 0
    (bad,) = records.bad
    assert bad.numbers.tolist() == [1, 3]
    assert all(bad.examples)
    rejected = ColumnDecoder(schema).decode(rows, 0).rejects
    assert [reject.number for reject in rejected] == [1, 3]
