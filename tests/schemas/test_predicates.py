"""Conditions on columns."""

import time
from decimal import Decimal

import pyarrow as pa
import pytest

from headrace.schemas.config.predicates import Predicate

ROWS = pa.RecordBatch.from_pydict(
    {
        "price": [5, 100, 200, None],
        "device": ["tv", "phone", None, "tv"],
        "paid": [True, False, None, True],
    }
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("price >= 100", [False, True, True, False]),
        ("price != 100", [True, False, True, False]),
        ("device in ['tv', 'console']", [True, False, False, True]),
        ("device not in ['tv']", [False, True, False, False]),
        ("paid", [True, False, False, True]),
        ("not paid", [False, True, False, False]),
        ("price > 150 or device == 'tv'", [True, False, True, True]),
        ("(price < 10 or price > 150) and not paid", [False, False, False, False]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_condition_holds_for_the_rows_that_meet_it(text, expected):
    """A comparison with a null is not true, nor is its opposite."""
    assert Predicate(text).evaluate(ROWS).tolist() == expected


def test_the_columns_of_a_condition_are_those_it_names():
    """Each once, in order of first use."""
    assert Predicate("a > 1 and (b in [2] or not c) and a < 9").columns == ("a", "b", "c")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("price >", "is not a valid condition"),
        ("price + 1 > 2", "which is not a comparison"),
        ("__import__('os')", "which is not a comparison"),
        ("price > other", "which is not a literal"),
        ("1 < price < 5", "which is not a comparison"),
        ("device in 'tv'", "compares device wrongly"),
        ("device == ['tv']", "compares device wrongly"),
    ],
)
def test_text_that_is_not_a_condition_is_refused(text, says):
    """Only comparisons of columns with literals are conditions; nothing is ever executed."""
    with pytest.raises(ValueError, match=says):
        Predicate(text)


@pytest.mark.parametrize("text", ["device > 5", "price", "price in ['x']"])
def test_a_condition_whose_types_do_not_match_the_columns_is_refused(text):
    """It fails once the columns are there, which is when a configuration is resolved."""
    with pytest.raises(ValueError, match=r"cannot be evaluated|not true or false"):
        Predicate(text).evaluate(ROWS)


def test_names_may_be_paths():
    """Into nested records; what leads through a call or an index is no path."""
    rows = pa.RecordBatch.from_pydict({"a.price": [5, 200], "a.b.paid": [True, False]})
    predicate = Predicate("a.price > 100 or a.b.paid")
    assert predicate.columns == ("a.price", "a.b.paid")
    assert predicate.evaluate(rows).tolist() == [True, True]
    with pytest.raises(ValueError, match="not a column"):
        Predicate("f(x).y")


@pytest.mark.parametrize(
    ("values", "condition", "expected"),
    [
        (pa.array([2**53 + 1, 1], pa.int64()), "n > 1.5", [True, False]),
        (pa.array([2**64 - 1, 1], pa.uint64()), "n > 1.5", [True, False]),
        (pa.array([2**64 - 1, 1], pa.uint64()), "n == 1", [False, True]),
        (pa.array([2**64 - 1, 1], pa.uint64()), "n > -1", [True, True]),
        (pa.array([2**64 - 1, 1], pa.uint64()), f"n >= {2**64 - 1}", [True, False]),
        (pa.array([2**64 - 1, 1], pa.uint64()), f"n < {2**70}", [True, True]),
        (pa.array([2**63 - 1, 1], pa.int64()), f"n < {2**64}", [True, True]),
        (pa.array([2**63 - 1, 1], pa.int64()), f"n in [{2**63 - 1}, 1.5, {2**70}]", [True, False]),
        (pa.array([2**64 - 1, 1], pa.uint64()), "n in [1.0, -1]", [False, True]),
        (pa.array([1.5, 1e300]), f"n > {2**53 + 1}", [False, True]),
        (pa.array([1.5, 1e300]), f"n < {10**400}", [True, True]),
        (pa.array([1.5, 1e300]), "n in [1.5, 2]", [True, False]),
        (pa.array([Decimal("1.5"), Decimal(1)], pa.decimal128(38, 9)), "n >= 1.5", [True, False]),
    ],
)
def test_any_number_compares_with_any_literal(values, condition, expected):
    """Those that no type of both could hold too."""
    rows = pa.RecordBatch.from_arrays([values], ["n"])
    assert Predicate(condition).evaluate(rows).tolist() == expected


@pytest.mark.parametrize("name", ["class", "unit price", "e\u0301", "a.b c", "1st", "it's"])
def test_any_name_may_stand_in_backquotes(name):
    """A text may have backquotes too."""
    rows = pa.RecordBatch.from_pydict({name: ["`x`", "y"]})
    predicate = Predicate(f"`{name}` == '`x`'")
    assert predicate.columns == (name,)
    assert predicate.evaluate(rows).tolist() == [True, False]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a and (not " * 60 + "a" + ")" * 60, "is nested more than 50 levels deep"),
        ("not " * 20_000 + "a", "is nested too deeply"),
        ("a" + ".b" * 40_000, "is nested too deeply"),
        ("'" + "\\'" * 40_000, "unterminated string"),
        ("a > " + "9" * 10_000, "Exceeds the limit"),
        ("a or " * 25_000 + "a", "has 125,001 characters; write at most 100,000"),
    ],
    ids=["parentheses", "negations", "a path", "an open text", "a long number", "a long text"],
)
def test_a_condition_of_any_size_is_refused_at_once(text, says):
    """Without much stack, and without a search that begins again at each character."""
    begun = time.process_time()
    with pytest.raises(ValueError, match=says):
        Predicate(text)
    assert time.process_time() - begun < 1
