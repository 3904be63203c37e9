"""Checks of what comes back from state, before anything is done with it.

A checksum tells damage, not intent: whoever writes a state can write its checksum. So what is
restored is compared with what this version writes: types, lengths, ranges.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, dataclass_transform

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError

from headrace.schemas.errors import DamagedError, EnvelopeError
from headrace.schemas.records.events import EARLIEST, FOREVER, LATEST, NEVER


def _encodable(text: str) -> str:
    text.encode()  # half of a pair of surrogates is no character, and nothing can be made of it
    return text


# Strict, so that text is no number and true is none; a tuple may be a list, as JSON has it.
Text = Annotated[str, Field(strict=True), AfterValidator(_encodable)]
Flag = Annotated[bool, Field(strict=True)]
Int = Annotated[int, Field(strict=True, ge=-(2**63), lt=2**63)]
"""A number that int64 holds."""
Count = Annotated[int, Field(strict=True, ge=0, lt=2**53)]
"""How many of something there are; exact as a float64."""
_SLACK = 1 << 53
Moment = Annotated[int, Field(strict=True, ge=NEVER - _SLACK, le=FOREVER + _SLACK)]
"""A time, microseconds; also one that is a duration away from `NEVER` or `FOREVER`."""
Finite = Annotated[float, Field(strict=True, allow_inf_nan=False)]
"""A number that is finite."""
Sum = Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]
"""A number that is finite, and not below 0."""

_UNREADABLE = (
    ArithmeticError, AttributeError, LookupError, MemoryError, OSError, RecursionError, TypeError,
    ValueError, pa.ArrowException, struct.error, EnvelopeError,
)  # fmt: skip
"""What reading raises of content that has another form than what is written."""


@contextmanager
def restoring(what: str) -> Iterator[None]:
    """Turn what goes wrong in the block, because of the form of what it reads, into one error.

    Parameters
    ----------
    what
        The part of the state.

    Raises
    ------
    DamagedError
        Which says of which part, and why.
    """
    try:
        yield
    except DamagedError as error:
        raise DamagedError(f"{what}, {error.what}", error.fact) from error
    except _UNREADABLE as error:
        why = " ".join(str(error).split())[:200]
        raise DamagedError(what, f"has another form than what is written ({why})") from error


def checked(kind: Any, value: Any, what: str) -> Any:
    """Return a value of JSON types as it is, if it is of a kind.

    Parameters
    ----------
    kind
        A type as pydantic reads it, of those above.
    value, what
        The value, and what it is called.

    Raises
    ------
    DamagedError
        If it is not.

    Examples
    --------
    >>> checked(list[Count], [1, 2], "positions")
    [1, 2]
    """
    try:
        _adapter(kind).validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        where = ".".join(str(part) for part in (what, *first["loc"]))[:200]
        raise DamagedError(where, f"{first['msg'][0].lower()}{first['msg'][1:]}") from error
    return value


@dataclass_transform(frozen_default=True)
def written(form: type) -> type:
    """Make a class the form of a JSON object, for `checked`: its keys, and their types.

    A key with a default may be missing; there may be no others.
    """
    form.__pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[attr-defined]
    return dataclass(frozen=True)(form)


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def expect(holds: Any, what: str, fact: str) -> None:
    """Go on if something holds.

    Raises
    ------
    DamagedError
        With what is the case instead, if it does not.
    """
    if not holds:
        raise DamagedError(what, fact)


def expect_columns(
    batch: pa.RecordBatch, kinds: Mapping[str, pa.DataType], what: str, exactly: bool = False
) -> None:
    """Go on if a batch has columns of these types, without nulls.

    Parameters
    ----------
    batch, kinds
        The batch, and types by the names of columns.
    what
        What it is called.
    exactly
        Whether it may have no others, nor these in another order.

    Raises
    ------
    DamagedError
        If it has not.
    """
    names = batch.schema.names
    expect(len(set(names)) == len(names), what, "two columns have one name")
    if exactly:
        expect(
            names == list(kinds), what, f"has other columns than what is written ({names})"[:300]
        )
    for name, kind in kinds.items():
        expect(name in names, what, f"has no column {name}")
        found = batch.schema.field(name).type
        expect(found == kind, what, f"column {name} must be {kind} (got {found})")
        expect(batch.column(name).null_count == 0, what, f"column {name} has nulls")


def expect_moments(times: npt.NDArray[np.int64], what: str) -> None:
    """Go on if these are times as `Moment` is.

    Raises
    ------
    DamagedError
        If one is not.
    """
    expect_within(times, NEVER - _SLACK, FOREVER + _SLACK, what)


def expect_times(times: npt.NDArray[np.int64], what: str, ascending: bool = False) -> None:
    """Go on if these are event times, microseconds, in ``[EARLIEST, LATEST)``.

    Raises
    ------
    DamagedError
        If they are not, or not in order where that is asked for.
    """
    expect_within(times, EARLIEST, LATEST, what)
    if ascending:
        expect((times[1:] >= times[:-1]).all(), what, "event times are not in order")


def expect_within(numbers: npt.NDArray[Any], least: int, most: int, what: str) -> None:
    """Go on if whole numbers are in ``[least, most)``.

    Raises
    ------
    DamagedError
        If one is not.
    """
    if numbers.size:
        low, high = int(numbers.min()), int(numbers.max())
        fact = f"has numbers outside of [{least}, {most}) (got {low} to {high})"
        expect(least <= low and high < most, what, fact)


def exported(
    arrays: Mapping[str, npt.NDArray[Any]],
    name: str,
    kind: npt.DTypeLike,
    size: int | None = None,
    least: float = -np.inf,
) -> npt.NDArray[Any]:
    """Return an array as it was exported.

    Parameters
    ----------
    arrays, name
        All arrays, and the name of one.
    kind
        Its type.
    size
        Its length; None for any.
    least
        What no number of it is below.

    Raises
    ------
    DamagedError
        If it is missing, or another one.
    """
    expect(name in arrays, name, "is missing")
    array = arrays[name]
    expect(array.dtype == np.dtype(kind), name, f"must be {np.dtype(kind)} (got {array.dtype})")
    if size is not None:
        expect(array.size == size, name, f"must have {size} values (got {array.size})")
    expect(least == -np.inf or (array >= least).all(), name, f"has values below {least:g}")
    return array


def places(
    arrays: Mapping[str, npt.NDArray[Any]], name: str, kind: npt.DTypeLike, size: int
) -> npt.NDArray[Any]:
    """Return places in a table of a size as they were exported: each once, ascending.

    Raises
    ------
    DamagedError
        If they are missing, or others.
    """
    found = exported(arrays, name, kind)
    expect_within(found, 0, size, name)
    expect((found[1:] > found[:-1]).all(), name, "is not ascending")
    return found


def bins(used: list[int], size: int, what: str) -> npt.NDArray[np.int64]:
    """Return numbers of bins that are not empty: each once, ascending.

    Raises
    ------
    DamagedError
        If they are others.
    """
    return places({what: np.array(used, np.int64)}, what, np.int64, size)
