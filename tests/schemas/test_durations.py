import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.schemas.config.durations import format_duration, parse_duration


@given(st.integers(0, 10**15))
def test_a_formatted_duration_is_parsed_back(microseconds):
    """Any whole number of microseconds survives being written and read."""
    assert parse_duration(format_duration(microseconds)) == microseconds


@pytest.mark.parametrize(
    ("text", "microseconds"),
    [
        ("10m", 600_000_000),
        ("1.5h", 5_400_000_000),
        ("0s", 0),
        ("250 ms", 250_000),
        ("7d", 604_800_000_000),
    ],
    ids=["minutes", "a fraction of an hour", "zero", "a blank before the unit", "days"],
)
def test_a_number_with_a_unit_is_a_duration(text, microseconds):
    """Fractions, blanks and zero included."""
    assert parse_duration(text) == microseconds


@pytest.mark.parametrize(
    "text", ["", "10", "m", "-5m", "10 minutes", "10m!", "1h and 2m"], ids=repr
)
def test_text_that_is_not_a_duration_is_refused(text):
    """Anything else is refused, negative durations included."""
    with pytest.raises(ValueError, match="expected a duration such as 10s, 30m"):
        parse_duration(text)
