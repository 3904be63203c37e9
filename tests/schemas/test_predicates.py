"""Conditions on columns."""

import pyarrow as pa
import pytest

from headrace.schemas.config.predicates import Predicate

ROWS = pa.RecordBatch.from_pydict(
    {
        "price": [5, 100, 200, None],
        "device": ["tv", "phone", None, "tv"],
        "known": [True, False, None, True],
    }
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("price >= 100", [False, True, True, False]),
        ("price != 100", [True, False, True, False]),
        ("device in ['tv', 'console']", [True, False, False, True]),
        ("device not in ['tv']", [False, True, False, False]),
        ("known", [True, False, False, True]),
        ("not known", [False, True, False, False]),
        ("price > 150 or device == 'tv'", [True, False, True, True]),
        ("(price < 10 or price > 150) and not known", [False, False, False, False]),
    ],
)
def test_conditions_are_true_where_they_say_so(text, expected):
    """What compares with a null is not true, nor is its opposite."""
    assert Predicate(text).evaluate(ROWS).tolist() == expected


def test_columns_are_those_it_names():
    """Each once, in order."""
    assert Predicate("a > 1 and (b in [2] or not c) and a < 9").columns == ("a", "b", "c")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("price >", "is not a valid condition"),
        ("price + 1 > 2", "which is no comparison"),
        ("__import__('os')", "which is no comparison"),
        ("price > other", "which is no value"),
        ("1 < price < 5", "which is no comparison"),
        ("device in 'tv'", "compares device wrongly"),
        ("device == ['tv']", "compares device wrongly"),
    ],
)
def test_anything_else_is_refused(text, says):
    """Only comparisons of columns with literals are conditions; nothing is ever executed."""
    with pytest.raises(ValueError, match=says):
        Predicate(text)


@pytest.mark.parametrize("text", ["device > 5", "price", "price in ['x']"])
def test_a_comparison_of_other_types_is_refused(text):
    """It fails when it meets the columns, which is when a configuration is loaded."""
    with pytest.raises(ValueError, match=r"cannot be evaluated|not true or false"):
        Predicate(text).evaluate(ROWS)
