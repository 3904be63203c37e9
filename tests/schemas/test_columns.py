import datetime as dt

import pyarrow as pa

from headrace.schemas.records.columns import ColumnDecoder
from headrace.schemas.records.notation import Notation

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
