"""Numbers since 1970 as event times."""

from decimal import ROUND_FLOOR, Context, Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.schemas.records.epochs import parse_epochs, parse_timestamps
from headrace.schemas.records.events import LATEST

PER_MICROSECOND = {"s": Decimal("1e6"), "ms": Decimal("1e3"), "us": Decimal(1),
                   "ns": Decimal("1e-3")}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "unit", "time"),
    [
        ("1700000000.123", "s", 1_700_000_000_123_000),
        ("1.7e9", "s", 1_700_000_000_000_000),
        (" +1700000000 ", "s", 1_700_000_000_000_000),
        ("4102444799.9999999999", "s", LATEST - 1),
        ("1700000000123456789", "ns", 1_700_000_000_123_456),
        ("1.700000000123456789e18", "ns", 1_700_000_000_123_456),
        ("1e-9", "s", 0),
    ],
)
def test_numbers_in_text_are_exact_to_the_microsecond(text, unit, time):
    """With fractions, exponents and signs; what lies between microseconds is floored."""
    found = parse_epochs(pa.array([text, "0"]), unit)
    assert found.time.tolist() == [time, 0]
    assert not (found.null | found.unfit | found.beyond).any()
    assert found.floored.tolist() == [Decimal(text) * PER_MICROSECOND[unit] != time, False]


@pytest.mark.parametrize(
    ("text", "what"),
    [("", "null"), ("NA", "null"), (None, "null"), ("soon", "unfit"), ("0x10", "unfit"),
     ("inf", "unfit"), ("-1", "beyond"), ("1e999", "beyond"), ("4102444800", "beyond"),
     ("9" * 40, "beyond")],
)  # fmt: skip
def test_what_is_no_time_is_null_unfit_or_beyond(text, what):
    """One of them only; and the others of the column stay as they are."""
    found = parse_epochs(pa.array([text, "1.5"]), "s")
    assert found.time.tolist()[1] == 1_500_000
    for name in ("null", "unfit", "beyond"):
        assert getattr(found, name).tolist() == [name == what, False]


@given(
    st.lists(st.decimals(0, 10**20, places=12), min_size=1, max_size=20),
    st.sampled_from(sorted(PER_MICROSECOND)),
    st.booleans(),
)
def test_text_of_every_length_is_as_decimals_are(numbers, unit, scientific):
    """Python's decimals are the oracle."""
    texts = [f"{number:e}" if scientific else f"{number:f}" for number in numbers]
    found = parse_epochs(pa.array(texts), unit)
    scaled = (Context(prec=60).multiply(n, PER_MICROSECOND[unit]) for n in numbers)
    expected = [int(n.to_integral_value(ROUND_FLOOR)) for n in scaled]
    assert found.beyond.tolist() == [not time < LATEST for time in expected]
    assert found.time.tolist() == [time if time < LATEST else 0 for time in expected]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC"])
def test_timestamps_of_every_unit_floor_and_never_wrap_around(unit, zone):
    """Also those that 64-bit microseconds do not hold."""
    numbers = [2**62, -1, 1_700_000_000, None]
    got, floored = parse_timestamps(pa.array(numbers, pa.timestamp(unit, zone)))
    time = got.cast(pa.int64()).to_pylist()
    assert time[0] >= LATEST
    assert time[1] < 0
    assert time[2:] == [int(1_700_000_000 * PER_MICROSECOND[unit]), None]
    assert got.type == pa.timestamp("us", zone)
    assert (floored is None) == (unit != "ns")
    assert floored is None or floored.tolist() == [True, True, False, False]


def test_floats_are_rounded_to_the_nearest_microsecond():
    """A float of seconds has no more than that."""
    found = parse_epochs(pa.array([1_700_000_000.123, np.nan, 1e300, -0.1]), "s")
    assert found.time.tolist()[0] == 1_700_000_000_123_000
    assert found.beyond.tolist() == [False, True, True, True]
