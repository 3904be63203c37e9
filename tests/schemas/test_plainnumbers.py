"""Plain numbers are read as the parser of all notations reads them."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from headrace.schemas.records.notation import NULL_VALUES, Notation
from headrace.schemas.records.plainnumbers import plain_numbers
from headrace.schemas.records.values import parse_text

KINDS = [pa.int64(), pa.float64()]
# Texts that are null and have a digit leave all numbers to the parser of all notations.
SLOW = Notation(null_values=(*NULL_VALUES, "null 1"))

NUMBERS = (
    st.integers(-(10**20), 10**20).map(str)
    | st.floats().map(repr)
    | st.decimals(-(10**9), 10**9, places=4).map(str)
    | st.text("0123456789.-+eE x", max_size=20)
    | st.sampled_from(["inf", "nan", "0x1F", "1_000", "\u0661", "1e400", "", "NA"])
)


@pytest.mark.parametrize("kind", KINDS, ids=str)
@given(texts=st.lists(st.none() | NUMBERS, max_size=8))
@example(texts=["-0", "-0.0", "00012", "1.", ".5", "-.5", "-", ".", "-.", "1.2.3", "--1", "1-"])
@example(texts=["999999999999999", "9999999999999999", "0.99999999999999", "0.3333333333333333"])
@example(texts=["999999999999999999", "9223372036854775807", "9223372036854775808", "1e3"])
def test_every_text_becomes_the_number_that_it_is_elsewhere(kind, texts):
    """Bit by bit; and what is no number is none."""
    column = pa.array(texts, pa.string()).cast(pa.binary())
    found, bad = parse_text(column, kind)
    expected, unfit = parse_text(column, kind, SLOW)
    assert repr(found.to_pylist()) == repr(expected.to_pylist())
    assert bad.tolist() == unfit.tolist()
    found.validate(full=True)


@pytest.mark.parametrize(
    ("kind", "texts"),
    [
        (pa.int64(), ["0", "-7", "007", "123456789012345678"]),
        (pa.float64(), ["0", "-7.5", "11.37", "123456789.012345", "1.", ".5"]),
    ],
    ids=["whole", "decimal"],
)
def test_plain_numbers_are_read(kind, texts):
    """So the test above compares two ways."""
    numbers, left = plain_numbers(pa.array([*texts, None]), kind)
    number = int if pa.types.is_integer(kind) else float
    assert numbers.to_pylist() == [*map(number, texts), None]
    assert not left.any()


def test_the_texts_of_a_slice_are_read():
    """Those before it are not."""
    texts = pa.array(["x", "1", "2.5", "y"]).slice(1, 2)
    numbers, left = plain_numbers(texts, pa.float64())
    assert numbers.to_pylist() == [1.0, 2.5]
    assert not np.any(left)
