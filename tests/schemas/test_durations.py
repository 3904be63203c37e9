import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.schemas.config.durations import format_duration, parse_duration


@given(st.integers(0, 10**15))
def test_format_and_parse_are_inverse(microseconds):
    """What is written is read back."""
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
)
def test_durations_read(text, microseconds):
    """Numbers with a unit are read."""
    assert parse_duration(text) == microseconds


@pytest.mark.parametrize("text", ["", "10", "m", "-5m", "10 minutes", "10m!", "1h and 2m"])
def test_other_text_is_refused(text):
    """Anything else is refused, a negative duration too."""
    with pytest.raises(ValueError, match="expected a duration such as 10s, 30m"):
        parse_duration(text)
