"""Numbers that are no quantities."""

import pyarrow as pa
import pytest

from headrace.monitoring.numbers import Looks, suspicion

T = 1_767_225_600


@pytest.mark.parametrize(
    ("column", "looks"),
    [
        (pa.array([T * 1000 + n for n in range(100)]),
         Looks("a time in milliseconds since 1970", f"{T}000")),
        (pa.array([T + n / 4 for n in range(100)]), Looks("a time in seconds since 1970", f"{T}")),
        (pa.array([2**62 + n for n in range(100)]), Looks("an identifier", f"{2**62:.0f}")),
        (pa.array([None, *(5e9 + n for n in range(100))]), Looks("an identifier", "5000000000")),
        (pa.array([5_000_000_000, 6_000_000_000] * 50), None),
        (pa.array([5e9 + n / 4 for n in range(100)]), None),
        (pa.array(range(100)), None),
        (pa.array([T + n for n in range(19)]), None),
        (pa.array([T, *(n for n in range(100))]), None),
        (pa.array([float("inf")] * 100), None),
        (pa.array(["x"] * 100), None),
    ],
    ids=["milliseconds", "fractions of seconds", "more than 53 bits", "fractions of zero",
         "few values", "fractions", "small numbers", "too few", "one time among numbers",
         "not finite", "text"],
)  # fmt: skip
def test_identifiers_and_times_are_told_from_quantities(column, looks):
    """By all of the numbers, not by some."""
    assert suspicion(column) == looks
