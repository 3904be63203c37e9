"""Times as numbers since 1970, from integers, fractions and text, to microseconds.

Whole numbers and text stay exact: a 64-bit float has 16 digits, and nanoseconds have
19. What lies between two microseconds is floored to the earlier one; of text the first nine
digits of a fraction count.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_FLOOR, Context, Decimal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headrace.schemas.config.durations import DAY, MICROSECOND, MILLISECOND, SECOND
from headrace.schemas.records.events import EARLIEST, LATEST
from headrace.schemas.records.hashing import Bools, Int64s
from headrace.schemas.records.notation import NULL_VALUES
from headrace.schemas.records.plainnumbers import plain_numbers

_UNITS = {"us": MICROSECOND, "ms": MILLISECOND, "s": SECOND}
_NANOSECONDS = 1_000
_DECIMAL = pa.decimal128(28, 9)
_NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?$"


@dataclass(frozen=True)
class Epochs:
    """A column of numbers as event times; each of shape (n,).

    Parameters
    ----------
    time
        int64 microseconds, 0 where there is none.
    null, unfit, beyond
        Where the value is null, is not a number, or lies outside ``[EARLIEST, LATEST)``;
        bool.
    floored
        Where a part of a microsecond is cut off, bool; None if the notation has none.
    """

    time: Int64s
    null: Bools
    unfit: Bools
    beyond: Bools
    floored: Bools | None = None


def parse_epochs(column: pa.Array, unit: str) -> Epochs:
    """Convert integers, floats or text to microseconds; `unit` is ``ns``, ``us``, ``ms`` or ``s``.

    Text may have blanks around it, a sign, a fraction and an exponent. The usual texts for a
    null are null, since they are no numbers. Floats are rounded to the nearest microsecond.
    """
    kind = column.type
    if pa.types.is_string(kind):
        whole, left = plain_numbers(column, pa.int64())
        return _of_text(column, unit) if left.any() else _of_whole(whole, unit)
    null = _mask(column.is_null())
    none = np.zeros(len(column), np.bool_)
    if pa.types.is_floating(kind):
        numbers = pc.fill_null(column, 0.0).to_numpy(zero_copy_only=False)
        scaled = np.rint(numbers / _NANOSECONDS if unit == "ns" else numbers * _UNITS[unit])
        beyond = ~((scaled >= EARLIEST) & (scaled < LATEST))
        return Epochs(np.where(beyond, 0, scaled).astype(np.int64), null, none, beyond)
    if pa.types.is_uint64(kind):
        column = pc.min_element_wise(column, pa.scalar(2**63 - 1, kind), skip_nulls=False)
    whole = pc.fill_null(column.cast(pa.int64()), 0).to_numpy()
    time, beyond = _scaled(whole, unit)
    floored = whole % _NANOSECONDS != 0 if unit == "ns" else None
    return Epochs(time, null, none, beyond, floored)


def parse_timestamps(column: pa.Array) -> tuple[pa.Array, Bools | None]:
    """Convert Arrow timestamps to whole microseconds; those out of range stay out of it.

    Returns
    -------
    time, floored
        The timestamps; and where a part of a microsecond is cut off, bool, shape (n,),
        None if the type has none.
    """
    kind = column.type
    numbers = pc.fill_null(column.cast(pa.int64()), 0).to_numpy()
    floored = None
    if kind.unit == "ns":
        floored = numbers % _NANOSECONDS != 0
        numbers = numbers // _NANOSECONDS
    else:
        # A day more on both sides: a zone may move them into range yet.
        unit = _UNITS[kind.unit]
        numbers = np.clip(numbers, (EARLIEST - DAY) // unit, (LATEST + DAY) // unit) * unit
    mask = _mask(column.is_null())
    return pa.array(numbers, pa.int64(), mask=mask).cast(pa.timestamp("us", kind.tz)), floored


def _scaled(numbers: Int64s, unit: str) -> tuple[Int64s, Bools]:
    """Return whole numbers as microseconds, 0 where they lie outside, and where they do."""
    if unit == "ns":
        beyond = (numbers < EARLIEST) | (numbers // _NANOSECONDS >= LATEST)
        return np.where(beyond, 0, numbers // _NANOSECONDS), beyond
    # Checked before it is multiplied: the product might wrap around into range.
    beyond = (numbers < EARLIEST) | (numbers >= LATEST // _UNITS[unit])
    return np.where(beyond, 0, numbers * _UNITS[unit]), beyond


def _of_whole(whole: pa.Array, unit: str) -> Epochs:
    """Return whole numbers that were text as event times."""
    null, none = _mask(whole.is_null()), np.zeros(len(whole), np.bool_)
    numbers = pc.fill_null(whole, 0).to_numpy()
    time, beyond = _scaled(numbers, unit)
    floored = numbers % _NANOSECONDS != 0 if unit == "ns" else none
    return Epochs(time, null, none, beyond, floored)


def _of_text(text: pa.Array, unit: str) -> Epochs:
    text = pc.utf8_trim_whitespace(text)
    text = pc.if_else(pc.is_in(text, value_set=pa.array(["", *NULL_VALUES])), None, text)
    null = _mask(text.is_null())
    try:
        # Arrow would read hexadecimal digits too.
        text = pc.if_else(pc.match_substring(text, "x", ignore_case=True), "x", text)
        whole = text.cast(pa.int64())
    except pa.ArrowInvalid:  # one at least is not a plain whole number
        pass
    else:
        return _of_whole(whole, unit)
    fits = pc.fill_null(pc.match_substring_regex(text, _NUMBER), False)
    unfit = ~_mask(fits) & ~null
    text = pc.if_else(fits, text, "0")
    try:
        numbers = _as_decimals(text)
    except pa.ArrowInvalid:  # digits or an exponent beyond the type; rare, and slow
        numbers = pa.array([_bounded(value) for value in text.to_pylist()], _DECIMAL)
    factor = Decimal("0.001") if unit == "ns" else Decimal(_UNITS[unit])
    most = LATEST * _NANOSECONDS if unit == "ns" else LATEST // _UNITS[unit]
    # Compared before it is converted: the result must fit 64 bits.
    least, most = (pa.scalar(Decimal(bound), _DECIMAL) for bound in (EARLIEST, most))
    beyond = _mask(pc.or_(pc.less(numbers, least), pc.greater_equal(numbers, most)))
    numbers = pc.if_else(pa.array(beyond), least, numbers)
    scaled = pc.multiply(numbers, pa.scalar(factor))
    whole = pc.floor(scaled)
    floored = _mask(pc.not_equal(scaled, whole))
    return Epochs(whole.cast(pa.int64()).to_numpy(), null, unfit, beyond, floored)


def _as_decimals(text: pa.Array) -> pa.Array:
    # More digits than the type has are refused; those without an exponent can be cut.
    return pc.replace_substring_regex(text, r"^([^eE]*\.[0-9]{9})[0-9]*$", r"\1").cast(_DECIMAL)


def _bounded(text: str) -> Decimal:
    """Return a number with the digits that `_DECIMAL` has; minus one if it is out of range."""
    number = Decimal(text)
    if not 0 <= number < 10**19:
        return Decimal(-1)
    return number.quantize(Decimal("1e-9"), ROUND_FLOOR, Context(prec=_DECIMAL.precision))


def _mask(found: pa.Array) -> Bools:
    mask: Bools = found.to_numpy(zero_copy_only=False)
    return mask
